"""Short ways over a scene's floor, for simulators whose robots follow the path of a camera."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from pipeline.geometry import Mesh
from pipeline.mesh import masks
from pipeline.mesh.rays import RayCaster
from pipeline.regions.regions import Regions
from sim.navigation import distances

Array = NDArray[np.float64]

LENGTH, LEAST = 5.5, 1.0
"""Of a way [m]: GaussGym's slice of 4 m with 0.75 m before and after it (scene_generation/configs/polycam.py)."""
CAMERA_HEIGHT = 0.3
"""Over the floor [m]."""
HEADROOM, BESIDE = 2.0, 0.4
"""GaussGym drops places with anything less than 2 m above the camera, within 0.25 m of it (scene_ingest.py); its
smoothing shifts them by up to 0.1 m [m]."""
SPACING = 0.005
"""Between poses [m]: GaussGym's smoothing may be off by a metre, squared and summed over all poses (math_utils.py)."""
ROUNDED = 0.4
"""Length over which the corners of ways from cell to cell are rounded [m]: less than robots have room."""


def camera_ways(regions: Regions, collision: Mesh) -> list[Array]:
    """From each spawn pose towards the goal whose way is nearest to `LENGTH`; ways end after that.

    They keep to the drivable floor where GaussGym sees headroom, which is not under tables.

    Returns:
        For each spawn pose with such a goal (N, 4, 4) world_from_camera, OpenCV, level, looking along the way [m].
    """
    spawns, goals = (
        regions.cells_of(np.array([pose.position for pose in poses]).reshape(-1, 3))[0]
        for poses in (regions.spawn_poses, regions.goals)
    )
    price = np.where(regions.drivable & ~_near_low_ceiling(regions, collision), np.float32(1), np.float32(np.inf))
    sources = np.zeros((len(goals), *regions.drivable.shape), bool)
    sources[np.arange(len(goals)), goals[:, 0], goals[:, 1]] = True
    prices = np.ascontiguousarray(np.broadcast_to(price, sources.shape))
    fields = distances(prices, sources, np.full(len(goals), regions.cell))
    ways = []
    for spawn in spawns:
        left = fields[:, spawn[0], spawn[1]]
        reachable = np.flatnonzero(np.isfinite(left) & (left >= LEAST))
        if len(reachable):
            goal = reachable[np.abs(left[reachable] - LENGTH).argmin()]
            ways.append(_cameras(_smooth(_descend(fields[goal], spawn, regions), regions.cell)))
    return ways


def _near_low_ceiling(regions: Regions, collision: Mesh) -> NDArray[np.bool_]:
    """Cells (X, Y) within `BESIDE` of a floor without headroom."""
    floor = np.isfinite(regions.height)
    start = np.column_stack([regions.centres()[floor], regions.height[floor] + CAMERA_HEIGHT])
    low = np.zeros(floor.shape, bool)
    low[floor] = RayCaster(collision).cast(start, np.array([0, 0, 1.0])).distance <= HEADROOM
    return masks.distance_from(low) * regions.cell < BESIDE


def _descend(field: NDArray[np.float32], start: NDArray[np.integer], regions: Regions) -> Array:
    """The floor's places (N, 3) from a cell downhill through a field (X, Y), at most `LENGTH` [m]."""
    around = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j])
    padded = np.pad(field, 1, constant_values=np.inf)
    cells = [start]
    first = field[tuple(start)]
    while field[tuple(cells[-1])] > 0 and first - field[tuple(cells[-1])] < LENGTH:
        near = cells[-1] + around
        cells.append(near[padded[tuple((near + 1).T)].argmin()])
    way: Any = tuple(np.array(cells).T)
    return np.column_stack([regions.centres()[way], regions.height[way].astype(np.float64)])


def _smooth(way: Array, cell: float) -> Array:
    """The way without its corners, at even spacing."""
    rounded = uniform_filter1d(way, max(1, round(ROUNDED / cell)), axis=0, mode="nearest")
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(rounded, axis=0), axis=1))])
    at = np.linspace(0, length[-1], int(length[-1] / SPACING) + 2)
    return np.column_stack([np.interp(at, length, rounded[:, axis]) for axis in range(3)])


def _cameras(way: Array) -> Array:
    ahead = np.gradient(way[:, :2], axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    poses = np.tile(np.eye(4), (len(way), 1, 1))
    poses[:, :3, 0] = np.column_stack([ahead[:, 1], -ahead[:, 0], np.zeros(len(way))])  # right
    poses[:, :3, 1] = [0, 0, -1]  # down
    poses[:, :3, 2] = np.column_stack([ahead, np.zeros(len(way))])
    poses[:, :3, 3] = way + np.array([0, 0, CAMERA_HEIGHT])
    return poses
