"""Which frames see the same surfaces under given poses, and how well those agree there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipeline.geometry.jit import njit
from pipeline.poses.by_depth.surfels import IS_THERE, NORMAL_X, NORMAL_Y, NORMAL_Z, SIGMA, X, Y, Z
from pipeline.types import F32, F64, I64

FARTHEST = 7.0
"""Distance of two cameras beyond which they are not compared [m]."""
COARSE = 6
"""Every so many cells, each way, are looked at for the overlap of two frames."""
NEIGHBOURS, OTHERS, APART = 3, 16, 8
"""Frames before and after each that it is compared with, and others at most, so many frames apart at least."""
LEAST_OVERLAP, LEAST_SAMPLE = 0.12, 20
"""Least share of a frame's surfels that another sees, and least number of those looked at."""
ALIKE = np.cos(np.deg2rad(32))
"""Least cosine between normals of one surface."""
THROUGH, THROUGH_SHARE = 0.12, 0.03
"""A frame looks through another's surface that is so much in front of its own [m, and share of the depth]."""
INDEPENDENT = 60
"""Measurements that a pair counts for at most: errors of a depth image are shared by its pixels."""
ROBUST = 3.0
"""Sigmas at which a measurement counts a quarter (Geman and McClure)."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Depth images in the order of time.

    Attributes:
        surfels: (N, H, W, 8), see `surfels`.
        lenses: (N, 4) focal lengths and centres of the depth images [px].
        stride: Edge of a cell [px].
        steps: (S, 2) frames that follow each other, of one camera.
    """

    surfels: F32
    lenses: F64
    stride: int
    steps: I64


class Agreement(NamedTuple):
    """What comparing M pairs (i, j) gives: surfels of i on those of j.

    Attributes:
        hessian, gradient: (M, 12, 12) and (M, 12), by a shift [m] and a turn [rad] of i in its own axes, then of j.
        seen: (M,) surfels of i that fall on surfels of j.
        near: (M,) those of them within the gate, with a like normal.
        through: (M,) those that j looks through.
        weight, cost: (M,) sums of the weights, and of the weighted squares of their distances in sigmas.
    """

    hessian: F64
    gradient: F64
    seen: F64
    near: F64
    through: F64
    weight: F64
    cost: F64


def compare(frames: Frames, poses: F64, pairs: I64, gate: float) -> Agreement:
    """Compare pairs (M, 2) under world_from_frame poses (N, 4, 4); distances above `gate` [m] don't count.

    Point to plane: the distance of i's middle from j's plane, where it projects to.
    """
    count = len(pairs)
    found = Agreement(np.zeros((count, 12, 12)), np.zeros((count, 12)), *np.zeros((5, count)))
    relative = inverses(poses[pairs[:, 1]]) @ poses[pairs[:, 0]]
    _compare(frames.surfels, frames.lenses, frames.stride, relative, pairs, gate, *found)
    share = np.minimum(1, INDEPENDENT / np.maximum(found.near, 1))
    return found._replace(hessian=found.hessian * share[:, None, None], gradient=found.gradient * share[:, None])


def pairs_of(frames: Frames, poses: F64, gate: float) -> I64:
    """Pairs (M, 2) to compare, both ways: neighbours in time, and others by overlap, spread in time.

    `poses` (N, 4, 4) place them, to within `gate` [m].
    """
    overlap = np.zeros((len(poses), len(poses)))
    _overlaps(frames.surfels, frames.lenses, frames.stride, poses, inverses(poses), gate, overlap)
    chosen = {
        (i, j)
        for i in range(len(poses))
        for j in range(max(0, i - NEIGHBOURS), min(len(poses), i + NEIGHBOURS + 1))
        if i != j and overlap[i, j] > LEAST_OVERLAP / 2
    }
    for i in range(len(poses)):
        taken: list[int] = []
        for j in map(int, np.argsort(-overlap[i], kind="stable")):
            if overlap[i, j] < LEAST_OVERLAP or len(taken) == OTHERS:
                break
            if abs(i - j) > NEIGHBOURS and all(abs(j - other) >= APART for other in taken):
                taken.append(j)
        chosen.update((i, j) for j in taken)
    return both_ways(sorted(chosen))


def inverses(poses: F64) -> F64:
    """Inverses (N, 4, 4) of rigid motions (N, 4, 4)."""
    result = np.zeros_like(poses)
    result[:, :3, :3] = np.swapaxes(poses[:, :3, :3], 1, 2)
    result[:, :3, 3] = -np.einsum("nji,nj->ni", poses[:, :3, :3], poses[:, :3, 3])
    result[:, 3, 3] = 1
    return result


def both_ways(pairs: Sequence[tuple[int, int]]) -> I64:
    """The pairs (M, 2) and their reverse, each once."""
    return np.array(sorted({*pairs, *((j, i) for i, j in pairs)}), np.int64).reshape(-1, 2)


@njit(cache=True, nogil=True, error_model="numpy")
def _overlaps(surfels: F32, lenses: F64, stride: int, poses: F64, inverse: F64, gate: float, overlap: F64) -> None:
    """Write the share of a sample of each frame's surfels that each other frame sees at their depth (N, N)."""
    height, width = surfels.shape[1:3]
    for i in range(len(poses)):
        for j in range(len(poses)):
            away = 0.0
            for axis in range(3):
                away += (poses[i, axis, 3] - poses[j, axis, 3]) ** 2
            if i == j or away > FARTHEST * FARTHEST:
                continue
            turn = np.zeros((3, 4))
            for a in range(3):
                for b in range(4):
                    turn[a, b] = inverse[j, a, 3] if b == 3 else 0.0
                    for c in range(3):
                        turn[a, b] += inverse[j, a, c] * poses[i, c, b]
            sample, same = 0, 0
            for row in range(COARSE // 2, height, COARSE):
                for column in range(COARSE // 2, width, COARSE):
                    one = surfels[i, row, column]
                    if one[IS_THERE] == 0:
                        continue
                    sample += 1
                    x, y, z = _moved(turn, one[X], one[Y], one[Z])
                    if z < 0.2:
                        continue
                    at_row = int(np.floor((lenses[j, 1] * y / z + lenses[j, 3]) / stride))
                    at_column = int(np.floor((lenses[j, 0] * x / z + lenses[j, 2]) / stride))
                    if 0 <= at_row < height and 0 <= at_column < width:
                        other = surfels[j, at_row, at_column]
                        same += other[IS_THERE] != 0 and abs(other[Z] - z) < gate + 0.05 * z
            if sample >= LEAST_SAMPLE:
                overlap[i, j] = same / sample


@njit(cache=True, nogil=True)
def _moved(pose: F64, x: float, y: float, z: float) -> tuple[float, float, float]:
    return (
        pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * z + pose[0, 3],
        pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * z + pose[1, 3],
        pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * z + pose[2, 3],
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _compare(
    surfels: F32,
    lenses: F64,
    stride: int,
    relative: F64,
    pairs: I64,
    gate: float,
    hessian: F64,
    gradient: F64,
    seen: F64,
    near: F64,
    through: F64,
    weights: F64,
    cost: F64,
) -> None:
    height, width = surfels.shape[1:3]
    slope = np.zeros(12)
    for k in range(len(pairs)):
        i, j = pairs[k]
        j_from_i = relative[k]
        for row in range(k % 2, height, 2):
            for column in range((k + row // 2) % 2, width, 2):
                one = surfels[i, row, column]
                if one[IS_THERE] == 0:
                    continue
                x, y, z = _moved(j_from_i, one[X], one[Y], one[Z])
                if z < 0.2:
                    continue
                at_row = int(np.floor((lenses[j, 1] * y / z + lenses[j, 3]) / stride))
                at_column = int(np.floor((lenses[j, 0] * x / z + lenses[j, 2]) / stride))
                if at_row < 0 or at_column < 0 or at_row >= height or at_column >= width:
                    continue
                other = surfels[j, at_row, at_column]
                if other[IS_THERE] == 0:
                    continue
                seen[k] += 1
                through[k] += z < other[Z] - (THROUGH + THROUGH_SHARE * z)
                a, b, c = other[NORMAL_X], other[NORMAL_Y], other[NORMAL_Z]
                # the plane's normal in the axes of i
                for axis in range(3):
                    slope[axis] = j_from_i[0, axis] * a + j_from_i[1, axis] * b + j_from_i[2, axis] * c
                if slope[0] * one[NORMAL_X] + slope[1] * one[NORMAL_Y] + slope[2] * one[NORMAL_Z] < ALIKE:
                    continue
                distance = a * (x - other[X]) + b * (y - other[Y]) + c * (z - other[Z])
                # a plane is known round its cell only
                if abs(distance) > gate or abs(z - other[Z]) > 0.15 * z + gate:
                    continue
                variance = one[SIGMA] ** 2 + other[SIGMA] ** 2
                square = distance * distance / variance
                weight = 1 / (1 + square / (ROBUST * ROBUST)) ** 2
                near[k] += 1
                weights[k] += weight
                cost[k] += weight * square
                slope[3] = one[Y] * slope[2] - one[Z] * slope[1]
                slope[4] = one[Z] * slope[0] - one[X] * slope[2]
                slope[5] = one[X] * slope[1] - one[Y] * slope[0]
                slope[6], slope[7], slope[8] = -a, -b, -c
                slope[9], slope[10], slope[11] = -(y * c - z * b), -(z * a - x * c), -(x * b - y * a)
                for p in range(12):
                    scaled = weight / variance * slope[p]
                    gradient[k, p] -= scaled * distance
                    for q in range(12):
                        hessian[k, p, q] += scaled * slope[q]
