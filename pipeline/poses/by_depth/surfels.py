"""Depth images as small grids of planes (surfels), the measurements that poses are compared by.

The inverse depth of a plane is linear in an image's coordinates, so that the plane of a cell is one least-squares fit
of three numbers.
"""

from __future__ import annotations

import numpy as np

from pipeline.geometry import Camera
from pipeline.geometry.jit import njit
from pipeline.types import F32, F64

COLUMNS = 64
"""Cells across a depth image, as near as whole pixels allow; a cell's plane is fitted to twice its width."""
NEAREST = 0.15
"""Smallest depth that counts [m]."""
X, Y, Z, NORMAL_X, NORMAL_Y, NORMAL_Z, SIGMA, IS_THERE = range(8)
"""Columns of a surfel in the depth camera's axes: its middle [m], its normal towards the camera, one sigma of its
distance along the normal [m], and whether there is one (1 or 0)."""
_SURFACE, _SURFACE_SHARE = 0.05, 0.1
"""Depths within so much [m, and share of the depth] of a cell's middle may lie on its plane."""
_ROUGH, _ROUGH_SHARE = 0.012, 0.01
"""Largest deviation of a plane's depths (root mean square) [m, and share of the depth]: beyond it is no plane."""
_FILLED = 0.6
"""Least share of a window that has depth."""
_STEEPEST = np.cos(np.deg2rad(80))
_SHARED, _SHARED_SHARE = 0.002, 0.002
"""One sigma of what neighbouring pixels have in common [m, and share of the depth]."""


def stride_of(width: int) -> int:
    """Edge of the cells of a depth image of that width [px]."""
    return max(1, round(width / COLUMNS))


def surfels_of(depth: F32, camera: Camera, stride: int) -> F32:
    """The surfels (H / stride, W / stride, 8) of a depth image (H, W) [m], 0 where nothing is known."""
    height, width = depth.shape
    found = np.zeros((height // stride, width // stride, 8), np.float32)
    _fit(depth, np.array([camera.fx, camera.fy, camera.cx, camera.cy]), stride, found)
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def _fit(depth: F32, lens: F64, stride: int, found: F32) -> None:
    height, width = depth.shape
    fx, fy, cx, cy = lens
    for row in range(found.shape[0]):
        for column in range(found.shape[1]):
            v0, u0 = row * stride + stride // 2, column * stride + stride // 2
            z0 = depth[v0, u0]
            if z0 < NEAREST:
                continue
            near = _SURFACE + _SURFACE_SHARE * z0
            top, bottom = max(0, v0 - stride), min(height, v0 + stride + 1)
            left, right = max(0, u0 - stride), min(width, u0 + stride + 1)
            n = 0
            xx, xy, yy, sx, sy, qx, qy, q1 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for v in range(top, bottom):
                for u in range(left, right):
                    z = depth[v, u]
                    if z < NEAREST or abs(z - z0) > near:
                        continue
                    x, y, q = (u - u0) / fx, (v - v0) / fy, 1 / z
                    xx, xy, yy, sx, sy = xx + x * x, xy + x * y, yy + y * y, sx + x, sy + y
                    qx, qy, q1, n = qx + x * q, qy + y * q, q1 + q, n + 1
            if n < _FILLED * (2 * stride + 1) ** 2:
                continue
            # the plane 1/z = a x + b y + c by the normal equations about the mean
            mx, my, mq = sx / n, sy / n, q1 / n
            xx, xy, yy = xx - n * mx * mx, xy - n * mx * my, yy - n * my * my
            qx, qy = qx - n * mx * mq, qy - n * my * mq
            determinant = xx * yy - xy * xy
            if determinant <= 1e-9 * xx * yy:
                continue
            a, b = (yy * qx - xy * qy) / determinant, (xx * qy - xy * qx) / determinant
            c = mq - a * mx - b * my
            if c <= 0:
                continue
            z = 1 / c
            off = 0.0
            for v in range(top, bottom):
                for u in range(left, right):
                    other = depth[v, u]
                    if other < NEAREST or abs(other - z0) > near:
                        continue
                    inverse = a * (u - u0) / fx + b * (v - v0) / fy + c
                    off += (other - 1 / inverse) ** 2 if inverse > 1e-3 else near**2
            rough = np.sqrt(off / n)
            if rough > _ROUGH + _ROUGH_SHARE * z:
                continue
            x, y = (u0 + 0.5 - cx) / fx, (v0 + 0.5 - cy) / fy
            nz = c - a * x - b * y
            length = np.sqrt(a * a + b * b + nz * nz)
            across = c / length  # depth to distance along the normal: its product with (x, y, 1)
            if across < _STEEPEST * np.sqrt(x * x + y * y + 1):
                continue
            here = found[row, column]
            here[X], here[Y], here[Z] = x * z, y * z, z
            here[NORMAL_X], here[NORMAL_Y], here[NORMAL_Z] = -a / length, -b / length, -nz / length
            here[SIGMA] = across * np.sqrt(2 * rough * rough / n + (_SHARED_SHARE * z) ** 2 + _SHARED**2)
            here[IS_THERE] = 1
