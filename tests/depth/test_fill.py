"""Guessing of depth where there is no texture."""

import numpy as np
import pytest

from pipeline.depth.fill import fill_flat_patches


@pytest.fixture
def wall():
    """A grey wall, slanted, in a textured picture; the wall's middle is unknown."""
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 256, (80, 100)).astype(np.uint8)
    gray[15:65, 20:80] = 120
    y, x = np.mgrid[:80, :100].astype(np.float32)
    true = 0.5 + 0.001 * x - 0.0005 * y
    known = true.copy()
    known[25:55, 35:65] = 0
    return gray, true, known


def test_a_flat_patch_is_filled_by_its_plane(wall):
    """The hole is filled with the plane round it, although a fifth of the known pixels are wrong."""
    gray, true, known = wall
    rng = np.random.default_rng(1)
    outliers = (rng.random(known.shape) < 0.2) & (known > 0)
    known[outliers] *= 1.3
    filling = fill_flat_patches(gray, known)
    assert filling.mask[25:55, 35:65].all()
    np.testing.assert_allclose(filling.inverse_depth[filling.mask], true[filling.mask], rtol=0.005)
    np.testing.assert_allclose(filling.slope_x[40, 50], 0.001, rtol=0.2)
    assert not filling.mask[known > 0].any()


def test_guesses_grow_unsure_with_the_distance(wall):
    """Sigma is a share of the depth and larger far from what is known."""
    gray, _, known = wall
    known[:, 45:] = 0
    filling = fill_flat_patches(gray, known)
    assert 0.0045 < filling.relative_sigma[40, 45] < filling.relative_sigma[40, 48]


def test_textured_pixels_are_never_guessed(wall):
    """An unknown pixel amid texture stays unknown."""
    gray, _, known = wall
    known[:10] = 0
    assert not fill_flat_patches(gray, known).mask[:10].any()


def test_what_is_no_plane_stays_unknown(wall):
    """A flat patch whose known pixels lie on no plane is left alone."""
    gray, _, known = wall
    rng = np.random.default_rng(2)
    known[known > 0] *= rng.uniform(0.8, 1.2, (known > 0).sum()).astype(np.float32)
    assert not fill_flat_patches(gray, known).mask.any()
