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
RIM, RIM_STEP = 3, np.float32(0.015)
"""So many pixels are dropped where a surface ends before one that lies behind its plane by more than this share."""
_UNSEEN, _DIFFERENT, _AGREES = 0, 1, 2


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
def _compare(px, py, w, inverse_depth, sources, warps, back_warps, s):  # noqa: ANN001, ANN202
    """What a neighbour says of one pixel: verdict, difference of the inverse depths, squared parallax."""
    start, width, height = sources[s, 0], sources[s, 1], sources[s, 2]
    z = warps[s, 6] * px + warps[s, 7] * py + warps[s, 8] + warps[s, 11] * w
    if z < _f4(1e-4):
        return _UNSEEN, _f4(0), _f4(0)
    u = (warps[s, 0] * px + warps[s, 1] * py + warps[s, 2] + warps[s, 9] * w) / z
    v = (warps[s, 3] * px + warps[s, 4] * py + warps[s, 5] + warps[s, 10] * w) / z
    if u < 1 or v < 1 or u >= _f4(width - 1) or v >= _f4(height - 1):
        return _UNSEEN, _f4(0), _f4(0)
    seen = _sample(inverse_depth, start, width, u, v)
    z_back = back_warps[s, 6] * u + back_warps[s, 7] * v + back_warps[s, 8] + back_warps[s, 11] * seen
    if not seen > 0 or z_back < _f4(1e-4):
        return _UNSEEN, _f4(0), _f4(0)
    du = (back_warps[s, 0] * u + back_warps[s, 1] * v + back_warps[s, 2] + back_warps[s, 9] * seen) / z_back - px
    dv = (back_warps[s, 3] * u + back_warps[s, 4] * v + back_warps[s, 5] + back_warps[s, 10] * seen) / z_back - py
    difference = seen / z_back - w
    if du * du + dv * dv < MAX_REPROJECTION**2 and abs(difference) < MAX_RELATIVE * w:
        along_u, along_v = (warps[s, 9] - u * warps[s, 11]) / z, (warps[s, 10] - v * warps[s, 11]) / z
        return _AGREES, difference, along_u * along_u + along_v * along_v
    return _DIFFERENT, difference, _f4(0)


@njit(**_COMPILE)
def count_agreement(
    own: NDArray[np.float32],
    step: int,
    inverse_depth: NDArray[np.float32],
    sources: NDArray[np.int64],
    warps: NDArray[np.float32],
    back_warps: NDArray[np.float32],
) -> NDArray[np.int64]:
    """(S, 2): how many of every `step`-th pixel each neighbour has in its picture, and with how many it agrees.

    The other arguments are those of `average_agreeing`.
    """
    height, width = own.shape
    counts = np.zeros((len(sources), 2), np.int64)
    for y in range(step // 2, height, step):
        for x in range(step // 2, width, step):
            w = own[y, x]
            if not w > 0:
                continue
            for s in range(len(sources)):
                verdict, _, _ = _compare(
                    _f4(x) + _HALF, _f4(y) + _HALF, w, inverse_depth, sources, warps, back_warps, s
                )
                if verdict != _UNSEEN:
                    counts[s, 0] += 1
                if verdict == _AGREES:
                    counts[s, 1] += 1
    return counts


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
        inverse_depth: The neighbours', flat.
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
                verdict, difference, squared_parallax = _compare(
                    px, py, w, inverse_depth, sources, warps, back_warps, s
                )
                if verdict == _AGREES:
                    count += 1
                    change += difference
                    squares += difference * difference
                    information += squared_parallax
            mean = change / _f4(count + 1)
            averaged[y, x] = w + mean
            agreeing[y, x] = count
            variance[y, x] = max(squares / _f4(count + 1) - mean * mean, _f4(0))
            parallax[y, x] = information
    return averaged, agreeing, variance, parallax


@njit(**_COMPILE)
def drop_rims(
    inverse_depth: NDArray[np.float32], slope_x: NDArray[np.float32], slope_y: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The inverse depth (H, W) without the outermost pixels of what is near: matching windows widen it.

    Args:
        inverse_depth: (H, W), 0 = unknown.
        slope_x: (H, W) its change per pixel along x, by which a slanted surface is told from one behind it.
        slope_y: (H, W) the same along y.
    """
    height, width = inverse_depth.shape
    clean = inverse_depth.copy()
    for y in range(height):
        for x in range(width):
            w = inverse_depth[y, x]
            if not w > 0:
                continue
            reach = min(min(x, y), min(width - 1 - x, height - 1 - y))
            for step in range(1, min(RIM, reach) + 1):
                for j in range(-1, 2):
                    for i in range(-1, 2):
                        other = inverse_depth[y + j * step, x + i * step]
                        expected = w + slope_x[y, x] * _f4(i * step) + slope_y[y, x] * _f4(j * step)
                        if other > 0 and other < expected * (1 - RIM_STEP):
                            clean[y, x] = 0
    return clean
