"""Ways over the floor."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry.grids import Grids
from sim.scene.navigation import DistanceFields, distances

ORIGIN, CELL = np.array([-1.0, 0.5]), 0.05
GOALS = np.array([[-0.3, 0.7], [0.8, 0.6]])


def fields_to(places: np.ndarray, price: np.ndarray) -> DistanceFields:
    """Ways to each of the places (G, 2)."""
    sources = np.zeros((len(places), *price.shape), bool)
    cells = np.floor((places - ORIGIN) / CELL).astype(int)
    inside = ((cells >= 0) & (cells < price.shape)).all(1)
    sources[(np.flatnonzero(inside), *cells[inside].T)] = True
    cell = np.full(len(places), CELL)
    found = distances(np.tile(price, (len(places), 1, 1)), sources, cell)
    return DistanceFields(np.tile(ORIGIN, (len(places), 1)), cell, Grids.of(found))


@pytest.fixture
def walled() -> np.ndarray:
    """A floor of 2 x 1.5 m with a wall from below at x = 0 that leaves a gap of 0.3 m at the top."""
    price = np.ones((40, 30), np.float32)
    price[20, :24] = np.inf
    return price


def test_the_way_leads_round_the_wall(walled):
    """Not through it: within 9 % of the exact way, which eight directions can't do better."""
    fields = fields_to(GOALS, walled)
    start = np.array([[0.5, 0.7]])
    found = fields.at(np.array([0]), start)[0]
    corners = np.array([[0.5, 0.7], [0.05, 1.72], [0.0, 1.72], [-0.3, 0.7]])
    exact = np.linalg.norm(np.diff(corners, axis=0), axis=1).sum()
    assert exact < found < 1.09 * exact
    assert fields.at(np.array([1]), start)[0] == pytest.approx(np.hypot(0.3, 0.1), abs=0.07)  # a cell or so


def test_ways_are_the_shortest():
    """On a maze, they equal Dijkstra's of networkless brute force: no cell's way is longer than by a neighbour."""
    price = np.where(np.random.default_rng(5).random((31, 23)) < 0.35, np.inf, 1).astype(np.float32)
    price[3:9, 4:20] = np.where(np.isfinite(price[3:9, 4:20]), 2.5, np.inf)
    source = np.zeros((1, 31, 23), bool)
    source[0][tuple(np.argwhere(np.isfinite(price))[17])] = True
    found = distances(price[None], source, np.ones(1))[0]
    padded = np.pad(found, 1, constant_values=np.inf)
    sides = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    over = [padded[1 + i : 32 + i, 1 + j : 24 + j] + price * np.hypot(i, j) for i, j in sides]
    expected = np.where(source[0], 0, np.min(over, axis=0))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.isfinite(found).sum() > 100
    assert np.isinf(found[np.isinf(price)]).all()


def test_dear_floor_is_gone_round_where_that_is_cheaper(walled):
    """A strip across the whole floor that counts thrice must be crossed; one with a gap is not."""
    strip = np.ones((40, 30), np.float32)
    strip[10:14] = 3
    ends = np.array([[-0.775, 1.025]]), np.array([[-0.075, 1.025]])
    across = fields_to(ends[0], strip).at(np.array([0]), ends[1])[0]
    assert across == pytest.approx(0.7 + 2 * 4 * CELL, abs=1e-4)
    strip[10:14, 11:13] = 1
    assert 0.7 < fields_to(ends[0], strip).at(np.array([0]), ends[1])[0] < 0.78


def test_distance_is_smooth_and_ends_at_the_goal(walled):
    """Between cell centres it is interpolated; at the goal it is less than a cell."""
    fields = fields_to(GOALS, walled)
    assert fields.at(np.array([0]), np.array([[-0.3, 0.7]]))[0] < 0.05
    xs = np.linspace(-0.9, -0.4, 101)
    along = fields.at(np.zeros(101, int), np.c_[xs, np.full(101, 0.7)])
    assert np.abs(np.diff(along)).max() < 0.0055


def test_distance_grows_without_a_jump_into_the_rim(walled):
    """Up to the wall and into it, where a metre counts thrice, as on floor at its edge."""
    dear = walled.copy()
    dear[:20] = np.where(np.isfinite(walled[:20]), 3, np.inf)
    xs = np.linspace(-0.5, 0.0249, 200)
    for goal in GOALS[:1], np.array([[-0.3, 1.9]]):
        along = fields_to(goal, dear).at(np.zeros(200, int), np.c_[xs, np.full(200, 0.83)])
        assert np.abs(np.diff(along)).max() < 1.02 * 3 * (xs[1] - xs[0])
    beyond = np.linspace(-0.025, 0.0249, 20)  # from the middle of the last cell before the wall
    rim = fields_to(GOALS, walled).at(np.zeros(20, int), np.c_[beyond, np.full(20, 0.725)])
    np.testing.assert_allclose(np.diff(rim), 3 * np.diff(beyond), rtol=1e-3)


def test_off_the_floor_there_is_no_way(walled):
    """Outside the grid, and where no corner of the cell is floor."""
    walled[19:22, :24] = np.inf
    off = np.array([[5.0, 0.7], [-3.0, 0.7], [0.01, 0.8]])
    found = fields_to(GOALS, walled).at(np.zeros(3, int), off)
    assert np.isinf(found).all()
    assert np.isinf(fields_to(np.array([[9.0, 9.0]]), walled).distance.values).all()
