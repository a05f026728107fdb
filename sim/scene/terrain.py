"""Procedural ground of boxes, to learn walking on: stairs, ramps, rubble and gaps of growing difficulty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.geometry import Mesh, matrix_from_quaternion
from pipeline.geometry.jit import njit
from pipeline.types import F32, F64, I32, I64, Floats
from sim.physics.boxes import BoxMesh

KINDS = ("flat", "stairs", "steep stairs", "ramp", "rubble", "gaps", "short stairs")
LEVELS = 11
TILE = 8.0
"""Edge of a tile [m]."""
RASTER = 0.025
"""Edge of a cell of the heights [m]."""
RISER = 0.02
"""Growth of the stairs' risers, from level to level [m]: 2 to 22 cm."""
RISERS = {"stairs": 5, "steep stairs": 6, "short stairs": 7}
"""Steps of a flight."""
TREADS = {"stairs": 0.31, "steep stairs": 0.26, "short stairs": 0.22}
"""Depth of a tread [m], as in public buildings, in houses, and up to an attic."""
FOOT_OF_STAIRS = 2.2
"""Half edge of the lowest step of a pyramid of stairs [m]; the floor around it is level."""
PLATE = 2.0
"""Edge of the squares that the plane is made of [m]."""
DEEP = 0.1
"""How far boxes reach below the ground [m]."""


@dataclass(frozen=True, eq=False)
class Flight:
    """A staircase, and a way over it; positions are in the scene's frame [m].

    Attributes:
        way: up or down.
        kind: walled, open or turned if it was drawn, found if it is a scan's.
        riser: Mean height of a step [m].
        tread: Mean depth of a step [m].
        risers: Number of steps.
        start: (3,) x, y, yaw.
        path: (P, 2) from the start along the middle to beyond the last edge.
        level: Height of the ground there [m].
    """

    way: str
    kind: str
    riser: float
    tread: float
    risers: int
    start: F64
    path: F64
    level: float


@dataclass(frozen=True, eq=False)
class Terrain:
    """Tiles in a grid, a row for each kind and a column for each level, on a plane at height 0.

    A tile is centred on the origin of its own coordinates. Boxes of a tile: centres, half edges, quaternions wxyz.

    Attributes:
        kinds: K names.
        boxes: For each of K x L tiles, (B, 10) [m].
        height: (K, L, R, R) float32, height of the ground at the centres of cells [m].
        flights: Staircases that were drawn, one a tile, row by row; none on ground to learn walking on.
    """

    kinds: tuple[str, ...]
    boxes: tuple[tuple[F64, ...], ...]
    height: F32
    flights: tuple[Flight, ...] = ()

    @property
    def levels(self) -> int:
        """Number of levels."""
        return self.height.shape[1]

    def centre(self, kind: I64, level: I64) -> F64:
        """Centres (N, 3) of tiles [m], where all lie side by side."""
        return np.stack([(level + 0.5) * TILE, (kind + 0.5) * TILE, np.zeros(len(kind))], 1).astype(np.float64)

    def heights(self, xy: Floats) -> F32:
        """Height of the ground at positions (..., 2) [m]; 0 outside of all tiles."""
        flat = np.ascontiguousarray(xy.reshape(-1, 2), np.float64)
        return _heights(self.height, flat).reshape(xy.shape[:-1])

    def mesh(self) -> BoxMesh:
        """Boxes of all tiles, side by side on the plane."""
        tiles = tuple(
            np.concatenate([boxes[:, :3] + [(level + 0.5) * TILE, (kind + 0.5) * TILE, 0], boxes[:, 3:]], 1)
            for kind, levels in enumerate(self.boxes)
            for level, boxes in enumerate(levels)
        )
        size = np.array([self.levels, len(self.kinds)]) * TILE
        plane = _plane(-TILE * np.ones(2), size + TILE)
        surface = mesh_of(np.concatenate([plane, *tiles]))
        return BoxMesh(surface.vertices, surface.triangles, surface.colors, surface.guessed, tiles, self.levels, TILE)


@njit(cache=True, nogil=True)
def _heights(height: F32, xy: F64) -> F32:
    result = np.zeros(len(xy), np.float32)
    kinds, levels, cells = height.shape[0], height.shape[1], height.shape[2]
    for n in range(len(xy)):
        x, y = xy[n, 0] / TILE, xy[n, 1] / TILE
        level, kind = int(np.floor(x)), int(np.floor(y))
        if 0 <= level < levels and 0 <= kind < kinds:
            result[n] = height[kind, level, int((x - level) * cells), int((y - kind) * cells)]
    return result


def _plane(low: F64, high: F64) -> F64:
    """Boxes (B, 10) whose tops are the plane between two corners; engines want no large triangles."""
    sides = [np.arange(a + PLATE / 2, b, PLATE) for a, b in zip(low, high, strict=True)]
    x, y = (side.ravel() for side in np.meshgrid(*sides, indexing="ij"))
    rest = np.tile([-DEEP, PLATE / 2, PLATE / 2, DEEP, 1, 0, 0, 0], (len(x), 1))
    return np.column_stack([x, y, rest])


def mesh_of(boxes: F64) -> Mesh:
    """Surface of boxes (B, 10): centres, half edges [m], quaternions wxyz."""
    signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3, indexing="ij"), -1).reshape(-1, 3)
    turned = np.einsum("bij,bkj->bki", matrix_from_quaternion(boxes[:, 6:]), signs * boxes[:, None, 3:6])
    corners = boxes[:, None, :3] + turned
    triangles = FACES + 8 * np.arange(len(boxes))[:, None, None]
    return Mesh.from_arrays(corners.reshape(-1, 3), triangles.reshape(-1, 3))


def _faces() -> I32:
    """Triangles (12, 3) of a box with corners in the order of their signs, counter-clockwise from outside."""
    faces = []
    for axis in range(3):
        a, b = ((axis + 1) % 3, (axis + 2) % 3)
        for sign in (0, 1):
            ring = [(0, 0), (1, 0), (1, 1), (0, 1)] if sign else [(0, 0), (0, 1), (1, 1), (1, 0)]
            corner = [sign << (2 - axis) | u << (2 - a) | v << (2 - b) for u, v in ring]
            faces += [[corner[0], corner[1], corner[2]], [corner[0], corner[2], corner[3]]]
    return np.array(faces, np.int32)


FACES = _faces()


class TileMaker:
    """A tile in the making."""

    def __init__(self) -> None:
        count = round(TILE / RASTER)
        self.boxes: list[list[float]] = []
        self.height = np.zeros((count, count), np.float32)
        self._at = (np.arange(count) + 0.5) * RASTER - TILE / 2

    def put(self, x: float, y: float, half_x: float, half_y: float, top: float) -> None:
        """Put a box on the ground, with its top at a height."""
        self.boxes.append([x, y, (top - DEEP) / 2, half_x, half_y, (top + DEEP) / 2, 1, 0, 0, 0])
        i, j = np.searchsorted(self._at, [x - half_x, x + half_x]), np.searchsorted(self._at, [y - half_y, y + half_y])
        window = self.height[i[0] : i[1], j[0] : j[1]]
        np.maximum(window, np.float32(top), out=window)

    def ramps(self, half: float, length: float, width: float, angle: float) -> None:
        """A platform with ramps on both sides along x, which end there at the ground."""
        rise = length * np.tan(angle)
        self.put(0, 0, half, width, rise)
        for side in (-1, 1):
            surface = np.array([side * (half + length / 2), 0, rise / 2])
            below = np.array([side * np.sin(angle), 0, np.cos(angle)]) * DEEP
            turn = [np.cos(angle / 2), 0, side * np.sin(angle / 2), 0]
            self.boxes.append([*(surface - below), length / 2 / np.cos(angle), width, DEEP, *turn])
        inside = np.abs(self._at) < width
        slope = np.clip(rise * (1 - (np.abs(self._at) - half) / length), 0, rise)
        self.height[:, inside] = np.maximum(self.height[:, inside], slope[:, None])


def _stairs(tile: TileMaker, level: float, tread: float, risers: int) -> None:
    for step in range(risers):
        half = FOOT_OF_STAIRS - step * tread
        tile.put(0, 0, half, half, (step + 1) * RISER * (level + 1))


def _rubble(tile: TileMaker, level: float, rng: np.random.Generator) -> None:
    for _ in range(40):
        x, y = rng.uniform(-FOOT_OF_STAIRS, FOOT_OF_STAIRS, 2)
        half_x, half_y = rng.uniform(0.1, 0.4, 2)
        tile.put(x, y, half_x, half_y, rng.uniform(0.2, 1) * 0.016 * (level + 1))


def _gaps(tile: TileMaker, level: float) -> None:
    """A low platform, cut by gaps all around its middle that get wider; one in them stands on the ground."""
    gap, top, half = 0.02 + 0.022 * level, 0.12, FOOT_OF_STAIRS
    for ring in range(4):
        inner = 0.0 if ring == 3 else half - 0.45
        if inner:
            middle, arm = (half + inner) / 2, (half - inner) / 2
            tile.put(0, middle, half, arm, top)
            tile.put(0, -middle, half, arm, top)
            tile.put(middle, 0, arm, inner, top)
            tile.put(-middle, 0, arm, inner, top)
        else:
            tile.put(0, 0, half, half, top)
        half = inner - gap


def make_terrain(seed: int = 0, kinds: tuple[str, ...] = KINDS, level: float | None = None) -> Terrain:
    """Tiles of these kinds, in `LEVELS` levels each or in a single one, which may lie between two of those.

    Stairs are pyramids of five to seven steps with risers of 2 to 22 cm, ramps are 3 to 30 degrees steep, rubble is up
    to 18 cm high and gaps are up to 24 cm wide.
    """
    levels = range(LEVELS) if level is None else [level]
    tiles = [
        [_made(kind, one, np.random.default_rng([seed, KINDS.index(kind), int(one)])) for one in levels]
        for kind in kinds
    ]
    boxes = tuple(tuple(np.array(tile.boxes, np.float64).reshape(-1, 10) for tile in row) for row in tiles)
    return Terrain(kinds, boxes, np.array([[tile.height for tile in row] for row in tiles]))


def _made(kind: str, level: float, rng: np.random.Generator) -> TileMaker:
    tile = TileMaker()
    if kind in TREADS:
        _stairs(tile, level, TREADS[kind], RISERS[kind])
    elif kind == "ramp":
        tile.ramps(0.6, 1.4, 1.5, np.deg2rad(3 + 2.7 * level))
    elif kind == "rubble":
        _rubble(tile, level, rng)
    elif kind == "gaps":
        _gaps(tile, level)
    return tile
