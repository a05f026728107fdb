"""A sample of oriented surface points from all depth maps: what gravity and floor are fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.depth.maps import load_depth_map, map_names

Array = NDArray[np.float64]
SAMPLE = 240_000


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Points with normals in the scene's frame.

    Attributes:
        points: (N, 3) float64 [scene units].
        normals: (N, 3) float64, unit, towards the camera.
        area: (N,) float64, surface that the point stands for [scene units^2].
    """

    points: Array
    normals: Array
    area: Array


def sample_surfaces(depth_folder: Path, count: int = SAMPLE) -> Surfaces:
    """Take about `count` measured points evenly from the maps that aren't held out."""
    names = map_names(depth_folder)
    points, normals, area = [], [], []
    for name in names:
        depth_map = load_depth_map(depth_folder, name)
        if depth_map.held_out:
            continue
        usable = (depth_map.depth > 0) & ~depth_map.guessed & (np.abs(depth_map.normals).sum(-1) > 0.5)
        rows, columns = np.nonzero(usable)
        step = max(1, len(rows) * len(names) // count)
        rows, columns = rows[step // 2 :: step], columns[step // 2 :: step]
        camera, pose = depth_map.camera, depth_map.world_from_camera
        depth = depth_map.depth[rows, columns].astype(np.float64)
        rays = camera.rays(np.stack([columns, rows], -1) + 0.5)
        normal = depth_map.normals[rows, columns].astype(np.float64)
        facing = -np.einsum("nc,nc->n", normal, rays) / np.linalg.norm(rays, axis=1)
        points.append(pose.apply(rays * depth[:, None]))
        normals.append(pose.rotate(normal))
        area.append(step * depth**2 / (camera.fx * camera.fy) / np.clip(facing, 0.2, 1.0))
    if not points:
        return Surfaces(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))
    return Surfaces(np.concatenate(points), np.concatenate(normals), np.concatenate(area))


def level_axes(up: Array) -> Array:
    """Two level unit directions (3, 2), in columns, at right angles to each other."""
    east = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    east /= np.linalg.norm(east)
    return np.stack([east, np.cross(up, east)], 1).astype(np.float64)


def connected_parts(plan: Array, cell: float) -> NDArray[np.int32]:
    """Numbers (N,) of the parts of plan points (N, 2) that hang together on a grid."""
    cells = ((plan - plan.min(0)) / cell).astype(int)
    grid = np.zeros(cells.max(0) + 1, np.uint8)
    grid[cells[:, 0], cells[:, 1]] = 1
    return np.asarray(cv2.connectedComponents(grid, connectivity=8)[1], np.int32)[cells[:, 0], cells[:, 1]]
