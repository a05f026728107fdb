"""What the cloud lacks gets Gaussians all the same."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import SH_C0, Camera, Gaussians, Pose
from pipeline.raster import render
from pipeline.splat.initialization import fill_gaps
from pipeline.splat.views import training_view

CAMERA = Camera(160, 128, 130.0, 130.0, 80.0, 64.0)


def _wall_without_window() -> Gaussians:
    """A wall 2 m ahead with a gap in its middle."""
    x, y = np.meshgrid(np.arange(-1.4, 1.41, 0.05), np.arange(-1.2, 1.21, 0.05))
    means = np.stack([x, y, np.full_like(x, 2.0)], -1).reshape(-1, 3)
    means = means[np.abs(means[:, :2]).max(1) > 0.4].astype(np.float32)
    count = len(means)
    return Gaussians(
        means,
        np.full((count, 3), np.log(0.04), np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.full(count, 3.0, np.float32),
        np.zeros((count, 4, 3), np.float32),
    )


def _view(offset: float = 0.0):
    photo = np.full((128, 160, 3), (250, 120, 30), np.uint8)
    return training_view("a", photo, CAMERA, Pose(np.eye(3), np.array([offset, 0, 0])), None)


def test_gap_is_covered_in_the_photos_colour_at_the_walls_depth():
    """Alpha rises in the gap, with the photo's colour there; nothing else changes."""
    wall = _wall_without_window()
    covered = fill_gaps(wall, [_view()], 1000)
    added = covered[np.arange(len(wall), len(covered))]
    assert len(added) == 9  # the gap is 13 px wide at a quarter of the size, one Gaussian every 4 px
    assert np.abs(added.means[:, :2]).max() < 0.5
    np.testing.assert_allclose(added.means[:, 2], 2.0, atol=0.02)
    np.testing.assert_allclose(added.sh[:, 0] * SH_C0 + 0.5, np.tile([250, 120, 30], (len(added), 1)) / 255, atol=0.01)
    before, after = (render(g, CAMERA, Pose.identity()).alpha[54:74, 70:90].mean() for g in (wall, covered))
    assert before < 0.1
    assert after > 0.5


def test_second_view_of_a_covered_gap_adds_little():
    """Holes are covered once, and never more than the limit."""
    wall = _wall_without_window()
    once = len(fill_gaps(wall, [_view()], 1000)) - len(wall)
    twice = len(fill_gaps(wall, [_view(), _view(0.05)], 1000)) - len(wall)
    assert twice < 1.5 * once
    assert len(fill_gaps(wall, [_view()], 5)) == len(wall) + 5


def test_view_of_nothing_adds_nothing():
    """Without any depth in the view there is no telling where its content lies."""
    wall = _wall_without_window()
    away = Pose(np.diag([-1.0, 1.0, -1.0]), np.zeros(3))
    view = training_view("a", np.zeros((128, 160, 3), np.uint8), CAMERA, away, None)
    assert len(fill_gaps(wall, [view], 100)) == len(wall)
