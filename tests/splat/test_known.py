"""Surfaces, free space and hidden sides, put upon the Gaussians together."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Camera, Gaussians, PointCloud, Pose, matrix_from_rotvec
from pipeline.splat.free_space import FADE, FreeSpace
from pipeline.splat.hidden import CLEARED
from pipeline.splat.known import Enforcement, KnownPlace
from pipeline.splat.supervision import ViewDepth
from pipeline.splat.surface_prior import PULL
from pipeline.splat.views import training_view

CAMERA = Camera(80, 60, 60.0, 60.0, 40.0, 30.0)
WALL, FLOATER, NEAR_WALL, BEHIND_GUESS = 3.0, 0, 1, 2
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
def place() -> KnownPlace:
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
    photo, turn = np.zeros((60, 80, 3), np.uint8), matrix_from_rotvec([0.0, 0.0, 0.1])
    views = [training_view("v", photo, CAMERA, Pose(turn, np.array([x, 0, 0])), depth) for x in (-0.3, -0.1, 0.1, 0.2)]
    return KnownPlace(cloud, FreeSpace(views))


def trained() -> Gaussians:
    """Before the wall, nearly on it, and behind it where a guess is in front."""
    return gaussians_at([[0.1, 0.2, 1.5], [-0.3, 0.1, 3.01], [0.6, -0.2, 3.35]])


def guess() -> Gaussians:
    """A disc before the hidden one; its third axis points to the cameras (half a turn about x)."""
    disc = gaussians_at([[0.6, -0.2, 3.2]])
    disc.quaternions[:] = [0, 1, 0, 0]
    return disc


def test_each_gets_what_is_known_of_its_place(place):
    """The floater fades, the one at the wall is drawn to it, the one behind the guess is cleared."""
    gaussians = trained()
    Enforcement(place, 2.0, guess()).apply(gaussians, 0)
    opacity = 1 / (1 + np.exp(-gaussians.opacity_logits))
    np.testing.assert_allclose(opacity[[FLOATER, NEAR_WALL]], [FADE * BEFORE, BEFORE], rtol=1e-5)
    assert gaussians.opacity_logits[BEHIND_GUESS] == CLEARED
    np.testing.assert_allclose(gaussians.means[NEAR_WALL, 2], WALL + (1 - PULL) * 0.01, atol=1e-5)
    assert gaussians.log_scales[NEAR_WALL].min() < np.log(0.03) - 0.5


def test_fixed_ones_are_left_alone_and_without_guesses_nothing_is_hidden(place):
    """What lies before the first index keeps its opacity and place."""
    gaussians, before = trained(), trained()
    Enforcement(place, 2.0, guess()[np.zeros(1, bool)]).apply(gaussians, 1)
    assert gaussians.opacity_logits[FLOATER] == before.opacity_logits[FLOATER]
    assert gaussians.opacity_logits[BEHIND_GUESS] == before.opacity_logits[BEHIND_GUESS]
    assert gaussians.means[NEAR_WALL, 2] < before.means[NEAR_WALL, 2]
