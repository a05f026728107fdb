"""The depth and points stages, folder to folder."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from plyfile import PlyData

from pipeline.align.alignment import Alignment
from pipeline.depth import stage
from pipeline.depth.maps import FROM_SENSOR, FROM_STEREO, load_depth_map, map_names
from pipeline.depth.params import DepthParams
from pipeline.errors import CaptureError, ReconstructionError
from pipeline.geometry import PointCloud, Similarity, matrix_from_rotvec
from pipeline.points import stage as points_stage
from pipeline.points.params import PointsParams
from pipeline.poses.scene import PosedScene
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
    alignment = Alignment(WORLD_FROM_SCENE, ("floor",), 0.1, "sensor", 0.01, True, {})
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
    assert report["suspicious"] == []
    assert report["depth"]["noise"]["comparisons"] > 1000
    assert "views" not in report["depth"]
    distance = distance_to_room(views.room, cloud.points)
    assert np.median(distance) < 0.003
    assert np.percentile(distance, 95) < 0.015


@pytest.mark.parametrize(("declared", "asked", "farthest"), [(None, 0.0, 5.0), (30.0, 0.0, 30.0), (30.0, 6.0, 6.0)])
def test_range_follows_the_sensor(views, folders, declared, asked, farthest):
    """A hall of three times the room's size: 5 m unless the capture says that its sensor reaches farther."""
    for view in views.scene.views:
        depth = 3000 * views.truth[view.name].depth
        cv2.imwrite(str(folders["capture"] / f"{view.name}.png"), depth.round().astype(np.uint16))
    hall = PosedScene.load(folders["poses"]).transformed(Similarity(3.0, np.eye(3), np.zeros(3)))
    replace(hall, depth_scale=hall.depth_scale / 3, depth_range=declared).save(folders["poses"])
    stage.run(folders, DepthParams(backend="sensor", max_range=asked), folders["depth"])
    scale = PosedScene.load(folders["poses"]).depth_scale
    kept = np.concatenate([load_depth_map(folders["depth"], n).depth.ravel() for n in map_names(folders["depth"])])
    truth = np.concatenate([3 * view.depth.ravel() for view in views.truth.values()])
    assert kept.max() / scale <= farthest + 0.1
    assert (kept > 0).mean() > 0.9 * (truth < farthest - 0.1).mean()


def test_the_published_points_have_all_that_is_known(folders):
    """points.ply holds each point's normal, colour, sigma, number of views and mark, as the cloud does."""
    stage.run(folders, DepthParams(backend="sensor"), folders["depth"])
    points_stage.run(folders, PointsParams(voxel=0.05), folders["points"])
    cloud = PointCloud.load(folders["points"] / "cloud.npz")
    vertex = PlyData.read(str(folders["points"] / "points.ply"))["vertex"].data
    for names, values in (
        ("x y z", cloud.points),
        ("nx ny nz", cloud.normals),
        ("red green blue", cloud.colors),
        ("sigma", cloud.sigma[:, None]),
        ("views", cloud.views[:, None]),
        ("guessed", cloud.guessed[:, None]),
    ):
        np.testing.assert_array_equal(np.stack([vertex[name] for name in names.split()], 1), values)
    np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1, atol=1e-3)
    assert (cloud.sigma > 0).all()
    assert len(np.unique(cloud.views)) > 2
    assert len(np.unique(cloud.colors, axis=0)) > 1000


def test_somebody_in_the_way_is_reported_where_he_stood(views, folders):
    """Depth that the other views look through reaches no map and no cloud; the report has its place in the world."""
    path = folders["capture"] / "0003.png"
    raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert raw is not None
    raw[60:180, 130:190] = 700
    cv2.imwrite(str(path), raw)
    stage.run(folders, DepthParams(backend="sensor"), folders["depth"])
    assert (load_depth_map(folders["depth"], "0003").depth[70:170, 140:180] > 0).mean() < 0.02
    points_stage.run(folders, PointsParams(voxel=0.02), folders["points"])
    (place,) = json.loads((folders["points"] / "points.json").read_text())["suspicious"]
    assert place["kind"] == "looked through"
    assert place["views"] == ["0003"]
    view = views.scene.views[3]
    np.testing.assert_allclose(
        place["centre"], view.world_from_camera.apply(0.7 * view.camera.rays([160.0, 120.0])), atol=0.05
    )


@pytest.mark.parametrize("backend", ["sensor", "mvs"])
def test_what_a_mask_hides_has_no_depth(folders, backend):
    """Pixels that an image's mask says to ignore have no depth, from whatever it comes."""
    scene = PosedScene.load(folders["poses"])
    mask = np.full((240, 320), 255, np.uint8)
    mask[:, 200:] = 0
    cv2.imwrite(str(folders["poses"] / "mask.png"), mask)
    masked = tuple(replace(view, mask="mask.png" if view.name == "0003" else None) for view in scene.views)
    replace(scene, views=masked).save(folders["poses"])
    stage.run(folders, DepthParams(backend=backend, image_size=160), folders["depth"])
    known = load_depth_map(folders["depth"], "0003").depth > 0
    edge = 200 * known.shape[1] // 320
    assert not known[:, edge + 1 :].any()
    assert known[:, : edge - 1].mean() > 0.6
    assert (load_depth_map(folders["depth"], "0004").depth > 0)[:, edge + 1 :].mean() > 0.6


def test_sensor_and_stereo_to_cloud(views, folders):
    """Every second training view has stereo as well, held-out views have the sensor's alone; the report has both."""
    stage.run(folders, DepthParams(backend="combined", image_size=160), folders["depth"])
    content = json.loads((folders["depth"] / "depth.json").read_text())
    assert content["backend"] == "combined"
    assert content["names"] == [view.name for view in views.scene.views]
    origins = {name: load_depth_map(folders["depth"], name).origin for name in content["names"]}
    assert [name for name, origin in origins.items() if origin is not None] == ["0001", "0003", "0005"]
    assert (origins["0003"] == FROM_SENSOR | FROM_STEREO).mean() == pytest.approx(
        content["report"]["combined"]["both"], abs=0.2
    )
    assert content["report"]["combined"]["both"] > 0.4
    assert content["report"]["distortion"]["applied"] is False
    points_stage.run(folders, PointsParams(voxel=0.02), folders["points"])
    cloud = PointCloud.load(folders["points"] / "cloud.npz")
    assert np.median(distance_to_room(views.room, cloud.points)) < 0.003
    assert not list(folders["depth"].glob("*/"))


def test_all_views_are_matched_where_the_sensor_leaves_parts_out(views, folders):
    """A scanner that doesn't see the upper third: every training view has stereo there."""
    for file in folders["capture"].glob("*.png"):
        depth = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        depth[: len(depth) // 3] = 0
        cv2.imwrite(str(file), depth)
    stage.run(folders, DepthParams(backend="combined", image_size=160), folders["depth"])
    for view in views.scene.training:
        origin = load_depth_map(folders["depth"], view.name).origin
        assert origin is not None
        upper = origin[: len(origin) // 4]
        assert (upper == FROM_STEREO).mean() > 0.5


def test_a_coarse_scanner_costs_stereo_no_detail(views, folders):
    """Where all views are matched, the maps have the finer pixels and lie on the room, not beside it."""
    scene, coarse = PosedScene.load(folders["poses"]), views.scene.views[0].camera.resized(64, 48)
    for view in scene.views:
        _, depth = views.room.cast(coarse, next(v for v in views.scene.views if v.name == view.name).world_from_camera)
        depth[:16] = 0
        cv2.imwrite(str(folders["capture"] / f"{view.name}.png"), (depth * 1000).round().astype(np.uint16))
    replace(scene, views=tuple(replace(view, depth_camera=coarse) for view in scene.views)).save(folders["poses"])
    stage.run(folders, DepthParams(backend="combined", image_size=160), folders["depth"])
    for view in views.scene.training:
        depth_map = load_depth_map(folders["depth"], view.name, WORLD_FROM_SCENE)
        assert depth_map.depth.shape == (120, 160)
        assert depth_map.origin is not None
        assert (depth_map.origin[50:] & FROM_SENSOR > 0).mean() > 0.5
        distance = distance_to_room(views.room, depth_map.points()[depth_map.depth > 0])
        assert np.median(distance) < 0.005


def test_images_that_cannot_be_matched_leave_the_sensor(views, folders):
    """Combined without shared points is the sensor's depth, and the report says why."""
    scene = PosedScene.load(folders["poses"])
    none = replace(scene.points, view_index=scene.points.view_index[:0], point_index=scene.points.point_index[:0])
    replace(scene, points=none).save(folders["poses"])
    stage.run(folders, DepthParams(backend="combined", image_size=160), folders["depth"])
    content = json.loads((folders["depth"] / "depth.json").read_text())
    assert "share" in content["report"]["combined"]["reason"]
    assert load_depth_map(folders["depth"], "0003").origin is None


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
