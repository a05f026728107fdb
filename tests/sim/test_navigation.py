"""Ways over the floor."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.regions.regions import Regions
from sim.navigation import DistanceFields, distance_fields


@pytest.fixture
def fields() -> DistanceFields:
    """A floor of 2 x 1.5 m with a wall from below at x = 1 that leaves a gap of 0.3 m at the top."""
    free = np.ones((40, 30), bool)
    free[20, :24] = False
    height = np.zeros((40, 30), np.float32)
    regions = Regions((-1.0, 0.5), 0.05, height, free, free, ~free, 0.0, (), ())
    return distance_fields(regions, np.array([[-0.3, 0.7], [0.8, 0.6]]))


def test_the_way_leads_round_the_wall(fields):
    """Not through it: within 9 % of the exact way, which eight directions can't do better."""
    start = np.array([[0.5, 0.7]])
    found = fields.at(np.array([0]), start)[0]
    corners = np.array([[0.5, 0.7], [0.05, 1.72], [0.0, 1.72], [-0.3, 0.7]])
    exact = np.linalg.norm(np.diff(corners, axis=0), axis=1).sum()
    assert exact < found < 1.09 * exact
    assert fields.at(np.array([1]), start)[0] == pytest.approx(np.hypot(0.3, 0.1), abs=0.07)  # a cell or so


def test_distance_is_smooth_and_ends_at_the_goal(fields):
    """Between cell centres it is interpolated; at the goal it is less than a cell."""
    assert fields.at(np.array([0]), np.array([[-0.3, 0.7]]))[0] < 0.05
    xs = np.linspace(-0.9, -0.4, 101)
    along = fields.at(np.zeros(101, int), np.c_[xs, np.full(101, 0.7)])
    assert np.abs(np.diff(along)).max() < 0.0055


def test_off_the_floor_there_is_no_way(fields):
    """Outside the grid and inside the wall, but for its rim, where the next cell decides."""
    off = np.array([[5.0, 0.7], [-3.0, 0.7], [0.025, 0.8]])
    found = fields.at(np.zeros(3, int), off)
    assert np.isinf(found[:2]).all()
    nowhere = distance_fields(fields.regions, np.array([[9.0, 9.0]]))
    assert np.isinf(nowhere.distance).all()
