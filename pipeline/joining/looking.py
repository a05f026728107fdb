"""What one camera sees where another saw it: surfaces met or looked through, features and colours shown again."""

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

WAY, SHARPER = 0.06, 1.8
"""What lies off by that much [m], or by a surfel, is no other colour; how much farther it may have been seen."""
ENOUGH = 50
"""Surfels that two frames must share for their brightness to be compared."""
OTHER = 0.05
"""Logarithm of a ratio, of brightness or of two channels, beyond all that is seen around, that is another colour."""

FAR, DISTANT = 4.2, 5.5
"""Beyond that depth nothing is measured, or little; and how far away it is taken to be [m]."""
BESIDE, ASIDE = 0.35, 0.5
"""Cameras nearer than that see the same beyond [m], shifted by at most that part of their distance at FAR."""
FAR_OTHER, FAR_ENOUGH = 0.1, 10
"""As OTHER and ENOUGH for what is far."""


def look(frames: Frames, poses: F64, pairs: I64) -> tuple[I64, I64]:
    """How often surfels (N, H, W) are met in the pairs (M, 2), and how often they are looked through.

    Each pair's second frame looks at the surfaces of its first, under world_from_frame poses (N, 4, 4).
    """
    met, through = (np.zeros(frames.surfels.shape[:3], np.int64) for _ in range(2))
    relative = inverses(poses[pairs[:, 1]]) @ poses[pairs[:, 0]]
    _look(frames.surfels, frames.lenses, frames.stride, relative, pairs, met, through)
    return met, through


def look_far(frames: Frames, colours: F32, poses: F64, pairs: I64) -> Mask:
    """Surfels (N, H, W) too far for depth that the second frames of pairs (M, 2) beside them mostly see otherwise."""
    compared, other = (np.zeros(frames.surfels.shape[:3], np.int64) for _ in range(2))
    relative = inverses(poses[pairs[:, 1]]) @ poses[pairs[:, 0]]
    beside = np.linalg.norm(relative[:, :3, 3], axis=1) < BESIDE
    lenses = frames.lenses / frames.stride
    _look_far(frames.surfels, lenses, colours, relative[beside], pairs[beside], compared, other)
    return np.asarray(other > compared / 2)


@njit(cache=True, nogil=True, error_model="numpy")
def _look_far(surfels: F32, lenses: F64, colours: F32, relative: F64, pairs: I64, compared: I64, other: I64) -> None:
    height, width = surfels.shape[1:3]
    hits, off = np.zeros((height * width, 4), np.int64), np.zeros((height * width, 3))
    for k in range(len(pairs)):
        i, j = pairs[k]
        lens, motion, count = lenses[j], relative[k], 0
        way = np.sqrt((motion[:3, 3] ** 2).sum())
        radius = int(np.ceil(1 + (WAY + ASIDE * way) * lens[0] / FAR))
        for row in range(radius, height - radius):
            for column in range(radius, width - radius):
                if not _far_around(surfels[i], colours[i], row, column, radius):
                    continue
                x = (column + 0.5 - lenses[i, 2]) / lenses[i, 0] * DISTANT
                y = (row + 0.5 - lenses[i, 3]) / lenses[i, 1] * DISTANT
                u, v, w = motion[:3, 0] * x + motion[:3, 1] * y + motion[:3, 2] * DISTANT + motion[:3, 3]
                if w < FAR / 2:
                    continue
                at_row, at_column = int(np.floor(lens[1] * v / w + lens[3])), int(np.floor(lens[0] * u / w + lens[2]))
                if min(at_row, at_column) < radius or max(at_row - height, at_column - width) + radius >= 0:
                    continue
                if _far_around(surfels[j], colours[j], at_row, at_column, radius):
                    hits[count] = row, column, at_row, at_column
                    off[count] = colours[i, row, column] - colours[j, at_row, at_column]
                    count += 1
        if count < FAR_ENOUGH:
            continue
        gain = np.array([np.median(off[:count, channel]) for channel in range(3)])
        for n in range(count):
            row, column, at_row, at_column = hits[n]
            compared[i, row, column] += 1
            colour = colours[i, row, column] - gain
            other[i, row, column] += _beyond(colour, colours[j], at_row, at_column, radius) > FAR_OTHER


@njit(cache=True, nogil=True, error_model="numpy")
def _far_around(surfels: F32, colours: F32, row: int, column: int, radius: int) -> bool:
    """Whether nothing near is seen around a place, and all colours are known."""
    for r in range(row - radius, row + radius + 1):
        for c in range(column - radius, column + radius + 1):
            near = surfels[r, c, IS_THERE] != 0 and surfels[r, c, Z] < FAR
            if near or np.isnan(colours[r, c, 0]):
                return False
    return True


def shown_again(pixels: F64, others: F64, descriptors: U8, other: U8, radius: F64, angle: float) -> Mask:
    """Which features at pixels (N, 2) have one of the others (M, 2) near, with a like descriptor (N or M, 128).

    Within a radius (N,) [pixels' unit] and an angle [rad].
    """
    found = np.zeros(len(pixels), np.bool_)
    _shown_again(pixels, others, descriptors, other, radius**2, LENGTH**2 * float(np.cos(angle)), found)
    return found


def look_for_colours(frames: Frames, colours: F32, poses: F64, pairs: I64) -> tuple[I64, I64, I64]:
    """How often surfels (N, H, W) are compared with what is seen around them, and how often they have another colour.

    Each pair's second frame (M, 2) looks at the surfaces of its first, at most a little nearer than that; `colours`
    (N, H, W, 3) as of submaps. Two frames may differ in brightness and white balance. The third is how often they
    would have another colour on the other side of the image: plain walls tell nothing.
    """
    compared, other, telling = (np.zeros(frames.surfels.shape[:3], np.int64) for _ in range(3))
    relative = inverses(poses[pairs[:, 1]]) @ poses[pairs[:, 0]]
    _look_for_colours(frames.surfels, frames.lenses / frames.stride, colours, relative, pairs, compared, other, telling)
    return compared, other, telling


@njit(cache=True, nogil=True, error_model="numpy")
def _look_for_colours(
    surfels: F32, lenses: F64, colours: F32, relative: F64, pairs: I64, compared: I64, other: I64, telling: I64
) -> None:
    height, width = surfels.shape[1:3]
    hits, off = np.zeros((height * width, 5), np.int64), np.zeros((height * width, 3))
    for k in range(len(pairs)):
        i, j = pairs[k]
        count = _shared(surfels[i], surfels[j], lenses[j], colours[i], colours[j], relative[k], hits, off)
        if count < ENOUGH:
            continue
        gain = np.array([np.median(off[:count, channel]) for channel in range(3)])
        for n in range(count):
            row, column, at_row, at_column, radius = hits[n]
            colour = colours[i, row, column] - gain
            beyond = _beyond(colour, colours[j], at_row, at_column, radius)
            if not np.isnan(beyond):
                compared[i, row, column] += 1
                other[i, row, column] += beyond > OTHER
                telling[i, row, column] += _beyond(colour, colours[j], at_row, width - 1 - at_column, radius) > OTHER


@njit(cache=True, nogil=True, error_model="numpy")
def _shared(surfels: F32, others: F32, lens: F64, colours: F32, there: F32, motion: F64, hits: I64, off: F64) -> int:
    """The number of surfels that another frame sees, too: row, column, those there, and a radius; by how much off."""
    count = 0
    for row in range(surfels.shape[0]):
        for column in range(surfels.shape[1]):
            one = surfels[row, column].astype(np.float64)
            if one[IS_THERE] == 0 or np.isnan(colours[row, column, 0]):
                continue
            middle, normal = one[X : Z + 1], one[NORMAL_X : NORMAL_Z + 1]
            x, y, z = motion[:3, 0] * middle[0] + motion[:3, 1] * middle[1] + motion[:3, 2] * middle[2] + motion[:3, 3]
            if z < NEAREST or z > REACH or z > 1.1 * one[Z] or SHARPER * z < one[Z]:
                continue
            at_row, at_column = int(np.floor(lens[1] * y / z + lens[3])), int(np.floor(lens[0] * x / z + lens[2]))
            radius = int(np.ceil(1 + WAY * lens[0] / z))
            beyond = max(at_row - others.shape[0], at_column - others.shape[1]) + radius
            if min(at_row, at_column) < radius or beyond >= 0:
                continue
            turned = motion[:3, 0] * normal[0] + motion[:3, 1] * normal[1] + motion[:3, 2] * normal[2]
            facing = -(turned[0] * x + turned[1] * y + turned[2] * z) / np.sqrt(x * x + y * y + z * z)
            here = -(middle * normal).sum() / np.sqrt((middle * middle).sum())
            seen = others[at_row, at_column]
            if min(facing, here) < FACING or seen[IS_THERE] == 0 or abs(seen[Z] - z) > MET + 0.03 * z:
                continue
            if not np.isnan(there[at_row, at_column, 0]):
                hits[count] = row, column, at_row, at_column, radius
                off[count] = colours[row, column] - there[at_row, at_column]
                count += 1
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def _beyond(colour: F64, others: F32, at_row: int, at_column: int, radius: int) -> float:
    """By how much a colour (3,) lies beyond all others (H, W, 3) around a place; nan where one is unknown."""
    most = 0.0
    for channel in range(3):
        low, high = np.inf, -np.inf
        for down in range(-radius, radius + 1):
            for right in range(-radius, radius + 1):
                if down * down + right * right <= radius * radius + 1:
                    value = others[at_row + down, at_column + right, channel]
                    if np.isnan(value):
                        return np.nan
                    low, high = min(low, value), max(high, value)
        most = max(most, colour[channel] - high, low - colour[channel])
    return most


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
