"""Which stereo depths to believe: those that other views found as well, averaged with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

_COMPILE: dict[str, Any] = {"fastmath": True, "nogil": True, "error_model": "numpy", "cache": True}
_f4, _i8 = np.float32, np.int64
_HALF = np.float32(0.5)

MAX_REPROJECTION, MAX_RELATIVE = np.float32(1.0), np.float32(0.01)
"""Two views agree when going there and back ends within this many pixels and this share of the inverse depth."""
_SMOOTH = np.float32(1.03)


@njit(**_COMPILE)
def _sample(inverse_depth, start, width, u, v):  # noqa: ANN001, ANN202
    """Inverse depth at (u, v): bilinear on one surface, else that of the pixel; 0 where unknown."""
    column, row = _i8(u - _HALF), _i8(v - _HALF)
    right, below = u - _HALF - _f4(column), v - _HALF - _f4(row)
    corner = start + row * width + column
    a, b = inverse_depth[corner], inverse_depth[corner + 1]
    c, d = inverse_depth[corner + width], inverse_depth[corner + width + 1]
    lowest, highest = min(min(a, b), min(c, d)), max(max(a, b), max(c, d))
    if lowest > 0 and highest < lowest * _SMOOTH:
        return (a + right * (b - a)) * (1 - below) + (c + right * (d - c)) * below
    return inverse_depth[start + _i8(v) * width + _i8(u)]


@njit(**_COMPILE)
def average_agreeing(
    own: NDArray[np.float32],
    inverse_depth: NDArray[np.float32],
    sources: NDArray[np.int64],
    warps: NDArray[np.float32],
    back_warps: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Compare one view's inverse depth with its neighbours' and average what agrees.

    Source: J. Schoenberger et al., Pixelwise View Selection for Unstructured Multi-View Stereo, ECCV 2016, section 4.

    Args:
        own: (H, W) the view's inverse depth, 0 = unknown.
        inverse_depth: All views', flat.
        sources: (S, 3) start in `inverse_depth`, width and height of each neighbour.
        warps: (S, 12) to the neighbour, see patchmatch.
        back_warps: (S, 12) from it.

    Returns:
        averaged inverse depth (H, W); number of agreeing neighbours (H, W); variance of the agreeing inverse depths
        (H, W); sum over them of the squared parallax (H, W), the pixels moved per unit of inverse depth.
    """
    height, width = own.shape
    averaged = np.zeros((height, width), np.float32)
    agreeing = np.zeros((height, width), np.uint8)
    variance = np.zeros((height, width), np.float32)
    parallax = np.zeros((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            w = own[y, x]
            if not w > 0:
                continue
            px, py = _f4(x) + _HALF, _f4(y) + _HALF
            count = 0
            change, squares, information = _f4(0), _f4(0), _f4(0)
            for s in range(len(sources)):
                p, back = warps[s], back_warps[s]
                start, other_width, other_height = sources[s, 0], sources[s, 1], sources[s, 2]
                z = p[6] * px + p[7] * py + p[8] + p[11] * w
                if z < _f4(1e-4):
                    continue
                u = (p[0] * px + p[1] * py + p[2] + p[9] * w) / z
                v = (p[3] * px + p[4] * py + p[5] + p[10] * w) / z
                if u < 1 or v < 1 or u >= _f4(other_width - 1) or v >= _f4(other_height - 1):
                    continue
                seen = _sample(inverse_depth, start, other_width, u, v)
                z_back = back[6] * u + back[7] * v + back[8] + back[11] * seen
                if not seen > 0 or z_back < _f4(1e-4):
                    continue
                du = (back[0] * u + back[1] * v + back[2] + back[9] * seen) / z_back - px
                dv = (back[3] * u + back[4] * v + back[5] + back[10] * seen) / z_back - py
                difference = seen / z_back - w
                if du * du + dv * dv < MAX_REPROJECTION**2 and abs(difference) < MAX_RELATIVE * w:
                    count += 1
                    change += difference
                    squares += difference * difference
                    along_u, along_v = (p[9] - u * p[11]) / z, (p[10] - v * p[11]) / z
                    information += along_u * along_u + along_v * along_v
            mean = change / _f4(count + 1)
            averaged[y, x] = w + mean
            agreeing[y, x] = count
            variance[y, x] = max(squares / _f4(count + 1) - mean * mean, _f4(0))
            parallax[y, x] = information
    return averaged, agreeing, variance, parallax
