"""Buildings drawn by their seed: rooms on both sides of a corridor, floors above each other, stairs, and rooms alike.

    python benchmarks/building.py FOLDER [--seed 7] [--floors 2] [--south 3] [--north 2] [--frames 3000]

writes the captures of one into a folder each, as a phone would have recorded them: each in a frame of its own, with
noise and drift. One walk covers the rooms on each side of a floor's corridor, one the stairs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from pipeline.types import F64

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.room_capture import write_room  # noqa: E402
from benchmarks.room_renderer import RenderedRoom  # noqa: E402
from benchmarks.rooms import Builder, Lamp, Paint, Room  # noqa: E402

WALL, SLAB = 0.12, 0.25
"""Thickness of inner walls and of floors [m]."""
DOOR, DOOR_HEIGHT = 0.9, 2.05
CORRIDOR = 1.7
RISERS, RUN, FRONT, FLIGHT = 9, 0.27, 1.2, 1.15
"""Of a flight: risers, depth of a tread, floor before it, width [m]; two flights a storey."""
STAIRWELL = 2 * FLIGHT + WALL
AHEAD = (15, -20)
"""Where the phone looks on stairs, off the direction of the walk [degrees]."""
DRIFT = 4.0
"""Of the phone's poses, as a multiple of the sample's: 4 cm and 1 degree, since walks are longer."""


@dataclass(frozen=True)
class Space:
    """A room, a corridor or a stairwell.

    Attributes:
        name: Such as "floor 1 south 0".
        low: (x, y, z) of its floor [m].
        high: (x, y, z) of its ceiling [m].
        door: Interval of x [m] of the door to the corridor; of a corridor, its length.
    """

    name: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    door: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Building:
    """What was drawn, in one frame: z up, the lowest floor at 0 [m].

    Attributes:
        whole: All faces and lamps.
        walks: The same with the way of one capture each, by name.
        spaces: All rooms, corridors and stairwells.
        alike: Names of two rooms that look the same.
    """

    whole: Room
    walks: dict[str, Room]
    spaces: tuple[Space, ...]
    alike: tuple[str, str]


def draw_building(
    seed: int, floors: int = 2, south: int = 3, north: int = 2, frames: int = 3000, things: int | None = None
) -> Building:
    """Draw a building with so many rooms on each side of a floor's corridor, and images in all its captures.

    The first two southern rooms of the highest floor look the same, as equal bedrooms do. Buildings of one seed, each
    with a seed for things, are twins: they differ in furniture and pictures only, and so the two rooms do in pictures.
    """
    rng = np.random.default_rng((4_601, seed))
    storey = float(rng.uniform(2.85, 3.1))
    spaces = _plan(rng, storey, floors, south, north)
    alike = (f"floor {floors - 1} south 0", f"floor {floors - 1} south 1")
    b, lamps, first = Builder(), list[Lamp](), None
    for space in spaces:
        start, rows = len(b.faces), [one for one in spaces if one.name.startswith(space.name[:8])]
        number = None if things is None else spaces.index(space)
        own = rng if things is None else np.random.default_rng((4_602, seed, things, spaces.index(space)))
        if space.name == "stairwell":
            _stairwell(b, lamps, space, floors, storey, rng)
        elif "corridor" in space.name:
            well = [one for one in spaces if one.name == "stairwell"]
            shell = _corridor(b, lamps, space, [one for one in rows if one is not space] + well, rng, own)
            _number(b, start, shell, number)
        elif space.name == alike[1] and first:
            shift = np.array(space.low) - np.array(first[0].low)
            b.faces += [replace(face, corner=face.corner + shift) for face in first[1]]
            x, y, z = (float(value) for value in np.array(lamps[-1].corner) + shift)
            lamps.append(replace(lamps[-1], corner=(x, y, z)))
            if things is not None:
                _hang_pictures(b, space, own)
        else:
            furniture, pictures = _room(b, lamps, space, rng, own)
            if space.name == alike[0]:
                b.faces[start:] = [replace(face, texture=k) for k, face in enumerate(b.faces[start:])]
                first = space, b.faces[start : None if things is None else pictures]
            else:
                _number(b, start, furniture, number)
    paths = _paths(spaces, floors, storey)
    whole = Room(
        f"building-{seed}",
        b.faces,
        lamps,
        (0.36, 0.36, 0.37),
        next(iter(paths.values())),
        (0.3, 0.3),
        (max(space.high[0] for space in spaces) - 0.3, max(space.high[1] for space in spaces) - 0.3),
        seed,
        levels=[floor * storey for floor in range(floors)],
        asides=(55, -55),
        drift=DRIFT,
    )
    lengths = {name: _length(path) for name, path in paths.items()}
    walks = {
        name: replace(
            whole,
            walk=path,
            take=k,
            photos=round(frames * lengths[name] / sum(lengths.values())),
            asides=AHEAD if name == "stairs" else whole.asides,
        )
        for k, (name, path) in enumerate(paths.items())
    }
    return Building(whole, walks, spaces, alike)


def _plan(rng: np.random.Generator, storey: float, floors: int, south: int, north: int) -> tuple[Space, ...]:
    """All rooms and corridors, floor by floor, and one stairwell through all floors."""
    deep = float(rng.uniform(3.7, 4.4)), float(rng.uniform(4.65, 5.0))
    southern = [float(value) for value in rng.uniform(4.0, 7.5, south)]
    southern[1:2] = southern[:1] * (south > 1)
    length = sum(southern) + (south - 1) * WALL
    shares = rng.uniform(0.8, 1.2, north)
    rest = length - (north - 1) * WALL - (STAIRWELL + WALL) * (floors > 1)
    northern = [float(value) for value in rest * shares / shares.sum()]
    names = [f"north {k}" for k in range(north)]
    if floors > 1:
        at = int(rng.integers(north + 1))
        northern.insert(at, STAIRWELL)
        names.insert(at, "stairwell")
    y0, y1 = deep[0] + WALL, deep[0] + WALL + CORRIDOR
    spaces = list[Space]()
    for floor in range(floors):
        z, top, name = floor * storey, (floor + 1) * storey - SLAB, f"floor {floor}"
        for k, (x, width) in enumerate(zip(_starts(southern), southern, strict=True)):
            door = _door(rng, x, width)
            if floor == floors - 1 and k == 1:  # where the first one's is
                shift = x - spaces[-1].low[0]
                door = spaces[-1].door[0] + shift, spaces[-1].door[1] + shift
            spaces.append(Space(f"{name} south {k}", (x, 0.0, z), (x + width, deep[0], top), door))
        for x, width, own in zip(_starts(northern), northern, names, strict=True):
            low, high = (x, y1 + WALL, z), (x + width, y1 + WALL + deep[1], top)
            if own != "stairwell":
                spaces.append(Space(f"{name} {own}", low, high, _door(rng, x, width)))
            elif floor == 0:
                spaces.append(Space(own, low, (*high[:2], floors * storey - SLAB), (x + 0.3, x + width - 0.3)))
        spaces.append(Space(f"{name} corridor", (0.0, y0, z), (length, y1, top), (0.0, length)))
    return tuple(spaces)


def _starts(widths: Sequence[float]) -> list[float]:
    return [sum(widths[:k]) + k * WALL for k in range(len(widths))]


def _door(rng: np.random.Generator, x: float, width: float) -> tuple[float, float]:
    start = x + float(rng.uniform(0.25, 0.75)) * (width - DOOR - 0.6) + 0.3
    return start, start + DOOR


def _wall(
    b: Builder, start: F64, end: F64, low: float, high: float, paint: Paint, gaps: Sequence[tuple[float, float]] = ()
) -> None:
    """A wall, seen from the left of its direction, with doors at these intervals along it [m]."""
    length = float(np.linalg.norm(end - start))
    along = np.append((end - start) / length, 0.0)
    corner = np.append(start, 0.0)
    stops = [0.0, *(value for gap in sorted(gaps) for value in gap), length]
    for k, (first, last) in enumerate(pairwise(stops)):
        bottom = low if k % 2 == 0 else low + DOOR_HEIGHT
        b.quad(corner + along * last + [0, 0, bottom], along * (first - last), (0, 0, high - bottom), paint)


def _room(
    b: Builder, lamps: list[Lamp], space: Space, rng: np.random.Generator, own: np.random.Generator
) -> tuple[int, int]:
    """Shell, furniture, pictures and lamp; numbers of the faces that furniture and pictures begin with."""
    (x0, y0, z), (x1, y1, top) = space.low, space.high
    wall, floor = _plaster(rng), _floor(rng)
    b.quad((x0, y0, z), (x1 - x0, 0, 0), (0, y1 - y0, 0), floor)
    b.quad((x0, y0, top), (0, y1 - y0, 0), (x1 - x0, 0, 0), Paint((206, 204, 200), (0.5, 0.5), 8, 0.03))
    southern = "south" in space.name
    ends = [np.array(end) for end in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
    for k, (start, end) in enumerate(zip(ends, [*ends[1:], ends[0]], strict=True)):
        first, last = space.door
        gap = (first - x0, last - x0) if k == 0 else (x1 - last, x1 - first)
        _wall(b, start, end, z, top, wall, [gap] if k == (2 if southern else 0) else [])
    furniture = len(b.faces)
    _furnish(b, space, southern, own)
    pictures = len(b.faces)
    _hang_pictures(b, space, own)
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    red, green, blue = (float(v) for v in rng.uniform(2.2, 3.4) * rng.uniform([1, 0.9, 0.8], [1, 1, 1.1]))
    corner = (middle[0] - 0.4, middle[1] - 0.15, top - 0.03)
    lamps.append(Lamp(corner, (0.8, 0, 0), (0, 0.3, 0), (red, green, blue)))
    return furniture, pictures


def _hang_pictures(b: Builder, space: Space, rng: np.random.Generator) -> None:
    (x0, y0, z), (x1, y1, _) = space.low, space.high
    for side in rng.permutation(2)[: int(rng.integers(1, 3))]:
        size = rng.uniform(0.4, 0.9, 2)
        y = float(rng.uniform(y0 + 0.3, y1 - 0.3 - size[0]))
        face = (x0 + 0.006, y, 1) if side else (x1 - 0.006, y + size[0], -1)
        b.quad((face[0], face[1], z + 1.2), (0, face[2] * size[0], 0), (0, 0, size[1]), _picture(rng))


def _furnish(b: Builder, space: Space, southern: bool, rng: np.random.Generator) -> None:
    """Furniture along the three walls without a door."""
    (x0, y0, z), (x1, y1, _) = space.low, space.high
    wood, cloth, carton = _thing(rng, 0.09), _thing(rng, 0.12), _thing(rng, 0.25)
    far = y0 if southern else y1
    inward = 1 if southern else -1
    table = float(rng.uniform(1.0, 1.5))
    x = float(rng.uniform(x0 + 0.3, x1 - 0.3 - table))
    low, high = sorted((far + inward * 0.03, far + inward * 0.73))
    height = float(rng.uniform(0.68, 0.76))
    b.box((x, low, z + height - 0.04), (x + table, high, z + height), wood)
    for dx in (0.03, table - 0.08):
        for y in (low + 0.03, high - 0.08):
            b.box((x + dx, y, z), (x + dx + 0.05, y + 0.05, z + height - 0.04), wood)
    b.box((x + 0.3, low + 0.2, z + height), (x + 0.55, low + 0.4, z + height + 0.28), _picture(rng), yaw=20)
    middle = (y0 + y1) / 2
    wide, tall = float(rng.uniform(0.8, 1.5)), float(rng.uniform(1.1, 2.0))
    b.box((x0 + 0.02, middle - wide / 2, z), (x0 + 0.42, middle + wide / 2, z + tall), wood, _thing(rng, 0.3))
    wide = float(rng.uniform(1.2, 1.9))
    b.box((x1 - 0.8, middle - wide / 2, z), (x1 - 0.02, middle + wide / 2, z + float(rng.uniform(0.4, 0.5))), cloth)
    side = float(rng.uniform(0.35, 0.55))
    place = np.array([x1 - 0.3 - side, far + inward * (0.3 + side / 2) - side / 2, z])
    if x + table < place[0] - 0.1:
        b.box(place, place + side, carton, yaw=float(rng.uniform(5, 40)))


def _corridor(
    b: Builder, lamps: list[Lamp], space: Space, rooms: list[Space], rng: np.random.Generator, own: np.random.Generator
) -> int:
    """Shell, pictures, lamps and doorways of a corridor; the number of the face that pictures begin with."""
    (x0, y0, z), (x1, y1, top) = space.low, space.high
    wall, floor = _plaster(rng), _floor(rng)
    b.quad((x0, y0, z), (x1 - x0, 0, 0), (0, y1 - y0, 0), floor)
    b.quad((x0, y0, top), (0, y1 - y0, 0), (x1 - x0, 0, 0), Paint((206, 204, 200), (0.6, 0.61), 8, 0.03))
    south = [room.door for room in rooms if room.low[1] < y0]
    north = [room.door for room in rooms if room.low[1] > y0]
    corners = [np.array(end) for end in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
    _wall(b, corners[0], corners[1], z, top, wall, south)
    _wall(b, corners[1], corners[2], z, top, _plaster(rng))
    _wall(b, corners[2], corners[3], z, top, wall, [(x1 - last, x1 - first) for first, last in north])
    _wall(b, corners[3], corners[0], z, top, _plaster(rng))
    frame = _thing(rng, 0.3)
    for room in rooms:
        (first, last), y = room.door, y0 - WALL if room.low[1] < y0 else y1
        b.quad((first, y, z), (last - first, 0, 0), (0, WALL, 0), floor)
        b.quad((first, y, z + DOOR_HEIGHT), (0, WALL, 0), (last - first, 0, 0), frame)
        b.quad((first, y, z), (0, WALL, 0), (0, 0, DOOR_HEIGHT), frame)
        b.quad((last, y + WALL, z), (0, -WALL, 0), (0, 0, DOOR_HEIGHT), frame)
    pictures = len(b.faces)
    for x in np.arange(x0 + 1.5, x1 - 0.5, 4.0):
        size = own.uniform(0.4, 0.8, 2)
        free = all(x + size[0] < first - 0.05 or x > last + 0.05 for first, last in north)
        if free:
            b.quad((x, y1 - 0.006, z + 1.2), (size[0], 0, 0), (0, 0, size[1]), _picture(own))
        lamps.append(Lamp((float(x), y0 + 0.7, top - 0.03), (0.6, 0, 0), (0, 0.25, 0), (1.5, 1.45, 1.3)))
    return pictures


def _number(b: Builder, first: int, end: int, space: int | None) -> None:
    """Give faces textures of their own, whatever else is drawn; none where their space has no number."""
    if space is not None:
        b.faces[first:end] = [replace(face, texture=1000 * space + k) for k, face in enumerate(b.faces[first:end])]


def _stairwell(
    b: Builder, lamps: list[Lamp], well: Space, floors: int, storey: float, rng: np.random.Generator
) -> None:
    """Two flights a storey with a landing between them, a wall between the flights, floor before each door."""
    (x0, y0, _), (x1, y1, top) = well.low, well.high
    wall, tread, riser = _plaster(rng), _floor(rng), _thing(rng, 0.08)
    b.quad((x0, y0, 0), (x1 - x0, 0, 0), (0, y1 - y0, 0), tread)
    b.quad((x0, y0, top), (0, y1 - y0, 0), (x1 - x0, 0, 0), wall)
    first, last = well.door
    corners = [np.array(end) for end in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
    for floor in range(floors):
        low, high = floor * storey, top if floor == floors - 1 else (floor + 1) * storey
        _wall(b, corners[0], corners[1], low, high, wall, [(first - x0, last - x0)])
        lamps.append(Lamp((x0 + 0.8, y1 - 0.8, high - 0.4), (0.8, 0, 0), (0, 0.3, 0), (1.6, 1.6, 1.7)))
    for start, end in pairwise([*corners[1:], corners[0]]):
        _wall(b, start, end, 0, top, wall)
    rise, near = storey / 2 / RISERS, y0 + FRONT
    far = near + (RISERS - 1) * RUN
    right = x0 + FLIGHT + WALL
    for floor in range(floors - 1):
        z = floor * storey
        half = z + storey / 2
        for k in range(RISERS - 1):
            height = (k + 1) * rise
            b.slab((x0, near + k * RUN, z + height), (FLIGHT, 0, 0), (0, RUN, 0), min(height, 0.3), tread, riser)
            upper = half + height
            b.slab((right, far - (k + 1) * RUN, upper), (FLIGHT, 0, 0), (0, RUN, 0), 0.3, tread, riser)
        b.slab((x0, far, half), (x1 - x0, 0, 0), (0, y1 - far, 0), SLAB, tread, riser)
        b.slab((x0, y0, z + storey), (x1 - x0, 0, 0), (0, FRONT, 0), SLAB, tread, riser)
        b.box((x0 + FLIGHT, near, z), (right, far, z + storey + 0.95), wall)
    b.box((x0, near - 0.04, (floors - 1) * storey), (x0 + FLIGHT, near, (floors - 1) * storey + 0.95), riser)


def _paths(spaces: Sequence[Space], floors: int, storey: float) -> dict[str, list[tuple[float, float, float]]]:
    """A closed way (x, y, floor) [m] for each capture, by name."""
    paths = dict[str, list[tuple[float, float, float]]]()
    for corridor in (space for space in spaces if "corridor" in space.name):
        (x0, y0, z), (x1, y1, _) = corridor.low, corridor.high
        middle, floor = (y0 + y1) / 2, corridor.name.removesuffix(" corridor")
        for side in ("south", "north"):
            path = [(x0 + 0.6, middle - 0.15, z)]
            rooms = [space for space in spaces if space.name.startswith(f"{floor} {side}")]
            for room in sorted(rooms, key=lambda room: room.door):
                path += _into(room, middle)
            paths[f"{floor} {side}"] = [*path, (x1 - 0.6, middle, z), (x1 - 0.7, middle + 0.2, z)]
        for well in (space for space in spaces if space.name == "stairwell"):
            paths["stairs"] = _up(well, floors, storey, corridor)
    return paths


def _into(room: Space, corridor_y: float) -> list[tuple[float, float, float]]:
    """Through the door, once round the room, and out again."""
    (x0, y0, z), (x1, y1, _) = room.low, room.high
    door = sum(room.door) / 2
    southern = y0 < corridor_y
    near, far = (y1, y0) if southern else (y0, y1)
    inward = -1 if southern else 1
    left, right = x0 + 1.0, x1 - 1.35
    inside, back = near + inward * 0.9, far - inward * 1.25
    loop = [(left, inside, z), (left, back, z), (right, back, z), (right, inside, z)]
    threshold = [(door, corridor_y, z), (door, near + inward * 0.4, z)]
    return [*threshold, *loop, *threshold[::-1]]


def _up(well: Space, floors: int, storey: float, corridor: Space) -> list[tuple[float, float, float]]:
    """From the lowest corridor to the highest, and down again."""
    (x0, y0, _), (x1, _, _) = well.low, well.high
    corridor_y = (corridor.low[1] + corridor.high[1]) / 2
    door, left, right = (x0 + x1) / 2, x0 + FLIGHT / 2, x1 - FLIGHT / 2
    near = y0 + FRONT
    far = near + (RISERS - 1) * RUN
    aside = door + (3.0 if door < corridor.high[0] / 2 else -3.0)
    way = [(aside, corridor_y, 0.0), (door, corridor_y, 0.0), (door, y0 + 0.5, 0.0)]
    for floor in range(floors - 1):
        z = floor * storey
        half, high = z + storey / 2, z + storey
        way += [(left, near - 0.2, z), (left, far, half), (left, far + 0.5, half), (right, far + 0.5, half)]
        way += [(right, far, half), (right, near, high), (right, near - 0.3, high)]
    top = (floors - 1) * storey
    way += [(door, y0 + 0.5, top), (door, corridor_y, top), (aside, corridor_y, top)]
    return [*way, *way[-2:0:-1]]


def _length(path: Sequence[tuple[float, float, float]]) -> float:
    points = np.array([*path, path[0]])
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def _plaster(rng: np.random.Generator) -> Paint:
    base = rng.uniform(150, 205) + rng.uniform(-18, 18, 3)
    return Paint(tuple(base), (0.22, 0.22), float(rng.uniform(8, 16)), 0.05, float(rng.uniform(0, 0.4)))


def _floor(rng: np.random.Generator) -> Paint:
    base = rng.uniform(90, 150) + rng.uniform(-20, 20, 3)
    patch = [(0.3, 0.305), (1.2, 0.12), (0.06, 0.06), (0.45, 0.455)][int(rng.integers(4))]
    return Paint(tuple(base), patch, float(rng.uniform(14, 22)), 0.08)


def _thing(rng: np.random.Generator, size: float) -> Paint:
    return Paint(tuple(rng.uniform(60, 185, 3)), (size, size * 1.02), float(rng.uniform(16, 36)), 0.06)


def _picture(rng: np.random.Generator) -> Paint:
    return Paint(tuple(rng.uniform(90, 180, 3)), (0.1, 0.1), 52, 0.05)


def main() -> int:
    """Write the captures of one building, a folder each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--floors", type=int, default=2)
    parser.add_argument("--south", type=int, default=3)
    parser.add_argument("--north", type=int, default=2)
    parser.add_argument("--frames", type=int, default=3000)
    asked = parser.parse_args()
    building = draw_building(asked.seed, asked.floors, asked.south, asked.north, asked.frames)
    drawn = RenderedRoom(building.whole)
    for name, room in building.walks.items():
        folder = asked.folder / name.replace(" ", "_")
        write_room(room, folder, drawn)
        print(f"{folder}: {room.photos} images")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
