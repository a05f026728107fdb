"""Images in other paint: stone is fixed in the world."""

from __future__ import annotations

import numpy as np

from sim.sensors.ground.eyes import FINE
from sim.sensors.ground.parallax import Before
from train.ground.painting import painted, stones
from train.ground.views import GroundImages

COUNT = 24


def factors(points: np.ndarray, seed: int = 4) -> np.ndarray:
    """Factors for the same points (P, 3) in so many stones."""
    return stones(np.tile(points.astype(np.float32), (COUNT, 1, 1)), np.random.default_rng(seed))


def test_colours_belong_to_places():
    """Whatever else is seen, a point has its colour; another stone is another."""
    points = np.random.default_rng(0).uniform(-2, 2, (500, 3))
    whole, part = factors(points), factors(points[::-5])
    np.testing.assert_array_equal(part, whole[:, ::-5])
    assert (whole > 0).all()
    assert np.isfinite(whole).all()
    assert (whole[1:] != whole[:-1]).mean() > 0.99
    assert (factors(points, 5) != whole).mean() > 0.99


def test_stones_are_of_one_colour_and_differ():
    """A millimetre away it is mostly the same, half a metre away another: in every direction."""
    points = np.random.default_rng(1).uniform(-2, 2, (2000, 3))
    here = np.log(factors(points))
    for way in np.eye(3):
        near, far = (np.abs(np.log(factors(points + step * way)) - here).mean((1, 2)) for step in (0.001, 0.5))
        assert (near < 0.3 * far).all()
    spread = here.std(1).mean(1)
    assert spread.min() > 0.02
    assert spread.max() > 4 * spread.min()


def test_joints_are_darker_or_brighter_than_stones():
    """Some stones have none: then what is brightest or darkest is a patch of its own."""
    points = np.c_[np.linspace(-2, 2, 8001), np.zeros((8001, 2))]
    colors = np.log(factors(points)).mean(2)
    ramps = (np.abs(np.diff(colors, axis=1)) > 1e-6).mean(1)  # within a joint, brightness changes evenly
    assert (ramps > 0.1).any()
    assert (ramps < 0.1).any()


def views(colors: np.ndarray, depth: np.ndarray, before_from_camera: np.ndarray) -> GroundImages:
    """Of a wall that cameras look at, the same colours before and now."""
    known = np.ones(len(colors), bool)
    over = np.tile(np.eye(4), (len(colors), 1, 1))
    before = Before(colors, before_from_camera, known)
    return GroundImages(colors, depth[:, ::2, ::2], depth, over, over, before, depth, before_from_camera)


def test_other_paint_is_over_the_same_views():
    """What is dark stays so; some plain surfaces do, others are of stone or patches; again it is the same."""
    shape = (3 * COUNT, FINE.height, FINE.width)
    colors = np.full((*shape, 3), 120, np.uint8)
    colors[:, :, :40] = 0
    images = views(colors, np.full(shape, 1.5, np.float32), np.tile(np.eye(4), (len(colors), 1, 1)))
    patterns = np.random.default_rng(2).uniform(0.5, 1.5, (5, *shape[1:], 3)).astype(np.float32)
    (seen, before), again = (painted(images, patterns, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(seen, again[0])
    assert seen.dtype == before.colors.dtype == np.uint8
    other = (seen != colors).any((1, 2, 3))
    assert 0.35 < other.mean() < 0.75
    assert (seen[other][:, :, 48:].std((1, 2, 3)) > 2).all()
    left, right = (seen[:, :, part].mean((1, 2, 3)) for part in (slice(0, 32), slice(48, None)))
    assert (left < 0.7 * right).all()
    assert 0.7 < before.known.mean() < 0.95
    np.testing.assert_array_equal(seen[before.known], before.colors[before.known])  # from the same place


def test_stone_is_the_same_from_elsewhere():
    """A wall ahead, seen again from so far aside that it moves by ten pixels."""
    shape = (COUNT, FINE.height, FINE.width)
    aside = np.tile(np.eye(4), (COUNT, 1, 1))
    aside[:, 0, 3] = 10 * 1.5 / FINE.fx  # points are farther right in the camera before
    colors = np.full((*shape, 3), 120, np.uint8)
    images = views(colors, np.full(shape, 1.5, np.float32), aside)
    seen, before = painted(images, np.ones((1, *shape[1:], 3), np.float32), np.random.default_rng(3))
    other = (seen != colors).any((1, 2, 3)) & before.known
    assert other.sum() > 5
    now, moved = (part[other].astype(int) for part in (seen[:, 2:-2, 2:-12], before.colors[:, 2:-2, 12:-2]))
    assert (np.abs(now - moved) <= 1).mean() > 0.99
    assert np.abs(now - before.colors[other][:, 2:-2, 2:-12]).mean() > 5
