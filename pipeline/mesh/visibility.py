"""What the depth maps say about points on a surface: seen, seen through, and from which side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.depth.maps import DepthMap
from pipeline.progress import track


@dataclass(frozen=True, eq=False)
class Evidence:
    """Votes of all maps for N points.

    Attributes:
        seen: (N,) int32, maps whose depth lies at the point.
        seen_through: (N,) int32, maps that see a surface clearly behind the point.
        facing: (N,) int32, of the maps that see it: in front of the given normal, minus behind it.
    """

    seen: NDArray[np.int32]
    seen_through: NDArray[np.int32]
    facing: NDArray[np.int32]


def observe(
    points: NDArray[np.floating], normals: NDArray[np.floating], maps: Sequence[DepthMap], margin: float
) -> Evidence:
    """Compare points (N, 3) [m, world] with normals (N, 3) with every depth map.

    A map sees through a point when all 3x3 depths round its pixel lie `margin` [m] and three sigma behind the point;
    the neighbourhood keeps an inaccurate pose from carving the rims of thin things. Guessed depth is no evidence.
    """
    positions = np.ascontiguousarray(points, np.float64)
    directions = np.ascontiguousarray(normals, np.float64)
    votes = np.zeros((3, len(positions)), np.int32)
    window = np.ones((3, 3), np.uint8)
    for depth_map in track(maps, "compare surface with depth maps", len(maps)):
        camera, camera_from_world = depth_map.camera, depth_map.world_from_camera.inverse()
        depth = np.where(depth_map.guessed, 0, depth_map.depth).astype(np.float32)
        # a window with an unknown depth gives 0
        nearest_around = np.asarray(cv2.erode(depth, window, borderType=cv2.BORDER_REPLICATE), np.float32)
        _vote(
            positions,
            directions,
            camera_from_world.rotation,
            camera_from_world.translation,
            depth_map.world_from_camera.translation,
            np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
            depth,
            nearest_around,
            np.ascontiguousarray(np.maximum(margin, 3 * depth_map.sigma), np.float32),
            votes,
        )
    return Evidence(*votes)


@njit(cache=True, nogil=True)
def _vote(
    points: NDArray[np.float64],
    normals: NDArray[np.float64],
    rotation: NDArray[np.float64],
    translation: NDArray[np.float64],
    centre: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    depth: NDArray[np.float32],
    nearest_around: NDArray[np.float32],
    margin: NDArray[np.float32],
    votes: NDArray[np.int32],
) -> None:
    height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    for n in range(len(points)):
        px, py, pz = points[n]
        z = rotation[2, 0] * px + rotation[2, 1] * py + rotation[2, 2] * pz + translation[2]
        if z < 0.02:
            continue
        u = fx * (rotation[0, 0] * px + rotation[0, 1] * py + rotation[0, 2] * pz + translation[0]) / z + cx
        v = fy * (rotation[1, 0] * px + rotation[1, 1] * py + rotation[1, 2] * pz + translation[1]) / z + cy
        if not (0 <= u < width and 0 <= v < height):
            continue
        column, row = int(u), int(v)
        seen = depth[row, column]
        if seen <= 0:
            continue
        if abs(seen - z) < margin[row, column]:
            votes[0, n] += 1
            side = (
                normals[n, 0] * (centre[0] - px) + normals[n, 1] * (centre[1] - py) + normals[n, 2] * (centre[2] - pz)
            )
            if side > 0:
                votes[2, n] += 1
            elif side < 0:
                votes[2, n] -= 1
        elif nearest_around[row, column] - z > margin[row, column]:
            votes[1, n] += 1
