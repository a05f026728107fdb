"""Surfaces, free space and hidden sides, imposed on the Gaussians together."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Camera, Gaussians, PointCloud, Pose, matrix_from_rotvec
from pipeline.splat.priors import CLEARED, FADE, PULL, FreeSpace, Priors
from pipeline.splat.views import ViewDepth, training_view

CAMERA = Camera(80, 60, 60.0, 60.0, 40.0, 30.0)
WALL, FLOATER, NEAR_WALL, BEHIND_DISC = 3.0, 0, 1, 2
BEFORE = 1 / (1 + np.exp(-1.0))


def gaussians_at(means: list[list[float]]) -> Gaussians:
    """Thick ones, half seen through."""
    count = len(means)
    return Gaussians(
        np.array(means, np.float32),
        np.full((count, 3), np.log(0.03), np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.full(count, 1.0, np.float32),
        np.zeros((count, 1, 3), np.float32),
    )


@pytest.fixture
def known() -> tuple[PointCloud, FreeSpace]:
    """A wall at z = 3 that four cameras near the origin see."""
    grid = np.stack(np.meshgrid(np.linspace(-1.5, 1.5, 120), np.linspace(-1, 1, 80)), -1).reshape(-1, 2)
    points = np.c_[grid, np.full(len(grid), WALL)].astype(np.float32)
    count = len(points)
    cloud = PointCloud(
        points,
        np.tile(np.array([0, 0, -1], np.float32), (count, 1)),
        np.full((count, 3), 128, np.uint8),
        np.full(count, 0.001, np.float32),
        np.full(count, 3, np.int32),
        np.zeros(count, bool),
    )
    depth = ViewDepth(np.full((60, 80), WALL, np.float32), np.full((60, 80), 0.01, np.float32))
    photo, rotation = np.zeros((60, 80, 3), np.uint8), matrix_from_rotvec([0.0, 0.0, 0.1])
    poses = [Pose(rotation, np.array([x, 0, 0])) for x in (-0.3, -0.1, 0.1, 0.2)]
    views = [training_view("v", photo, CAMERA, pose, depth) for pose in poses]
    return cloud, FreeSpace(views)


def trained() -> Gaussians:
    """In front of the wall, nearly on it, and behind it where an inpainted disc is in front."""
    return gaussians_at([[0.1, 0.2, 1.5], [-0.3, 0.1, 3.01], [0.6, -0.2, 3.3]])


def inpainted() -> Gaussians:
    """A disc in front of the hidden one; its third axis points to the cameras (rotated by pi about x)."""
    disc = gaussians_at([[0.6, -0.2, 3.2]])
    disc.quaternions[:] = [0, 1, 0, 0]
    return disc


def test_each_prior_is_imposed(known):
    """The floater fades, the one at the wall is drawn to it, the one behind the inpainted disc is cleared."""
    before, gaussians = trained(), Priors(*known, 2.0, inpainted()).apply(trained(), 0)
    opacity = gaussians.opacities
    np.testing.assert_allclose(opacity[[FLOATER, NEAR_WALL]], [FADE * BEFORE, BEFORE], rtol=1e-5)
    assert gaussians.opacity_logits[BEHIND_DISC] == CLEARED
    np.testing.assert_allclose(gaussians.means[NEAR_WALL, 2], WALL + (1 - PULL) * 0.01, atol=1e-5)
    assert gaussians.log_scales[NEAR_WALL].min() < np.log(0.03) - 0.5
    np.testing.assert_array_equal(before.means[FLOATER], gaussians.means[FLOATER])


def test_fixed_ones_are_left_alone_and_without_inpainted_ones_nothing_is_hidden(known):
    """Gaussians before the first index keep their opacity and position; what is behind the wall fades, no more."""
    before = trained()
    gaussians = Priors(*known, 2.0, inpainted()[np.zeros(1, bool)]).apply(before, 1)
    assert gaussians.opacity_logits[FLOATER] == before.opacity_logits[FLOATER]
    assert gaussians.opacities[BEHIND_DISC] == pytest.approx(FADE * BEFORE)
    assert gaussians.means[NEAR_WALL, 2] < before.means[NEAR_WALL, 2]
