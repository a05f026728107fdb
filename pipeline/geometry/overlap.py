"""How much of the surface in one depth map other depth maps show."""

from __future__ import annotations

import numpy as np

from pipeline.geometry.jit import njit
from pipeline.types import F32, F64, I64

MAX_RELATIVE = np.float32(0.1)
"""Largest relative difference of two depths of one surface, however steep it is."""
_PROBES = 12
_f4 = np.float32


def overlaps(depth: F32, layout: I64, intrinsics: F32, poses: F64) -> F64:
    """Share (N, N) of map i's depths, probed on a grid, that map j shows too.

    `depth` has all maps, flat, 0 = unknown; `layout` (N, 3) the start in it, width and height of each; `intrinsics`
    (N, 4) fx, fy, cx, cy; `poses` (N, 4, 4) are world from camera.
    """
    relative = np.linalg.inv(poses)[None, :] @ poses[:, None]
    return _overlaps(depth, layout, intrinsics, relative[:, :, :3].astype(np.float32))


@njit(nogil=True, error_model="numpy", cache=True)
def _overlaps(depth, layout, intrinsics, relative):  # noqa: ANN001, ANN202
    count = len(layout)
    shares = np.zeros((count, count))
    for i in range(count):
        start, width, height = layout[i]
        for j in range(count):
            probes, seen = 0, 0
            m = relative[i, j]
            for row in range(_PROBES):
                for column in range(_PROBES):
                    x, y = (2 * column + 1) * width // (2 * _PROBES), (2 * row + 1) * height // (2 * _PROBES)
                    z = depth[start + y * width + x]
                    if not z > 0:
                        continue
                    probes += 1
                    ray_x = (x + _f4(0.5) - intrinsics[i, 2]) / intrinsics[i, 0]
                    ray_y = (y + _f4(0.5) - intrinsics[i, 3]) / intrinsics[i, 1]
                    pz = z * (m[2, 0] * ray_x + m[2, 1] * ray_y + m[2, 2]) + m[2, 3]
                    if pz <= 0:
                        continue
                    px = z * (m[0, 0] * ray_x + m[0, 1] * ray_y + m[0, 2]) + m[0, 3]
                    py = z * (m[1, 0] * ray_x + m[1, 1] * ray_y + m[1, 2]) + m[1, 3]
                    u = px / pz * intrinsics[j, 0] + intrinsics[j, 2]
                    v = py / pz * intrinsics[j, 1] + intrinsics[j, 3]
                    if u >= 0 and v >= 0 and u < layout[j, 1] and v < layout[j, 2]:
                        other = depth[layout[j, 0] + int(v) * layout[j, 1] + int(u)]
                        if other > 0 and abs(other - pz) < MAX_RELATIVE * pz:
                            seen += 1
            if probes > 0:
                shares[i, j] = seen / probes
    return shares
