"""What depth proves to be empty."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Camera, Gaussians, Pose, matrix_from_rotvec
from pipeline.splat.priors import FADE, FreeSpace
from pipeline.splat.views import TrainingView, ViewDepth, training_view

CAMERA = Camera(80, 60, 60.0, 60.0, 40.0, 30.0)


def wall_view(offset: float, known: slice = slice(None)) -> TrainingView:
    """Looks along +z from (offset, 0, 0) at a wall at z = 3; depth is known in some columns only."""
    pose = Pose(matrix_from_rotvec([0.0, 0.0, 0.1]), np.array([offset, 0.0, 0.0]))
    depth = np.zeros((60, 80), np.float32)
    depth[:, known] = 3.0
    photo = np.zeros((60, 80, 3), np.uint8)
    return training_view("v", photo, CAMERA, pose, ViewDepth(depth, np.full((60, 80), 0.01, np.float32)))


@pytest.fixture
def free() -> FreeSpace:
    """Four views of the wall."""
    return FreeSpace([wall_view(offset) for offset in (-0.3, -0.1, 0.1, 0.2)])


def test_points_before_at_and_behind_the_wall(free):
    """Seen through, seen there, close behind, and farther behind, where what mirrors show lies."""
    points = [[0.0, 0, 1.5], [0, 0, 3.0], [0, 0, 3.25], [0, 0, 3.6], [0, 0, -1], [50.0, 0, 2]]
    through, at, before = free.votes(np.array(points))
    assert through.tolist() == [4, 0, 0, 0, 0, 0]
    assert at.tolist() == [0, 4, 0, 0, 0, 0]
    assert before.tolist() == [0, 0, 4, 0, 0, 0]
    assert free.typical_depth == 3.0


def test_unknown_depth_and_its_rim_prove_nothing():
    """A view without depth at a pixel or next to it says nothing of what lies in front."""
    half = FreeSpace([wall_view(0.0, slice(0, 40))])
    left, rim, right = half.votes(np.array([[-0.6, 0, 1.5], [-0.04, 0, 1.5], [0.6, 0, 1.5]]))[0]
    assert (left, rim, right) == (1, 0, 0)


def test_two_witnesses_are_too_few():
    """A floater needs three views that see through it, and more than see a surface there."""
    assert not FreeSpace([wall_view(0.0), wall_view(0.1)]).floating(np.array([[0, 0, 1.5]])).any()
    assert FreeSpace([wall_view(0.0), wall_view(0.1), wall_view(0.2)]).floating(np.array([[0, 0, 1.5]])).all()


def test_looked_at_is_what_a_photo_shows(free):
    """In front of the wall and on it, not behind it and not outside the images; without depth everything ahead is."""
    points = np.array([[0.0, 0, 1.5], [0, 0, 3.0], [0, 0, 4.0], [50, 0, 2], [0, 0, -1]])
    assert free.looked_at(points).tolist() == [True, True, False, False, False]
    blind = FreeSpace([wall_view(0.0, slice(0, 0))])
    assert blind.looked_at(points).tolist() == [True, True, True, False, False]


def test_only_floaters_and_what_is_buried_fade(free):
    """Half the opacity from an index on; what lies on the wall keeps all, and mirrors' images do."""
    count = 6
    places = [[0, 0, 1.5], [0.1, 0, 1.5], [0, 0, 3.0], [0.2, 0.1, 3.25], [2.15, 0, 3.25], [0.2, 0.1, 4.5]]
    gaussians = Gaussians(
        np.array(places, np.float32),
        np.zeros((count, 3), np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.full(count, 1.0, np.float32),
        np.zeros((count, 1, 3), np.float32),
    )
    opacity = free.without_floaters(gaussians, first=1).opacities
    before = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(opacity, [before, FADE * before, before, FADE * before, before, before], rtol=1e-5)
