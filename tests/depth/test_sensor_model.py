"""A sensor's depth distortion, found by multi-view points."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.depth.params import DepthParams
from pipeline.depth.sensor_model import Distortion, NoiseModel, fit_distortion, fit_noise
from pipeline.geometry import Camera, Similarity
from pipeline.poses.scene import PosedScene, SparsePoints, View
from tests.synthetic import Room, walk

CAMERA = Camera(160, 120, 120.0, 119.0, 79.0, 61.0)
PARAMS = DepthParams(backend="sensor")
KNOWN = Distortion(
    np.array([0.004, -0.012, 0.006, -0.02, 0.012, 0.015, -0.004, 0.015, -0.01, 0.02, 0.006, -0.015]), 0.5, 4.0
)


@pytest.fixture(scope="module")
def scans():
    """24 views of the room: poses, exact depth, and sparse points that each of them saw, good to 3 mm."""
    room, rng = Room.make(), np.random.default_rng(3)
    views, depths, xyz, seen_by, ids = [], [], [], [], []
    for i, pose in enumerate(walk(24)):
        position, depth = room.cast(CAMERA, pose)
        rows, columns = rng.integers(0, 120, 500), rng.integers(0, 160, 500)
        xyz.append(position[rows, columns] + rng.normal(0, 0.003, (500, 3)))
        seen_by.append(np.full(500, i, np.int32))
        ids.append(np.arange(500 * i, 500 * (i + 1), dtype=np.int32))
        depths.append(depth)
        views.append(View(f"{i:04d}", "", CAMERA, pose, held_out=False, sensor_depth=f"{i:04d}.png"))
    points = SparsePoints(
        np.concatenate(xyz), np.zeros((12000, 3), np.uint8), np.full(12000, 0.3),
        np.concatenate(seen_by), np.concatenate(ids),
    )  # fmt: skip
    return PosedScene(tuple(views), points, 0.01, 1.0, {}), depths


def record(folder, scans, measured_from_true, scale=1.0):
    """Write the depth images; the scene in units of `scale` per metre."""
    scene, depths = scans
    for view, depth in zip(scene.views, depths, strict=True):
        cv2.imwrite(str(folder / f"{view.name}.png"), (measured_from_true(depth) * 1000).round().astype(np.uint16))
    return scene


def distort(depth):
    """The measured depth that KNOWN corrects to `depth`: fixed-point iteration."""
    rays, measured = CAMERA.rays(), depth.copy()
    for _ in range(30):
        measured = 1 / (1 / depth - (1 / KNOWN.corrected(measured, rays) - 1 / measured))
    return measured


def test_a_known_distortion_is_found(tmp_path, scans):
    """The fitted correction is the one that was put in, to a few millimetres, wherever the room has points."""
    scene, depths = record(tmp_path, scans, distort), scans[1]
    found, report = fit_distortion(scene, tmp_path, PARAMS)
    assert found is not None
    assert report["applied"]
    assert report["gain"] > 0.5
    assert report["held_out_residual_after_m"] < 0.5 * report["held_out_residual_before_m"]
    errors = [found.corrected(distort(d).astype(np.float32), CAMERA.rays()) - d for d in depths]
    assert np.percentile(np.abs([distort(d) - d for d in depths]), 95) > 0.04
    assert np.median(np.abs(errors)) < 0.002
    assert np.percentile(np.abs(errors), 95) < 0.008


def test_a_good_sensor_is_left_alone(tmp_path, scans):
    """Without distortion there is nothing to gain on points held out, and the report says so."""
    found, report = fit_distortion(record(tmp_path, scans, lambda depth: depth), tmp_path, PARAMS)
    assert found is None
    assert not report["applied"]
    assert "not fitted to" in report["reason"]
    assert abs(report["gain"]) < 0.05


def test_the_scene_s_unit_does_not_matter(tmp_path, scans):
    """A scene of 2.5 units a metre gives the same correction."""
    scene = record(tmp_path, scans, distort)
    scaled = replace(
        scene,
        views=tuple(
            replace(
                v, world_from_camera=replace(v.world_from_camera, translation=2.5 * v.world_from_camera.translation)
            )
            for v in scene.views
        ),
        points=replace(scene.points, xyz=2.5 * scene.points.xyz),
        depth_scale=2.5,
    )
    one, other = fit_distortion(scene, tmp_path, PARAMS)[0], fit_distortion(scaled, tmp_path, PARAMS)[0]
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one.coefficients, other.coefficients, atol=1e-6)


def test_too_few_points_are_no_ground(tmp_path, scans):
    """With a tenth of the points nothing is fitted."""
    scene = record(tmp_path, scans, distort)
    points = scene.points
    few = replace(points, view_index=points.view_index[::10], point_index=points.point_index[::10])
    found, report = fit_distortion(replace(scene, points=few), tmp_path, PARAMS)
    assert found is None
    assert "too few" in report["reason"]


def test_unknown_depth_stays_unknown():
    """0 is no depth and becomes none."""
    depth = np.array([[0.0, 2.0]], np.float32)
    corrected = KNOWN.corrected(depth, np.array([[[0.1, 0.2, 1], [0.1, 0.2, 1]]]))
    assert corrected[0, 0] == 0
    assert corrected[0, 1] != 2


def test_beyond_the_fitted_range_the_shift_is_that_at_its_end():
    """Inverse depth is moved by no more than where points were, instead of what a polynomial makes of it there."""
    rays = np.tile([[-0.5, 0.3, 1.0]], (2, 1))
    depth = np.array([4.0, 6.0], np.float32)
    shift = 1 / KNOWN.corrected(depth, rays) - 1 / depth
    np.testing.assert_allclose(shift[1], shift[0], atol=1e-6)


def noisy(depth_map, model, rng):
    noise = model.sigma(depth_map.depth) * rng.normal(size=depth_map.depth.shape)
    return replace(depth_map, depth=(depth_map.depth + noise).astype(np.float32))


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_known_noise_is_found(views, scale):
    """Maps with noise of a known model give that model back, whatever the scene's unit."""
    rng = np.random.default_rng(0)
    model = NoiseModel(0.006, 0.004)
    maps = [noisy(m, model, rng).transformed(Similarity(scale, np.eye(3), np.zeros(3))) for m in views.truth.values()]
    found, comparisons = fit_noise([(maps[i], maps[i + 2]) for i in range(5)], scale)
    depth = np.array([1.0, 2.0, 3.0], np.float32)
    assert comparisons > 10_000
    np.testing.assert_allclose(found.sigma(depth), model.sigma(depth), rtol=0.15)


def test_without_overlap_the_default_holds():
    """No comparison, no estimate."""
    assert fit_noise([], 1.0) == (NoiseModel(), 0)
