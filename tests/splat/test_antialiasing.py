"""The bound on how thin Gaussians may be."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from pipeline.splat.antialiasing import MIN_PIXELS, bound_extent, finest_pixels
from pipeline.splat.views import TrainingView, training_view
from tests.raster.conftest import SMALL_POSE, scatter

CAMERA = Camera(40, 36, 45.0, 41.0, 17.2, 19.3)


@pytest.fixture
def views() -> list[TrainingView]:
    """Three, rotated and moved, one of them twice as near."""
    rotated = SMALL_POSE @ Pose(matrix_from_rotvec([0.1, 0.4, -0.2]), np.array([0.2, 0.1, 0.3]))
    nearer = SMALL_POSE @ Pose(np.eye(3), np.array([0.1, -0.1, 1.6]))
    photo = np.zeros((36, 40, 3), np.uint8)
    return [training_view(str(k), photo, CAMERA, pose, None) for k, pose in enumerate((SMALL_POSE, rotated, nearer))]


def test_the_finest_pixel_is_that_of_the_nearest_view_that_shows_the_point(rng, views):
    """Against the camera's own projection, point by point; behind and next to all of them there is none."""
    means = scatter(200, rng).means
    means[::9] += rng.normal(0, 3, means[::9].shape).astype(np.float32)
    expected = np.full(len(means), np.inf)
    for view in views:
        local = view.world_from_camera.inverse().apply(means)
        size, margin = np.array([40, 36]), 0.15 * np.array([40, 36])
        pixels = CAMERA.project(local)
        seen = (local[:, 2] > 0.02) & (pixels > -margin).all(1) & (pixels < size + margin).all(1)
        expected = np.where(seen, np.minimum(expected, local[:, 2] / 45.0), expected)
    found = finest_pixels(means, [CAMERA] * 3, [view.world_from_camera for view in views])
    assert 5 < np.isinf(expected).sum() < 60
    np.testing.assert_allclose(found, np.where(np.isinf(expected), 0, expected), rtol=1e-4)


def test_extents_are_bounded_by_the_nearest_view(rng, views):
    """From below, along each axis; inpainted ones, and thin ones nobody sees, stay."""
    scene = scatter(100, rng)
    scene.log_scales[:] = (0, -3.5, -9)
    scene.means[90:] += np.float32(50)
    pixels = finest_pixels(scene.means, [CAMERA] * 3, [view.world_from_camera for view in views])
    shown, fitted = pixels > 0, np.arange(100) >= 10
    assert shown[10:].sum() > 60
    after = bound_extent(scene, views, fixed=10)
    np.testing.assert_array_equal(after.log_scales[:, 0], 0)
    widened = shown & fitted
    np.testing.assert_allclose(after.log_scales[widened, 2], np.log(MIN_PIXELS * pixels[widened]), rtol=1e-5)
    np.testing.assert_array_equal(after.log_scales[~widened, 2], scene.log_scales[~widened, 2])
