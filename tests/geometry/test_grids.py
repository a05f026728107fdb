"""Grids of different sizes in one array."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry.grids import Grids

SHAPES = [(2, 3), (5, 1), (1, 4)]


@pytest.fixture
def grids() -> list[np.ndarray]:
    """Different numbers everywhere."""
    return [100 * number + np.arange(x * y).reshape(x, y) for number, (x, y) in enumerate(SHAPES)]


def test_each_has_its_own_shape(grids: list[np.ndarray]):
    """Nothing is padded; cells are found by grid, row and column, many at once; grids are views."""
    all_ = Grids.of(grids)
    assert len(all_) == 3
    assert all_.values.shape == (15,)
    for one, expected in zip(all_, grids, strict=True):
        np.testing.assert_array_equal(one, expected)
    assert all_[np.array([[0], [1]]), np.array([[1, 0], [4, 3]]), 0].tolist() == [[3, 0], [104, 103]]
    all_[1][2] = -1
    assert all_[1, 2, 0] == -1
    np.testing.assert_array_equal(all_.map(lambda grid, n: grid * n, [0, 1, 2])[2], 2 * grids[2])
    assert all_.like(all_.values > 100)[2].tolist() == [[True] * 4]


def test_cells_may_hold_more_than_a_number():
    """Such as positions."""
    all_ = Grids.of([np.ones((2, 3, 2)), np.zeros((4, 1, 2))])
    assert [one.shape for one in all_] == [(2, 3, 2), (4, 1, 2)]
    assert all_[0, 1, np.array([2, 0])].shape == (2, 2)


def test_some_are_replaced(grids: list[np.ndarray]):
    """By others of any shape; the rest stays as it is."""
    changed = Grids.of(grids).with_grids(np.array([2, 0]), [np.full((3, 3), 7), np.full((2, 3), 8)])
    assert [one.shape for one in changed] == [(2, 3), (5, 1), (3, 3)]
    assert (changed[0] == 8).all()
    assert (changed[2] == 7).all()
    np.testing.assert_array_equal(changed[1], grids[1])


def test_numbers_that_do_not_fit_are_refused():
    """Of a file, for example."""
    with pytest.raises(ValueError, match="6 cells in all, and 5 cells"):
        Grids(np.zeros(5), np.array([[2, 3]]))
    with pytest.raises(ValueError, match="cells in all"):
        Grids(np.zeros(6), np.array([[-2, -3]]))
