"""What maps say: gaps, walls and drops, ways, slopes and rims, on ground that is known."""

from __future__ import annotations

import numpy as np
import pytest

from sim.climbing.surroundings import (
    CELL,
    ROOM,
    STEP,
    bridged,
    clearances,
    costs,
    halved,
    on_the_way,
    rims,
    slopes,
)
from tests.sim.climbing.conftest import RISER, TREAD, staircase


def test_cells_of_twice_the_size_have_the_highest():
    """Of what is known; unknown where nothing is."""
    height, variance = np.zeros((4, 6), np.float32), np.full((4, 6), np.inf, np.float32)
    height[1, 2], height[0, 3], variance[:2, 2:4] = 0.3, -0.1, 1
    result = halved(height, variance)
    assert result.shape == (2, 3)
    assert result[0, 1] == np.float32(0.3)
    assert np.isnan(result).sum() == 5


def test_gaps_are_bridged_on_level_ground_only():
    """Those between two heights, and wide ones, stay unknown: they may hide a drop."""
    height = np.zeros((20, 20), np.float32)
    height[8:11] = np.nan
    assert (bridged(height)[:, 3:-3] == 0).all()
    height[11:] = 0.2
    assert np.isnan(bridged(height)[8:11, 3:-3]).all()
    height[:] = 0
    height[6:13] = np.nan
    assert np.isnan(bridged(height)[9, 5:-5]).all()


def test_walls_and_drops_are_kept_away_from():
    """Steps are no obstacle; what is unknown makes ways dearer, and blocks none."""
    height = np.zeros((30, 30), np.float32)
    height[15:] = STEP - 0.01
    near, edge = clearances(height)
    assert (near == np.float32(ROOM)).all()
    height[15:] = -STEP - 0.01
    height[:, 25:] = np.nan
    near, edge = clearances(height)
    assert near[14, 10] == near[15, 10] == 0
    assert near[12, 10] == pytest.approx(2 * CELL)
    assert near[5, 23] == np.float32(ROOM)
    assert edge[5, 22] == pytest.approx(2 * CELL)


def test_ways_go_round_what_blocks():
    """A wall with a gap at one end: the way leads through the gap, and costs at least its length."""
    height = np.zeros((40, 40), np.float32)
    height[20, :30] = 1.0
    near, edge = clearances(height)
    cost, came = costs(height, near, edge, 10, 5)
    assert cost[30, 5] > CELL * 2 * np.hypot(10, 25)
    row, column = 30, 5
    crossed = []
    while (row, column) != (10, 5):
        if row == 20:
            crossed.append(column)
        row, column = divmod(int(came[row, column]), 40)
    assert crossed
    assert min(crossed) > 30
    a, b = on_the_way(came, 30, 5, 0.5)
    assert np.hypot(a - 10, b - 5) * CELL <= 0.5
    assert not np.isfinite(cost[20, 10])


def test_drops_are_no_way():
    """Not even seen across a gap."""
    height = np.zeros((40, 40), np.float32)
    height[20:] = -0.6
    near, edge = clearances(height)
    assert not np.isfinite(costs(height, near, edge, 5, 5)[0][21:]).any()
    height[18:20] = np.nan
    near, edge = clearances(height)
    assert not np.isfinite(costs(height, near, edge, 5, 5)[0][20:]).any()


@pytest.mark.parametrize("angle", [0.0, 0.5, 2.2, -1.1])
def test_stairs_are_slopes(angle: float):
    """In their middle the ground rises by a riser a tread, whichever way they are turned."""
    height = staircase(angle=angle)
    slope = slopes(height, clearances(height)[0])
    found = slope[np.isfinite(slope[..., 0])]
    assert len(found) > 20
    ahead = np.array([np.cos(angle), np.sin(angle)])
    assert np.quantile(found @ ahead, 0.9) == pytest.approx(RISER / TREAD, rel=0.15)
    assert np.abs(np.median(found @ [-ahead[1], ahead[0]])) < 0.08


def test_what_is_seen_across_a_gap_is_no_slope():
    """The floor below a platform, behind what its edge hides."""
    height = np.zeros((40, 40), np.float32)
    height[20:22], height[22:] = np.nan, -0.5
    assert not np.isfinite(slopes(height, clearances(height)[0])).any()


def test_rims_are_where_the_known_ends():
    """And point there."""
    height = np.zeros((40, 40), np.float32)
    height[:, 30:] = np.nan
    near, edge = clearances(height)
    rim = rims(height, costs(height, near, edge, 20, 10)[0], near, 0.0)
    rows, columns = np.nonzero(np.isfinite(rim[..., 0]))
    assert set(columns) == {29}
    assert np.allclose(rim[rows, columns], [0, 1])
