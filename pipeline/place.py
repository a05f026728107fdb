"""How much of everything a place gets: budgets are a room's, and grow with the surface that was seen.

A place of so many rooms' surface gets so many rooms' keyframes, Gaussians, steps and triangles, so that each square
metre is as good, and costs as much, as one of a room. A room gets exactly what is a room's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np

from pipeline.geometry import Mesh
from pipeline.types import F64, I64

logger = logging.getLogger(__name__)

ROOM = 160.0
"""Seen surface [m²] that a room's budgets are for: floor, ceiling, walls and furniture. The sample hall, 35 m² of
floor, has 123."""
MEMORY = 4 * 2**30
"""What a build may take [bytes]: budgets stop growing there, and larger places become coarser."""
PROGRAM_MEMORY, ROOM_MEMORY = 1200 * 2**20, 550 * 2**20
"""What it takes without a place, and for each room's surface [bytes], by the mesh stage of 123 and of 417 m²."""
MOST_ROOMS = (MEMORY - PROGRAM_MEMORY) / ROOM_MEMORY
CELL = 0.25
"""Edge of the cells by which the surface is told before there is a mesh [m]."""
CELL_AREA = 0.045
"""Surface for each cell that holds some [m²]: 0.043 in the sample hall, 0.044 to 0.050 in drawn buildings."""
_BITS, _OCTANTS = 20, 3  # of a cell's number along each axis; of the directions that it is seen from


def rooms(surface: float) -> float:
    """How many rooms' budgets a place with so much seen surface [m²] gets: 1 up to `MOST_ROOMS`."""
    return min(max(1.0, surface / ROOM), MOST_ROOMS)


def seen_surface(mesh: Mesh) -> float:
    """The area of a mesh that was not guessed [m²]."""
    return float(mesh.face_areas()[~mesh.face_guessed()].sum())


def by_place(of_a_room: int, surface: float, what: str) -> int:
    """A room's number of something, as many times as the place is larger; the log says so where it is."""
    count = round(of_a_room * rooms(surface))
    if count > of_a_room:
        bound = f", bounded by {MEMORY / 2**30:.0f} GiB of memory" if surface / ROOM > MOST_ROOMS else ""
        logger.info("a place of %.0f m² of seen surface: %s %s%s", surface, f"{count:,}", what, bound)
    return count


def seen_cells(points: F64, eye: F64) -> I64:
    """Numbers (K,), sorted, of the cells that hold points (N, 3) [m], each with the octant that the eye (3,) is in."""
    half = 1 << (_BITS - 1)
    cells = np.clip(np.floor(points / CELL), -half, half - 1).astype(np.int64) + half
    packed = (cells[:, 0] << 2 * _BITS) | (cells[:, 1] << _BITS) | cells[:, 2]
    octants = (eye > points) @ np.array([4, 2, 1])
    return np.unique((packed << _OCTANTS) | octants)


def surface_of(views: Iterable[I64]) -> float:
    """The surface [m²] that views show together, of the cells that each of them sees."""
    return CELL_AREA * len(np.unique(np.concatenate([*views]) >> _OCTANTS))
