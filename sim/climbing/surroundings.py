"""What a map says of the ground around a robot: where it can't go, what ways cost, and where stairs rise or fall.

Grids (X, Y) of cells have the axes of the map. Unknown heights are NaN.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

from pipeline.geometry.jit import njit
from pipeline.types import F32, I32
from sim.sensors.ground import elevation

CELL = 2 * elevation.CELL
"""Edge of a cell [m]."""
STEP, WALL = 0.26, 0.5
"""Between neighbouring cells, more than this is a wall or a drop [m]; with less than the second it may be a step."""
EDGE = 6
"""Edges are that long [cells], at least."""
ROOM, BODY = 0.4, 0.2
"""Nearer than the first to what is blocked or unknown a metre is dearer, nearer than the second much dearer [m]."""
ROOM_PRICE, BODY_PRICE = 3.0, 12.0
"""How much dearer a metre is at most between these, and below."""
OUT_OF_IT = 0.35
"""So far from where it stands a robot may go through what is blocked [m]."""
REACH = 3
"""Slopes are those of the plane through all cells so many around [cells]."""
GAP, LEVEL = 3, 0.06
"""Gaps that are bridged are of fewer than twice so many cells, between heights that differ by less [m]."""
FLAT = 0.035
"""With less between the highest and the lowest of these cells, no plane through half of them is so steep [m]."""
ENOUGH = 0.5
"""Share of these cells that has to be known."""
ALIKE = 0.15
"""So far from the level a robot stands on it looks for what is new [m]."""
STEEP = (0.2, 1.3)
"""Stairs rise so much per metre."""


@njit(cache=True, nogil=True)
def halved(height: F32, variance: F32) -> F32:
    """A map's heights in cells of twice the size (X, Y): the highest of each four."""
    rows, columns = height.shape
    result = np.full((rows // 2, columns // 2), np.float32(np.nan))
    for i in range(rows):
        for j in range(columns):
            if np.isfinite(variance[i, j]) and not result[i // 2, j // 2] >= height[i, j]:
                result[i // 2, j // 2] = height[i, j]
    return result


@njit(cache=True, nogil=True)
def bridged(height: F32) -> F32:
    """The same heights (X, Y), with narrow gaps filled that have ground of one height on both sides.

    Between where a robot stands and what its camera sees first is such a gap.
    """
    result = height.copy()
    for a in range(GAP, height.shape[0] - GAP):
        for b in range(GAP, height.shape[1] - GAP):
            if not np.isnan(height[a, b]):
                continue
            for u, v in ((0, 1), (1, 0), (1, 1), (1, -1)):
                one = two = np.float32(np.nan)
                for k in range(GAP, 0, -1):
                    h = height[a - k * u, b - k * v]
                    one = one if np.isnan(h) else h
                    h = height[a + k * u, b + k * v]
                    two = two if np.isnan(h) else h
                if abs(one - two) < LEVEL:
                    result[a, b] = (one + two) / 2
    return result


def high_steps(height: F32) -> float:
    """Median difference between cells (X, Y) side by side that is too much to go on, yet no wall [m]; or NaN."""
    across, along = (np.abs(np.diff(height, axis=axis)).ravel() for axis in (0, 1))
    steps = np.concatenate([across, along])
    steps = steps[(steps > STEP) & (steps < WALL)]  # false if one is NaN
    return float(np.median(steps)) if len(steps) >= EDGE else np.nan


@njit(cache=True, nogil=True)
def clearances(height: F32) -> tuple[F32, F32]:
    """Distance of cells (X, Y) from the nearest wall or drop, and from that or what is unknown [m], at most `ROOM`."""
    near, edge = np.full(height.shape, np.float32(ROOM)), np.full(height.shape, np.float32(ROOM))
    for a in range(1, height.shape[0] - 1):
        for b in range(1, height.shape[1] - 1):
            if np.isnan(height[a, b]):
                continue
            blocked = unknown = False
            for u in range(a - 1, a + 2):
                for v in range(b - 1, b + 2):
                    blocked |= abs(height[u, v] - height[a, b]) > STEP  # false if one is NaN
                    unknown |= np.isnan(height[u, v])
            if blocked:
                _around(near, a, b)
            if blocked or unknown:
                _around(edge, a, b)
    return near, edge


@njit(cache=True, nogil=True)
def _around(distance: F32, a: int, b: int) -> None:
    """Shorten distances (X, Y) to what they are from a cell [m]."""
    reach = int(ROOM / CELL)
    for u in range(max(0, a - reach), min(distance.shape[0], a + reach + 1)):
        for v in range(max(0, b - reach), min(distance.shape[1], b + reach + 1)):
            distance[u, v] = min(distance[u, v], np.float32(np.sqrt((u - a) ** 2 + (v - b) ** 2) * CELL))


@njit(cache=True, nogil=True)
def costs(height: F32, near: F32, edge: F32, row: int, column: int) -> tuple[F32, I32]:
    """Price of the way from a cell to each (X, Y) [m], inf where none leads; and the cell before on it (X, Y)."""
    cost, came = np.full(height.shape, np.float32(np.inf)), np.full(height.shape, np.int32(-1))
    rows, columns = height.shape
    cost[row, column] = 0
    heap = [(np.float32(0), row * columns + column)]
    while len(heap):
        so_far, at = heappop(heap)
        a, b = at // columns, at % columns
        if so_far > cost[a, b]:
            continue
        for du in range(-1, 2):
            for dv in range(-1, 2):
                u, v = a + du, b + dv
                if not (0 < u < rows - 1 and 0 < v < columns - 1) or not abs(height[u, v] - height[a, b]) <= STEP:
                    continue
                room, price = edge[u, v], 1.0
                if near[u, v] == 0 and (u - row) ** 2 + (v - column) ** 2 > (OUT_OF_IT / CELL) ** 2:
                    continue
                if room < ROOM:
                    price += ROOM_PRICE * (ROOM - room) / ROOM
                if room < BODY:
                    price += BODY_PRICE
                new = np.float32(so_far + price * CELL * np.sqrt(du * du + dv * dv))
                if new < cost[u, v]:
                    cost[u, v], came[u, v] = new, at
                    heappush(heap, (new, u * columns + v))
    return cost, came


@njit(cache=True, nogil=True)
def _together(height: F32, a: int, b: int, cells: I32) -> int:
    """How many cells of those around one hang together with it, and which, into (K,): no gap, wall or drop parts them.

    A drop hides what is behind its edge, and seen across that gap it looks like a slope.
    """
    columns = height.shape[1]
    taken = np.zeros((2 * REACH + 1, 2 * REACH + 1), np.bool_)
    taken[REACH, REACH] = True
    cells[0] = a * columns + b
    count, done = 1, 0
    while done < count:
        i, j = cells[done] // columns, cells[done] % columns
        done += 1
        for u in range(max(a - REACH, i - 1), min(a + REACH, i + 1) + 1):
            for v in range(max(b - REACH, j - 1), min(b + REACH, j + 1) + 1):
                if not taken[u - a + REACH, v - b + REACH] and abs(height[u, v] - height[i, j]) <= STEP:
                    taken[u - a + REACH, v - b + REACH] = True
                    cells[count] = u * columns + v
                    count += 1
    return count


@njit(cache=True, nogil=True)
def _ranges(height: F32) -> F32:
    """Difference between the highest and the lowest known cell around each (X, Y) [m]; -inf without any."""
    rows, columns = height.shape
    low, high = np.full(height.shape, np.float32(np.inf)), np.full(height.shape, np.float32(-np.inf))
    for a in range(rows):
        for b in range(columns):
            for v in range(max(0, b - REACH), min(columns, b + REACH + 1)):
                if not np.isnan(height[a, v]):
                    low[a, b], high[a, b] = min(low[a, b], height[a, v]), max(high[a, b], height[a, v])
    result = np.empty_like(height)
    for a in range(rows):
        for b in range(columns):
            lowest, highest = np.float32(np.inf), np.float32(-np.inf)
            for u in range(max(0, a - REACH), min(rows, a + REACH + 1)):
                lowest, highest = min(lowest, low[u, b]), max(highest, high[u, b])
            result[a, b] = highest - lowest
    return result


@njit(cache=True, nogil=True)
def slopes(height: F32, near: F32) -> F32:
    """How the ground rises along both axes (X, Y, 2), where it does so like stairs; NaN elsewhere."""
    rows, columns = height.shape
    result = np.full((rows, columns, 2), np.float32(np.nan))
    cells, range_of = np.empty((2 * REACH + 1) ** 2, np.int32), _ranges(height)
    for a in range(REACH, rows - REACH):
        for b in range(REACH, columns - REACH):
            if not range_of[a, b] > FLAT or near[a, b] < REACH * CELL or np.isnan(height[a, b]):
                continue
            n = _together(height, a, b, cells)
            if n < ENOUGH * len(cells):
                continue
            x = y = z = xx = xy = yy = xz = yz = 0.0
            for at in cells[:n]:
                u, v, h = at // columns - a, at % columns - b, height[at // columns, at % columns]
                x, y, z = x + u, y + v, z + h
                xx, xy, yy, xz, yz = xx + u * u, xy + u * v, yy + v * v, xz + u * h, yz + v * h
            xx, xy, yy, xz, yz = xx - x * x / n, xy - x * y / n, yy - y * y / n, xz - x * z / n, yz - y * z / n
            determinant = xx * yy - xy * xy
            if determinant < 1:
                continue
            along = (xz * yy - yz * xy) / determinant / CELL
            across = (yz * xx - xz * xy) / determinant / CELL
            if STEEP[0] < np.hypot(along, across) < STEEP[1]:
                result[a, b, 0], result[a, b, 1] = along, across
    return result


@njit(cache=True, nogil=True)
def rims(height: F32, cost: F32, near: F32, level: float) -> F32:
    """Where what is unknown is seen from cells (X, Y, 2): a direction; NaN for cells that robots can't get to.

    And for those on another level than the robot.
    """
    rows, columns = height.shape
    result = np.full((rows, columns, 2), np.float32(np.nan))
    for a in range(2, rows - 2):
        for b in range(2, columns - 2):
            if not np.isfinite(cost[a, b]) or near[a, b] < BODY or abs(height[a, b] - level) > ALIKE:
                continue
            beside, x, y = 0, 0.0, 0.0
            for u in range(-2, 3):
                for v in range(-2, 3):
                    if np.isnan(height[a + u, b + v]):
                        beside += max(abs(u), abs(v)) == 1
                        x, y = x + u, y + v
            length = np.hypot(x, y)
            if beside >= 2 and length > 0:
                result[a, b, 0], result[a, b, 1] = x / length, y / length
    return result


@njit(cache=True, nogil=True)
def on_the_way(came: I32, row: int, column: int, ahead: float) -> tuple[int, int]:
    """The cell that is so far [m] from the first cell of the way to one that a way leads to; or that one."""
    columns = came.shape[1]
    first = row * columns + column
    while came[first // columns, first % columns] >= 0:
        first = came[first // columns, first % columns]
    at = row * columns + column
    while at != first:
        if (at // columns - first // columns) ** 2 + (at % columns - first % columns) ** 2 <= (ahead / CELL) ** 2:
            break
        at = came[at // columns, at % columns]
    return at // columns, at % columns
