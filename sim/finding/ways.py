"""Ways over a map: to a place, or to where the floor that was seen ends; cheapest ones, straightened."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

from pipeline.geometry.jit import njit, prange
from pipeline.types import F32, F64, Mask
from sim.finding.maps import CELL, IS_HOLE, IS_TAKEN, SIDE, cell_at

CLOSE, CLOSE_PRICE = 0.4, 3.0
"""Within this distance of obstacles [m] a metre is dearer, by so much where the robot touches them."""
TOUCHING_PRICE, BLOCKED_PRICE = 12.0, 100.0
"""Price of a metre where the robot would touch an obstacle if the map is right, and where it surely does."""
SURE = 0.06
"""So much farther in than its radius a robot surely touches [m]: maps are no finer."""
UNKNOWN_PRICE = 2.0
"""Price of a metre that was never seen."""
MOST = 60.0
"""Largest price of a way [m]."""
TURN_PRICE = 0.4
"""Price of a way that begins to the side [m/rad]: of two like ways the one ahead is taken, and stays the better one."""
ARRIVED = 0.15
"""A way ends so near to the place [m]."""
AHEAD = 0.7
"""How far ahead on the way a robot heads for, at most [m]."""
HOLE_ROOM = np.float32(0.1)
"""Holes count as so much nearer: one falls into them [m]."""
NEW = 6
"""Unknown cells of the 25 around one that make it worth going there."""
BALL_ROOM = 0.3
"""Obstacles so near to where the ball is believed are the ball [m]."""


@njit(cache=True, nogil=True)
def _clearance(taken: F32, floor: F32, ball_x: float, ball_y: float, seek: bool) -> F32:
    """Distance of cells from the nearest obstacle or hole (SIDE, SIDE) [m]; 9 beyond half a metre.

    On the way to the ball what is where it is believed to be is none.
    """
    near = np.full((SIDE, SIDE), np.float32(9))
    reach = int(0.5 / CELL)
    for a in range(SIDE):
        for b in range(SIDE):
            hole = floor[a, b] < IS_HOLE
            if taken[a, b] <= IS_TAKEN and not hole:
                continue
            x, y = (a - SIDE // 2 + 0.5) * CELL, (b - SIDE // 2 + 0.5) * CELL
            if not seek and (x - ball_x) ** 2 + (y - ball_y) ** 2 < BALL_ROOM**2:
                continue
            for u in range(max(0, a - reach), min(SIDE, a + reach + 1)):
                for v in range(max(0, b - reach), min(SIDE, b + reach + 1)):
                    away = np.float32(np.sqrt((u - a) ** 2 + (v - b) ** 2) * CELL)
                    near[u, v] = min(near[u, v], away - HOLE_ROOM if hole else away)
    return near


@njit(cache=True, nogil=True)
def _is_new(taken: F32, floor: F32, near: F32, a: int, b: int, radius: float) -> bool:
    """Whether going to a cell shows more floor."""
    if floor[a, b] != 0 or taken[a, b] != 0 or near[a, b] <= radius + CELL:
        return False
    count = 0
    for u in range(max(0, a - 2), min(SIDE, a + 3)):
        for v in range(max(0, b - 2), min(SIDE, b + 3)):
            count += floor[u, v] == 0 and taken[u, v] == 0
    return count >= NEW


@njit(cache=True, nogil=True)
def _straight(near: F32, a: int, b: int, u: int, v: int, room: float) -> bool:
    """Whether cells on the line from (a, b) to (u, v) have so much room."""
    steps = 2 * max(abs(u - a), abs(v - b)) + 1
    for step in range(1, steps + 1):
        row, column = a + (u - a) * step / steps, b + (v - b) * step / steps
        if near[round(row), round(column)] < room:
            return False
    return True


@njit(cache=True, nogil=True)
def _way(
    taken: F32, floor: F32, start: F64, goal_x: float, goal_y: float, seek: bool, radius: float
) -> tuple[float, float, float, bool]:
    """Where to head for, the clearance ahead [m], and whether there is a way: to the ball, or the cheapest new place.

    Without a way to the ball it leads as near to it as possible. New places are never sought through what surely
    blocks the robot, but for what it stands at.
    """
    near = _clearance(taken, floor, goal_x, goal_y, seek)
    x0, y0, heading = start[0], start[1], start[2]
    middle = SIDE // 2
    sa = min(SIDE - 2, max(1, cell_at(x0)))
    sb = min(SIDE - 2, max(1, cell_at(y0)))
    ga, gb = cell_at(goal_x), cell_at(goal_y)
    cost = np.full((SIDE, SIDE), np.float32(np.inf))
    came = np.full((SIDE, SIDE), -1, np.int32)
    cost[sa, sb] = 0
    heap = [(np.float32(0), sa * SIDE + sb)]
    found, best, best_away = -1, -1, 1e9
    while len(heap):
        so_far, at = heappop(heap)
        a, b = at // SIDE, at % SIDE
        if so_far > cost[a, b]:
            continue
        if seek:
            if abs(a - sa) + abs(b - sb) > 4 and _is_new(taken, floor, near, a, b, radius):
                found = at
                break
        else:
            away = (a - ga) ** 2 + (b - gb) ** 2
            if away * CELL * CELL <= ARRIVED**2:
                found = at
                break
            if away < best_away:
                best, best_away = at, away
        for du in range(-1, 2):
            for dv in range(-1, 2):
                u, v = a + du, b + dv
                if (du == 0 and dv == 0) or not (0 < u < SIDE - 1 and 0 < v < SIDE - 1):
                    continue
                price = 1.0 if floor[u, v] > 0 else UNKNOWN_PRICE
                room = near[u, v]
                if room < CLOSE:
                    price += CLOSE_PRICE * (CLOSE - room) / CLOSE
                if room <= radius - SURE:
                    if seek and (u - sa) ** 2 + (v - sb) ** 2 > (radius / CELL) ** 2:
                        continue  # unknown floor behind a wall is not reached through it
                    price += BLOCKED_PRICE
                elif room <= radius:
                    price += TOUCHING_PRICE
                step = CELL * np.sqrt(du * du + dv * dv)
                if (u - sa) ** 2 + (v - sb) ** 2 <= (AHEAD / CELL) ** 2:
                    aside = abs((np.arctan2(v - sb, u - sa) - heading + np.pi) % (2 * np.pi) - np.pi)
                    price += TURN_PRICE / AHEAD * aside
                new = np.float32(so_far + price * step)
                if new < cost[u, v] and new < MOST:
                    cost[u, v], came[u, v] = new, at
                    heappush(heap, (new, u * SIDE + v))
    ok = found >= 0
    end = found if ok else best
    if end < 0:
        return x0, y0, 0.0, False
    # the farthest cell of the way that is straight ahead
    at = end
    while at != sa * SIDE + sb:
        a, b = at // SIDE, at % SIDE
        away = np.sqrt((a - sa) ** 2 + (b - sb) ** 2) * CELL
        if away <= AHEAD and _straight(near, sa, sb, a, b, min(near[a, b], np.float32(radius + 0.05))):
            break
        following = came[a, b]
        if following == sa * SIDE + sb:
            break
        at = following
    a, b = at // SIDE, at % SIDE
    return (
        (a - middle + 0.5) * CELL,
        (b - middle + 0.5) * CELL,
        min(near[a, b], near[sa, sb]),
        ok,
    )


@njit(parallel=True, cache=True, nogil=True)
def frontiers(taken: F32, floor: F32, radius: float) -> Mask:
    """Cells (N, SIDE, SIDE) of maps where a robot of that radius [m] sees more floor, beside floor that it has seen."""
    result = np.zeros(taken.shape, np.bool_)
    for n in prange(len(taken)):
        near = _clearance(taken[n], floor[n], 0.0, 0.0, True)
        for a in range(1, SIDE - 1):
            for b in range(1, SIDE - 1):
                beside = max(floor[n, a - 1, b], floor[n, a + 1, b], floor[n, a, b - 1], floor[n, a, b + 1])
                result[n, a, b] = beside > 0 and _is_new(taken[n], floor[n], near, a, b, radius)
    return result


@njit(parallel=True, cache=True, nogil=True)
def ways(taken: F32, floor: F32, pose: F64, goal: F64, seek: Mask, radius: float) -> F64:
    """Where N robots head for, and with how much room (N, 4): x, y, clearance ahead [m], and 1 where there is a way.

    Args:
        taken: (N, SIDE, SIDE) of maps, see `maps.Maps`.
        floor: (N, SIDE, SIDE) of maps.
        pose: (N, 3) x, y [m] and heading.
        goal: (N, 2) where the ball is believed to be [m].
        seek: (N,) who looks for new floor instead.
        radius: Of the robot [m].
    """
    result = np.zeros((len(pose), 4))
    for n in prange(len(pose)):
        x, y, room, ok = _way(taken[n], floor[n], pose[n], goal[n, 0], goal[n, 1], seek[n], radius)
        result[n, 0], result[n, 1], result[n, 2], result[n, 3] = x, y, room, ok
    return result
