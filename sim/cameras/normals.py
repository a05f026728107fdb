"""Normals from depth images."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from pipeline.geometry import Camera
from pipeline.types import F32

REACH = 2
"""Pixels to each side of a plane fit: a splat's depth has steps, which smaller windows would show."""
EDGE = np.float32(0.06)
"""Largest RMS residual of a plane fit, relative to the inverse depth; beyond is an edge between surfaces."""


def normals_of(depth: F32, lens: Camera) -> F32:
    """Unit normals (B, H, W, 3) in camera axes, towards the camera; 0 at edges, at borders and where nothing is known.

    They are normals of planes fitted to the inverse depths of 5x5 pixels, which are linear along the rows and columns
    of a plane, however steep it is.

    Args:
        depth: (B, H, W) along the camera's z [m], 0 = unknown.
        lens: Pinhole.
    """
    normals = np.zeros((*depth.shape, 3), np.float32)
    intrinsics = np.array([lens.fx, lens.fy, lens.cx, lens.cy], np.float32)
    _fit(np.ascontiguousarray(depth, np.float32), intrinsics, normals)
    return normals


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _fit(depth: F32, intrinsics: F32, normals: F32) -> None:
    count, height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    across = 2 * REACH + 1
    spread = np.float32(across * REACH * (REACH + 1) * across / 3)  # sum of the squared steps in the window
    for b in prange(count):
        near = 1 / depth[b]  # unknown is infinite
        for row in range(REACH, height - REACH):
            for column in range(REACH, width - REACH):
                mean, right, down = np.float32(0), np.float32(0), np.float32(0)
                for y in range(-REACH, REACH + 1):
                    for x in range(-REACH, REACH + 1):
                        value = near[row + y, column + x]
                        mean, right, down = mean + value, right + x * value, down + y * value
                mean, right, down = mean / (across * across), right / spread, down / spread
                if not np.isfinite(mean):
                    continue
                off = np.float32(0)
                for y in range(-REACH, REACH + 1):
                    for x in range(-REACH, REACH + 1):
                        off += (near[row + y, column + x] - mean - x * right - y * down) ** 2
                if off > across * across * (EDGE * mean) ** 2:
                    continue
                # points of a plane: normal . ray = constant / depth, for every ray
                a, c = right * fx, down * fy
                z = mean - a * (column + np.float32(0.5) - cx) / fx - c * (row + np.float32(0.5) - cy) / fy
                length = np.sqrt(a * a + c * c + z * z)
                normals[b, row, column, 0] = -a / length
                normals[b, row, column, 1] = -c / length
                normals[b, row, column, 2] = -z / length
