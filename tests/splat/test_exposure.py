"""Gains of views: found, kept honest where the photo is saturated, free of what all views share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry import Pose
from pipeline.splat.exposure import Exposures
from pipeline.splat.trainer import CALM_EXPOSURE
from pipeline.splat.views import training_view
from tests.synthetic import CAMERA


def _exposures(count: int) -> Exposures:
    camera = CAMERA.resized(8, 8)
    view = training_view("a", np.zeros((8, 8, 3), np.uint8), camera, Pose.identity(), None)
    return Exposures.start([replace(view, name=str(k)) for k in range(count)])


def test_gain_of_a_view_is_found(rng):
    """A photo brighter in red and darker in blue than the splat: the gains within 2 %, other views untouched."""
    exposures = _exposures(3)
    rendered = rng.uniform(0.1, 0.7, (3, 20, 30)).astype(np.float32)
    gain = np.array([1.25, 1.0, 0.8], np.float32)
    photo = (255 * rendered * gain[:, None, None]).round().astype(np.uint8)
    for _ in range(20):
        exposures.observe(1, rendered, photo)
    np.testing.assert_allclose(exposures.gains[1], gain, rtol=0.02)
    np.testing.assert_array_equal(exposures.gains[[0, 2]], 1)


def test_saturated_pixels_say_nothing(rng):
    """A window that burns out at 255 in both does not pull a gain of 0.8 towards 1."""
    exposures = _exposures(1)
    rendered = rng.uniform(0.1, 0.7, (3, 20, 30)).astype(np.float32)
    photo = (255 * rendered * 0.8).round().astype(np.uint8)
    rendered[:, :15], photo[:, :15] = 1.0, 255
    for _ in range(20):
        exposures.observe(0, rendered, photo)
    np.testing.assert_allclose(exposures.gains[0], 0.8, rtol=0.02)


def test_what_views_share_stays_in_the_splat(rng):
    """A factor common to all goes entirely; a slow drift goes; a flash of one view stays."""
    exposures = _exposures(60)
    exposures.gains[:] = 1.4
    exposures.remove_trend()
    np.testing.assert_allclose(exposures.gains, 1, rtol=1e-6)

    drift = np.linspace(0.7, 1.4, 60)[:, None].repeat(3, 1)
    drift[30] *= 1.5
    exposures.gains[:] = drift
    exposures.remove_trend()
    others = np.delete(exposures.gains[8:-8], np.arange(18, 27), axis=0)
    np.testing.assert_allclose(others, 1, rtol=0.01)
    assert exposures.gains[30, 0] == pytest.approx(1.5, rel=0.12)
    assert exposures.describe()["max"] > 0.3


def test_unrest_tells_a_camera_that_adapts_from_a_fixed_one(rng):
    """Estimation noise of a fixed exposure stays below the bar of the trainer, steps of some per cent lie above."""
    fixed, adapting = _exposures(40), _exposures(40)
    fixed.gains *= np.exp(rng.normal(0, 0.001, (40, 3))).astype(np.float32)
    adapting.gains *= np.exp(rng.normal(0, 0.03, (40, 1))).astype(np.float32)
    for exposures in (fixed, adapting):
        exposures.remove_trend()
    assert fixed.unrest < CALM_EXPOSURE < adapting.unrest
