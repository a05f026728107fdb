"""Depth images of a sensor into maps."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.depth.params import DepthParams
from pipeline.depth.sensor import clean_sensor_depth, measure_noise, sensor_depth_maps
from pipeline.depth.sensor_model import NoiseModel
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from tests.depth.conftest import distance_to_room

PARAMS = DepthParams(backend="sensor")
DEPTH_CAMERA = Camera(160, 120, 130.0, 128.0, 78.0, 62.0)
CAMERA_FROM_DEPTH = Pose(matrix_from_rotvec(np.array([0.02, -0.05, 0.03])), np.array([0.03, -0.01, 0.02]))


@pytest.fixture
def capture(views, tmp_path):
    """The room's views with depth images of a camera that sits beside the colour camera, askew."""
    changed = []
    for view in views.scene.views:
        world_from_depth = view.world_from_camera @ CAMERA_FROM_DEPTH
        _, depth = views.room.cast(DEPTH_CAMERA, world_from_depth)
        cv2.imwrite(str(tmp_path / f"{view.name}.png"), (depth * 1000).round().astype(np.uint16))
        changed.append(
            replace(
                view,
                sensor_depth=f"{view.name}.png",
                depth_camera=DEPTH_CAMERA,
                camera_from_depth=CAMERA_FROM_DEPTH,
            )
        )
    return replace(views.scene, views=tuple(changed)), tmp_path


def test_points_lie_on_the_room(views, capture):
    """The depth camera's own pose and lens place every pixel on a surface; the colour camera's would not."""
    scene, folder = capture
    for result in sensor_depth_maps(scene, folder, PARAMS, NoiseModel()):
        known = result.depth_map.depth > 0
        distance = distance_to_room(views.room, result.depth_map.points()[known])
        assert known.mean() > 0.93
        assert np.median(distance) < 0.002
        assert np.percentile(distance, 95) < 0.015
        wrong = replace(result.depth_map, world_from_camera=scene.views[1].world_from_camera)
        assert np.median(distance_to_room(views.room, wrong.points()[known])) > 0.01


def test_the_depth_scale_is_applied_after_the_ranges(capture):
    """A scene of another unit gets its own unit; the ranges stay metres."""
    scene, folder = capture
    metric = clean_sensor_depth(scene.views[1], 1.0, folder, PARAMS, NoiseModel()).depth_map
    scaled = clean_sensor_depth(scene.views[1], 10.0, folder, PARAMS, NoiseModel()).depth_map
    np.testing.assert_allclose(scaled.depth, 10 * metric.depth, rtol=1e-6)
    np.testing.assert_allclose(scaled.sigma, 10 * metric.sigma, rtol=1e-6)
    np.testing.assert_array_equal(scaled.normals, metric.normals)


def test_held_out_views_are_flagged(capture):
    """The check needs their depth, nobody else may use it."""
    scene, folder = capture
    flags = [r.depth_map.held_out for r in sensor_depth_maps(scene, folder, PARAMS, NoiseModel())]
    assert flags == [view.held_out for view in scene.views]
    assert any(flags)


def test_invalid_and_far_pixels_are_unknown(capture):
    """0, 65535 and what lies beyond the trusted range."""
    scene, folder = capture
    path = folder / "0001.png"
    raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    raw[:30], raw[30:60], raw[60:80] = 0, 65535, 7000
    cv2.imwrite(str(path), raw)
    depth = clean_sensor_depth(scene.views[1], 1.0, folder, PARAMS, NoiseModel()).depth_map.depth
    assert not depth[:80].any()
    assert (depth[82:] > 0).mean() > 0.9


def test_low_confidence_is_dropped_and_middle_less_sure(capture):
    """Confidence 0 is unknown; half the confidence means half as much sigma again."""
    scene, folder = capture
    confidence = np.full((120, 160), 255, np.uint8)
    confidence[:40], confidence[40:80] = 0, 127
    cv2.imwrite(str(folder / "confidence.png"), confidence)
    view = replace(scene.views[1], sensor_confidence="confidence.png")
    depth_map = clean_sensor_depth(view, 1.0, folder, PARAMS, NoiseModel(0.01, 0.0)).depth_map
    assert not depth_map.depth[:40].any()
    np.testing.assert_allclose(np.median(depth_map.sigma[42:78]), 0.015, rtol=0.01)
    np.testing.assert_allclose(np.median(depth_map.sigma[82:]), 0.01, rtol=0.01)


def test_what_smoothing_rounds_off_is_less_sure(views, capture):
    """A coarse image's fit spans creases of the room: there sigma covers the error, elsewhere it stays the noise's."""
    scene, folder = capture
    view, camera = scene.views[1], DEPTH_CAMERA.resized(80, 60)
    _, exact = views.room.cast(camera, view.world_from_camera @ CAMERA_FROM_DEPTH)
    cv2.imwrite(str(folder / "coarse.png"), (exact * 1000).round().astype(np.uint16))
    view = replace(view, sensor_depth="coarse.png", depth_camera=camera)
    depth_map = clean_sensor_depth(view, 1.0, folder, PARAMS, NoiseModel(0.002, 0.0), with_gaps=True).depth_map
    error = np.abs(depth_map.depth - exact)
    rounded = (depth_map.depth > 0) & (error > 0.01)
    assert rounded.sum() > 50
    assert np.median(error[rounded] / depth_map.sigma[rounded]) < 1.5
    np.testing.assert_allclose(np.median(depth_map.sigma[depth_map.depth > 0]), 0.002, rtol=0.1)


def test_dense_depth_has_the_noise_models_sigma(views, capture):
    """Without gaps nothing is added at creases: free space would eat into thin things there."""
    scene, folder = capture
    view, camera = scene.views[1], DEPTH_CAMERA.resized(80, 60)
    _, exact = views.room.cast(camera, view.world_from_camera @ CAMERA_FROM_DEPTH)
    cv2.imwrite(str(folder / "coarse.png"), (exact * 1000).round().astype(np.uint16))
    view = replace(view, sensor_depth="coarse.png", depth_camera=camera)
    depth_map = clean_sensor_depth(view, 1.0, folder, PARAMS, NoiseModel(0.002, 0.0)).depth_map
    np.testing.assert_allclose(depth_map.sigma[depth_map.depth > 0], 0.002, rtol=1e-5)


def test_noise_is_not_taken_for_rounding(capture):
    """Smoothing takes a noisy plane's noise away; that makes no pixel much less sure than the noise model says."""
    scene, folder = capture
    rng = np.random.default_rng(4)
    v, u = np.mgrid[:120, :160]
    plane = 1 / (0.5 + 0.0008 * u - 0.0005 * v)
    noisy = plane + rng.normal(0, 0.004, plane.shape)
    cv2.imwrite(str(folder / "plane.png"), (noisy * 1000).round().astype(np.uint16))
    view = replace(scene.views[1], sensor_depth="plane.png")
    depth_map = clean_sensor_depth(view, 1.0, folder, PARAMS, NoiseModel(0.004, 0.0), with_gaps=True).depth_map
    inner = depth_map.sigma[8:-8, 8:-8]
    assert np.percentile(inner, 95) < 0.005


def test_the_noise_of_exact_depth_is_small(capture):
    """Only rounding to millimetres and the smoothing are left."""
    scene, folder = capture
    model, comparisons = measure_noise(scene, folder, PARAMS)
    assert comparisons > 1000
    assert model.sigma(np.array([2.0], np.float32))[0] < 0.004


def test_eight_bit_depth_is_refused(capture):
    """The message names the file and what was found in it."""
    scene, folder = capture
    cv2.imwrite(str(folder / "0001.png"), np.zeros((120, 160), np.uint8))
    with pytest.raises(CaptureError, match=r"0001\.png.*\n.*uint8"):
        clean_sensor_depth(scene.views[1], 1.0, folder, PARAMS, NoiseModel())


def test_intrinsics_of_another_resolution_are_refused(capture):
    """Depth and its camera must have one size."""
    scene, folder = capture
    view = replace(scene.views[1], depth_camera=DEPTH_CAMERA.resized(320, 240))
    with pytest.raises(CaptureError, match=r"camera \(320, 240\)"):
        clean_sensor_depth(view, 1.0, folder, PARAMS, NoiseModel())
