"""Oriented surface points sampled from all depth maps, and the floor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.depth.maps import load_depth_map, map_names
from pipeline.types import F64, I32

SAMPLE = 240_000
"""Approximate number of sampled points."""

MIN_FLOOR_SHARE = 0.04
"""Least share of the horizontal area; less is a shelf seen from above, not a floor."""


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Points (N, 3) in the scene's frame, normals (N, 3) towards the camera, and area (N,) [scene units^2] of each."""

    points: F64
    normals: F64
    area: F64


def sample_surfaces(depth_folder: Path, count: int = SAMPLE) -> Surfaces:
    """Sample about `count` measured points evenly from the maps that aren't held out."""
    names = map_names(depth_folder)
    points, normals, area = [np.zeros((0, 3))], [np.zeros((0, 3))], [np.zeros(0)]
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
    return Surfaces(np.concatenate(points), np.concatenate(normals), np.concatenate(area))


def horizontal_axes(up: F64) -> F64:
    """Two perpendicular horizontal unit directions (3, 2), in columns."""
    east = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    east /= np.linalg.norm(east)
    return np.stack([east, np.cross(up, east)], 1).astype(np.float64)


def connected_parts(plan: F64, cell: float) -> I32:
    """Labels (N,) of the connected parts of plan points (N, 2) on a grid."""
    cells = ((plan - plan.min(0)) / cell).astype(int)
    grid = np.zeros(cells.max(0) + 1, np.uint8)
    grid[cells[:, 0], cells[:, 1]] = 1
    return np.asarray(cv2.connectedComponents(grid, connectivity=8)[1], np.int32)[cells[:, 0], cells[:, 1]]


@dataclass(frozen=True)
class Floor:
    """A horizontal plane: height along up, RMS distance of its points, and share of all upward-facing area."""

    height: float
    rms: float
    share: float


def find_floor(surfaces: Surfaces, up: F64, camera_centres: F64) -> Floor | None:
    """The lowest large horizontal surface below cameras (N, 3): a peak of the heights of upward-facing points."""
    horizontal = surfaces.normals @ up > np.cos(np.deg2rad(12))
    heights, area = surfaces.points[horizontal] @ up, surfaces.area[horizontal]
    camera_height = float(np.median(camera_centres @ up))
    below = heights < camera_height
    heights, area = heights[below], area[below]
    if len(heights) < 200:
        return None
    low, span = np.percentile(heights, 0.5), float(camera_height - np.percentile(heights, 0.5))
    if span <= 0:
        return None
    width = span / 120
    counts, edges = np.histogram(heights, bins=140, range=(low - 10 * width, low + 130 * width), weights=area)
    smooth = np.convolve(counts, np.ones(3), "same")
    share = smooth / area.sum()
    peaks = np.flatnonzero(share >= max(MIN_FLOOR_SHARE, 0.15 * share.max()))
    if len(peaks) == 0:
        return None
    first = peaks[0]
    top = first + int(np.argmax(smooth[first : first + 4]))  # climb to the peak's summit
    height = float(edges[top] + width / 2)
    for _ in range(5):
        near = np.abs(heights - height) < 2 * width
        height = float(np.average(heights[near], weights=area[near]))
    near = np.abs(heights - height) < 2 * width
    rms = float(np.sqrt(np.average((heights[near] - height) ** 2, weights=area[near])))
    return Floor(height, rms, float(area[near].sum() / area.sum()))
