"""What robots know of what is around them, for networks: by direction and distance, fine near them, coarse far away."""

from __future__ import annotations

import numpy as np

from pipeline.geometry.jit import njit, prange
from pipeline.types import F32, F64, I64, U8, Mask
from sim.finding.finder import LOOK_ROUND, Finder
from sim.finding.maps import CELL, IS_HOLE, MOST_BALL, MOST_TAKEN, SIDE, Maps, cell_at
from sim.finding.ways import frontiers

DIRECTIONS, RINGS = 72, 20
"""Parts of a view: directions, from behind the robot over its right, ahead and left; and rings around it."""
NEAREST, FARTHEST = 0.12, 7.0
"""Middle of the first and the last ring [m]; each is by the same factor farther away than the one before."""
LAYERS = 5
"""Of maps: obstacles, floor, holes, the ball, and where floor that was seen ends and more may be."""
BELIEFS = 3
"""Layers beside them: where the ball is believed to be, how far a robot has looked round, and whether it goes back."""


def views(maps: Maps, pose: F64, radius: float) -> U8:
    """What maps show to robots of a radius [m] at poses (N, 3): (N, LAYERS, DIRECTIONS, RINGS), of each part the most.

    Obstacles and the ball by how sure they are, floor by its share, holes and floor's ends 0 or 255.
    """
    new = frontiers(maps.taken, maps.floor, radius)
    return _views(maps.taken, maps.floor, maps.ball, new, pose, *_SAMPLES)


def beliefs(finder: Finder) -> U8:
    """What robots believe (N, BELIEFS, DIRECTIONS, RINGS).

    255 where the ball is, how far they have looked round, and 255 for those who go back from what holds them: maps show
    neither who has made up his mind, nor who only waits to see more.
    """
    result = np.zeros((len(finder.pose), BELIEFS, DIRECTIONS, RINGS), np.uint8)
    rows = np.flatnonzero(finder.known)
    x, y = (finder.goal - finder.pose[:, :2])[rows].T
    angle = np.arctan2(y, x) - finder.pose[rows, 2] + np.pi
    direction = (angle % (2 * np.pi) / (2 * np.pi) * DIRECTIONS).astype(np.int64) % DIRECTIONS
    ring = np.log(np.maximum(np.hypot(x, y), NEAREST) / NEAREST) / np.log(FARTHEST / NEAREST) * (RINGS - 1)
    result[rows, 0, direction, np.minimum(ring.round().astype(np.int64), RINGS - 1)] = 255
    result[:, 1] = (255 * np.minimum(finder.turned / LOOK_ROUND, 1))[:, None, None]
    result[:, 2] = (255 * finder.backing)[:, None, None]
    return result


def _samples() -> tuple[F64, I64]:
    """Places (S, 2) that the parts of a view are made of [m], ahead and to the left; and where each part begins."""
    rings = np.geomspace(NEAREST, FARTHEST, RINGS)
    half, width = np.sqrt(rings[1] / rings[0]), 2 * np.pi / DIRECTIONS
    places, starts = [], [0]
    for direction in range(DIRECTIONS):
        for ring in rings:
            low, high = ring / half, ring * half
            along, across = int((high - low) / CELL) + 1, int(high * width / CELL) + 1
            far = low + (np.arange(along) + 0.5) / along * (high - low)
            angle = (direction + (np.arange(across) + 0.5) / across) * width - np.pi
            far, angle = (grid.ravel() for grid in np.meshgrid(far, angle))
            places.append(np.column_stack([far * np.cos(angle), far * np.sin(angle)]))
            starts.append(starts[-1] + len(far))
    return np.concatenate(places), np.array(starts)


_SAMPLES = _samples()


@njit(parallel=True, cache=True, nogil=True)
def _views(taken: F32, floor: F32, ball: F32, new: Mask, pose: F64, places: F64, starts: I64) -> U8:
    result = np.zeros((len(pose), LAYERS, DIRECTIONS, RINGS), np.uint8)
    for n in prange(len(pose)):
        cos, sin = np.cos(pose[n, 2]), np.sin(pose[n, 2])
        for part in range(DIRECTIONS * RINGS):
            surest_thing, surest_ball, known, hole, more = 0.0, 0.0, 0, 0, 0
            for place in range(starts[part], starts[part + 1]):
                ahead, left = places[place]
                a = cell_at(pose[n, 0] + cos * ahead - sin * left)
                b = cell_at(pose[n, 1] + sin * ahead + cos * left)
                if 0 <= a < SIDE and 0 <= b < SIDE:
                    surest_thing = max(surest_thing, taken[n, a, b])
                    surest_ball = max(surest_ball, ball[n, a, b])
                    known += floor[n, a, b] > 0
                    hole |= floor[n, a, b] < IS_HOLE
                    more |= new[n, a, b]
            direction, ring = part // RINGS, part % RINGS
            result[n, 0, direction, ring] = int(255 * surest_thing / MOST_TAKEN)
            result[n, 1, direction, ring] = int(255 * known / (starts[part + 1] - starts[part]))
            result[n, 2, direction, ring] = 255 * hole
            result[n, 3, direction, ring] = int(255 * surest_ball / MOST_BALL)
            result[n, 4, direction, ring] = 255 * more
    return result
