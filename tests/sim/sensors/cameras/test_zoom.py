"""Lenses that differ from what they state."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from sim.sensors.cameras.settings import CameraSettings, Output
from sim.sensors.cameras.zoom import Zoom

SHAPE = 36, 48


def square(half: int) -> np.ndarray:
    """An image with a bright square in its middle, of an even number of pixels."""
    image = np.zeros(SHAPE, np.float32)
    image[18 - half : 18 + half, 24 - half : 24 + half] = 1
    return image


@pytest.mark.parametrize(("factor", "half"), [(1.5, 12), (0.5, 4)])
def test_a_longer_lens_shows_things_larger(factor: float, half: int):
    """In proportion, about the middle: colours mixed, depths only moved."""
    zoom = Zoom((factor, factor), 3)
    zoom.reset(np.arange(3), np.random.default_rng(0))
    seen: dict[Output, np.ndarray] = {
        "rgb": np.tile(square(8)[None, ..., None], (2, 1, 1, 3)),
        "depth": np.stack([square(8)] * 2),
    }
    shown = zoom.stretched(np.array([0, 2]), seen)
    np.testing.assert_array_equal(shown["depth"][0], square(half))
    assert shown["rgb"].shape == (2, *SHAPE, 3)
    assert np.abs(shown["rgb"][1, ..., 0] - square(half)).mean() < 0.02


def test_each_camera_keeps_its_own_for_an_episode():
    """Drawn in the range when an episode begins, saved with the simulation; nothing is saved of lenses as stated."""
    zoom, other = Zoom((0.8, 1.2), 4), Zoom((0.8, 1.2), 4)
    zoom.reset(np.arange(4), np.random.default_rng(0))
    before = zoom.arrays()["factor"].copy()
    assert (before >= 0.8).all()
    assert (before <= 1.2).all()
    zoom.reset(np.array([1]), np.random.default_rng(1))
    assert (zoom.arrays()["factor"] != before).tolist() == [False, True, False, False]
    other.set_arrays(zoom.arrays())
    images: dict[Output, np.ndarray] = {"rgb": np.random.default_rng(2).random((4, *SHAPE, 3), np.float32)}
    shown, again = (one.stretched(np.arange(4), images)["rgb"] for one in (zoom, other))
    np.testing.assert_array_equal(shown, again)
    still = Zoom((1.0, 1.0), 4)
    assert still.arrays() == {}
    assert still.stretched(np.arange(4), images) is images


def test_a_lens_has_a_length():
    """No factor is 0."""
    with pytest.raises(ValidationError):
        CameraSettings(focal=(0.0, 1.0))
