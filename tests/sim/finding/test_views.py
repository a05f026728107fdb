"""What maps show around robots, against sampling each part densely."""

from __future__ import annotations

import numpy as np

from sim.finding.finder import LOOK_ROUND
from sim.finding.maps import CELL, IS_HOLE, MOST_BALL, MOST_TAKEN, SIDE, Maps
from sim.finding.views import BELIEFS, DIRECTIONS, FARTHEST, LAYERS, NEAREST, RINGS, beliefs, views
from sim.finding.ways import frontiers
from tests.sim.finding.test_finder import finder
from tests.sim.finding.views import HEIGHT, LENS, RADIUS, cell

RING = np.geomspace(NEAREST, FARTHEST, RINGS)
HALF = np.sqrt(RING[1] / RING[0])
POSES = np.array([[0.0, 0.0, 0.0], [0.63, -1.21, 0.7], [-2.4, 1.9, -2.9]])


def empty(count: int) -> Maps:
    """Maps on which nothing is known."""
    return Maps(count, LENS, RADIUS, HEIGHT)


def part_of(pose: np.ndarray, x: float, y: float) -> tuple[int, int]:
    """Direction and ring of a place."""
    far, angle = np.hypot(x - pose[0], y - pose[1]), np.arctan2(y - pose[1], x - pose[0]) - pose[2]
    return int((angle + np.pi) % (2 * np.pi) / (2 * np.pi) * DIRECTIONS), int(
        np.log(far / RING[0]) / np.log(HALF) / 2 + 0.5
    )


def test_a_thing_is_where_it_is_seen():
    """To the left ahead of robots that look elsewhere; each layer has its own, and nothing else."""
    maps = empty(3)
    places = [pose[:2] + 2.3 * np.array([np.cos(pose[2] + 0.5), np.sin(pose[2] + 0.5)]) for pose in POSES]
    for robot, place in enumerate(places):
        maps.taken[robot][cell(*place)], maps.ball[robot][cell(*place)] = MOST_TAKEN, MOST_BALL / 2
    shown = views(maps, POSES, RADIUS)
    assert shown.shape == (3, LAYERS, DIRECTIONS, RINGS)
    for robot, pose in enumerate(POSES):
        direction, ring = part_of(pose, *places[robot])
        assert direction > DIRECTIONS // 2  # to the left
        around = (slice(direction - 1, direction + 2), slice(ring - 1, ring + 2))
        for layer, most in ((0, 255), (3, 127)):
            assert shown[robot, layer][around].max() == most
            elsewhere = shown[robot, layer].copy()
            elsewhere[around] = 0
            assert not elsewhere.any()
    assert not shown[:, 1:3].any()


def test_parts_are_what_their_cells_are():
    """Random cells: the surest obstacle and ball, the share of floor, any hole, of cells that lie in a part."""
    rng, maps = np.random.default_rng(3), empty(3)
    sparse = rng.random((3, SIDE, SIDE)) < 0.05
    maps.taken[:] = np.where(sparse, rng.uniform(-4, MOST_TAKEN, sparse.shape), 0)
    maps.floor[:] = rng.choice([-2.0, 0.0, 0.0, 1.0, 1.0], sparse.shape)
    maps.ball[:] = np.where(sparse, rng.uniform(-6, MOST_BALL, sparse.shape), 0)
    shown, middles = views(maps, POSES, RADIUS), (np.arange(SIDE) - SIDE // 2 + 0.5) * CELL
    x, y = (grid.ravel() for grid in np.meshgrid(middles, middles, indexing="ij"))
    for robot, pose in enumerate(POSES):
        far = np.hypot(x - pose[0], y - pose[1])
        for direction, ring in [(40, 18), (7, 17), (61, 19), (30, 16), (0, 18)]:
            low, high = RING[ring] / HALF, RING[ring] * HALF
            angle = (np.arctan2(y - pose[1], x - pose[0]) - pose[2] + np.pi) % (2 * np.pi)
            within = angle * DIRECTIONS / (2 * np.pi)
            inside = (far > low + CELL) & (far < high - CELL) & (within > direction + 0.1) & (within < direction + 0.9)
            near = (far > low - CELL) & (far < high + CELL) & (within > direction - 0.4) & (within < direction + 1.4)
            thing, floor, hole, ball, _ = shown[robot, :, direction, ring]
            for layer, value, most in ((maps.taken, thing, MOST_TAKEN), (maps.ball, ball, MOST_BALL)):
                least, largest = (max(layer[robot].ravel()[of].max(initial=0), 0) for of in (inside, near))
                assert int(255 * least / most) <= value <= int(255 * largest / most)
            assert floor / 255 == np.clip(floor / 255, *_shares(maps.floor[robot].ravel() > 0, near))
            assert hole == 255 * bool((maps.floor[robot].ravel()[near] < IS_HOLE).any())


def _shares(of: np.ndarray, where: np.ndarray) -> tuple[float, float]:
    """About the share there."""
    share = of[where].mean()
    return share - 0.2, share + 0.2


def test_beyond_the_map_nothing_is_known():
    """A robot at its edge sees what is on it."""
    maps = empty(1)
    maps.floor[:] = 1
    shown = views(maps, np.array([[SIDE * CELL / 2 - 0.3, 0.0, 0.0]]), RADIUS)
    assert (shown[0, 1, 0, :18] == 255).all()  # behind
    assert not shown[0, 1, DIRECTIONS // 2, 12:].any()  # ahead


def test_floor_ends_where_more_may_be():
    """Round a square of seen floor: not behind its wall, not where a thing leaves no room, not beyond."""
    maps, middles = empty(1), (np.arange(SIDE) - SIDE // 2 + 0.5) * CELL
    x, y = np.meshgrid(middles, middles, indexing="ij")
    maps.floor[0, (abs(x) < 1.5) & (abs(y) < 1.5)] = 1
    maps.taken[0, (abs(x - 1.5) < CELL) & (abs(y) < 1.6)] = MOST_TAKEN  # ahead
    maps.taken[0][cell(0.0, -1.6)] = MOST_TAKEN  # to the right
    new = frontiers(maps.taken, maps.floor, RADIUS)[0]
    end = max(middles[abs(middles) < 1.5]) + CELL
    assert new[(abs(x + end) < CELL / 2) & (abs(y) < 1.3)].all()  # behind
    assert new[(abs(y - end) < CELL / 2) & (abs(x) < 1.0)].all()  # to the left
    assert not new[x > 1.2].any()
    assert not new[np.hypot(x, y + 1.6) <= RADIUS + CELL].any()
    assert new[(abs(y + end) < CELL / 2) & (x < -0.4) & (x > -1.4)].all()
    assert not new[(abs(x) > end + CELL) | (abs(y) > end + CELL)].any()
    seen = views(maps, np.zeros((1, 3)), RADIUS)[0, 4]
    assert seen[[0, 3 * DIRECTIONS // 4]].any(1).all()
    assert not seen[[DIRECTIONS // 4, DIRECTIONS // 2]].any()


def test_beliefs_are_where_the_ball_is():
    """One part of each who believes in a ball, in his own directions; and the share of looking round that is done."""
    found = finder(3)
    found.pose[:] = POSES
    found.goal[:] = [[1.0, 0.4], [0.63, -9.0], [5.0, 5.0]]
    found.known[:], found.turned[:] = [True, True, False], [0.0, LOOK_ROUND / 3, 9.0]
    found.backing[:] = [False, True, False]
    shown = beliefs(found)
    assert shown.shape == (3, BELIEFS, DIRECTIONS, RINGS)
    assert not shown[2, 0].any()
    for robot in range(2):
        direction, ring = part_of(POSES[robot], *found.goal[robot])
        assert np.argwhere(shown[robot, 0]).tolist() == [[direction, min(ring, RINGS - 1)]]
    assert [np.unique(one).tolist() for one in shown[:, 1]] == [[0], [85], [255]]
    assert [np.unique(one).tolist() for one in shown[:, 2]] == [[0], [255], [0]]
