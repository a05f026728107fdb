"""Geodesic distances over a scene's floor: path lengths to goals, around obstacles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.geometry.grids import Grids
from pipeline.geometry.jit import njit, prange
from pipeline.types import F32, F64, I64, Floats, Mask
from sim.saved import Saved

RIM_PRICE = 3.0
"""Price of a metre beyond the floor's edge."""
LOOK_AHEAD = 0.15
"""How far ahead the way is looked for [m]: farther, it would lead across corners."""
HEADINGS = np.linspace(-np.pi, np.pi, 48, endpoint=False)
CORNERS = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
BETWEEN = RIM_PRICE * np.linalg.norm(CORNERS[:, None] - CORNERS, axis=2)
"""Distances between the corners of a cell, at that price (4, 4) [cells]."""


@dataclass(eq=False)
class DistanceFields(Saved):
    """Lengths of shortest paths, on F grids (X, Y) of their own shapes.

    Attributes:
        origin: (F, 2) low corner of each grid [m].
        cell: (F,) edge of a cell [m].
        distance: Float32 path lengths [m], inf where no path leads.
    """

    ROWS = ("origin", "cell")
    GRIDS = ("distance",)

    origin: F64
    cell: F64
    distance: Grids[np.float32]

    @staticmethod
    def nowhere(count: int) -> DistanceFields:
        """Fields that lead nowhere yet."""
        nothing = Grids.of([np.full((1, 1), np.inf, np.float32)] * count)
        return DistanceFields(np.zeros((count, 2)), np.ones(count), nothing)

    def put(self, rows: I64, origin: Floats, cell: Floats, lengths: Sequence[F32]) -> None:
        """Replace fields (M,) by path lengths (X, Y) [m] on grids with low corners (M, 2) and cells (M,) [m]."""
        self.origin[rows], self.cell[rows] = origin, cell
        self.distance = self.distance.with_grids(rows, lengths)

    def at(self, field: I64, xy: Floats) -> F32:
        """Distances [m] at positions (N, 2) in fields (N,), bilinear; inf off the floor.

        Corners of the cell that are off the floor count as far as going there from the others, at `RIM_PRICE`: the
        distance grows without a jump when a robot leaves the floor's middle for its rim.
        """
        cell = self.cell[field, None]
        position = (np.asarray(xy) - self.origin[field]) / cell - 0.5
        shape = self.distance.shape[field]
        low = np.clip(np.floor(position).astype(np.int64), 0, np.maximum(shape - 2, 0))
        share = np.clip(position - low, 0, 1)
        corners = np.minimum(low[:, None] + CORNERS, shape[:, None] - 1)
        values = self.distance[np.asarray(field)[:, None], corners[..., 0], corners[..., 1]]
        beyond = (values[:, None] + BETWEEN * cell[..., None]).min(2)
        values = np.where(np.isfinite(values), values, beyond)
        weight = np.where(CORNERS, share[:, None], 1 - share[:, None]).prod(2)
        known = np.asarray(np.isfinite(values).all(1) & ((position >= -1) & (position <= shape)).all(1))
        return np.where(known, (np.where(known[:, None], values, 0) * weight).sum(1), np.inf).astype(np.float32)


def path_ahead(pose: Floats, length: Callable[[Floats, I64], F32], fields: I64) -> tuple[F32, F64]:
    """Path lengths (N,) [m] at poses (N, 3): x, y [m], heading [rad]; and how far to turn to where they get shortest.

    `length` gives path lengths (K,) at positions (K, 2) in fields (K,); turns (N,) are to the left [rad].
    """
    heading = pose[:, 2:] + HEADINGS
    ahead = pose[:, None, :2] + LOOK_AHEAD * np.stack([np.cos(heading), np.sin(heading)], -1)
    lengths = length(ahead.reshape(-1, 2), np.repeat(fields, len(HEADINGS))).reshape(heading.shape)
    return length(pose[:, :2], fields), HEADINGS[lengths.argmin(1)]


def lengths_to(price: Grids[np.float32], grids: I64, cells: I64, edge: Floats) -> list[F32]:
    """Cheapest paths (X, Y) [m] to cells (M, 2) of grids (M,) by the price of entering a cell; inf where none leads.

    `edge` (M,) is that of the grids' cells [m].
    """
    found: dict[int, F32] = {}
    for grid in np.unique(grids):  # all of one grid at once, so that cores share them
        rows = np.flatnonzero(grids == grid)
        steps = _spread_from(price[grid], cells[rows]) * np.asarray(edge[rows], np.float32)[:, None, None]
        found |= dict(zip(rows.tolist(), steps, strict=True))
    return [found[row] for row in range(len(grids))]


@njit(parallel=True, cache=True, nogil=True)
def _spread_from(price: F32, cells: I64) -> F32:
    """Cheapest paths (M, X, Y) to cells (M, 2) by prices (X, Y) [cells]."""
    steps = np.full((len(cells), price.shape[0], price.shape[1]), np.float32(np.inf))
    for k in prange(len(cells)):
        if np.isfinite(price[cells[k, 0], cells[k, 1]]):
            steps[k, cells[k, 0], cells[k, 1]] = 0
        spread(steps[k], price)
    return steps


def distances(price: F32, sources: Mask, cell: Floats) -> F32:
    """Cheapest paths (F, X, Y) [m] to the nearest source, along eight neighbours; inf where none leads.

    Args:
        price: (F, X, Y) price of entering a cell, a factor of the length; inf where no path may lead.
        sources: (F, X, Y); those in cells with an infinite price are ignored.
        cell: (F,) edge of a cell [m].
    """
    steps = np.where(np.isfinite(price) & sources, np.float32(0), np.float32(np.inf))
    _spread_all(steps, price)
    return steps * np.asarray(cell, np.float32)[:, None, None]


@njit(parallel=True, cache=True, nogil=True)
def _spread_all(steps: F32, price: F32) -> None:
    for field in prange(len(steps)):
        spread(steps[field], price[field])


@njit(cache=True, nogil=True)
def spread(steps: F32, price: F32) -> None:
    """Replace (X, Y), 0 at sources and inf elsewhere, by the cheapest paths [cells]; price (X, Y) as above.

    Sweeps back and forth until nothing decreases. Source: G. Borgefors, Distance transformations in digital images,
    1986.
    """
    width, depth = steps.shape
    slant = np.sqrt(np.float32(2))
    less = True
    while less:
        less = False
        for direction in (1, -1):
            for column in range(width):
                i = column if direction == 1 else width - 1 - column
                for row in range(depth):
                    j = row if direction == 1 else depth - 1 - row
                    straight, aslant = np.float32(np.inf), np.float32(np.inf)
                    if 0 <= j - direction < depth:
                        straight = steps[i, j - direction]
                    if 0 <= i - direction < width:
                        straight = min(straight, steps[i - direction, j])
                        if j > 0:
                            aslant = steps[i - direction, j - 1]
                        if j < depth - 1:
                            aslant = min(aslant, steps[i - direction, j + 1])
                    length = min(straight + price[i, j], aslant + slant * price[i, j])
                    if length < steps[i, j]:
                        steps[i, j] = length
                        less = True
