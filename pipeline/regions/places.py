"""Places on the walkable floor: spawn poses and goals, spread far apart, the same for the same floor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.regions.regions import SpawnPose
from pipeline.regions.walkable import WalkableGrid

HEADINGS = 16
FARTHEST_LOOK = 5.0  # [m]
ENOUGH_MEASURED = 0.3  # of the floor


def farthest_points(points: NDArray[np.floating], count: int, first: int) -> NDArray[np.int64]:
    """Indices of up to `count` of the points (N, D), each the farthest from those before it.

    Source: T. Gonzalez, Clustering to minimize the maximum intercluster distance, TCS 1985.
    """
    chosen = [first]
    distance = np.linalg.norm(points - points[first], axis=1)
    while len(chosen) < min(count, len(points)):
        farthest = int(distance.argmax())
        if distance[farthest] <= 0:
            break
        chosen.append(farthest)
        distance = np.minimum(distance, np.linalg.norm(points - points[farthest], axis=1))
    return np.array(chosen, np.int64)


def propose_places(
    grid: WalkableGrid, cell: float, spawn_poses: int, goals: int
) -> tuple[tuple[SpawnPose, ...], tuple[tuple[float, float, float], ...]]:
    """Spawn poses heading towards open space, and goals, all on drivable floor (walkable where none is).

    The first is the roomiest measured cell. Guessed floor is left out when enough is measured.
    """
    area = grid.drivable if grid.drivable.any() else grid.walkable
    measured = area & ~grid.guessed
    cells = np.argwhere(measured if measured.sum() >= ENOUGH_MEASURED * area.sum() else area)
    clearance = grid.clearance[tuple(cells.T)]
    roomiest = np.where(measured[tuple(cells.T)], clearance, clearance - clearance.max())
    order = farthest_points(cells.astype(np.float64), spawn_poses + goals, int(roomiest.argmax()))
    places = cells[order]
    # spawn poses and goals alternate, so that each set is spread over the whole floor
    is_goal = np.zeros(len(places), bool)
    is_goal[1 : 2 * min(goals, spawn_poses) : 2] = True
    if goals > spawn_poses:
        is_goal[2 * spawn_poses :] = True
    spawns = tuple(SpawnPose(_position(grid, c, cell), _open_heading(area, c, cell)) for c in places[~is_goal])
    return spawns, tuple(_position(grid, c, cell) for c in places[is_goal])


def _position(grid: WalkableGrid, place: NDArray[np.int64], cell: float) -> tuple[float, float, float]:
    x, y = (float(v) for v in grid.origin + (place + 0.5) * cell)
    return round(x, 4), round(y, 4), round(float(grid.height[place[0], place[1]]), 4)


def _open_heading(area: NDArray[np.bool_], place: NDArray[np.int64], cell: float) -> float:
    """The heading [rad] in which floor goes on longest."""
    angles = np.arange(HEADINGS) * 2 * np.pi / HEADINGS
    steps = np.arange(1, int(FARTHEST_LOOK / cell) + 1)
    ahead = np.stack([np.cos(angles), np.sin(angles)], -1)[:, None] * steps[:, None]
    cells = np.round(place + ahead).astype(int)
    inside = ((cells >= 0) & (cells < area.shape)).all(-1)
    clipped = np.clip(cells, 0, np.array(area.shape) - 1)
    free = inside & area[clipped[..., 0], clipped[..., 1]]
    length = np.logical_and.accumulate(free, axis=1).sum(1)
    return round(float(angles[length.argmax()]), 6)
