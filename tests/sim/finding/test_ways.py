"""Ways over maps that were drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sim.finding.maps import CELL, SIDE
from sim.finding.ways import ARRIVED, ways
from tests.sim.finding.views import cell, places

RADIUS = 0.21


def way(
    taken: np.ndarray, floor: np.ndarray, at: np.ndarray, goal: tuple[float, float] | None, heading: float = 0.0
) -> np.ndarray:
    """Of one robot (4,), to a goal or to what is new."""
    pose, to = np.array([[*at, heading]]), np.array([goal or (0.0, 0.0)])
    return ways(taken[None], floor[None], pose, to, np.array([goal is None]), RADIUS)[0]


def driven(taken: np.ndarray, floor: np.ndarray, start: tuple[float, float], goal: tuple[float, float]) -> np.ndarray:
    """Places (K, 2), close to each other, of one who goes where he is sent until he arrives."""
    at, track, heading = np.array(start, float), [np.array(start, float)], np.arctan2(*np.subtract(goal, start)[::-1])
    for _ in range(400):
        x, y, _, ok = way(taken, floor, at, goal, heading)
        assert ok == 1
        to = np.array([x, y]) - at
        if np.linalg.norm(at - goal) < ARRIVED + CELL or np.linalg.norm(to) < 1e-9:
            break
        at, heading = at + to * min(1, 0.08 / np.linalg.norm(to)), np.arctan2(to[1], to[0])
        track.append(at)
    return np.array(track)


def walled() -> tuple[np.ndarray, np.ndarray]:
    """A wall across the whole map at x = 1.05 with a gap of 1 m at y = 1.4 .. 2.4, on floor."""
    taken, floor = np.full((SIDE, SIDE), -1, np.float32), np.ones((SIDE, SIDE), np.float32)
    taken[90] = 4
    taken[90, 94:104] = -1
    return taken, floor


def to_marked(track: np.ndarray, marked: np.ndarray) -> float:
    """Distance of the nearest marked cell's middle from a track [m]."""
    x, y = places()
    return float(np.hypot(x[marked] - track[:, :1], y[marked] - track[:, 1:]).min())


def test_it_leads_through_the_gap():
    """Keeping off the wall, and hardly longer than it must be."""
    taken, floor = walled()
    start, goal = (0.05, -0.35), (2.05, 0.25)
    track = driven(taken, floor, start, goal)
    assert np.linalg.norm(track[-1] - goal) < ARRIVED + 1.5 * CELL
    crossing = track[np.abs(track[:, 0] - 1.05).argmin()]
    assert 1.4 + 0.15 < crossing[1] < 2.4 - 0.15
    assert to_marked(track, taken > 1) > RADIUS
    corner = np.array([1.05, 1.4 + RADIUS])
    exact = np.linalg.norm(corner - start) + np.linalg.norm(corner - goal)
    length = np.linalg.norm(np.diff(track, axis=0), axis=1).sum()
    assert exact - 0.3 < length < 1.25 * exact


def test_a_closed_wall_leaves_no_way():
    """Then it leads as near as possible, without going through."""
    taken, floor = walled()
    taken[88:93] = 4
    found = way(taken, floor, np.array([0.05, -0.35]), (2.05, 0.25))
    assert found[3] == 0
    assert found[0] < 0.85


def test_what_is_at_the_ball_is_the_ball():
    """A ball is an obstacle to the depths; another thing as near to the goal's place isn't gone through."""
    taken, floor = np.full((SIDE, SIDE), -1, np.float32), np.ones((SIDE, SIDE), np.float32)
    taken[cell(1.25, 0.45)] = 4
    track = driven(taken, floor, (0.05, 0.05), (1.25, 0.45))
    assert np.linalg.norm(track[-1] - [1.25, 0.45]) < ARRIVED + CELL
    taken[cell(0.65, 0.25)] = 4
    track = driven(taken, floor, (0.05, 0.05), (1.25, 0.45))
    assert to_marked(track, (taken > 1) & (places()[0] < 1)) > RADIUS


def test_it_seeks_the_nearest_unknown_floor():
    """First a metre ahead; then, as that is known, to the left."""
    x, y = places()
    taken, floor = np.zeros((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.float32)
    floor[(x > -3) & (x < 1) & (y > -2.5) & (y < 1.8)] = 1
    found = way(taken, floor, np.array([0.05, -0.05]), None)
    assert found[3] == 1
    assert found[0] > 0.6
    assert abs(found[1]) < 0.3
    floor[(x < 4) & (x > 0) & (y > -2.5) & (y < 1.8)] = 1
    found = way(taken, floor, np.array([0.05, -0.05]), None)
    assert found[1] > 0.3


def test_new_floor_is_not_sought_through_a_wall():
    """A thin one is cheaper than the way round to none at all; who stands at it gets away from it all the same."""
    taken, floor = np.full((SIDE, SIDE), -1, np.float32), np.ones((SIDE, SIDE), np.float32)
    taken[90] = 4
    taken[93:], floor[93:] = 0, 0
    assert way(taken, floor, np.array([0.05, 0.05]), None)[3] == 0
    taken[90, 20:30] = -1
    track = way(taken, floor, np.array([0.95, -0.35]), None)
    assert track[3] == 1
    assert track[0] < 0.95


@pytest.mark.parametrize("goal", [(2.05, 0.05), None])
def test_of_two_like_ways_it_takes_the_one_ahead(goal: tuple[float, float] | None):
    """Whether that is left or right; so who has begun to turn goes on, and nothing has to be remembered."""
    taken, floor = np.full((SIDE, SIDE), -1, np.float32), np.ones((SIDE, SIDE), np.float32)
    taken[(np.abs(places()[0] - 0.95) < 0.2) & (np.abs(places()[1] - 0.05) < 0.5)] = 4
    if not goal:
        taken, floor = np.zeros_like(taken), np.where(np.abs(places()[1] - 0.05) < 1, floor, 0)
    sides = [way(taken, floor, np.array([0.05, 0.05]), goal, heading)[1] - 0.05 for heading in (-1.0, 1.0)]
    assert sides[0] < -0.2
    assert sides[1] > 0.2


def test_all_known_is_no_way():
    """Nothing is new on a floor with walls all round that was seen whole."""
    x, y = places()
    inside = (np.abs(x) < 2) & (np.abs(y - 0.5) < 1.5)
    taken, floor = np.where(inside, -1, 8).astype(np.float32), inside.astype(np.float32)
    assert way(taken, floor, np.array([0.05, -0.05]), None)[3] == 0


@pytest.mark.parametrize("value", [-4.0, -1.6])
def test_it_never_leads_over_a_hole_when_there_is_another_way(value: float):
    """Round one that is 2 m wide, and farther from it than from an obstacle."""
    x, y = places()
    taken, floor = np.full((SIDE, SIDE), -1, np.float32), np.ones((SIDE, SIDE), np.float32)
    hole = (x > 0.8) & (x < 1.2) & (y > -1.4) & (y < 0.6)
    floor[hole] = value
    track = driven(taken, floor, (0.05, -0.05), (2.05, -0.15))
    assert np.linalg.norm(track[-1] - [2.05, -0.15]) < ARRIVED + 1.5 * CELL
    assert to_marked(track, hole) > RADIUS + 0.05
    assert track[:, 1].max() > 0.6  # on the nearer side


def test_ways_turn_with_the_map():
    """By a quarter, with start and goal: it leads to the turned places."""
    taken, floor = walled()
    floor[:, :60] = 0
    rng = np.random.default_rng(2)
    taken[rng.integers(60, 110, 40), rng.integers(60, 110, 40)] = 4
    starts = ((0.05, -0.35), (-0.55, 0.85), (0.35, 0.15))
    goal, lengths = (2.05, 0.25), []
    for start in starts:
        taken[cell(*start)] = taken[cell(*goal)] = -1
        track = driven(taken, floor, start, goal)
        turned = driven(np.rot90(taken).copy(), np.rot90(floor).copy(), (-start[1], start[0]), (-goal[1], goal[0]))
        back = np.column_stack([turned[:, 1], -turned[:, 0]])
        away = np.linalg.norm(back[:, None] - track, axis=-1)
        assert away.min(1).max() < 0.25
        lengths.append([np.linalg.norm(np.diff(one, axis=0), axis=1).sum() for one in (track, turned)])
    np.testing.assert_allclose(*np.transpose(lengths), rtol=0.06)


def test_robots_have_their_own_maps(rng: np.random.Generator):
    """Together they get what each gets alone, those that seek as well as those that know."""
    taken = np.stack([walled()[0], np.flip(walled()[0], 1), np.full((SIDE, SIDE), -1, np.float32)])
    floor = np.ones((3, SIDE, SIDE), np.float32)
    floor[2, 95:] = 0
    pose, goal = rng.uniform(-0.5, 0.5, (3, 3)), np.array([[2.0, 0.3], [2.1, -0.2], [0.0, 0.0]])
    seek = np.array([False, False, True])
    together = ways(taken, floor, pose, goal, seek, RADIUS)
    for robot in range(3):
        to = None if seek[robot] else (goal[robot, 0], goal[robot, 1])
        np.testing.assert_array_equal(
            way(taken[robot], floor[robot], pose[robot, :2], to, pose[robot, 2]), together[robot]
        )
    assert len(np.unique(together[:, 1])) == 3
