"""A bundle as a scene of GaussGym: meshes, splat, and short camera paths over the floor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from pipeline.errors import SimError
from pipeline.export.form import short_origin
from pipeline.geometry import Mesh, masks
from pipeline.importing.gaussgym import write_gaussgym
from pipeline.regions.regions import Regions
from pipeline.scenes.bundle import Bundle
from pipeline.types import F32, F64
from sim.scene.floors import headroom
from sim.scene.navigation import distances

LENGTH, MIN_LENGTH = 5.5, 1.0
"""Longest and shortest path [m]: GaussGym's slice of 4 m with 0.75 m before and after it (configs/polycam.py)."""
CAMERA_HEIGHT = 0.3
"""Height of the camera over the floor [m]."""
HEADROOM, CLEARANCE = 2.0, 0.4
"""GaussGym drops positions with anything less than 2 m above the camera, within 0.25 m of it (scene_ingest.py); its
smoothing shifts them by up to 0.1 m [m]."""
SPACING = 0.005
"""Between poses [m]: GaussGym's smoothing may be off by a metre, squared and summed over all poses (math_utils.py)."""
ROUNDED = 0.4
"""Length over which corners of paths are rounded [m]: less than robots have room."""


def camera_paths(regions: Regions, collision: Mesh) -> list[F64]:
    """Paths from each spawn pose towards the goal whose path length is nearest to `LENGTH`, at which they end.

    They stay on the drivable floor with the headroom that GaussGym requires, so not under tables.

    Returns:
        For each spawn pose with such a goal (N, 4, 4) world_from_camera [m], OpenCV, horizontal, along the path.
    """
    spawns, goals = (
        regions.cells_of(np.array([pose.position for pose in poses]).reshape(-1, 3))[0]
        for poses in (regions.spawn_poses, regions.goals)
    )
    low = headroom(regions, collision, CAMERA_HEIGHT) <= HEADROOM
    free = regions.drivable & (masks.distance_from(low) * regions.cell >= CLEARANCE)
    price = np.where(free, np.float32(1), np.float32(np.inf))
    sources = np.zeros((len(goals), *regions.drivable.shape), bool)
    sources[np.arange(len(goals)), goals[:, 0], goals[:, 1]] = True
    prices = np.ascontiguousarray(np.broadcast_to(price, sources.shape))
    fields = distances(prices, sources, np.full(len(goals), regions.cell))
    paths = []
    for spawn in spawns:
        left = fields[:, spawn[0], spawn[1]]
        reachable = np.flatnonzero(np.isfinite(left) & (left >= MIN_LENGTH))
        if len(reachable):
            goal = reachable[np.abs(left[reachable] - LENGTH).argmin()]
            paths.append(_cameras(_smooth(_descend(fields[goal], spawn, regions), regions.cell)))
    return paths


def _descend(field: F32, start: NDArray[np.integer], regions: Regions) -> F64:
    """Positions on the floor (N, 3) from a cell downhill through a field (X, Y), at most `LENGTH` [m]."""
    around = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j])
    padded = np.pad(field, 1, constant_values=np.inf)
    cells = [start]
    first = field[tuple(start)]
    while field[tuple(cells[-1])] > 0 and first - field[tuple(cells[-1])] < LENGTH:
        near = cells[-1] + around
        cells.append(near[padded[tuple((near + 1).T)].argmin()])
    path = tuple(np.array(cells).T)
    return np.column_stack([regions.centres()[path], regions.height[path].astype(np.float64)])


def _smooth(path: F64, cell: float) -> F64:
    """The path with rounded corners, evenly sampled."""
    rounded = uniform_filter1d(path, max(1, round(ROUNDED / cell)), axis=0, mode="nearest")
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(rounded, axis=0), axis=1))])
    at = np.linspace(0, length[-1], int(length[-1] / SPACING) + 2)
    return np.column_stack([np.interp(at, length, rounded[:, axis]) for axis in range(3)])


def _cameras(path: F64) -> F64:
    ahead = np.gradient(path[:, :2], axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    poses = np.tile(np.eye(4), (len(path), 1, 1))
    poses[:, :3, 0] = np.column_stack([ahead[:, 1], -ahead[:, 0], np.zeros(len(path))])  # right
    poses[:, :3, 1] = [0, 0, -1]  # down
    poses[:, :3, 2] = np.column_stack([ahead, np.zeros(len(path))])
    poses[:, :3, 3] = path + np.array([0, 0, CAMERA_HEIGHT])
    return poses


def export_gaussgym(bundle: Bundle, folder: Path) -> None:
    """Write the collision mesh, the full splat, and paths from the spawn poses, along which GaussGym starts robots.

    Raises:
        SimError: When no goal can be driven to.
    """
    collision = bundle.mesh("collision")
    paths = camera_paths(bundle.regions, collision)
    if not paths:
        raise SimError(
            "GaussGym starts robots on a path over the floor",
            found=f"no path of at least {MIN_LENGTH} m, under {HEADROOM} m of headroom, from a spawn pose to a goal",
            remedy="capture more of the floor",
            file=bundle.root,
        )
    write_gaussgym(folder, collision, bundle.classic_splat(), paths, short_origin(bundle))
