"""The depth and points stages, folder to folder."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.align.alignment import Alignment
from pipeline.depth import points_stage, stage
from pipeline.depth.maps import load_depth_map, map_names
from pipeline.depth.params import DepthParams, PointsParams
from pipeline.errors import CaptureError, ReconstructionError
from pipeline.geometry import PointCloud, Similarity, matrix_from_rotvec
from tests.depth.conftest import distance_to_room

WORLD_FROM_SCENE = Similarity(2.0, matrix_from_rotvec(np.array([0.3, -0.2, 0.5])), np.array([1.0, -2.0, 0.5]))


@pytest.fixture
def folders(views, tmp_path):
    """A capture with depth images, its poses in a frame that is not the world, and their alignment."""
    inputs = {name: tmp_path / name for name in ("capture", "poses", "depth", "align", "points")}
    for folder in inputs.values():
        folder.mkdir()
    (inputs["poses"] / "images").symlink_to(views.folder / "images")
    changed = []
    for view in views.scene.views:
        depth = views.truth[view.name].depth
        cv2.imwrite(str(inputs["capture"] / f"{view.name}.png"), (depth * 1000).round().astype(np.uint16))
        changed.append(replace(view, sensor_depth=f"{view.name}.png", depth_camera=view.camera))
    scene = replace(views.scene, views=tuple(changed)).transformed(WORLD_FROM_SCENE.inverse())
    scene.save(inputs["poses"])
    alignment = Alignment(WORLD_FROM_SCENE, "floor", 0.1, "sensor", 0.01, True, {})
    alignment.save(inputs["align"])
    return inputs


def test_sensor_depth_to_cloud(views, folders):
    """Maps of all views, a cloud of the training views on the room's surfaces, in the world frame."""
    stage.run(folders, DepthParams(backend="sensor"), folders["depth"])
    names = map_names(folders["depth"])
    assert names == [view.name for view in views.scene.views]
    assert [load_depth_map(folders["depth"], n).held_out for n in names] == [v.held_out for v in views.scene.views]
    points_stage.run(folders, PointsParams(voxel=0.02), folders["points"])
    cloud = PointCloud.load(folders["points"] / "cloud.npz")
    report = json.loads((folders["points"] / "points.json").read_text())
    assert report["points"] == len(cloud) > 10_000
    assert report["maps"] == len(views.scene.training)
    distance = distance_to_room(views.room, cloud.points)
    assert np.median(distance) < 0.003
    assert np.percentile(distance, 95) < 0.015


def test_stereo_to_cloud(views, folders):
    """Maps of the training views only, their report, and a cloud on the room's surfaces."""
    stage.run(folders, DepthParams(backend="mvs", image_size=160), folders["depth"])
    assert map_names(folders["depth"]) == [view.name for view in views.scene.training]
    content = json.loads((folders["depth"] / "depth.json").read_text())
    assert content["backend"] == "mvs"
    assert content["report"]["kept_share"] > 0.5
    assert set(content["report"]["views"]) == set(map_names(folders["depth"]))
    points_stage.run(folders, PointsParams(voxel=0.02, stride=1), folders["points"])
    cloud = PointCloud.load(folders["points"] / "cloud.npz")
    assert np.median(distance_to_room(views.room, cloud.points)) < 0.01


def test_sensor_depth_that_is_not_there_is_refused(views, folders):
    """Asking for the sensor's depth of photos says what to do."""
    views.scene.save(folders["poses"])
    with pytest.raises(CaptureError, match=r"depth\.backend"):
        stage.run(folders, DepthParams(backend="sensor"), folders["depth"])


def test_nothing_to_fuse_is_an_error(folders):
    """Maps without a single depth don't make an empty cloud."""
    for path in folders["capture"].iterdir():
        cv2.imwrite(str(path), np.zeros((240, 320), np.uint16))
    stage.run(folders, DepthParams(backend="sensor"), folders["depth"])
    with pytest.raises(ReconstructionError, match="0 depths in 6 maps"):
        points_stage.run(folders, PointsParams(), folders["points"])
