"""Synthetic rooms for benchmarks: textured parallelograms, lamps, and the capture walk.

Every room is of another shape, texture, light and scale. `SECOND_PLACE` is for headline metrics only: nothing is fitted
to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from pipeline.geometry import Pose, matrix_from_rotvec
from pipeline.types import F64

Kind = Literal["opaque", "mirror", "glass"]


@dataclass(frozen=True)
class Paint:
    """Surface appearance: patches of random colour, times noise of several scales.

    Attributes:
        base: Mean colour, sRGB 0..255.
        patch: Sides of the patches along the face's first and second direction [m]; equal ones make Voronoi cells,
            others rectangles with joints.
        contrast: Standard deviation of the patches' colours.
        noise: Strength of the noise, share of the colour.
        quiet: Share of the area on which contrast and noise are next to nothing.
    """

    base: tuple[float, float, float]
    patch: tuple[float, float] = (0.12, 0.12)
    contrast: float = 28.0
    noise: float = 0.06
    quiet: float = 0.0


@dataclass(frozen=True, eq=False)
class Face:
    """A parallelogram, visible from the side that `along` x `across` points to.

    Attributes:
        corner: (3,) [m].
        along: (3,) [m].
        across: (3,) [m].
        paint: Its look; ignored for mirrors and glass.
        kind: Mirrors and glass show their surroundings.
        texture: Faces of equal number and size have the same pattern of their paint; None, one of their own.
    """

    corner: F64
    along: F64
    across: F64
    paint: Paint
    kind: Kind = "opaque"
    texture: int | None = None

    @property
    def normal(self) -> F64:
        """Unit normal (3,)."""
        normal = np.cross(self.along, self.across)
        return normal / np.linalg.norm(normal)


@dataclass(frozen=True)
class Lamp:
    """An invisible rectangular light.

    Attributes:
        corner: [m].
        along: [m].
        across: [m].
        power: Colour times strength; 1 gives full brightness about a metre away.
    """

    corner: tuple[float, float, float]
    along: tuple[float, float, float]
    across: tuple[float, float, float]
    power: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Room:
    """A scene to capture.

    Attributes:
        name: Of the room.
        faces: All surfaces.
        lamps: All lights.
        ambient: Light from everywhere, RGB.
        walk: Corners of the way (N, 3) [m]; z is the floor under the walker.
        low: (2,) of the area in which robots stand [m].
        high: (2,) [m].
        levels: Heights of the floors that robots stand on [m].
        eye: Mean height of the phone over the floor [m].
        asides: Where the phone looks on each lap of the way, off the direction of the walk [degrees, left is positive].
        seed: Of textures, walk, noise and robot poses.
        photos: How many.
        sensor: Whether the phone records depth and poses, too; else there are photos only.
        take: Captures of a room differ in walk and noise by it.
        drift: Errors of the phone's poses, as multiples of the sample's: 0.9 cm and 0.3 degrees.
        lean: How far the walls lean about x and y [degrees].
    """

    name: str
    faces: list[Face]
    lamps: list[Lamp]
    ambient: tuple[float, float, float]
    walk: Sequence[tuple[float, float, float]]
    low: tuple[float, float]
    high: tuple[float, float]
    seed: int
    levels: Sequence[float] = (0.0,)
    eye: float = 1.4
    asides: Sequence[float] = (50, -50)
    photos: int = 52
    sensor: bool = True
    take: int = 0
    drift: float = 1.0
    lean: tuple[float, float] = (0.0, 0.0)

    @property
    def level_from_room(self) -> Pose:
        """Into a frame with the same origin whose z is up against gravity."""
        return Pose(matrix_from_rotvec(np.deg2rad([*self.lean, 0.0])), np.zeros(3))


@dataclass
class Builder:
    """Collects faces."""

    faces: list[Face] = field(default_factory=list)

    def quad(self, corner: ArrayLike, along: ArrayLike, across: ArrayLike, paint: Paint, kind: Kind = "opaque") -> None:
        """One parallelogram."""
        corner, along, across = (np.asarray(value, np.float64) for value in (corner, along, across))
        self.faces.append(Face(corner, along, across, paint, kind))

    def slab(
        self, corner: ArrayLike, along: ArrayLike, across: ArrayLike, height: float, paint: Paint, side: Paint
    ) -> None:
        """A slanted or horizontal slab, seen from outside; `along` x `across` points up, the corner is on its top."""
        c, a, b = (np.asarray(value, np.float64) for value in (corner, along, across))
        down = np.array([0, 0, -height])
        self.quad(c, a, b, paint)
        self.quad(c + down, b, a, side)
        for start, edge in ((c, a), (c + a, b), (c + a + b, -a), (c + b, -b)):
            self.quad(start + down, edge, -down, side)

    def box(self, low: ArrayLike, high: ArrayLike, paint: Paint, side: Paint | None = None, yaw: float = 0.0) -> None:
        """A box, rotated about the vertical through its centre [degrees]."""
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        c, s = np.cos(np.deg2rad(yaw)), np.sin(np.deg2rad(yaw))
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        size, middle = high - low, (low + high) / 2
        along, across = turn @ [size[0], 0, 0], turn @ [0, size[1], 0]
        corner = middle - along / 2 - across / 2 + [0, 0, size[2] / 2]
        self.slab(corner, along, across, size[2], paint, side or paint)

    def shell(self, low: ArrayLike, high: ArrayLike, floor: Paint, walls: Paint, ceiling: Paint) -> None:
        """Floor, ceiling and four walls, seen from inside."""
        (x, y, z), (u, v, w) = np.asarray(low, np.float64), np.asarray(high, np.float64)
        dx, dy = np.diag([u - x, v - y, 0.0])[:2]
        self.quad((x, y, z), dx, dy, floor)
        self.quad((x, y, w), dy, dx, ceiling)
        self.walls([(x, y), (u, y), (u, v), (x, v)], z, w, walls)

    def walls(self, outline: Sequence[tuple[float, float]], low: float, high: float, paint: Paint) -> None:
        """Vertical walls along a counter-clockwise outline, seen from inside."""
        up = np.array([0, 0, high - low])
        for (ax, ay), (bx, by) in zip(outline, [*outline[1:], outline[0]], strict=True):
            self.quad((bx, by, low), (ax - bx, ay - by, 0), up, paint)

    def stairs(
        self, corner: ArrayLike, run: ArrayLike, width: ArrayLike, rise: float, count: int, *paints: Paint
    ) -> None:
        """Solid steps that go up along `run` (one step, level) from a corner on the floor; `run` x `width` points up.

        The paints are those of the treads and of the sides.
        """
        tread, riser = paints
        c, r, w = (np.asarray(value, np.float64) for value in (corner, run, width))
        for k in range(count):
            self.slab(c + k * r + [0, 0, (k + 1) * rise], r, w, (k + 1) * rise, tread, riser)


def _office() -> Room:
    """A small bright office: desks on legs, shelves, plain walls with posters, fine carpet."""
    b = Builder()
    wall = Paint((196, 188, 172), (0.5, 0.5), 6, 0.03)
    wood, metal = Paint((150, 110, 75), (0.9, 0.09), 16, 0.06), Paint((92, 98, 108), (0.15, 0.15), 14, 0.04)
    poster = Paint((150, 120, 130), (0.1, 0.1), 55, 0.05)
    b.shell((0, 0, 0), (4.6, 3.6, 2.5), Paint((88, 98, 118), (0.03, 0.03), 20, 0.10), wall, Paint((215, 214, 208)))
    for x, y in ((0.1, 2.75), (3.0, 0.1)):
        b.box((x, y, 0.70), (x + 1.5, y + 0.75, 0.74), wood)
        for dx, dy in ((0.04, 0.04), (1.41, 0.04), (0.04, 0.66), (1.41, 0.66)):
            b.box((x + dx, y + dy, 0), (x + dx + 0.05, y + dy + 0.05, 0.70), metal)
        b.box((x + 0.5, y + 0.3, 0.74), (x + 1.0, y + 0.36, 1.10), metal, yaw=12)
    b.box((0.02, 0.3, 0), (0.35, 1.7, 1.9), wood, Paint((140, 120, 110), (0.05, 0.28), 50, 0.05))
    b.box((4.1, 2.5, 0), (4.58, 3.4, 1.2), Paint((120, 134, 120), (0.6, 0.4), 12, 0.03))
    b.box((2.2, 2.9, 0), (2.6, 3.3, 0.45), Paint((170, 60, 50), (0.05, 0.05), 18, 0.08), yaw=30)
    for x, y, dx, dy in ((1.2, 0.005, -0.8, 0), (4.595, 1.3, 0, -0.7), (2.0, 3.595, 1.0, 0), (0.005, 2.1, 0, 0.5)):
        b.quad((x, y, 1.2), (dx, dy, 0), (0, 0, 0.8), poster)
    lamps = [Lamp((1.2, 1.5, 2.45), (1.2, 0, 0), (0, 0.3, 0), (3.2, 3.3, 3.5))]
    lamps.append(Lamp((4.5, 1.2, 1.0), (0, 1.2, 0), (0, 0, 1.1), (1.2, 1.3, 1.5)))
    walk = [(0.9, 0.9, 0), (2.6, 1.0, 0), (3.6, 1.5, 0), (3.5, 2.2, 0), (2.4, 2.3, 0), (1.0, 2.2, 0), (0.8, 1.4, 0)]
    return Room("office", b.faces, lamps, (0.42, 0.42, 0.44), walk, (0.4, 0.4), (4.2, 3.2), 31, asides=(70, 165))


def _corridor() -> Room:
    """A dim L of corridors, 1.5 m wide, tiled floor, doors and pipes; 9 and 5 m long."""
    b = Builder()
    wall = Paint((168, 150, 118), (0.2, 0.2), 16, 0.06)
    tiles, ceiling = Paint((132, 128, 124), (0.3, 0.31), 18, 0.07), Paint((170, 168, 160), (0.6, 0.61), 8, 0.04)
    outline = [(0, 0), (9, 0), (9, 5), (7.5, 5), (7.5, 1.5), (0, 1.5)]
    for z, along, across, paint in ((0, 1, 1, tiles), (2.4, -1, 1, ceiling)):
        for x, y, dx, dy in ((0, 0, 9, 1.5), (7.5, 1.5, 1.5, 3.5)):
            if along > 0:
                b.quad((x, y, z), (dx, 0, 0), (0, dy * across, 0), paint)
            else:
                b.quad((x, y, z), (0, dy, 0), (dx, 0, 0), paint)
    b.walls(outline, 0, 2.4, wall)
    door = Paint((84, 104, 92), (0.5, 0.7), 14, 0.05)
    for x in (1.2, 4.0, 6.0):
        b.box((x, 1.47, 0), (x + 0.9, 1.53, 2.05), door)
    for x in (2.6, 5.2):
        b.box((x, -0.03, 0), (x + 0.9, 0.03, 2.05), door)
    b.box((8.96, 2.5, 0), (9.1, 3.4, 2.05), door)
    b.box((0, 0.02, 2.1), (9, 0.12, 2.2), Paint((150, 90, 60), (0.5, 0.2), 16, 0.05))
    b.box((3.6, 0.02, 0), (4.0, 0.4, 0.8), Paint((130, 40, 36), (0.08, 0.08), 30, 0.05))
    b.box((7.55, 3.9, 0), (8.1, 4.6, 0.5), Paint((150, 120, 80), (0.1, 0.1), 26, 0.07), yaw=10)
    b.box((0.05, 1.0, 0), (0.5, 1.45, 1.1), Paint((110, 112, 130), (0.16, 0.16), 26, 0.05))
    lamps = [Lamp((x, 0.6, 2.38), (0.5, 0, 0), (0, 0.25, 0), (0.9, 0.82, 0.62)) for x in (1.5, 5.0, 8.0)]
    lamps.append(Lamp((8.1, 4.95, 1.0), (0.5, 0, 0), (0, 0, 1.0), (1.1, 1.2, 1.5)))
    walk = [(0.5, 0.6, 0), (2.5, 0.9, 0), (5.0, 0.7, 0), (7.6, 0.75, 0), (8.3, 1.5, 0), (8.4, 3.0, 0), (8.4, 4.2, 0)]
    way = [*walk, (8.2, 4.35, 0), (8.05, 3.2, 0), (8.2, 1.4, 0), (7.4, 0.6, 0), (5.0, 0.85, 0), (2.5, 0.65, 0)]
    return Room("corridor", b.faces, lamps, (0.20, 0.19, 0.17), way, (0.35, 0.35), (8.65, 4.65), 32, asides=(22, -28))


def _stairwell() -> Room:
    """Two flights of stairs with a landing between them, rough concrete and painted walls, daylight from above."""
    b = Builder()
    wall, low_wall = Paint((176, 170, 160), (0.25, 0.25), 14, 0.06), Paint((96, 120, 134), (0.12, 0.12), 22, 0.06)
    concrete, riser = Paint((128, 124, 118), (0.05, 0.05), 18, 0.10), Paint((104, 100, 96), (0.08, 0.08), 20, 0.08)
    b.quad((0, 0, 0), (3.2, 0, 0), (0, 6.0, 0), Paint((140, 126, 110), (0.2, 0.205), 20, 0.08))
    outline = [(0, 0), (3.2, 0), (3.2, 6.0), (0, 6.0)]
    b.walls(outline, 0, 1.2, low_wall)
    b.walls(outline, 1.2, 5.0, wall)
    b.quad((0, 0, 5.0), (0, 6.0, 0), (3.2, 0, 0), wall)
    b.stairs((3.2, 2.0, 0), (0, 0.28, 0), (-1.45, 0, 0), 0.17, 9, concrete, riser)
    landing = 9 * 0.17
    b.slab((0, 4.52, landing), (3.2, 0, 0), (0, 1.48, 0), 0.2, concrete, riser)
    for k in range(8):  # the second flight goes back over open space
        z = landing + (k + 1) * 0.17
        b.slab((1.45, 4.52 - k * 0.28, z), (0, -0.28, 0), (-1.45, 0, 0), 0.22, concrete, riser)
        b.slab((1.45, 4.52 - k * 0.28, z), (-1.45, 0, 0), (0, -0.28, 0), 0.22, concrete, riser)
    b.slab((0, 1.2, landing + 8 * 0.17), (1.45, 0, 0), (0, 1.08, 0), 0.2, concrete, riser)
    rail = Paint((60, 60, 70), (0.3, 0.1), 10, 0.05)
    for k in range(0, 9, 2):
        b.box((1.68, 2.1 + 0.28 * k, 0.17 * (k + 1)), (1.71, 2.13 + 0.28 * k, 0.17 * (k + 1) + 0.9), rail)
    b.slab((1.71, 2.1, 1.10), (0, 2.4, 1.46), (-0.04, 0, 0), 0.05, rail, rail)
    b.box((0.2, 0.1, 0), (0.8, 0.6, 0.7), Paint((150, 60, 60), (0.1, 0.1), 30, 0.06), yaw=8)
    b.box((2.4, 0.02, 0), (3.0, 0.3, 1.9), Paint((120, 140, 110), (0.6, 0.35), 22, 0.05))
    lamps = [Lamp((0.6, 2.5, 4.9), (2.0, 0, 0), (0, 1.5, 0), (5.5, 5.8, 6.4))]
    lamps.append(Lamp((0.5, 0.4, 2.0), (0.4, 0, 0), (0, 0.4, 0), (1.1, 1.0, 0.8)))
    up = [(2.45, 1.5, 0), (2.45, 2.1, 0.17), (2.45, 3.2, 0.85), (2.45, 4.4, 1.45), (2.3, 5.2, landing)]
    back = [(1.0, 5.3, landing), (0.9, 4.9, landing), (1.9, 5.3, landing), (2.45, 4.5, 1.45), (2.45, 3.0, 0.75)]
    below = [(2.3, 1.7, 0), (1.5, 0.9, 0), (0.8, 1.6, 0), (0.8, 3.0, 0), (1.0, 1.6, 0), (1.6, 0.8, 0)]
    return Room(
        "stairwell", b.faces, lamps, (0.34, 0.35, 0.37), [*up, *back, *below], (0.35, 0.35), (2.85, 5.65), 33,
        levels=(0.0, landing), photos=60, asides=(15, -40),
    )  # fmt: skip


def _store() -> Room:
    """A store of 9 by 7 by 4 m: high shelves, crates, pillars and a ramp, coarse textures, far walls."""
    b = Builder()
    floor, brick = Paint((126, 122, 116), (0.3, 0.3), 18, 0.08), Paint((150, 140, 128), (0.24, 0.12), 22, 0.06)
    b.shell((0, 0, 0), (9, 7, 4), floor, brick, Paint((110, 112, 118), (1.2, 0.4), 12, 0.05))
    carton, steel = Paint((172, 134, 88), (0.25, 0.25), 18, 0.06), Paint((60, 90, 150), (0.4, 0.2), 12, 0.06)
    for x, y in ((3.0, 2.4), (6.0, 4.6)):
        b.box((x, y, 0), (x + 0.35, y + 0.35, 4), Paint((180, 160, 60), (0.35, 0.3), 30, 0.06))
    b.box((0.1, 4.8, 0), (3.2, 5.5, 2.6), steel, Paint((150, 120, 100), (0.4, 0.41), 42, 0.06))
    b.box((7.9, 0.4, 0), (8.8, 3.2, 2.2), steel, Paint((120, 130, 140), (0.5, 0.35), 42, 0.06))
    for x, y, s, yaw in (
        (4.4, 5.6, 0.9, 20),
        (1.2, 1.0, 0.8, 45),
        (5.3, 0.6, 1.0, 8),
        (3.9, 3.6, 0.6, 70),
    ):
        b.box((x, y, 0), (x + s, y + s, 0.8 * s), carton, yaw=yaw)
    b.slab((6.6, 5.9, 0.0), (1.5, 0, 0.4), (0, 0.9, 0), 0.02, Paint((130, 130, 140), (0.1, 0.11), 16, 0.08), steel)
    b.slab((8.1, 5.9, 0.4), (0.8, 0, 0), (0, 0.9, 0), 0.4, Paint((130, 130, 140), (0.1, 0.11), 16, 0.08), steel)
    lamps = [Lamp((x, y, 3.9), (1.5, 0, 0), (0, 0.3, 0), (4.6, 4.5, 4.2)) for x in (1.5, 5.8) for y in (1.6, 5.0)]
    walk = [(1.0, 2.6, 0), (2.6, 1.2, 0), (4.6, 1.9, 0), (6.9, 1.3, 0), (7.2, 3.4, 0), (7.4, 5.1, 0), (6.3, 5.5, 0)]
    walk += [(5.2, 4.9, 0), (3.9, 5.0, 0), (3.2, 3.9, 0), (1.4, 4.0, 0)]
    return Room(
        "store",
        b.faces,
        lamps,
        (0.30, 0.30, 0.30),
        walk,
        (0.5, 0.5),
        (8.5, 6.5),
        34,
        eye=1.5,
        photos=56,
        asides=(35, 140),
    )


def _attic() -> Room:
    """An attic under a slope: bed, wardrobe and rug in warm light; photos only."""
    b = Builder()
    planks = Paint((160, 112, 70), (1.2, 0.12), 22, 0.10)
    plaster = Paint((206, 180, 150), (0.16, 0.16), 20, 0.06)
    b.quad((0, 0, 0), (5.2, 0, 0), (0, 4.2, 0), planks)
    b.walls([(0, 0), (5.2, 0), (5.2, 4.2), (0, 4.2)], 0, 3.4, plaster)
    beams = Paint((176, 140, 100), (0.2, 1.6), 24, 0.08)
    b.quad((0, 0, 1.1), (0, 4.2, 2.2), (5.2, 0, 0), beams)
    b.box((3.1, 0.2, 0), (5.1, 1.7, 0.5), Paint((90, 110, 170), (0.12, 0.12), 45, 0.07), yaw=0)
    b.box((3.2, 0.25, 0.5), (3.7, 1.6, 0.62), Paint((220, 214, 200), (0.06, 0.06), 18, 0.05))
    b.box((0.05, 3.4, 0), (1.5, 4.15, 2.1), Paint((120, 84, 60), (0.7, 0.5), 22, 0.10))
    b.box((3.6, 3.5, 0), (4.7, 4.1, 0.8), Paint((140, 140, 100), (0.2, 0.21), 30, 0.08))
    b.box((3.9, 3.6, 0.8), (4.2, 3.9, 1.2), Paint((180, 90, 60), (0.05, 0.05), 40, 0.05), yaw=25)
    b.box((1.6, 1.5, 0), (3.0, 2.6, 0.012), Paint((150, 60, 60), (0.07, 0.07), 55, 0.08))
    b.box((0.5, 1.0, 0), (1.0, 1.5, 0.45), Paint((90, 130, 90), (0.08, 0.08), 34, 0.06), yaw=40)
    lamps = [
        Lamp((2.2, 2.6, 2.0), (0.3, 0, 0), (0, 0.3, 0), (3.0, 2.4, 1.6)),
        Lamp((5.1, 1.6, 0.8), (0, 1.2, 0), (0, 0, 0.9), (1.5, 1.5, 1.6)),
    ]
    walk = [(1.3, 2.2, 0), (2.2, 1.4, 0), (3.2, 2.1, 0), (4.4, 2.3, 0), (4.3, 2.9, 0), (3.0, 3.1, 0), (2.0, 2.9, 0)]
    return Room(
        "attic",
        b.faces,
        lamps,
        (0.36, 0.32, 0.27),
        walk,
        (0.4, 0.4),
        (4.8, 3.8),
        35,
        sensor=False,
        photos=54,
        asides=(60, 160),
    )


def _second_place() -> Room:
    """A lobby of 5 by 4.5 m with stairs of four steps, a narrow corridor behind a glass door, and a mirror."""
    b = Builder()
    stone, wall = Paint((150, 142, 138), (0.45, 0.455), 16, 0.07), Paint((186, 196, 178), (0.22, 0.22), 15, 0.05)
    dark, ceiling = Paint((120, 90, 84), (0.1, 0.3), 22, 0.06), Paint((206, 204, 200), (0.5, 0.5), 8, 0.03)
    height = 2.8
    b.quad((0, 0, 0), (5, 0, 0), (0, 4.5, 0), stone)
    b.quad((0, 0, height), (0, 4.5, 0), (5, 0, 0), ceiling)
    b.quad((5, 1.0, 0), (3.8, 0, 0), (0, 1.05, 0), dark)  # the corridor's floor
    b.quad((5, 1.0, 2.2), (0, 1.05, 0), (3.8, 0, 0), ceiling)
    up = np.array([0, 0, height])
    b.quad((5, 0, 0), (-5, 0, 0), up, wall)
    b.quad((0, 0, 0), (0, 4.5, 0), up, wall)
    b.quad((0, 4.5, 0), (5, 0, 0), up, wall)
    b.quad((5, 4.5, 0), (0, -2.45, 0), up, wall)
    b.quad((5, 1.0, 0), (0, -1.0, 0), up, wall)
    b.quad((5, 2.05, 2.2), (0, -1.05, 0), (0, 0, height - 2.2), wall)
    b.quad((8.8, 1.0, 0), (-3.8, 0, 0), (0, 0, 2.2), dark)
    b.quad((5, 2.05, 0), (3.8, 0, 0), (0, 0, 2.2), Paint((150, 160, 180), (0.15, 0.15), 24, 0.06))
    b.quad((8.8, 2.05, 0), (0, -1.05, 0), (0, 0, 2.2), Paint((190, 150, 90), (0.2, 0.2), 40, 0.06))
    b.quad((5.0, 2.05, 0), (0, -0.42, 0), (0, 0, 2.2), wall, "glass")  # the door's fixed wing; the other is open
    frame = Paint((70, 72, 76), (0.4, 0.1), 12, 0.04)
    b.box((4.97, 1.60, 0), (5.03, 1.64, 2.2), frame)
    b.stairs((1.5, 4.5, 0), (-0.29, 0, 0), (0, -1.5, 0), 0.165, 4, Paint((140, 120, 100), (0.06, 0.06), 24, 0.09), dark)
    b.slab((0, 3.0, 0.66), (0.34, 0, 0), (0, 1.5, 0), 0.66, Paint((140, 120, 100), (0.06, 0.06), 24, 0.09), dark)
    b.quad((3.9, 4.49, 0.3), (0.8, 0, 0), (0, 0, 1.6), wall, "mirror")
    b.box((3.86, 4.46, 0.26), (4.74, 4.485, 0.30), frame)
    b.box((0.2, 0.3, 0), (0.75, 1.6, 0.75), Paint((90, 130, 140), (0.2, 0.2), 34, 0.07))
    b.box((2.3, 2.0, 0), (3.1, 2.6, 0.42), Paint((160, 120, 70), (0.09, 0.09), 30, 0.08), yaw=24)
    b.box((3.3, 0.05, 0), (4.5, 0.35, 1.5), Paint((150, 140, 150), (0.3, 0.25), 46, 0.05))
    b.box((7.6, 1.75, 0), (8.3, 2.03, 0.9), Paint((120, 60, 80), (0.12, 0.12), 34, 0.06))
    lamps = [
        Lamp((1.8, 1.6, 2.75), (0.9, 0, 0), (0, 0.6, 0), (2.5, 2.4, 2.2)),
        Lamp((6.8, 1.4, 2.18), (0.5, 0, 0), (0, 0.2, 0), (0.8, 0.8, 0.9)),
    ]
    lamps.append(Lamp((0.05, 2.8, 1.5), (0, -1.4, 0), (0, 0, 1.0), (1.3, 1.5, 1.8)))
    walk = [(1.2, 2.2, 0), (1.6, 0.9, 0), (2.9, 0.8, 0), (3.9, 1.2, 0), (4.6, 1.32, 0), (6.0, 1.35, 0), (8.0, 1.4, 0)]
    walk += [(8.1, 1.5, 0), (6.4, 1.55, 0), (5.0, 1.32, 0), (4.2, 2.2, 0), (3.9, 3.2, 0), (2.6, 3.6, 0), (1.6, 3.0, 0)]
    return Room(
        "second-place", b.faces, lamps, (0.30, 0.30, 0.30), walk, (0.4, 0.4), (8.4, 4.1), 41, levels=(0.0, 0.66),
        photos=66, asides=(-15, 150),
    )  # fmt: skip


ROOMS: dict[str, Callable[[], Room]] = {
    "office": _office,
    "corridor": _corridor,
    "stairwell": _stairwell,
    "store": _store,
    "attic": _attic,
}
"""Scenes for fitting the coverage map, in addition to the sample and real captures."""
SECOND_PLACE = _second_place
