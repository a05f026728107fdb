"""Places drawn by a seed: other sizes, walls, stairs, furniture, light and drift each time; nothing is fitted to them.

A place is one to four rooms in a row, joined by open doors, or a single hall with stairs to a landing. Half of them
have white walls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from benchmarks.rooms import Builder, Lamp, Paint, Room
from pipeline.geometry import masks
from pipeline.types import F64, Mask

CELL = 0.05
"""Edge of the cells of the plan that furniture is put into and that the walk is found on [m]."""
CLEARANCE = 0.38
"""Least distance of the walk from furniture and walls [m]."""
CLIMB = 0.25
"""Most height between neighbouring cells that the walk climbs [m]."""
DOOR = 0.95, 2.05
"""Width and height of doors [m]."""
NOOK = 0.3
"""Area of a free place that may be cut off from the others [m²]."""
WALL = 0.12
"""Thickness of walls between rooms [m]."""
PACE = 0.3
"""Distance of photos along a lap [m], as far as their number allows."""
PHOTOS = 50, 160
"""Least and largest number of photos."""
LAPS = 2
LEAN = 0.08
"""One sigma of how far a building leans about x and y [degrees]: half of what DIN 18202 allows, 8 mm in walls of 3 m
and 12 mm in floors of 4 m."""

Corner = tuple[float, float]


@dataclass(eq=False)
class Plan:
    """What stands where, in cells: the height of the floor, and what can't be walked on.

    Attributes:
        height: (X, Y) of the floor [m].
        taken: (X, Y) by furniture or walls.
        kept: (X, Y) of doors and stairs, where no furniture is put.
    """

    size: tuple[float, float]
    height: F64 = field(init=False)
    taken: Mask = field(init=False)
    kept: Mask = field(init=False)

    def __post_init__(self) -> None:
        shape = (round(self.size[0] / CELL), round(self.size[1] / CELL))
        self.height, self.taken, self.kept = np.zeros(shape), np.zeros(shape, bool), np.zeros(shape, bool)

    def cells(self, low: tuple[float, float], high: tuple[float, float]) -> tuple[slice, slice]:
        """The cells of a rectangle [m]."""
        (x, y), (u, v) = low, high
        return (
            slice(max(0, int(np.floor(x / CELL))), int(np.ceil(u / CELL))),
            slice(max(0, int(np.floor(y / CELL))), int(np.ceil(v / CELL))),
        )

    def lift(self, low: tuple[float, float], high: tuple[float, float], height: float) -> None:
        """Set the floor's height [m] in the cells whose middles lie in a rectangle [m]."""
        across, along = (slice(max(0, round(a / CELL)), round(b / CELL)) for a, b in zip(low, high, strict=True))
        self.height[across, along] = height

    def walkable(self) -> Mask:
        """Cells (X, Y) far enough from what is taken, from the outer walls, and from what is higher than two steps."""
        free = np.zeros(self.taken.shape, bool)
        for height in np.unique(self.height):
            blocked = np.pad(self.taken | (self.height > height + 2 * CLIMB), 1, constant_values=True)
            far = np.asarray(masks.distance_from(blocked))[1:-1, 1:-1] * CELL > CLEARANCE
            free |= far & (self.height == height)
        return free

    def take(self, low: tuple[float, float], high: tuple[float, float]) -> bool:
        """Put furniture on a rectangle [m], unless it is not free or would part or use up what can be walked on."""
        near = self.cells((low[0] - 0.1, low[1] - 0.1), (high[0] + 0.1, high[1] + 0.1))
        if (self.taken | self.kept)[near].any():
            return False
        before, here = self.taken.copy(), self.cells(low, high)
        self.taken[here] = True
        pieces, _ = masks.parts(self.walkable())
        if (np.bincount(pieces.ravel())[1:] > NOOK / CELL**2).sum() != 1:
            self.taken = before
            return False
        return True


def draw(seed: int) -> Room:
    """The place of a seed, as a phone's walk through it."""
    rng = np.random.default_rng([seed, 7])
    with_stairs = rng.random() < 0.4
    count = 1 if with_stairs else int(rng.integers(1, 5))
    widths = rng.uniform(4.6, 6.5, 1) if with_stairs else rng.uniform(3.0, 4.6, count)
    depth, ceiling = rng.uniform(4.2, 5.6) if with_stairs else rng.uniform(3.2, 4.6), rng.uniform(2.4, 3.0)
    ceiling += 1.0 * with_stairs
    ends = np.round(np.r_[0, np.cumsum(widths + WALL)] / CELL) * CELL
    size = float(ends[-1] - WALL), float(np.round(depth / CELL) * CELL)
    b, plan = Builder(), Plan(size)
    wall = _wall_paint(rng)
    b.shell((0, 0, 0), (*size, ceiling), _floor_paint(rng), wall, Paint((222, 221, 216), (0.6, 0.6), 3, 0.015))
    for end in ends[1:-1] - WALL:
        _partition(b, plan, float(end), size[1], float(ceiling), wall, rng)
    levels = [0.0]
    if with_stairs:
        levels.append(_stairs(b, plan, size, rng))
    lamps = []
    for start, width in zip(ends, widths, strict=False):
        low, high = (float(start), 0.0), (float(start + width), size[1])
        _furnish(b, plan, low, high, rng)
        lamps += _lights(low, high, float(ceiling), rng)
    if rng.random() < 0.25:
        _mirror(b, plan, size, wall, rng)
    walk = _walk(plan, [float(start + width / 2) for start, width in zip(ends, widths, strict=False)], rng)
    length = float(np.linalg.norm(np.diff(np.array([*walk, walk[0]]), axis=0), axis=1).sum())
    turn = float(rng.uniform(20, 70))
    return Room(
        f"drawn-{seed}", b.faces, lamps, tuple(rng.uniform(0.22, 0.42) * np.array([1, rng.uniform(0.94, 1.02), 1])),
        walk, (0.3, 0.3), (size[0] - 0.3, size[1] - 0.3), seed, levels=levels, eye=float(rng.uniform(1.25, 1.5)),
        asides=(turn, -turn if rng.random() < 0.5 else 180 - turn), photos=int(np.clip(LAPS * length / PACE, *PHOTOS)),
        drift=float(rng.uniform(1, 4)), lean=(float(rng.normal(0, LEAN)), float(rng.normal(0, LEAN))),
    )  # fmt: skip


def _wall_paint(rng: np.random.Generator) -> Paint:
    if rng.random() < 0.5:  # white, as in most homes
        grey = float(rng.uniform(205, 232))
        return Paint((grey, grey, grey), (0.6, 0.6), 1.5, 0.008)
    patch = float(rng.uniform(0.1, 0.3))
    return Paint(_color(rng, 110, 210), (patch, patch), rng.uniform(4, 14), rng.uniform(0.02, 0.06))


def _floor_paint(rng: np.random.Generator) -> Paint:
    kind = rng.integers(3)
    if kind == 0:  # planks
        return Paint(_color(rng, 70, 180), (1.2, float(rng.uniform(0.09, 0.16))), rng.uniform(8, 20), 0.06)
    if kind == 1:  # tiles
        side = float(rng.uniform(0.2, 0.45))
        return Paint(_color(rng, 100, 190), (side, side + 0.001), rng.uniform(4, 16), 0.05)
    return Paint(_color(rng, 60, 150), (0.03, 0.03), rng.uniform(10, 24), 0.1)


def _color(rng: np.random.Generator, low: float, high: float) -> tuple[float, float, float]:
    red, green, blue = rng.uniform(low, high) * rng.uniform(0.8, 1.15, 3)
    return float(red), float(green), float(blue)


def _paint(rng: np.random.Generator) -> Paint:
    """Of furniture: plain lacquer, wood or cloth."""
    kind = rng.integers(3)
    if kind == 0:
        return Paint(_color(rng, 30, 220), (0.6, 0.6), 3, 0.02)
    if kind == 1:
        return Paint(_color(rng, 90, 170), (0.9, 0.09), rng.uniform(8, 18), 0.06)
    patch = float(rng.uniform(0.05, 0.15))
    return Paint(_color(rng, 60, 190), (patch, patch), rng.uniform(20, 50), 0.07)


def _partition(b: Builder, plan: Plan, x: float, depth: float, ceiling: float, paint: Paint, rng: np.random.Generator):  # noqa: ANN202
    """A wall across the place with an open door in it."""
    width, height = DOOR
    y = float(rng.uniform(0.5, depth - width - 0.5))
    for low, high in (((x, 0, 0), (x + WALL, y, ceiling)), ((x, y + width, 0), (x + WALL, depth, ceiling))):
        b.box(low, high, paint)
        plan.taken[plan.cells(low[:2], high[:2])] = True
    b.box((x, y, height), (x + WALL, y + width, ceiling), paint)
    plan.kept[plan.cells((x - 0.9, y - 0.1), (x + WALL + 0.9, y + width + 0.1))] = True


def _stairs(b: Builder, plan: Plan, size: tuple[float, float], rng: np.random.Generator) -> float:
    """Steps along the far wall up to a landing in its corner; returns the landing's height."""
    count, rise, run, width = (
        int(rng.integers(3, 7)),
        rng.uniform(0.15, 0.19),
        rng.uniform(0.26, 0.31),
        rng.uniform(1.1, 1.5),
    )
    tread, side = _paint(rng), _paint(rng)
    far, top = size[1], count * rise
    long = float(rng.uniform(1.0, 1.6))
    left = long + (count - 1) * run
    b.slab((0, far - width, top), (long, 0, 0), (0, width, 0), top, tread, side)
    plan.lift((0, far - width), (long, far), top)
    for k in range(count - 1):
        x, z = left - (k + 1) * run, (k + 1) * rise
        b.slab((x, far - width, z), (run, 0, 0), (0, width, 0), z, tread, side)
        plan.lift((x, far - width), (x + run, far), z)
    plan.kept[plan.cells((0, far - width - 0.2), (left + 1.0, far))] = True
    return float(top)


@dataclass(frozen=True)
class Thing:
    """A kind of furniture.

    Attributes:
        long: Bounds of one side [m].
        wide: Bounds of the other [m].
        by_wall: How often it stands by a wall.
        put: Builds it between two corners of a rectangle [m].
    """

    long: tuple[float, float]
    wide: tuple[float, float]
    by_wall: float
    put: Callable[[Builder, Corner, Corner, np.random.Generator], None]


def _furnish(b: Builder, plan: Plan, low: Corner, high: Corner, rng: np.random.Generator) -> None:
    """Things along the walls of a room, and some in it, as long as they find a place."""
    area = (high[0] - low[0]) * (high[1] - low[1])
    for _ in range(int(rng.integers(2, 5) + area / 6)):
        thing = THINGS[int(rng.integers(len(THINGS)))]
        for _ in range(30):
            size = float(rng.uniform(*thing.long)), float(rng.uniform(*thing.wide))
            spot = _spot(plan, low, high, size, rng, by_wall=rng.random() < thing.by_wall)
            if spot is not None:
                thing.put(b, *spot, rng)
                break


def _spot(
    plan: Plan, low: tuple[float, float], high: tuple[float, float], size: tuple[float, float],
    rng: np.random.Generator, *, by_wall: bool,
) -> tuple[tuple[float, float], tuple[float, float]] | None:  # fmt: skip
    """A free rectangle of that size or turned by 90 degrees, now taken; None where the drawn one isn't free."""
    a, c = size if rng.random() < 0.5 else size[::-1]
    if a > high[0] - low[0] - 0.1 or c > high[1] - low[1] - 0.1:
        return None
    x, y = rng.uniform(low[0] + 0.02, high[0] - a - 0.02), rng.uniform(low[1] + 0.02, high[1] - c - 0.02)
    if by_wall:
        if a > c:
            y = low[1] + 0.015 if rng.random() < 0.5 else high[1] - c - 0.015
        else:
            x = low[0] + 0.015 if rng.random() < 0.5 else high[0] - a - 0.015
    else:
        x, y = (
            np.clip(v, e + 0.8, max(e + 0.8, f - s - 0.8)) for v, e, f, s in zip((x, y), low, high, (a, c), strict=True)
        )
    spot = (float(x), float(y)), (float(x + a), float(y + c))
    return spot if x + a <= high[0] and y + c <= high[1] and plan.take(*spot) else None


def _table(b: Builder, low: Corner, high: Corner, rng: np.random.Generator) -> None:
    """A top on four legs, with something on it."""
    (x, y), (u, v) = low, high
    top, thick, leg, paint = rng.uniform(0.7, 0.76), rng.uniform(0.025, 0.045), 0.05, _paint(rng)
    b.box((x, y, top - thick), (u, v, top), paint)
    for p in (x + 0.03, u - 0.03 - leg):
        for q in (y + 0.03, v - 0.03 - leg):
            b.box((p, q, 0), (p + leg, q + leg, top - thick), paint)
    for _ in range(int(rng.integers(0, 3))):
        side, height = rng.uniform(0.08, 0.25, 2), rng.uniform(0.08, 0.3)
        p, q = rng.uniform(x + 0.2, u - 0.2), rng.uniform(y + 0.2, v - 0.2)
        b.box((p - side[0] / 2, q - side[1] / 2, top), (p + side[0] / 2, q + side[1] / 2, top + height), _paint(rng))


def _counter(b: Builder, low: Corner, high: Corner, rng: np.random.Generator) -> None:
    """A worktop over cupboards, often dark and glossy in real kitchens: here dark and even."""
    b.box((*low, 0), (*high, 0.86), _paint(rng))
    b.box((*low, 0.86), (*high, 0.9), Paint(_color(rng, 20, 120), (0.6, 0.6), 2, 0.02))


def _shelf(b: Builder, low: Corner, high: Corner, rng: np.random.Generator) -> None:
    """A closed shelf or wardrobe."""
    b.box((*low, 0), (*high, rng.uniform(0.7, 2.1)), _paint(rng), _paint(rng))


def _couch(b: Builder, low: Corner, high: Corner, rng: np.random.Generator) -> None:
    """A couch or bed: a low box with a back at one end."""
    (x, y), (u, v) = low, high
    cloth, seat = _paint(rng), rng.uniform(0.35, 0.5)
    b.box((x, y, 0), (u, v, seat), cloth)
    end = (x + 0.2, v) if u - x < v - y else (u, y + 0.2)
    b.box((x, y, seat), (*end, seat + rng.uniform(0.2, 0.45)), cloth)


def _crate(b: Builder, low: Corner, high: Corner, rng: np.random.Generator) -> None:
    """A box on the floor, askew."""
    (x, y), (u, v) = low, high
    p, q, half = (x + u) / 2, (y + v) / 2, min(u - x, v - y) / 2.6
    top = rng.uniform(0.25, 0.6)
    b.box((p - half, q - half, 0), (p + half, q + half, top), _paint(rng), yaw=rng.uniform(0, 90))


THINGS = (
    Thing((1.1, 1.7), (0.65, 0.9), 0.6, _table),
    Thing((1.2, 2.4), (0.55, 0.65), 1.0, _counter),
    Thing((0.7, 1.6), (0.28, 0.6), 1.0, _shelf),
    Thing((1.5, 2.0), (0.8, 1.2), 1.0, _couch),
    Thing((0.4, 0.78), (0.4, 0.78), 0.5, _crate),
)


def _lights(
    low: tuple[float, float], high: tuple[float, float], ceiling: float, rng: np.random.Generator
) -> list[Lamp]:
    """A lamp at a room's ceiling, and often a window."""
    x, y = (float(rng.uniform(e + 0.8, max(e + 0.81, f - 1.6))) for e, f in zip(low, high, strict=True))
    warm = np.array([1.0, rng.uniform(0.85, 1.0), rng.uniform(0.65, 1.05)])
    lamps = [Lamp((x, y, ceiling - 0.04), (0.8, 0, 0), (0, 0.5, 0), tuple(rng.uniform(1.8, 3.6) * warm))]
    if rng.random() < 0.7:
        lamps.append(Lamp((x, high[1] - 0.03, 0.9), (-1.0, 0, 0), (0, 0, 1.1), tuple(rng.uniform(0.8, 1.8) / warm)))
    return lamps


def _mirror(b: Builder, plan: Plan, size: tuple[float, float], wall: Paint, rng: np.random.Generator) -> None:
    """A mirror on the near wall, where nothing stands before it."""
    for _ in range(30):
        x = float(rng.uniform(0.3, size[0] - 1.3))
        if not (plan.taken | plan.kept)[plan.cells((x, 0), (x + 0.9, 0.6))].any():
            b.quad((x + 0.9, 0.012, 0.3), (-0.9, 0, 0), (0, 0, 1.5), wall, "mirror")
            return


def _walk(plan: Plan, middles: list[float], rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """A round trip through the largest part that hangs together, as corners with the floor's height."""
    free = plan.walkable()
    graph, cells = _graph(free, plan.height), np.argwhere(free)
    part = connected_components(graph)[1]
    largest = np.flatnonzero(part == np.bincount(part).argmax())
    start = largest[np.abs(cells[largest, 0] * CELL - middles[0]).argmin()]
    away = dijkstra(graph, indices=start)
    stops, nearest = [int(start)], np.where(np.isfinite(away), away, -1)
    while len(stops) < 3 + 2 * len(middles) and nearest.max() > 0.8:  # what is farthest from all stops is the next one
        ties = nearest + rng.uniform(0, 0.4, len(nearest)) * (nearest > 0)
        stops.append(int(ties.argmax()))
        distance = dijkstra(graph, indices=stops[-1])
        nearest = np.minimum(nearest, np.where(np.isfinite(distance), distance, -1))
    tour, left = [stops[0]], stops[1:]
    path: list[int] = []
    while True:
        distance, before = dijkstra(graph, indices=tour[-1], return_predecessors=True)
        following = min(left, key=lambda stop: distance[stop]) if left else stops[0]
        leg = [following]
        while leg[-1] != tour[-1]:
            leg.append(int(before[leg[-1]]))
        path += leg[::-1][:-1]
        if not left:
            break
        left.remove(following)
        tour.append(following)
    kept = np.array(path)[:: max(1, round(0.3 / CELL))]
    return [(*((cells[k] + 0.5) * CELL), float(plan.height[tuple(cells[k])])) for k in kept]


def _graph(free: Mask, height: F64) -> csr_array:
    """Ways between neighbouring free cells [m], numbered in their order."""
    number = np.full(free.shape, -1)
    number[free] = np.arange(free.sum())
    rows, columns, lengths = [], [], []
    for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1)):
        a = (slice(0, -dx or None), slice(max(0, -dy), -dy if dy > 0 else None))
        c = (slice(dx, None), slice(max(0, dy), dy if dy < 0 else None))
        joined = free[a] & free[c] & (np.abs(height[a] - height[c]) < CLIMB)
        rows.append(number[a][joined])
        columns.append(number[c][joined])
        lengths.append(np.full(joined.sum(), CELL * np.hypot(dx, dy)))
    row, column, length = np.concatenate(rows), np.concatenate(columns), np.concatenate(lengths)
    count = int(free.sum())
    both = np.r_[length, length], (np.r_[row, column], np.r_[column, row])
    return coo_array(both, shape=(count, count)).tocsr()
