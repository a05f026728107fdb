"""The starting Gaussians lie on the cloud like coins on a table."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import SH_C0, PointCloud, matrix_from_quaternion
from pipeline.splat.initialization import discs_on


def _cloud(points: np.ndarray, normals: np.ndarray) -> PointCloud:
    count = len(points)
    return PointCloud(
        points.astype(np.float32),
        normals.astype(np.float32),
        np.tile(np.array([200, 100, 50], np.uint8), (count, 1)),
        np.full(count, 0.01, np.float32),
        np.full(count, 3, np.int32),
        np.zeros(count, bool),
    )


def _start(cloud, count=1000, coefficients=4, seed=0):
    return discs_on(cloud, count, coefficients, np.random.default_rng(seed), opacity=0.25, flatness=0.2)


def test_discs_are_flat_along_the_normals(rng):
    """The short axis is the normal, for any direction, downwards too; across it the size is the spacing."""
    grid = np.stack(np.meshgrid(np.arange(8) * 0.1, np.arange(8) * 0.1, [0.0]), -1).reshape(-1, 3)
    for normal in (*rng.normal(size=(6, 3)), np.array([0, 0, -1.0]), np.array([0, 0, 1.0])):
        unit = normal / np.linalg.norm(normal)
        discs = _start(_cloud(grid, np.tile(unit, (64, 1))))
        short = matrix_from_quaternion(discs.quaternions)[:, :, 2]
        np.testing.assert_allclose(np.abs(short @ unit), 1, atol=1e-5)
        inner = np.abs(grid[:, :2] - 0.35).max(1) < 0.3
        np.testing.assert_allclose(
            np.exp(discs.log_scales)[inner], np.tile([0.1, 0.1, 0.02], (inner.sum(), 1)), rtol=1e-4
        )


def test_colour_and_opacity_are_the_clouds(rng):
    """SH degree 0 gives the point's colour; opacity as requested."""
    discs = _start(_cloud(rng.random((50, 3)), np.tile([1.0, 0, 0], (50, 1))))
    np.testing.assert_allclose(discs.sh[:, 0] * SH_C0 + 0.5, np.tile([200, 100, 50], (50, 1)) / 255, atol=1e-6)
    assert not discs.sh[:, 1:].any()
    np.testing.assert_allclose(1 / (1 + np.exp(-discs.opacity_logits)), 0.25, rtol=1e-5)


def test_points_without_normals_become_balls(rng):
    """Nothing is flattened along a direction that nobody knows."""
    discs = _start(_cloud(rng.random((50, 3)), np.zeros((50, 3))))
    assert (np.ptp(discs.log_scales, axis=1) == 0).all()


def test_subsample_repeats_and_holds_the_cap(rng):
    """Equal generators give equal Gaussians, another one others."""
    cloud = _cloud(rng.random((500, 3)), np.tile([1.0, 0, 0], (500, 1)))
    one, same, other = _start(cloud, 100), _start(cloud, 100), _start(cloud, 100, seed=1)
    assert len(one) == 100
    np.testing.assert_array_equal(one.means, same.means)
    assert (one.means != other.means).any()


def test_too_few_points_are_refused(rng):
    """The message says how many there were."""
    with pytest.raises(ValueError, match="got 3"):
        _start(_cloud(rng.random((3, 3)), np.zeros((3, 3))))
