"""Codebooks and palettes: near the values, ordered, and no random number in them."""

from __future__ import annotations

import numpy as np

from pipeline.splat.sog import codebook, palette


def test_values_come_back_near(rng):
    """256 numbers for a thousand normal ones: the error is a fraction of the even spacing's."""
    values = rng.normal(size=(500, 2)).astype(np.float32)
    codes, numbers = codebook(values)
    assert codes.shape == values.shape
    assert (np.diff(numbers) >= 0).all()
    even = (values.max() - values.min()) / 255 / np.sqrt(12)
    assert np.sqrt(np.mean((numbers[codes] - values) ** 2)) < 0.8 * even


def test_every_value_has_its_nearest_number(rng):
    """Not just the bin that it started in."""
    values = np.exp(rng.normal(size=3000))
    codes, numbers = codebook(values)
    nearest = np.abs(values[:, None] - numbers).min(1)
    np.testing.assert_allclose(np.abs(values - numbers[codes]), nearest, atol=1e-12)


def test_few_different_values_are_exact():
    """Ten of them need no compromise."""
    values = np.repeat(np.arange(10.0) ** 2, 50)
    codes, numbers = codebook(values)
    np.testing.assert_allclose(numbers[codes], values, atol=1e-9)


def test_palette_finds_clusters(rng):
    """Five tight clusters, five entries: each entry is its cluster's mean."""
    middles = rng.normal(size=(5, 6)) * 10
    owner = rng.integers(0, 5, 400)
    rows = (middles[owner] + rng.normal(size=(400, 6)) * 0.01).astype(np.float32)
    labels, entries = palette(rows, 5)
    assert len(entries) == 5
    assert np.abs(entries[labels] - rows).max() < 0.1


def test_more_entries_are_nearer(rng):
    """The error falls with the size; the palette is never larger than requested."""
    rows = rng.normal(size=(3000, 9)).astype(np.float32)
    errors = []
    for most in (8, 64, 512):
        labels, entries = palette(rows, most)
        assert len(entries) <= most
        assert labels.max() == len(entries) - 1
        errors.append(np.mean((entries[labels] - rows) ** 2))
    assert errors[0] > 1.1 * errors[1] > 1.2 * errors[2]


def test_a_palette_of_few_different_rows_is_exact(rng):
    """It stops when there is nothing left to halve."""
    rows = rng.normal(size=(7, 3)).astype(np.float32)[rng.integers(0, 7, 100)]
    labels, entries = palette(rows, 64)
    assert len(entries) <= 7
    np.testing.assert_allclose(entries[labels], rows, atol=1e-6)
