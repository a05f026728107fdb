"""Looking trust up by place and heading."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.coverage.map import CoverageMap, slice_weights, trust_of

GOOD, BAD = 1e-3, 0.1


def two_places() -> CoverageMap:
    """One place where only +y is good, one 0.5 m further along +x where all is."""
    errors = np.array([[BAD, BAD, GOOD, BAD, BAD, BAD, BAD, BAD], [GOOD] * 8], np.float32)
    positions = np.array([[1.0, 2.0, 0.1], [1.5, 2.0, 0.1]], np.float32)
    return CoverageMap(positions, errors, 0.5, 0.3, np.pi / 4)


def test_trust_depends_on_the_heading():
    """At the place itself, towards +y and away from it."""
    trust = two_places().trust([[1.0, 2.0, 0.1]] * 2, [np.pi / 2, -np.pi / 2])
    assert trust[0] > 0.99 and trust[1] < 0.01


def test_headings_are_periodic():
    """A turn more changes nothing."""
    asked = two_places()
    assert asked.trust([1.0, 2.0, 0.1], np.pi / 2 + 4 * np.pi) == pytest.approx(asked.trust([1.0, 2.0, 0.1], np.pi / 2))


def test_a_view_across_two_slices_is_their_mean():
    """Half into the good slice, half into the bad one beside it."""
    asked = two_places()
    halfway = asked.trust([1.0, 2.0, 0.1], np.pi / 2 + np.pi / 8)
    assert asked.trust([1.0, 2.0, 0.1], 0) < halfway < asked.trust([1.0, 2.0, 0.1], np.pi / 2)


def test_places_between_are_between():
    """Nearer to the good place is better."""
    asked = two_places()
    trust = asked.trust([[1.0, 2, 0.1], [1.3, 2, 0.1], [1.49, 2, 0.1]], np.pi)
    assert trust[0] < trust[1] < trust[2]


def test_halfway_decibels_are_averaged():
    """20 and 30 dB, one as near as the other: 25 dB, and not the 23 of their mean error."""
    positions = np.array([[1.0, 2.0, 0.1], [1.5, 2.0, 0.1]], np.float32)
    errors = np.repeat(np.array([[1e-2], [1e-3]], np.float32), 8, 1)
    halfway = CoverageMap(positions, errors, 0.5, 0.3, np.pi / 4).trust([1.25, 2.0, 0.1], 0)
    assert halfway == pytest.approx(trust_of(np.array([10**-2.5])), abs=1e-3)


def test_nothing_is_known_far_away_or_on_another_level():
    """A floor above the map's has other images."""
    trust = two_places().trust([[1.5, 4.0, 0.1], [1.5, 2.0, 0.9], [1.5, 2.0, 0.1]], 0)
    assert trust[:2].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert trust[2] > 0.99


def test_all_headings_at_once_are_the_same():
    """`heading_trust` is `trust` for the map's own headings."""
    asked = two_places()
    every = asked.heading_trust([[1.2, 2.1, 0.1]])
    single = [asked.trust([1.2, 2.1, 0.1], heading)[0] for heading in asked.headings]
    np.testing.assert_allclose(every[0], single)


def test_slices_fill_the_image():
    """Weights add up to one for every look and field of view; the middle slice has more than its neighbours."""
    middles = np.arange(8) * np.pi / 4
    looks = np.linspace(-4, 9, 40)
    for degrees in (30, 80, 130):
        np.testing.assert_allclose(slice_weights(looks, middles, np.deg2rad(degrees)).sum(1), 1)
    ahead = slice_weights(np.array([0.0]), middles, np.deg2rad(80))[0]
    half = np.tan(np.deg2rad(22.5)) / np.tan(np.deg2rad(40))
    np.testing.assert_allclose(ahead, [half, (1 - half) / 2, 0, 0, 0, 0, 0, (1 - half) / 2], atol=1e-12)


def test_an_empty_map_trusts_nothing(tmp_path):
    """And survives the disk."""
    CoverageMap(np.zeros((0, 3), np.float32), np.zeros((0, 8), np.float32), 0.5, 0.3, 1.0).save(tmp_path)
    assert CoverageMap.load(tmp_path).trust([[0, 0, 0]], 0).tolist() == pytest.approx([0], abs=1e-6)


def test_saved_and_loaded(tmp_path):
    """All of it comes back."""
    two_places().save(tmp_path)
    loaded = CoverageMap.load(tmp_path)
    np.testing.assert_array_equal(loaded.positions, two_places().positions)
    np.testing.assert_array_equal(loaded.errors, two_places().errors)
    assert (loaded.cell, loaded.camera_height, loaded.field_of_view) == (0.5, 0.3, np.pi / 4)
