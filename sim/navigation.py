"""Ways over a scene's floor: how far every place is from a goal, round what is in the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]
Int = NDArray[np.int64]


RIM_PRICE = 3.0
"""Of a metre beyond the floor's edge."""
CORNERS = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
BETWEEN = RIM_PRICE * np.linalg.norm(CORNERS[:, None] - CORNERS, axis=2)
"""From each corner to each, at that price (4, 4) [cells]."""


@dataclass(frozen=True, eq=False)
class DistanceFields:
    """Lengths of shortest ways, on F grids of one shape.

    Attributes:
        origin: (F, 2) low corner of each grid [m].
        cell: (F,) edge of a cell [m].
        distance: (F, X, Y) float32 [m], inf where no way leads.
    """

    origin: NDArray[np.float64]
    cell: NDArray[np.float64]
    distance: Float

    def at(self, field: Int, xy: NDArray[np.floating]) -> Float:
        """Distances [m] of places (N, 2) in fields (N,), bilinear; inf off the floor.

        Corners of the cell that are off the floor are taken to be as far as going there from the others, at the price
        of `RIM_PRICE`: what is left grows without a jump when a robot leaves the floor's middle for its rim.
        """
        cell = self.cell[field, None]
        place = (np.asarray(xy) - self.origin[field]) / cell - 0.5
        shape = np.array(self.distance.shape[1:])
        low = np.clip(np.floor(place).astype(np.int64), 0, np.maximum(shape - 2, 0))
        share = np.clip(place - low, 0, 1)
        corners = np.minimum(low[:, None] + CORNERS, shape - 1)
        values = self.distance[np.asarray(field)[:, None], corners[..., 0], corners[..., 1]]
        beyond = (values[:, None] + BETWEEN * cell[..., None]).min(2)
        values = np.where(np.isfinite(values), values, beyond)
        weight = np.stack(
            [
                (1 - share[:, 0]) * (1 - share[:, 1]),
                share[:, 0] * (1 - share[:, 1]),
                (1 - share[:, 0]) * share[:, 1],
                share[:, 0] * share[:, 1],
            ],
            1,
        )
        known = np.asarray(np.isfinite(values).all(1) & ((place >= -1) & (place <= shape)).all(1))
        return np.where(known, (np.where(known[:, None], values, 0) * weight).sum(1), np.inf).astype(np.float32)


def distances(price: Float, sources: Bool, cell: NDArray[np.floating]) -> Float:
    """Cheapest ways (F, X, Y) [m] to the nearest source, along eight neighbours; inf where none leads.

    Args:
        price: (F, X, Y) of going to a cell, a factor of the length; inf where no way may lead.
        sources: (F, X, Y); those in cells with no way count for nothing.
        cell: (F,) edge of a cell [m].
    """
    steps = np.where(np.isfinite(price) & sources, np.float32(0), np.float32(np.inf))
    _spread_all(steps, price)
    return steps * np.asarray(cell, np.float32)[:, None, None]


@njit(parallel=True, cache=True, nogil=True)
def _spread_all(steps: Float, price: Float) -> None:
    for field in prange(len(steps)):
        spread(steps[field], price[field])


@njit(cache=True, nogil=True)
def spread(steps: Float, price: Float) -> None:
    """Make of (X, Y), 0 at sources and inf elsewhere, the cheapest ways [cells] in place; price (X, Y) as above.

    Sweeps to and fro until nothing gets less. Source: G. Borgefors, Distance transformations in digital images, 1986.
    """
    width, depth = steps.shape
    slant = np.sqrt(np.float32(2))
    less = True
    while less:
        less = False
        for way in (1, -1):
            for column in range(width):
                i = column if way == 1 else width - 1 - column
                for row in range(depth):
                    j = row if way == 1 else depth - 1 - row
                    straight, aslant = np.float32(np.inf), np.float32(np.inf)
                    if 0 <= j - way < depth:
                        straight = steps[i, j - way]
                    if 0 <= i - way < width:
                        straight = min(straight, steps[i - way, j])
                        if j > 0:
                            aslant = steps[i - way, j - 1]
                        if j < depth - 1:
                            aslant = min(aslant, steps[i - way, j + 1])
                    found = min(straight + price[i, j], aslant + slant * price[i, j])
                    if found < steps[i, j]:
                        steps[i, j] = found
                        less = True
