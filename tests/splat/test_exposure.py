"""Gains of views: found, kept honest where the photo is saturated, free of what all views share."""

from __future__ import annotations

import numpy as np

from pipeline.splat.exposure import Exposures, gains_of_all, load_gains, save_gains
from pipeline.splat.train import MAX_CALM_EXPOSURE


def _exposures(count: int) -> Exposures:
    return Exposures(np.ones((count, 3), np.float32))


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


def test_gain_of_a_view_settles_at_once(rng):
    """Whatever it was taken for before."""
    exposures = Exposures(np.full((1, 3), 0.6, np.float32))
    rendered = rng.uniform(0.1, 0.7, (3, 20, 30)).astype(np.float32)
    exposures.settle(0, rendered, (255 * rendered * 1.25).round().astype(np.uint8))
    np.testing.assert_allclose(exposures.gains[0], 1.25, rtol=0.03)


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
    """A factor common to all goes entirely; how views differ stays."""
    exposures = _exposures(60)
    gains = np.exp(rng.normal(0, 0.2, (60, 3)))
    exposures.gains[:] = 1.4 * gains
    exposures.center()
    np.testing.assert_allclose(np.log(exposures.gains).mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(exposures.gains[7] / exposures.gains[41], gains[7] / gains[41], rtol=1e-4)


def test_view_between_others_has_an_exposure_between_theirs():
    """Of a camera that adapts slowly; held-out views at uneven places."""
    names = [f"{k:03}" for k in range(40)]
    truth = np.exp(np.stack([0.3 * np.sin(np.arange(40) / 6 + phase) for phase in (0, 1, 2)], 1)).astype(np.float32)
    kept = {name: truth[k] for k, name in enumerate(names) if k % 5 != 2 and k != 20}
    found = gains_of_all(names, kept)
    assert list(found) == names
    np.testing.assert_allclose([found[name] for name in names], truth, rtol=0.03)
    np.testing.assert_array_equal([found[name] for name in kept], [truth[int(name)] for name in kept])


def test_independent_exposures_say_nothing_of_each_other(rng):
    """Photos taken one by one: a held-out one is best shown in the mean exposure."""
    names = [f"{k:03}" for k in range(200)]
    truth = np.exp(rng.normal(0, 0.2, (200, 1))).repeat(3, 1).astype(np.float32)
    found = gains_of_all(names, {name: truth[k] for k, name in enumerate(names) if k % 8})
    between = np.log([found[name] for name in names[::8]])
    assert np.abs(between).max() < 0.08


def test_too_few_views_tell_no_exposure():
    """Two views don't show that exposures change slowly."""
    gains = {"a": np.full(3, 1.2, np.float32), "c": np.full(3, 1.2, np.float32)}
    np.testing.assert_array_equal(gains_of_all(["a", "b", "c"], gains)["b"], 1)
    assert gains_of_all(["a"], {}) == {}


def test_gains_survive_the_disk(tmp_path):
    """Five digits of them."""
    save_gains({"a.jpg": np.array([1.23456, 1, 0.5], np.float32)}, tmp_path)
    np.testing.assert_allclose(load_gains(tmp_path)["a.jpg"], [1.23456, 1, 0.5], rtol=1e-5)


def test_variation_tells_a_camera_that_adapts_from_a_fixed_one(rng):
    """Estimation noise of a fixed exposure stays below the bar of the trainer, steps of some per cent lie above."""
    fixed, adapting = _exposures(40), _exposures(40)
    fixed.gains *= np.exp(rng.normal(0, 0.001, (40, 3))).astype(np.float32)
    adapting.gains *= np.exp(rng.normal(0, 0.03, (40, 1))).astype(np.float32)
    for exposures in (fixed, adapting):
        exposures.center()
    assert fixed.variation < MAX_CALM_EXPOSURE < adapting.variation
