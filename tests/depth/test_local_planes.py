"""Cleaning of sensor depth on surfaces whose truth is known."""

import numpy as np
import pytest

from pipeline.depth.local_planes import drop_flying_pixels, fit_local_planes

FOCAL = 220.0


def sigma_of(depth: np.ndarray) -> np.ndarray:
    return np.full(depth.shape, 0.01, np.float32)


@pytest.fixture
def step():
    """A box 1 m away before a wall at 2 m, with two columns of flying pixels between them."""
    depth = np.full((60, 80), 2.0, np.float32)
    depth[:, :40] = 1.0
    depth[:, 40], depth[:, 41] = 1.3, 1.65
    return depth


def test_flying_pixels_are_dropped_and_nothing_else(step):
    """What hangs between two surfaces goes, the surfaces stay up to their edges."""
    clean = drop_flying_pixels(step, sigma_of(step), FOCAL)
    assert not clean[:, 40:42].any()
    np.testing.assert_array_equal(np.delete(clean, [40, 41], 1), np.delete(step, [40, 41], 1))


def test_a_steep_floor_is_kept():
    """A surface seen under 15 degrees has large differences on both sides, and is real."""
    rows = np.arange(120) + 0.5
    depth = np.repeat((1.2 / (rows / FOCAL + 0.27))[:, None], 80, 1).astype(np.float32)
    assert (drop_flying_pixels(depth, sigma_of(depth), FOCAL) > 0).all()


def test_noise_on_a_slanted_plane_goes_down_without_bias():
    """Noise of 1 cm falls below 0.3 cm; the mean stays."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:60, :80]
    true = 1 / (0.5 + 0.001 * (x - 40) + 0.0006 * (y - 30))
    noisy = (true + rng.normal(0, 0.01, true.shape)).astype(np.float32)
    smooth, slope_x, slope_y = fit_local_planes(noisy, sigma_of(noisy), FOCAL, 1)
    inner = (slice(4, -4), slice(4, -4))
    assert (smooth > 0).mean() > 0.99
    error = (1 / np.maximum(smooth, 1e-6) - true)[inner][smooth[inner] > 0]
    assert error.std() < 0.003
    assert abs(error.mean()) < 0.0005
    np.testing.assert_allclose(slope_x[inner].mean(), 0.001, rtol=0.05)
    np.testing.assert_allclose(slope_y[inner].mean(), 0.0006, rtol=0.05)


def test_edges_stay_sharp(step):
    """Two surfaces a metre apart don't bleed into each other."""
    step[:, 40:42] = 0
    smooth, _, _ = fit_local_planes(step, sigma_of(step), FOCAL, 1)
    np.testing.assert_allclose(1 / smooth[:, :40], 1.0, atol=0.002)
    np.testing.assert_allclose(1 / smooth[:, 42:], 2.0, atol=0.004)


def test_lonely_pixels_are_dropped():
    """A few pixels without a surface round them are no measurement."""
    depth = np.zeros((40, 40), np.float32)
    depth[20, 20:22] = 1.5
    assert not fit_local_planes(depth, sigma_of(depth), FOCAL, 1)[0].any()


def test_pixels_without_sigma_only_serve_their_neighbours(rng):
    """They are not fitted; those around them are, as if nothing was missing."""
    y, x = np.mgrid[:40, :60]
    depth = (1 / (0.5 + 0.002 * x + 0.001 * y) + rng.normal(0, 0.002, x.shape)).astype(np.float32)
    sigma = sigma_of(depth)
    whole = fit_local_planes(depth, sigma, FOCAL, 1)
    sigma[10:20, 12:30] = 0
    partly = fit_local_planes(depth, sigma, FOCAL, 1)
    for all_of_it, some in zip(whole, partly, strict=True):
        assert not some[10:20, 12:30].any()
        all_of_it[10:20, 12:30] = 0
        np.testing.assert_array_equal(some, all_of_it)
