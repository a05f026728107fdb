"""Ways over a scene's floor: how far every place is from a goal, round what is in the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from pipeline.regions.regions import Regions

Float = NDArray[np.float32]

STEPS = ((1, 0), (0, 1), (1, 1), (1, -1))
"""To half of a cell's neighbours; the way back is the other half."""


@dataclass(frozen=True, eq=False)
class DistanceFields:
    """Length of the shortest way to each of G goals.

    Attributes:
        regions: The floor.
        distance: (G, X, Y) float32 [m], inf where no way leads to the goal.
    """

    regions: Regions
    distance: Float

    def at(self, goal: NDArray[np.integer], xy: NDArray[np.floating]) -> Float:
        """Distances [m] of places (N, 2) from goals (N,), bilinear; inf off the floor.

        Where a corner of the cell is off the floor, the nearest corner on the floor decides.
        """
        place = (np.asarray(xy) - np.array(self.regions.origin)) / self.regions.cell - 0.5
        shape = np.array(self.distance.shape[1:])
        low = np.clip(np.floor(place).astype(np.int64), 0, np.maximum(shape - 2, 0))
        share = np.clip(place - low, 0, 1)
        corners = np.minimum(low[:, None] + np.array([[0, 0], [1, 0], [0, 1], [1, 1]]), shape - 1)
        values = self.distance[np.asarray(goal)[:, None], corners[..., 0], corners[..., 1]]
        weight = np.stack(
            [
                (1 - share[:, 0]) * (1 - share[:, 1]),
                share[:, 0] * (1 - share[:, 1]),
                (1 - share[:, 0]) * share[:, 1],
                share[:, 0] * share[:, 1],
            ],
            1,
        )
        known = np.isfinite(values)
        smooth = (np.where(known, values, 0) * weight).sum(1)
        offset = np.linalg.norm(corners - place[:, None], axis=2) * self.regions.cell
        stepped = np.where(known, values + offset, np.inf).min(1)
        outside = ((place < -1) | (place > shape)).any(1)
        return np.where(outside, np.inf, np.where(known.all(1), smooth, stepped)).astype(np.float32)


def distance_fields(regions: Regions, goals: NDArray[np.floating]) -> DistanceFields:
    """Distances over the drivable floor, cell by cell along its eight neighbours.

    Args:
        regions: The floor.
        goals: (G, 2) places on it [m].
    """
    free = regions.drivable
    number = np.full(free.shape, -1)
    number[free] = np.arange(free.sum())
    padded = np.pad(number, 1, constant_values=-1)
    sources, targets, lengths = [], [], []
    inner = padded[1:-1, 1:-1]
    for dx, dy in STEPS:
        beside = padded[1 + dx : padded.shape[0] - 1 + dx, 1 + dy : padded.shape[1] - 1 + dy]
        linked = (inner >= 0) & (beside >= 0)
        sources.append(inner[linked])
        targets.append(beside[linked])
        lengths.append(np.full(int(linked.sum()), np.hypot(dx, dy) * regions.cell))
    count = int(free.sum())
    graph = coo_array(
        (np.concatenate(lengths), (np.concatenate(sources), np.concatenate(targets))), shape=(count, count)
    ).tocsr()
    cells, inside = regions.cells_of(goals)
    start = np.where(inside, number[tuple(np.clip(cells, 0, np.array(free.shape) - 1).T)], -1)
    distance = np.full((len(goals), *free.shape), np.inf, np.float32)
    for goal, first in enumerate(start):
        if first >= 0:
            distance[goal, free] = dijkstra(graph, directed=False, indices=int(first))
    return DistanceFields(regions, distance)
