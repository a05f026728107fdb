"""Houses of known geometry, for tests of levels, floor plans and maps."""

from __future__ import annotations

from functools import cache

import numpy as np

from pipeline.coverage.map import CoverageMap
from pipeline.geometry import Mesh
from pipeline.regions.params import RegionsParams
from pipeline.regions.regions import Regions
from pipeline.regions.stage import find_regions

PARAMS = RegionsParams()
WIDTH, DOOR, WALL, HIGH = 5.0, (2.0, 2.9), 0.12, 2.5
"""Width of the first room, its door in y, thickness of the wall between the rooms, height of the rooms [m]."""
TABLE = ((1.0, 1.0), (2.2, 1.6))
RISER, RISERS, TREAD = 0.18, 16, 0.26


def quad(corner: tuple[float, float, float], along: tuple[float, ...], across: tuple[float, ...]) -> Mesh:
    """A parallelogram, seen from where `along` x `across` points."""
    c, a, b = (np.array(value, np.float64) for value in (corner, along, across))
    return Mesh.from_arrays(np.array([c, c + a, c + a + b, c + b]), np.array([[0, 1, 2], [0, 2, 3]]))


def floor(x0: float, y0: float, x1: float, y1: float, z: float = 0.0) -> Mesh:
    """A level rectangle, seen from above."""
    return quad((x0, y0, z), (x1 - x0, 0, 0), (0, y1 - y0, 0))


def wall(start: tuple[float, float], end: tuple[float, float], low: float = 0.0, high: float = HIGH) -> Mesh:
    """An upright rectangle, seen from the left of the way from start to end."""
    return quad((*end, low), (start[0] - end[0], start[1] - end[1], 0), (0, 0, high - low))


def block(low: tuple[float, float], high: tuple[float, float], bottom: float, top: float) -> Mesh:
    """A thing with four sides and a top."""
    (x0, y0), (x1, y1) = low, high
    ring = [(x0, y0), (x0, y1), (x1, y1), (x1, y0)]
    sides = [wall(a, b, bottom, top) for a, b in zip(ring, ring[1:] + ring[:1], strict=True)]
    return joined(floor(x0, y0, x1, y1, top), *sides)


def joined(*parts: Mesh) -> Mesh:
    """All in one."""
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.joined(part)
    return whole


@cache
def two_rooms() -> Mesh:
    """[0, 5] x [0, 4], and through a door in its east wall [5.12, 8] x [1, 4]; a table, a box, no ceiling."""
    (low, high), east = DOOR, WIDTH + WALL
    return joined(
        floor(0, 0, WIDTH, 4),
        floor(east, 1, 8, 4),
        floor(WIDTH, low, east, high),
        wall((0, 4), (0, 0)),
        wall((0, 0), (WIDTH, 0)),
        wall((WIDTH, 0), (WIDTH, low)),
        wall((WIDTH, low), (east, low)),
        wall((east, low), (east, 1)),
        wall((east, 1), (8, 1)),
        wall((8, 1), (8, 4)),
        wall((8, 4), (east, 4)),
        wall((east, 4), (east, high)),
        wall((east, high), (WIDTH, high)),
        wall((WIDTH, high), (WIDTH, 4)),
        wall((WIDTH, 4), (0, 4)),
        wall((WIDTH, low), (WIDTH, high), 2.05),
        wall((east, high), (east, low), 2.05),
        block(*TABLE, 0.0, 0.75),
        block((6.5, 3.2), (6.9, 3.6), 0.0, 0.3),
    )


@cache
def two_storeys() -> Mesh:
    """[0, 8] x [0, 5], stairs along y in [3.8, 4.8] up to x = 4.9, and a floor over all but the stairs at 2.88 m."""
    top, last = RISER * RISERS, 1 + (RISERS - 1) * TREAD
    treads = [block((1 + k * TREAD, 3.8), (1 + (k + 1) * TREAD, 4.8), 0, (k + 1) * RISER) for k in range(RISERS - 1)]
    outside = [
        wall(a, b, 0, top + HIGH) for a, b in (((0, 5), (0, 0)), ((0, 0), (8, 0)), ((8, 0), (8, 5)), ((8, 5), (0, 5)))
    ]
    upper = (floor(0, 0, 8, 3.5, top), floor(last, 3.5, 8, 5, top))
    below = tuple(Mesh.from_arrays(one.vertices - [0, 0, 0.2], one.triangles[:, ::-1]) for one in upper)
    return joined(floor(0, 0, 8, 5), *outside, *treads, *upper, *below)


def regions_of(mesh: Mesh, *eyes: tuple[float, float], params: RegionsParams = PARAMS) -> Regions:
    """The floor of a house in which somebody stood at (x, y)."""
    track = np.array([(x, y, 1.4) for x, y in eyes])
    trusted = CoverageMap(np.array([[4.0, 2, 0]], np.float32), np.full((1, 8), 1e-3, np.float32), 20.0, 0.3, np.pi)
    return find_regions(mesh, track, trusted, params)
