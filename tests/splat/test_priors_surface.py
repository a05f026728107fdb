"""Gaussians flattened onto known surfaces."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Gaussians, PointCloud, matrix_from_quaternion, matrix_from_rotvec
from pipeline.splat.priors import MIN_THICKNESS, PULL, THICKNESS, SurfacePrior

ROTATION = matrix_from_rotvec([0.5, -0.3, 0.2])
SHIFT = np.array([1.0, -2.0, 0.5])
NORMAL = ROTATION[:, 2]
RADIUS = 2.0


def cloud_of(points: np.ndarray, normals: np.ndarray, sigma: float = 0.001) -> PointCloud:
    """Grey points with that standard deviation [m]."""
    count = len(points)
    return PointCloud(
        points.astype(np.float32),
        normals.astype(np.float32),
        np.full((count, 3), 128, np.uint8),
        np.full(count, sigma, np.float32),
        np.full(count, 3, np.int32),
        np.zeros(count, bool),
    )


@pytest.fixture
def floor() -> PointCloud:
    """A square metre of a plane, rotated and moved; half of its normals point the other way."""
    grid = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 80), np.linspace(-0.5, 0.5, 80)), -1).reshape(-1, 2)
    points = np.concatenate([grid, np.zeros((len(grid), 1))], 1) @ ROTATION.T + SHIFT
    flipped = np.where(np.arange(len(grid)) % 2, 1.0, -1.0)[:, None]
    return cloud_of(points, NORMAL * flipped)


@pytest.fixture
def sticks(rng) -> Gaussians:
    """Sticks up to 1 cm off the plane, in any direction."""
    count = 200
    local = np.concatenate([rng.uniform(-0.4, 0.4, (count, 2)), rng.uniform(-0.01, 0.01, (count, 1))], 1)
    return Gaussians(
        (local @ ROTATION.T + SHIFT).astype(np.float32),
        np.log(np.tile([0.08, 0.03, 0.02], (count, 1))).astype(np.float32),
        rng.normal(size=(count, 4)).astype(np.float32),
        rng.normal(size=count).astype(np.float32),
        rng.normal(size=(count, 4, 3)).astype(np.float32),
    )


def thickness(gaussians: Gaussians) -> np.ndarray:
    """Standard deviation along the plane's normal (N,)."""
    quaternions = gaussians.quaternions / np.linalg.norm(gaussians.quaternions, axis=1, keepdims=True)
    along = np.einsum("nij,i->nj", matrix_from_quaternion(quaternions), NORMAL)
    return np.sqrt(((along * np.exp(gaussians.log_scales)) ** 2).sum(1))


def test_sticks_become_discs_on_the_plane(floor, sticks):
    """One axis lies along the normal, thin relative to the others; the centres come nearer."""
    before, sticks = sticks, SurfacePrior(floor, RADIUS).flattened(sticks)
    quaternions = sticks.quaternions / np.linalg.norm(sticks.quaternions, axis=1, keepdims=True)
    along = np.abs(np.einsum("nij,i->nj", matrix_from_quaternion(quaternions), NORMAL))
    np.testing.assert_allclose(along.max(1), 1, atol=1e-5)
    scales = np.exp(sticks.log_scales)
    axis, rows = along.argmax(1), np.arange(len(sticks))
    width = np.sqrt(scales.prod(1) / scales[rows, axis])
    assert (scales[rows, axis] <= np.maximum(THICKNESS * width, MIN_THICKNESS * RADIUS) * 1.0001).all()
    assert np.median(thickness(sticks)) < 0.25 * np.median(thickness(before))
    heights = [(g.means - SHIFT) @ NORMAL for g in (before, sticks)]
    np.testing.assert_allclose(heights[1], (1 - PULL) * heights[0], atol=1e-5)
    # in the plane nothing moves, and colours and opacity stay
    np.testing.assert_allclose(
        sticks.means - np.outer(heights[1], NORMAL), before.means - np.outer(heights[0], NORMAL), atol=1e-5
    )
    np.testing.assert_array_equal(sticks.sh, before.sh)
    np.testing.assert_array_equal(sticks.opacity_logits, before.opacity_logits)


def test_short_axis_is_the_one_that_rotates(floor, sticks):
    """A disc that is nearly right keeps its width: the long axes are not made thin."""
    sticks.quaternions[:] = np.array([1, 0, 0, 0]) + 0.0
    nearly = matrix_from_rotvec([0.2, 0.1, 0.0])
    sticks.log_scales[:] = np.log([0.08, 0.06, 0.02])
    from_plane = ROTATION @ nearly
    w = 0.5 * np.sqrt(1 + np.trace(from_plane))
    odd = np.array([from_plane[2, 1] - from_plane[1, 2], from_plane[0, 2] - from_plane[2, 0]])
    sticks.quaternions[:] = [w, *(odd / (4 * w)), (from_plane[1, 0] - from_plane[0, 1]) / (4 * w)]
    sticks = SurfacePrior(floor, RADIUS).flattened(sticks)
    np.testing.assert_allclose(np.exp(sticks.log_scales[:, :2]), np.tile([0.08, 0.06], (len(sticks), 1)), rtol=1e-4)
    assert (np.exp(sticks.log_scales[:, 2]) < 0.0145).all()


def test_far_and_first_gaussians_are_left_alone(floor, sticks):
    """What the cloud doesn't know, and what is fixed, stays as it is."""
    sticks.means[:50] += (0.2 * NORMAL).astype(np.float32)
    before, sticks = sticks, SurfacePrior(floor, RADIUS).flattened(sticks, first=100)
    np.testing.assert_array_equal(sticks.means[:100], before.means[:100])
    np.testing.assert_array_equal(sticks.quaternions[:100], before.quaternions[:100])
    assert (sticks.quaternions[100:] != before.quaternions[100:]).any(1).all()
    far = SurfacePrior(floor, RADIUS).flattened(before)
    np.testing.assert_array_equal(far.log_scales[:50], before.log_scales[:50])
    assert (far.log_scales[50:] != before.log_scales[50:]).any(1).mean() > 0.9


def test_rough_places_are_no_surfaces(sticks, rng):
    """Where points scatter by 5 cm, or normals by any angle, nothing is flat."""
    local = np.concatenate([rng.uniform(-0.5, 0.5, (6000, 2)), rng.normal(0, 0.05, (6000, 1))], 1)
    bush = cloud_of(local @ ROTATION.T + SHIFT, np.tile(NORMAL, (6000, 1)))
    directions = rng.normal(size=(6000, 3))
    flat = np.concatenate([local[:, :2], np.zeros((6000, 1))], 1) @ ROTATION.T + SHIFT
    moss = cloud_of(flat, directions / np.linalg.norm(directions, axis=1, keepdims=True))
    for cloud in (bush, moss):
        after = SurfacePrior(cloud, RADIUS).flattened(sticks)
        changed = (after.means != sticks.means).any(1)
        assert changed.mean() < 0.1


def test_coarse_depth_flattens_nothing(floor, sticks):
    """A cloud that knows the plane to 1 cm only doesn't overrule the images."""
    after = SurfacePrior(cloud_of(floor.points, floor.normals, sigma=0.01), RADIUS).flattened(sticks)
    np.testing.assert_array_equal(after.means, sticks.means)
    np.testing.assert_array_equal(after.quaternions, sticks.quaternions)
