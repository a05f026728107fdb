"""Masks on grids."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import masks


def ring(gap: int = 0) -> np.ndarray:
    mask = np.zeros((20, 24), bool)
    mask[4:16, 5:19] = True
    mask[7:13, 8:16] = False
    if gap:
        mask[4:7, 8 : 8 + gap] = False
    return mask


def test_holes_are_filled():
    """The ring becomes a rectangle."""
    filled = masks.without_holes(ring())
    assert filled.sum() == 12 * 14


def test_narrow_gaps_are_bridged_and_wide_ones_are_not():
    """A ring broken by 2 cells holds water after closing by 4; broken by 7 it doesn't."""
    assert masks.without_holes(masks.closed(ring(gap=2), 4))[10, 12]
    assert not masks.without_holes(masks.closed(ring(gap=7), 4))[10, 12]


def test_distance_is_in_cells_and_infinite_from_nothing():
    """From one marked cell, three cells away."""
    mask = np.zeros((8, 9), bool)
    assert np.isinf(masks.distance_from(mask)).all()
    mask[2, 3] = True
    assert masks.distance_from(mask)[2, 6] == 3
    assert masks.nearest_marked(mask)[:, 7, 8].tolist() == [2, 3]


def test_parts_are_counted():
    """Diagonal neighbours are not connected."""
    labels, count = masks.parts(np.eye(4, dtype=bool))
    assert count == 4
    assert labels.max() == 4


def test_lowest_around_looks_at_eight_neighbours():
    """A dip spreads by one cell."""
    values = np.ones((5, 5))
    values[2, 2] = 0.2
    assert (masks.lowest_around(values)[1:4, 1:4] == 0.2).all()
    assert masks.smoothed(values, 1.0)[2, 2] == pytest.approx(values[2, 2] + 0.8 * (1 - 0.159), abs=0.03)
