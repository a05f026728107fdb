"""Compiled loops over points. They are imported where they run: numba takes longer to load than all else here."""

from __future__ import annotations

import numpy as np

from pipeline.geometry.jit import njit
from pipeline.types import F64, U8

NEAREST, FARTHEST = 0.1, 65.0
"""Points nearer or farther than this are left out [m]: the scanner's mount, and what 16-bit millimetres can't hold."""
REACH = 12  # px, the farthest that a sample hides what is behind it
_APART = 1.2  # sample distances, how far off the next sample of the same surface may be
_STEEP = 4.0  # largest bulge of one surface, in distances of samples or pixels
_BEHIND = 0.03  # relative; likewise
_SAME_SURFACE = 0.25  # relative, how much the depth of samples of one surface differs at most from pixel to pixel
_MIN_SAMPLES = 5  # of a plane
_FLAT, _NOISE = 0.01, 0.02  # relative, and [m]: largest root mean square distance of samples from their plane


@njit(cache=True, nogil=True)
def z_buffer(points: F64, rotation: F64, translation: F64, intrinsics: F64, shape: tuple[int, int]) -> F64:
    """Nearest point of each pixel (H, W, 3): depth [m], 0 = none, and its offset from the pixel's centre [px].

    Of points (N, 3) [m] in another frame than the camera's; intrinsics are fx, fy, cx, cy; shape is (H, W).
    """
    height, width = shape
    samples = np.zeros((height, width, 3))
    for i in range(len(points)):
        x, y, z = points[i]
        away = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z + translation[2]
        if not NEAREST <= away <= FARTHEST:
            continue
        right = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z + translation[0]
        down = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z + translation[1]
        u = intrinsics[0] * right / away + intrinsics[2]
        v = intrinsics[1] * down / away + intrinsics[3]
        if 0 <= u < width and 0 <= v < height:
            row, column = int(v), int(u)
            if samples[row, column, 0] == 0 or away < samples[row, column, 0]:
                samples[row, column, 0] = away
                samples[row, column, 1] = u - column - 0.5
                samples[row, column, 2] = v - row - 0.5
    return samples


@njit(cache=True, nogil=True)
def drop_hidden(depth: F64, focal: float, metres: float, radians: float) -> None:
    """Set what lies behind the patches of nearer samples to 0, in place.

    Behind them is what has clearly nearer samples within their reach on two opposite sides. One side is not enough: a
    floor seen at a flat angle has nearer samples below every pixel, and a wall next to a table's edge is in view.
    """
    height, width = depth.shape
    sectors = np.empty((2 * REACH + 1, 2 * REACH + 1), np.int64)  # of eight, in which a pixel sees a sample
    for r in range(-REACH, REACH + 1):
        for c in range(-REACH, REACH + 1):
            sectors[r + REACH, c + REACH] = int(np.round(np.arctan2(-r, -c) / (np.pi / 4))) % 8
    front = np.full((8, height, width), np.inf)
    for row in range(height):
        for column in range(width):
            away = depth[row, column]
            if away == 0:
                continue
            gap = max(metres, radians * away)
            reach = min(REACH, int(np.ceil(_APART * focal * gap / away)))
            limit = away + max(_STEEP * max(gap, away / focal), _BEHIND * away)
            for r in range(max(0, row - reach), min(height, row + reach + 1)):
                for c in range(max(0, column - reach), min(width, column + reach + 1)):
                    sector = sectors[r - row + REACH, c - column + REACH]
                    front[sector, r, c] = min(front[sector, r, c], limit)
    for row in range(height):
        for column in range(width):
            for sector in range(4):
                if depth[row, column] > max(front[sector, row, column], front[sector + 4, row, column]):
                    depth[row, column] = 0
                    break


@njit(cache=True, nogil=True)
def at_centres(samples: F64) -> F64:
    """Depth (H, W) [m] at pixel centres from samples (H, W, 3) within the pixels.

    On a plane the inverse of depth is linear in the image: it is fitted to the samples of 3x3 pixels, of 5x5 where
    these are few. A sample without a plane through it keeps its depth; a gap is filled only between samples of a plane.
    """
    height, width = samples.shape[:2]
    depth = samples[..., 0].copy()
    for row in range(2, height - 2):
        for column in range(2, width - 2):
            own = samples[row, column, 0]
            for reach in (1, 2):
                m = np.zeros((3, 3))
                right = np.zeros(3)
                squares, count = 0.0, 0
                left, most, top, low = 0.0, 0.0, 0.0, 0.0
                nearest, farthest = np.inf, 0.0
                for r in range(row - reach, row + reach + 1):
                    for c in range(column - reach, column + reach + 1):
                        away = samples[r, c, 0]
                        if away == 0 or (own > 0 and abs(away - own) > _SAME_SURFACE * own):
                            continue
                        x, y = c - column + samples[r, c, 1], r - row + samples[r, c, 2]
                        inverse = 1 / away
                        m[0, 0] += 1
                        m[0, 1] += x
                        m[0, 2] += y
                        m[1, 1] += x * x
                        m[1, 2] += x * y
                        m[2, 2] += y * y
                        right[0] += inverse
                        right[1] += inverse * x
                        right[2] += inverse * y
                        squares += inverse * inverse
                        count += 1
                        nearest, farthest = min(nearest, away), max(farthest, away)
                        left, most, top, low = min(left, x), max(most, x), min(top, y), max(low, y)
                if count < _MIN_SAMPLES:
                    continue
                m[1, 0], m[2, 0], m[2, 1] = m[0, 1], m[0, 2], m[1, 2]
                a, b, c0 = m[0], m[1], m[2]
                determinant = (
                    a[0] * (b[1] * c0[2] - b[2] * c0[1])
                    - a[1] * (b[0] * c0[2] - b[2] * c0[0])
                    + a[2] * (b[0] * c0[1] - b[1] * c0[0])
                )
                if determinant < 0.05 * count:  # samples in a line
                    continue
                plane = np.linalg.solve(m, right)
                rest = max(squares - right @ plane, 0.0)
                if plane[0] <= 0 or np.sqrt(rest / count) > max(_FLAT, _NOISE * plane[0]) * plane[0]:
                    break
                between = min(-left, most, -top, low) > 0.25 and farthest < (1 + _SAME_SURFACE) * nearest
                if own > 0 or between:
                    depth[row, column] = 1 / plane[0]
                break
    return depth


@njit(cache=True, nogil=True)
def unpack_lzf(packed: U8, unpacked: U8) -> int:
    """Bytes unpacked, or -1 where they don't fit (M. Lehmann, LibLZF)."""
    i = o = 0
    while i < len(packed):
        control = int(packed[i])
        i += 1
        if control < 32:
            length = control + 1
            if i + length > len(packed) or o + length > len(unpacked):
                return -1
            for k in range(length):
                unpacked[o + k] = packed[i + k]
            i += length
            o += length
            continue
        length = control >> 5
        if i + 1 + (length == 7) > len(packed):
            return -1
        if length == 7:
            length += int(packed[i])
            i += 1
        start = o - ((control & 31) << 8) - int(packed[i]) - 1
        i += 1
        length += 2
        if start < 0 or o + length > len(unpacked):
            return -1
        for k in range(length):  # the two ranges may overlap
            unpacked[o + k] = unpacked[start + k]
        o += length
    return o
