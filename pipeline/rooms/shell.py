"""The shell of a room: floors, walls, ceilings, a second room through a door, stairs; and where its floor just ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.rooms.floors import SIDES, Field, Rectangle, both, everywhere, hole, lay, ragged_side
from pipeline.rooms.paints import Paints
from pipeline.rooms.surfaces import Builder, Paint
from pipeline.types import F64

WALL = 0.12
"""Thickness of the wall between two rooms [m]."""
DOOR_ROOM = 0.9
"""Depth of what is kept free before a door [m]."""
STAIRS = 0.16
"""Share of rooms in which stairs are tried."""


@dataclass(frozen=True)
class StairRanges:
    """Ranges that stairs are drawn from [m].

    Attributes:
        rise: Height of a step.
        run: Depth of a step.
        count: Number of steps, the last one left out.
        wide: Their width.
        landing: Depth of the landing.
        apart: Distance from the wall along which they lead, where they don't lean on it.
        free: Share of those that don't.
        walled: Share of those with a wall on the other side.
        one_paint: Share of those whose faces are of one paint, of the floor's or their own.
        detail: Of their paints.
        tries: How often a place for them is looked for.
    """

    rise: tuple[float, float] = (0.14, 0.18)
    run: tuple[float, float] = (0.26, 0.32)
    count: tuple[int, int] = (3, 9)
    wide: tuple[float, float] = (0.9, 1.3)
    landing: tuple[float, float] = (1.0, 1.6)
    apart: tuple[float, float] = (0.0, 0.0)
    free: float = 0.0
    walled: float = 0.0
    one_paint: float = 0.0
    detail: float = 1.0
    tries: int = 1


USUAL = StairRanges()
VARIED = StairRanges((0.10, 0.20), (0.22, 0.32), (4, 8), (0.9, 1.4), (1.5, 2.1), (0.6, 1.3), 0.4, 0.4, 0.6, 6.0, 10)
"""Of stairs to learn from, as different as those of houses are."""


@dataclass(eq=False)
class Space:
    """One level floor between walls.

    Attributes:
        area: Its rectangle; of a floor that ends irregularly, the one that it was cut out of.
        z: Height of the floor [m].
        ceiling: Height of the ceiling [m].
        floor: Where there is floor.
        closed: Numbers of the sides that are one whole wall.
        taken: What nothing else may stand on.
        main: Whether people walk there: a lower level beside the floor is not.
    """

    area: Rectangle
    z: float
    ceiling: float
    floor: Field = everywhere
    closed: list[int] = field(default_factory=lambda: list(range(SIDES)))
    taken: list[Rectangle] = field(default_factory=list)
    main: bool = True

    def is_free(self, spot: Rectangle, margin: float = 0.0) -> bool:
        """Whether something may stand on a rectangle of the plan: on the floor, and on nothing else."""
        inside = self.area.grown(-0.01)
        if not (inside.x0 <= spot.x0 and inside.y0 <= spot.y0 and spot.x1 <= inside.x1 and spot.y1 <= inside.y1):
            return False
        wider = spot.grown(margin)
        return not any(one.meets(wider) for one in self.taken) and bool((self.floor(spot.grid(0.25)) > 0.05).all())

    def take(self, spot: Rectangle, margin: float = 0.0) -> bool:
        """Take a rectangle of the plan if it is free; says whether it was."""
        free = self.is_free(spot, margin)
        if free:
            self.taken.append(spot)
        return free


def draw_shell(
    b: Builder, paints: Paints, ends: Sequence[str], stairs: float = STAIRS, ranges: StairRanges = USUAL
) -> tuple[list[Space], bool]:
    """Draw floors, walls and ceilings; returns the spaces, first the largest, and whether it has stairs.

    `ends` are the ways in which the first one's floor ends without a wall: "ragged", "holes", "cliff". `stairs` is the
    share of rooms in which some from these ranges are tried.
    """
    rng = paints.rng
    area, ceiling = Rectangle(0, 0, *_size(rng)), float(rng.uniform(2.3, 3.2))
    main = Space(area, 0.0, ceiling)
    gone = [int(side) for side in rng.permutation(SIDES)[: int(rng.integers(1, 3))]] if "ragged" in ends else []
    main.closed = [side for side in range(SIDES) if side not in gone]
    spaces, door, low = [main], None, 0.0
    wall = paints.wall()
    if "cliff" in ends:
        low = -float(rng.uniform(0.2, 0.8))
        spaces.append(_lower(b, main, low, paints))
    if rng.random() < 0.4 and main.closed:
        door = _Door.draw(main, rng)
        spaces.append(_second(b, main, door, paints, wall))
    if "holes" in ends:
        for _ in range(int(rng.integers(1, 4))):
            middle = np.array([rng.uniform(0.5, length - 0.5) for length in area.size])
            main.floor = both(main.floor, hole(middle, float(rng.uniform(0.18, 0.5)), rng))
    roof = everywhere
    for side in gone:
        depth = float(rng.uniform(0.2, 0.22 * min(area.size)))
        main.floor = both(main.floor, ragged_side(area, side, depth, rng))
        roof = both(roof, ragged_side(area, side, depth * float(rng.uniform(0.3, 1.5)), rng))
    floor = paints.floor()
    lay(b, main.area, 0, floor, None if main.floor is everywhere else main.floor)
    if rng.random() < 0.85:
        lay(b, area, ceiling, paints.ceiling(), None if roof is everywhere else roof, down=True)
    _walls(b, area, low, ceiling, wall, [side for side in range(SIDES) if side not in gone], door)
    return spaces, _fill(b, main, paints, (floor, wall), stairs, ranges)


def _size(rng: np.random.Generator) -> tuple[float, float]:
    """Width and depth [m]: of a room, a hall or a corridor."""
    kind = rng.random()
    if kind < 0.12:
        long, wide = rng.uniform(5.5, 10), rng.uniform(1.5, 2.2)
        return (float(long), float(wide)) if rng.random() < 0.5 else (float(wide), float(long))
    if kind < 0.24:
        return float(rng.uniform(6.5, 9.5)), float(rng.uniform(5, 8))
    return float(rng.uniform(3.6, 6.8)), float(rng.uniform(3.2, 5.6))


@dataclass(frozen=True)
class _Door:
    """An opening from `start` to `end` [m], measured along a side of the first space."""

    side: int
    start: float
    end: float
    height: float

    @staticmethod
    def draw(main: Space, rng: np.random.Generator) -> _Door:
        """In one of the closed sides, which is none any more."""
        side = int(rng.choice(main.closed))
        main.closed.remove(side)
        length = main.area.size[side % 2]
        wide = rng.random() < 0.3
        width = float(min(rng.uniform(1.3, 2.0) if wide else rng.uniform(0.8, 1.0), length - 0.3))
        start = float(rng.uniform(0.1, length - 0.1 - width))
        return _Door(side, start, start + width, float(main.ceiling - 0.15 if wide else rng.uniform(2.0, 2.15)))


def _frame(area: Rectangle, side: int) -> tuple[F64, F64, F64]:
    """Start of a side, and unit vectors along it and inwards, each (2,)."""
    start, end = (np.array(point) for point in area.side(side))
    along = (end - start) / np.linalg.norm(end - start)
    return start, along, np.array([-along[1], along[0]])


def strip(area: Rectangle, side: int, start: float, end: float, near: float, far: float) -> Rectangle:
    """What lies between `start` and `end` along a side, and between `near` and `far` inwards from it [m]."""
    corner, along, inward = _frame(area, side)
    ends = np.stack([corner + along * start + inward * near, corner + along * end + inward * far])
    return Rectangle(*map(float, ends.min(0)), *map(float, ends.max(0)))


def _walls(
    b: Builder, area: Rectangle, low: float, high: float, paint: Paint, sides: Sequence[int], door: _Door | None
) -> None:
    """The walls of these sides, from low to high [m], the door left open."""
    for side in sides:
        corner, along, _ = _frame(area, side)
        length = area.size[side % 2]
        if door is None or door.side != side:
            b.wall(corner, corner + along * length, low, high, paint)
            continue
        for start, end, bottom in (0, door.start, low), (door.start, door.end, door.height), (door.end, length, low):
            b.wall(corner + along * start, corner + along * end, bottom, high, paint)
        if low < 0:
            b.wall(corner + along * door.start, corner + along * door.end, low, 0, paint)


def _lower(b: Builder, main: Space, low: float, paints: Paints) -> Space:
    """The floor's end before a side becomes a cliff: what is beyond lies lower; the first space shrinks."""
    side = int(paints.rng.choice(main.closed or [0]))
    deep = float(paints.rng.uniform(0.2, 0.4)) * main.area.size[(side + 1) % 2]
    length = main.area.size[side % 2]
    below = strip(main.area, side, 0, length, 0, deep)
    corner, along, inward = _frame(main.area, side)
    edge = corner + inward * deep
    b.wall(edge + along * length, edge, low, 0, paints.wall())
    lay(b, below, low, paints.floor())
    main.area = strip(main.area, side, 0, length, deep, main.area.size[(side + 1) % 2])
    main.closed = [one for one in main.closed if one == (side + 2) % SIDES]
    return Space(below, low, main.ceiling, closed=[side] if side in main.closed else [], main=False)


def _second(b: Builder, main: Space, door: _Door, paints: Paints, wall: Paint) -> Space:
    """A room or a corridor behind the door, and the door's frame."""
    rng = paints.rng
    corner, along, inward = _frame(main.area, door.side)
    corridor = rng.random() < 0.35
    before, after = (float(v) for v in (rng.uniform(0.1, 0.4, 2) if corridor else rng.uniform(0.3, 1.8, 2)))
    deep = float(rng.uniform(3, 6.5) if corridor else rng.uniform(2.2, 4.2))
    area = strip(main.area, door.side, door.start - before, door.end + after, -WALL - deep, -WALL)
    other = wall if rng.random() < 0.5 else paints.wall()
    space = Space(area, 0.0, float(max(door.height + 0.15, rng.uniform(2.3, 2.9))))
    facing = (door.side + 2) % SIDES
    space.closed.remove(facing)
    there = _Door(facing, after, after + door.end - door.start, door.height)  # that side runs the other way
    floor = paints.floor()
    lay(b, area, 0, floor)
    lay(b, area, space.ceiling, paints.ceiling(), down=True)
    _walls(b, area, 0, space.ceiling, other, range(SIDES), there)
    through = strip(main.area, door.side, door.start, door.end, -WALL, 0)
    lay(b, through, 0, floor)
    lay(b, through, door.height, other, down=True)
    first, last = corner + along * door.start, corner + along * door.end
    b.wall(first, first - inward * WALL, 0, door.height, other)
    b.wall(last - inward * WALL, last, 0, door.height, other)
    main.taken.append(strip(main.area, door.side, door.start, door.end, 0, DOOR_ROOM))
    space.taken.append(strip(area, facing, there.start, there.end, 0, DOOR_ROOM))
    return space


def _fill(
    b: Builder, main: Space, paints: Paints, shell: tuple[Paint, Paint], stairs: float, ranges: StairRanges
) -> bool:
    """What is built into the first space: a corner walled off, which makes an L, or stairs, or a platform.

    Floor and walls of the shell have these paints. Returns whether there are stairs.
    """
    (floor, wall), rng, (width, depth) = shell, paints.rng, main.area.size
    if rng.random() < 0.3 and min(width, depth) > 2.6:
        w, d = float(rng.uniform(0.2, 0.45) * width), float(rng.uniform(0.2, 0.45) * depth)
        x = main.area.x0 if rng.random() < 0.5 else main.area.x1 - w
        y = main.area.y0 if rng.random() < 0.5 else main.area.y1 - d
        spot = Rectangle(x, y, x + w, y + d)
        if main.take(spot.grown(-0.02)):
            b.box((x, y, main.z), (x + w, y + d, main.ceiling), wall)
    if rng.random() < stairs and main.closed:
        return any(_stairs(b, main, int(rng.choice(main.closed)), paints, floor, ranges) for _ in range(ranges.tries))
    if rng.random() < 0.12 and min(width, depth) > 3:
        w, d, h = (float(v) for v in (rng.uniform(0.9, 2.0), rng.uniform(0.9, 1.8), rng.uniform(0.08, 0.3)))
        x = float(rng.uniform(main.area.x0 + 0.05, main.area.x1 - w - 0.05))
        y = float(rng.uniform(main.area.y0 + 0.05, main.area.y1 - d - 0.05))
        if main.take(Rectangle(x, y, x + w, y + d)):
            b.box((x, y, 0), (x + w, y + d, h), paints.floor(), paints.thing())
    return False


def _stairs(b: Builder, main: Space, side: int, paints: Paints, floor: Paint, ranges: StairRanges) -> bool:
    """Steps along a wall up to a landing that ends without one; none, and False, where there is no room."""
    rng = paints.rng
    rise, run = float(rng.uniform(*ranges.rise)), float(rng.uniform(*ranges.run))
    count = int(rng.integers(*ranges.count))
    wide, landing = float(rng.uniform(*ranges.wide)), float(rng.uniform(*ranges.landing))
    apart = float(rng.uniform(*ranges.apart)) if ranges.free and rng.random() < ranges.free else 0.0
    length = main.area.size[side % 2]
    if count * run + landing > length - 0.9:
        return False
    start = float(rng.uniform(0.8, length - count * run - landing))
    far = start + count * run + landing
    if not main.take(strip(main.area, side, start - 0.7, far - 0.02, apart + 0.02, apart + wide)):
        return False
    corner, along, inward = (np.append(vector, 0.0) for vector in _frame(main.area, side))
    corner = corner + apart * inward
    tread, riser = paints.floor(), paints.thing()
    if ranges.one_paint and rng.random() < ranges.one_paint:
        tread = riser = floor if rng.random() < 0.5 else tread
    tread, riser = (replace(paint, detail=ranges.detail) for paint in (tread, riser))
    for step in range(count + 1):
        height = min(step + 1, count) * rise
        deep = run if step < count else landing
        top = corner + along * (start + step * run) + [0, 0, height]
        b.slab(top, along * deep, inward * wide, height, tread, riser)
    if ranges.walled and rng.random() < ranges.walled:
        thick, high = 0.1 * inward, count * rise + 1.0
        top = corner + along * start + inward * wide + [0, 0, high]
        b.slab(top, along * count * run, thick, high, paints.wall(), paints.wall())
    elif rng.random() < 0.5:
        metal = paints.thing()
        for step in range(count + 1):
            post = corner + along * (start + (step + 0.5) * run) + inward * (wide - 0.05)
            foot = min(step + 1, count) * rise
            b.box(post - 0.015 + [0, 0, foot + 0.015], post + 0.015 + [0, 0, foot + 0.9], metal)
    return True
