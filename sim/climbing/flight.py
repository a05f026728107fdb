"""The nearest stairs in what a robot knows of the ground: which way they lead, where they begin, how wide they are."""

from __future__ import annotations

import numpy as np

from pipeline.geometry.jit import njit
from pipeline.types import F32, F64
from sim.climbing.surroundings import CELL, REACH

LEAST = 0.06
"""Stairs lead so far above where the robot stands, or below [m]."""
FEWEST = 10
"""Of fewer cells it isn't known which way they lead."""
ALIKE = 0.8
"""Cosine of the largest angle between how stairs rise at a place and at the nearest one."""
STRAIGHT = 0.85
"""Cosine of the largest angle between how stairs rise and where they lead on."""
LOOK, LOOK_BACK = 1.5, 0.3
"""So much of their length says how wide they are [m], from so far behind a robot on."""
WIDE = 1.0
"""Stairs are as wide as need be with so much room on a side [m]."""
SURE_SIDE, SIDE = 0.45, 0.3
"""So far robots keep from the sides, and from where nothing is known [m]; in the middle of what is narrower."""
UNEVEN = 0.07
"""Across stairs the ground is level to so much [m]."""
BEFORE = 0.15
"""Slopes are seen so far before the first edge [m]."""


@njit(cache=True, nogil=True)
def alike(slope: F32, row: int, column: int) -> list[int]:
    """Cells that hang together with one, and where the ground rises alike."""
    x, y = slope[row, column]
    columns = slope.shape[1]
    taken = np.zeros(slope.shape[:2], np.bool_)
    taken[row, column] = True
    cells, done = [row * columns + column], 0
    while done < len(cells):
        a, b = cells[done] // columns, cells[done] % columns
        done += 1
        for u in range(a - 1, a + 2):
            for v in range(b - 1, b + 2):
                if taken[u, v] or np.isnan(slope[u, v, 0]):
                    continue
                g, h = slope[u, v]
                if g * x + h * y > ALIKE * np.hypot(g, h) * np.hypot(x, y):
                    taken[u, v] = True
                    cells.append(u * columns + v)
    return cells


@njit(cache=True, nogil=True)
def _leads_on(height: F32, slope: F32, a: int, b: int, sign: float, level: float) -> bool:
    """Whether from a cell of stairs on, in their direction, ground is so far above a level, or below it.

    Beside stairs that end at a landing may be the next ones, or the floor below.
    """
    x, y = sign * slope[a, b, 0], sign * slope[a, b, 1]
    for u in range(a - REACH, a + REACH + 1):
        for v in range(b - REACH, b + REACH + 1):
            ahead = x * (u - a) + y * (v - b) >= STRAIGHT * np.hypot(x, y) * np.hypot(u - a, v - b)
            if ahead and sign * (height[u, v] - level) > LEAST:
                return True
    return False


@njit(cache=True, nogil=True)
def _nearest(height: F32, cost: F32, slope: F32, sign: float, level: float) -> list[int]:
    """The cells of the stairs that are cheapest to get to, of those that lead on; -1 without any."""
    columns, tried = height.shape[1], np.zeros(height.shape, np.bool_)
    while True:
        best, first = np.float32(np.inf), -1
        for a in range(REACH, height.shape[0] - REACH):
            for b in range(REACH, columns - REACH):
                if tried[a, b] or cost[a, b] >= best or np.isnan(slope[a, b, 0]):
                    continue
                if _leads_on(height, slope, a, b, sign, level):
                    best, first = cost[a, b], a * columns + b
        if first < 0:
            return [first]
        cells = alike(slope, first // columns, first % columns)
        if len(cells) >= FEWEST:
            return cells
        for at in cells:
            tried[at // columns, at % columns] = True


@njit(cache=True, nogil=True)
def _room(height: F32, x: float, y: float, u: float, v: float) -> tuple[float, bool]:
    """How far from a place on the grid [m] ground is level to a side (u, v), and whether it ends in what isn't.

    A drop hides what is behind its edge; what is seen across that gap tells.
    """
    before, far = height[int(x / CELL), int(y / CELL)], 0.0
    for k in range(1, int(WIDE / CELL) + 1):
        row, column = int((x + k * CELL * u) / CELL), int((y + k * CELL * v) / CELL)
        if not (0 <= row < height.shape[0] and 0 <= column < height.shape[1]):
            break
        h = height[row, column]
        if np.isnan(h):
            continue
        if not abs(h - before) <= UNEVEN:
            return far, True
        before, far = h, k * CELL
    return far, False


@njit(cache=True, nogil=True)
def _keep_to(height: F32, place: F64, x: float, y: float, begin: float, inside: float) -> float:
    """How far to the left of a place robots go on stairs in the direction (x, y) [m].

    Stairs begin so far ahead [m]; and so far to the left one is on them [m].
    """
    low, high = np.full(int(LOOK / CELL), np.nan), np.full(int(LOOK / CELL), np.nan)
    for k in range(len(low)):
        ahead = begin + BEFORE + k * CELL
        u, v = place[0] + ahead * x - inside * y, place[1] + ahead * y + inside * x
        row, column = int(u / CELL), int(v / CELL)
        if not (0 <= row < height.shape[0] and 0 <= column < height.shape[1]) or np.isnan(height[row, column]):
            continue
        left, sure = _room(height, u, v, -y, x)
        high[k] = inside + left - (SURE_SIDE if sure else SIDE)
        right, sure = _room(height, u, v, y, -x)
        low[k] = inside - right + (SURE_SIDE if sure else SIDE)
    if np.isnan(low).all():
        return inside
    right, left = np.nanmedian(low), np.nanmedian(high)
    return (right + left) / 2 if right > left else min(max(0.0, right), left)


@njit(cache=True, nogil=True)
def nearest_flight(height: F32, cost: F32, slope: F32, place: F64, sign: float, level: float) -> F64:
    """Stairs that lead up (sign 1) or down (-1) from a place (2,) on the grid [m] whose ground has that level.

    Returns:
        (5,) whether there are any; the direction in which they lead (2); how far ahead in this direction the first edge
        is [m]; and how far to the left of the place robots should go [m].
    """
    result = np.zeros(5)
    columns, cells = height.shape[1], _nearest(height, cost, slope, sign, level)
    if cells[0] < 0:
        return result
    x = y = 0.0
    for at in cells:
        g, h = slope[at // columns, at % columns]
        x, y = x + sign * g, y + sign * h
    length = np.hypot(x, y)
    x, y = x / length, y / length
    along, across = np.empty(len(cells)), np.empty(len(cells))
    for k, at in enumerate(cells):
        u, v = (at // columns + 0.5) * CELL - place[0], (at % columns + 0.5) * CELL - place[1]
        along[k], across[k] = x * u + y * v, x * v - y * u
    first = along.min()
    begin = min(max(first, -LOOK_BACK), along.max())
    inside = np.median(across[along >= begin])
    result[0], result[1], result[2], result[3] = 1, x, y, first + BEFORE
    result[4] = _keep_to(height, place, x, y, begin, inside)
    return result
