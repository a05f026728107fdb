"""Places on the walkable floor: spawn poses and goals, spread far apart, the same for the same floor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.coverage.map import CoverageMap
from pipeline.coverage.prediction import TRUSTED
from pipeline.regions.regions import RobotPose
from pipeline.regions.walkable import WalkableGrid

HEADINGS = 16
FARTHEST_LOOK = 5.0  # [m]
ENOUGH_MEASURED = 0.3  # of the floor
ROOM_AHEAD = 0.5  # [m]


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
    grid: WalkableGrid, coverage: CoverageMap, cell: float, spawn_poses: int, goals: int
) -> tuple[tuple[RobotPose, ...], tuple[RobotPose, ...]]:
    """Spawn poses and goals, heading towards open space, all on drivable floor (walkable where none is).

    Only places with a heading whose pictures can be trusted, and with room to walk that way, are taken while there are
    any, and guessed floor is left out when enough is measured. The first place is the roomiest measured cell.
    """
    area = grid.drivable if grid.drivable.any() else grid.walkable
    measured = area & ~grid.guessed
    cells = np.argwhere(measured if measured.sum() >= ENOUGH_MEASURED * area.sum() else area)
    angles = np.arange(HEADINGS) * 2 * np.pi / HEADINGS
    trust = coverage.trust(np.repeat(_positions(grid, cells, cell), HEADINGS, axis=0), np.tile(angles, len(cells)))
    trust = trust.reshape(len(cells), HEADINGS)
    length = _open_lengths(area, cells, cell, angles)
    for good in ((trust >= TRUSTED) & (length * cell >= ROOM_AHEAD), trust >= TRUSTED):
        if good.any():
            kept = good.any(1)
            cells, trust, length, good = cells[kept], trust[kept], length[kept], good[kept]
            break
    else:
        good = trust >= trust.max(1, keepdims=True)
    heading = np.where(good, length, -1).argmax(1)
    clearance = grid.clearance[tuple(cells.T)]
    roomiest = np.where(measured[tuple(cells.T)], clearance, clearance - clearance.max())
    order = farthest_points(cells.astype(np.float64), spawn_poses + goals, int(roomiest.argmax()))
    # spawn poses and goals alternate, so that each set is spread over the whole floor
    is_goal = np.zeros(len(order), bool)
    is_goal[1 : 2 * min(goals, spawn_poses) : 2] = True
    if goals > spawn_poses:
        is_goal[2 * spawn_poses :] = True
    positions = _positions(grid, cells, cell)
    poses = [
        _pose(positions[place], float(angles[heading[place]]), float(trust[place, heading[place]])) for place in order
    ]
    return (
        tuple(pose for pose, goal in zip(poses, is_goal, strict=True) if not goal),
        tuple(pose for pose, goal in zip(poses, is_goal, strict=True) if goal),
    )


def _positions(grid: WalkableGrid, cells: NDArray[np.int64], cell: float) -> NDArray[np.float64]:
    """Centres (N, 3) of cells (N, 2) on the floor [m]."""
    return np.column_stack([grid.origin + (cells + 0.5) * cell, grid.height[tuple(cells.T)].astype(np.float64)])


def _pose(position: NDArray[np.float64], yaw: float, trust: float) -> RobotPose:
    x, y, z = (round(float(v), 4) for v in position)
    return RobotPose((x, y, z), round(yaw, 6), round(trust, 3))


def _open_lengths(
    area: NDArray[np.bool_], places: NDArray[np.int64], cell: float, angles: NDArray[np.float64]
) -> NDArray[np.int64]:
    """How far floor goes on from cells (N, 2) along every angle (H,) [rad], in cells (N, H)."""
    lengths = np.zeros((len(places), len(angles)), np.int64)
    going = np.ones(lengths.shape, bool)
    ahead = np.stack([np.cos(angles), np.sin(angles)], -1)
    for step in range(1, int(FARTHEST_LOOK / cell) + 1):
        cells = np.round(places[:, None] + step * ahead).astype(int)
        inside = ((cells >= 0) & (cells < area.shape)).all(-1)
        clipped = np.clip(cells, 0, np.array(area.shape) - 1)
        going &= inside & area[clipped[..., 0], clipped[..., 1]]
        lengths += going
    return lengths
