"""The gradient by the camera's pose against finite differences of the brute-force float64 reference."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from pipeline.geometry import Pose, matrix_from_rotvec
from pipeline.raster import Cutoffs, pose_gradient, rasterize, rasterize_backward
from tests.raster.conftest import SMALL_CAMERA, SMALL_POSE, scatter
from tests.raster.reference import as_float64, planes_loss, render_reference

SMOOTH = Cutoffs(alpha=8e-6, transmittance=0.0)


def _moved(pose: Pose, twist: np.ndarray) -> Pose:
    return pose @ Pose(matrix_from_rotvec(twist[:3]), twist[3:])


@pytest.mark.parametrize("sh_count", [1, 4, 16])
@pytest.mark.parametrize("seed", [1, 2])
def test_pose_gradient_matches_finite_differences(seed, sh_count):
    """Rotation and translation, each within 0.5 % in every component's share of the whole."""
    rng = np.random.default_rng(seed)
    scene = scatter(40, rng)
    exact = as_float64(scene)
    height, width = SMALL_CAMERA.height, SMALL_CAMERA.width
    by_planes, by_transmittance = rng.normal(size=(4, height, width)), rng.normal(size=(height, width))
    # a smooth weight: of noise, neighbouring pixels cancel and float32 rounding is all that is left
    by_planes += np.linspace(-2, 3, width)
    raster = rasterize(scene, SMALL_CAMERA, SMALL_POSE, sh_count=sh_count, cutoffs=SMOOTH)
    padded_planes, padded = np.zeros_like(raster.planes), np.zeros_like(raster.transmittance)
    padded_planes[:, :height, :width], padded[:height, :width] = by_planes, by_transmittance
    analytic = pose_gradient(raster, scene, rasterize_backward(raster, scene, padded_planes, padded))

    def loss(twist: np.ndarray) -> float:
        pose = _moved(SMALL_POSE, twist)
        reference = render_reference(exact, SMALL_CAMERA, pose, alpha_cutoff=0.0, sh_count=sh_count)
        return planes_loss(reference, by_planes, by_transmittance)

    step = 1e-6
    numeric = np.array([(loss(step * axis) - loss(-step * axis)) / (2 * step) for axis in np.eye(6)])
    for part in (slice(0, 3), slice(3, 6)):
        error = np.linalg.norm(analytic[part] - numeric[part]) / np.linalg.norm(numeric[part])
        assert error < 5e-3, f"{part}: relative error {error:.4f}"


def test_pose_gradient_does_not_depend_on_the_thread_count(gaussians):
    """Bit for bit."""
    raster = rasterize(gaussians, SMALL_CAMERA, SMALL_POSE)
    ones = np.ones_like(raster.planes)
    gradients = rasterize_backward(raster, gaussians, ones, ones[0])
    results, before = [], numba.get_num_threads()
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            results.append(pose_gradient(raster, gaussians, gradients))
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])
