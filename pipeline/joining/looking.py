"""What one camera sees where another saw it: surfaces that are met or looked through, features that are shown again."""

from __future__ import annotations

import numpy as np

from pipeline.geometry.jit import njit
from pipeline.poses.by_depth.pairs import Frames, inverses
from pipeline.poses.by_depth.surfels import IS_THERE, NORMAL_X, NORMAL_Y, NORMAL_Z, X, Y, Z
from pipeline.poses.matching import LENGTH
from pipeline.types import F32, F64, I64, U8, Mask

REACH = 4.5
"""Depth from which on it says nothing [m]."""
NEAREST, FACING = 0.3, 0.25
"""Least depth that counts [m], and least cosine of a ray to its surface: walls have two sides."""
EDGE = 0.1
"""At a camera's edges of depth nothing is said: neighbours differ there by more than this share."""
MET = 0.1
"""Surfaces nearer to each other than that, along their normal, are one [m]."""
THROUGH, THROUGH_SHARE = 0.15, 0.04
"""A camera looks through what is so much nearer than what it sees [m, and share of the depth]."""


def look(frames: Frames, poses: F64, pairs: I64) -> tuple[I64, I64]:
    """How often surfels (N, H, W) are met in the pairs (M, 2), and how often they are looked through.

    Each pair's second frame looks at the surfaces of its first, under world_from_frame poses (N, 4, 4).
    """
    met, through = (np.zeros(frames.surfels.shape[:3], np.int64) for _ in range(2))
    relative = inverses(poses[pairs[:, 1]]) @ poses[pairs[:, 0]]
    _look(frames.surfels, frames.lenses, frames.stride, relative, pairs, met, through)
    return met, through


def shown_again(pixels: F64, others: F64, descriptors: U8, other: U8, radius: F64, angle: float) -> Mask:
    """Which features at pixels (N, 2) have one of the others (M, 2) near, with a like descriptor (N or M, 128).

    Within a radius (N,) [pixels' unit] and an angle [rad].
    """
    found = np.zeros(len(pixels), np.bool_)
    _shown_again(pixels, others, descriptors, other, radius**2, LENGTH**2 * float(np.cos(angle)), found)
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def _shown_again(pixels: F64, others: F64, descriptors: U8, other: U8, radius: F64, least: float, found: Mask) -> None:
    for n in range(len(pixels)):
        for m in range(len(others)):
            if (pixels[n, 0] - others[m, 0]) ** 2 + (pixels[n, 1] - others[m, 1]) ** 2 < radius[n]:
                product = 0.0
                for k in range(descriptors.shape[1]):
                    product += float(descriptors[n, k]) * float(other[m, k])
                if product > least:
                    found[n] = True
                    break


@njit(cache=True, nogil=True, error_model="numpy")
def _look(surfels: F32, lenses: F64, stride: int, relative: F64, pairs: I64, met: I64, through: I64) -> None:
    height, width = surfels.shape[1:3]
    for k in range(len(pairs)):
        i, j = pairs[k]
        t = relative[k]
        for row in range(0, height, 2):
            for column in range((row // 2) % 2, width, 2):
                one = surfels[i, row, column]
                if one[IS_THERE] == 0:
                    continue
                x = t[0, 0] * one[X] + t[0, 1] * one[Y] + t[0, 2] * one[Z] + t[0, 3]
                y = t[1, 0] * one[X] + t[1, 1] * one[Y] + t[1, 2] * one[Z] + t[1, 3]
                z = t[2, 0] * one[X] + t[2, 1] * one[Y] + t[2, 2] * one[Z] + t[2, 3]
                if z < NEAREST or z > REACH:
                    continue
                at_row = int(np.floor((lenses[j, 1] * y / z + lenses[j, 3]) / stride))
                at_column = int(np.floor((lenses[j, 0] * x / z + lenses[j, 2]) / stride))
                if at_row < 1 or at_column < 1 or at_row >= height - 1 or at_column >= width - 1:
                    continue
                facing = 0.0
                for axis in range(3):
                    turned = t[axis, 0] * one[NORMAL_X] + t[axis, 1] * one[NORMAL_Y] + t[axis, 2] * one[NORMAL_Z]
                    facing -= turned * (x if axis == 0 else y if axis == 1 else z)
                facing /= np.sqrt(x * x + y * y + z * z)
                if facing < FACING:
                    continue
                least, most = np.inf, 0.0
                for down in range(-1, 2):
                    for right in range(-1, 2):
                        other = surfels[j, at_row + down, at_column + right]
                        depth = other[Z] if other[IS_THERE] != 0 else 0.0
                        least, most = min(least, depth), max(most, depth)
                if least <= 0 or most - least > EDGE * least:
                    continue
                behind = surfels[j, at_row, at_column, Z] - z
                if abs(behind) * facing < MET:
                    met[i, row, column] += 1
                elif behind > THROUGH + THROUGH_SHARE * z:
                    through[i, row, column] += 1
