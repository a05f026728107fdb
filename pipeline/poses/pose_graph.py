"""Optimisation of a graph of relative poses, such as a sensor's track with loop closures from the images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from scipy.sparse.linalg import spsolve

from pipeline.geometry import Pose, matrix_from_rotvec, rotvec_from_matrix
from pipeline.types import F64, Floats

Function = Callable[[F64, F64], F64]

STEPS, MIN_STEP = 40, 1e-5
ROBUST = 3.0
"""Residuals beyond so many sigmas have less weight at the end."""
ANCHOR = 1e-3
"""One sigma of the first pose, which fixes the frame [m, rad]."""
DIFFERENCE = 1e-6


@dataclass(frozen=True, eq=False)
class Edge:
    """A relative pose a_from_b with one sigma of position [m] and rotation [rad]; a and b are image ids."""

    a: int
    b: int
    a_from_b: Pose
    position: float
    rotation: float


def median_rotation(rotations: F64, start: F64, rounds: int) -> F64:
    """Robust mean (3, 3) of rotations (N, 3, 3) by the median of their rotation vectors relative to the last mean."""
    mean = start
    for _ in range(rounds):
        mean = matrix_from_rotvec(np.median(rotvec_from_matrix(rotations @ mean.T), axis=0)) @ mean
    return mean


def optimise(poses: Mapping[int, Pose], edges: Sequence[Edge], up: Floats | None, up_sigma: float) -> dict[int, Pose]:
    """Poses that agree best with the edges and preserve each camera's angle to gravity.

    Gauss-Newton with the Geman-McClure loss; the weight of outliers decreases gradually. Source: H. Yang, P. Antonante,
    V. Tzoumas and L. Carlone, Graduated non-convexity for robust spatial perception, RA-L 2020.

    The edges must connect all poses, initial world_from_camera by image id [m]. `up` (3,) is the unit up direction in
    the world, if known, and `up_sigma` one sigma of the poses' tilt against it [rad].
    """
    ids = sorted(poses)
    row = {i: n for n, i in enumerate(ids)}
    rotations = np.array([poses[i].rotation for i in ids])
    centres = np.array([poses[i].translation for i in ids])
    first, second = (np.array([row[i] for i in side]) for side in zip(*((e.a, e.b) for e in edges), strict=True))
    measured = np.array([e.a_from_b.rotation for e in edges])
    shift = np.array([e.a_from_b.translation for e in edges])
    sigma = np.array([[e.position] * 3 + [e.rotation] * 3 for e in edges])
    upward = np.zeros(3) if up is None else np.asarray(up, np.float64)
    anchor = rotations[0].copy(), centres[0].copy()

    def residual(ra: F64, ca: F64, rb: F64, cb: F64) -> F64:
        offset = np.einsum("nji,nj->ni", ra, cb - ca) - shift
        relative = np.swapaxes(measured, 1, 2) @ np.swapaxes(ra, 1, 2) @ rb
        return np.c_[offset, rotvec_from_matrix(relative)] / sigma

    def tilt(rotations: F64, _: F64) -> F64:
        return np.einsum("nji,j->ni", rotations, upward) / up_sigma

    given, spread = tilt(rotations, centres), np.inf
    for _ in range(STEPS):
        a, b = (rotations[first], centres[first]), (rotations[second], centres[second])
        value = residual(*a, *b)
        squared = (value**2).sum(1)
        spread = max(float(squared.max()), ROBUST**2) if np.isinf(spread) else max(spread / 1.4, ROBUST**2)
        weight = (spread / (spread + squared)) ** 2
        blocks = [
            _jacobian(lambda r, c, b=b: residual(r, c, *b), *a, value),
            _jacobian(partial(residual, *a), *b, value),
        ]
        normal, right = _normal(blocks, [first, second], value, weight, len(ids))
        if up is not None:
            angle = tilt(rotations, centres) - given
            block = _jacobian(tilt, rotations, centres, angle + given)
            extra, extra_right = _normal([block], [np.arange(len(ids))], angle, np.ones(len(ids)), len(ids))
            normal, right = normal + extra, right + extra_right
        held = np.r_[centres[0] - anchor[1], rotvec_from_matrix(anchor[0].T @ rotations[0])] / ANCHOR**2
        right[:6] -= held
        normal = normal + sparse.coo_array((np.full(6, ANCHOR**-2), (np.arange(6), np.arange(6))), normal.shape)
        step = np.asarray(spsolve(sparse.csc_array(normal), right)).reshape(-1, 6)
        centres = centres + step[:, :3]
        rotations = rotations @ matrix_from_rotvec(step[:, 3:])
        if np.abs(step).max() < MIN_STEP and spread <= ROBUST**2:
            break
    return {i: Pose(rotations[n], centres[n]) for i, n in row.items()}


def _jacobian(function: Function, rotations: F64, centres: F64, value: F64) -> F64:
    """Derivatives (N, K, 6) of a function's rows (N, K) by shift in the world and rotation in the camera."""
    columns = []
    for k in range(6):
        change = np.zeros(3)
        change[k % 3] = DIFFERENCE
        moved = (rotations, centres + change) if k < 3 else (rotations @ matrix_from_rotvec(change), centres)
        columns.append((function(*moved) - value) / DIFFERENCE)
    return np.stack(columns, -1)


def _normal(
    blocks: Sequence[F64], owners: Sequence[NDArray[np.intp]], value: F64, weight: F64, count: int
) -> tuple[sparse.csc_array, F64]:
    """Normal equations (6 count, 6 count) and right side of weighted rows."""
    right = np.zeros((count, 6))
    rows, columns, entries = [], [], []
    for block, owner in zip(blocks, owners, strict=True):
        np.add.at(right, owner, -np.einsum("n,nk,nkc->nc", weight, value, block))
        for other, other_owner in zip(blocks, owners, strict=True):
            entries.append(np.einsum("n,nkc,nkd->ncd", weight, block, other).ravel())
            index = np.arange(6)
            shape = (len(owner), 6, 6)
            rows.append(np.broadcast_to(6 * owner[:, None, None] + index[:, None], shape).ravel())
            columns.append(np.broadcast_to(6 * other_owner[:, None, None] + index, shape).ravel())
    stacked = np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns))
    return sparse.csc_array(sparse.coo_array(stacked, (6 * count, 6 * count))), right.ravel()
