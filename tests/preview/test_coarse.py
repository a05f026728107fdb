"""Coarse models of the room with exact truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial import cKDTree

from pipeline.geometry import PointCloud
from pipeline.poses.scene import PosedScene, View
from pipeline.preview.coarse import Shot, cloud_of, diagonal, mesh_of, sensor_shots, small_map, sparse_cloud, splat_of
from tests.synthetic import CAMERA, SIZE, Room, posed_scene, walk


@pytest.fixture(scope="module")
def scene(tmp_path_factory, room: Room) -> tuple[Path, PosedScene]:
    """A poses folder of nine views, with the sensor's depth beside the images."""
    folder = tmp_path_factory.mktemp("poses")
    scene = posed_scene(folder, room, walk(9))
    views: list[View] = []
    for view in scene.views:
        _, depth = room.cast(CAMERA, view.world_from_camera)
        cv2.imwrite(str(folder / f"{view.name}.png"), (depth * 1000).round().astype(np.uint16))
        views.append(replace(view, sensor_depth=f"{view.name}.png", depth_camera=CAMERA))
    return folder, replace(scene, views=tuple(views))


@pytest.fixture(scope="module")
def shots(scene) -> list[Shot]:
    """Small depth maps of its training views."""
    folder, posed = scene
    return [*sensor_shots(folder, posed.training, folder, 1.0)]


@pytest.fixture(scope="module")
def cloud(shots) -> PointCloud:
    """The cloud of all of them."""
    return cloud_of(shots)


def distances(points: np.ndarray, room: Room) -> np.ndarray:
    """Distance of points (N, 3) from the room's surface [m]."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(room.mesh.vertices, room.mesh.triangles.astype(np.uint32))
    return scene.compute_distance(o3d.core.Tensor(points.astype(np.float32))).numpy()


def test_the_cloud_lies_on_the_room(cloud, room):
    """One point a cell, in the room's colours, with normals that face the inside."""
    assert 20_000 < len(cloud) < 100_000
    assert np.percentile(distances(cloud.points, room), 95) < 0.02
    floor = cloud.points[:, 2] < 0.01
    assert floor.sum() > 300
    np.testing.assert_allclose(np.median(cloud.normals[floor], 0), [0, 0, 1], atol=0.05)
    truth = room._cell_colors[room._cells.query(cloud.points)[1]]
    assert np.median(np.abs(cloud.colors - truth)) < 20
    nearest = cKDTree(cloud.points).query(cloud.points, 2)[0][:, 1]
    assert np.median(nearest) == pytest.approx(diagonal(cloud.points) / 250, rel=0.5)


def test_the_mesh_lies_on_the_room(shots, cloud, room):
    """Coarse, but everywhere near the surface, and most of what was seen is there."""
    mesh = mesh_of(shots, cloud)
    assert mesh is not None
    assert np.percentile(distances(mesh.vertices, room), 95) < 0.05
    assert mesh.face_areas().sum() > 0.4 * room.mesh.face_areas().sum()  # nobody looked up
    up = mesh.face_normals()[:, 2] @ mesh.face_areas()
    floor = (mesh.corners()[..., 2] < 0.05).all(1)
    assert up > 0 and (mesh.face_normals()[floor, 2] > 0.9).mean() > 0.9


def test_the_splat_covers_the_cloud(cloud):
    """Discs of the cloud's colours; one that stands alone is no large ball."""
    splat = splat_of(cloud)
    assert splat is not None
    assert 0 < len(splat) <= 30_000
    low, high = splat.means.min(0), splat.means.max(0)
    assert (low > -0.1).all() and (high < SIZE + 0.1).all()
    alone = replace(sparse_cloud(np.array([[20.0, 0, 0]]), np.zeros((1, 3), np.uint8)))
    with_one = splat_of(PointCloud.concatenate([cloud[:5000], alone]))
    assert with_one is not None
    assert with_one.log_scales.max() < np.median(with_one.log_scales) + 1


def test_scale_and_gaps_of_the_sensor(scene, room):
    """The scene's unit, and views without depth or with a damaged file, which are left out."""
    folder, posed = scene
    double = [*sensor_shots(folder, posed.training[:2], folder, 2.0)]
    plain = [*sensor_shots(folder, posed.training[:2], folder, 1.0)]
    np.testing.assert_allclose(double[0].depth_map.depth, 2 * plain[0].depth_map.depth, rtol=1e-5)
    (folder / "damaged.png").write_bytes(b"no image")
    views = [replace(posed.views[0], sensor_depth=None), replace(posed.views[0], sensor_depth="damaged.png")]
    assert [*sensor_shots(folder, views, folder, 1.0)] == []


def test_one_wrong_map_is_not_believed(shots, cloud, room):
    """A map with twice the depth: where two must agree, neither cloud nor mesh has its surface."""
    wrong = shots[3].depth_map
    bad = small_map("wrong", wrong.camera, wrong.world_from_camera, 2 * wrong.depth)
    mixed = [*shots, replace(shots[3], depth_map=bad)]
    mesh = mesh_of(mixed, cloud, min_shots=2)
    assert mesh is not None
    assert np.percentile(distances(mesh.vertices, room), 95) < 0.06


def test_nothing_gives_nothing():
    """No shot, no point."""
    nothing = cloud_of([])
    assert len(nothing) == 0
    assert mesh_of([], nothing) is None
    assert splat_of(nothing) is None
