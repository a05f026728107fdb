"""Images in other paint: stone is fixed in the world."""

from __future__ import annotations

import numpy as np

from train.ground.painting import stones

COUNT = 24


def painted(points: np.ndarray, seed: int = 4) -> np.ndarray:
    """Factors for the same points (P, 3) in so many stones."""
    return stones(np.tile(points.astype(np.float32), (COUNT, 1, 1)), np.random.default_rng(seed))


def test_colours_belong_to_places():
    """Whatever else is seen, a point has its colour; another stone is another."""
    points = np.random.default_rng(0).uniform(-2, 2, (500, 3))
    whole, part = painted(points), painted(points[::-5])
    np.testing.assert_array_equal(part, whole[:, ::-5])
    assert (whole > 0).all()
    assert np.isfinite(whole).all()
    assert (whole[1:] != whole[:-1]).mean() > 0.99
    assert (painted(points, 5) != whole).mean() > 0.99


def test_stones_are_of_one_colour_and_differ():
    """A millimetre away it is mostly the same, half a metre away another: in every direction."""
    points = np.random.default_rng(1).uniform(-2, 2, (2000, 3))
    here = np.log(painted(points))
    for way in np.eye(3):
        near, far = (np.abs(np.log(painted(points + step * way)) - here).mean((1, 2)) for step in (0.001, 0.5))
        assert (near < 0.3 * far).all()
    spread = here.std(1).mean(1)
    assert spread.min() > 0.02
    assert spread.max() > 4 * spread.min()


def test_joints_are_darker_or_brighter_than_stones():
    """Some stones have none: then what is brightest or darkest is a patch of its own."""
    points = np.c_[np.linspace(-2, 2, 8001), np.zeros((8001, 2))]
    colors = np.log(painted(points)).mean(2)
    ramps = (np.abs(np.diff(colors, axis=1)) > 1e-6).mean(1)  # within a joint, brightness changes evenly
    assert (ramps > 0.1).any()
    assert (ramps < 0.1).any()
