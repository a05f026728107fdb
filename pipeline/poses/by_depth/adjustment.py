"""Poses by depth and by what was given, in one Gauss-Newton.

Terms are the distances between the surfaces of frames that overlap (point to plane), the matches of their images, the
given poses, and the given steps between neighbours in time. What neither depth nor images tell, such as the way along a
white corridor, adds nothing to the normal equations, and the given poses decide. Frame by frame against a map, errors
would be kept for good; all at once, they are not. Sources: Y. Chen and G. Medioni, Object modelling by registration of
multiple range images, IVC 1992; K. Pulli, Multiview registration for large data sets, 3DIM 1999.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from pipeline.geometry import matrix_from_rotvec, rotvec_from_matrix
from pipeline.poses.by_depth.matched import Matched, cross_matrices
from pipeline.poses.by_depth.pairs import Frames, compare, inverses
from pipeline.types import F64, I64, Mask

SMALL = 5e-4
"""A step of the solver below it [m] is the last."""
STEP_ROBUST = 18.0
"""Square of the distance, in sigmas of all six, at which a given step counts half."""
OPTIMISTIC = 2.2
"""Errors by the sigmas of the normal equations, found in generated places: errors of depth images are correlated."""


@dataclass(frozen=True, eq=False)
class Given:
    """Poses (N, 4, 4) as given, and how sure they are, per axis.

    Attributes:
        position, rotation: One sigma of a pose [m, rad].
        step_position, step_rotation: One sigma of a step between neighbours in time [m, rad].
        cut: (S,) steps that nothing is known about: the tracking jumped there.
    """

    poses: F64
    position: float
    rotation: float
    step_position: float
    step_rotation: float
    cut: Mask


@dataclass(frozen=True, eq=False)
class Adjusted:
    """Poses (N, 4, 4), and one sigma of each per axis [m, rad], (N,) both."""

    poses: F64
    position: F64
    rotation: F64


def adjust(
    frames: Frames,
    given: Given,
    start: F64,
    pairs: I64,
    gates: Sequence[float],
    free: Mask | None = None,
    matched: Matched | None = None,
) -> Adjusted:
    """Improve poses (N, 4, 4) from `start`; only those that are `free` (N,) move, all by default.

    Each step has its gate [m]; the last one's is repeated twice unless nothing moves any more.
    """
    count = len(start)
    moving = np.arange(count) if free is None else np.flatnonzero(free)
    rows = (6 * moving[:, None] + np.arange(6)).ravel()
    poses, factor = start.copy(), None
    for gate in (*gates, gates[-1], gates[-1]):
        matrix, right = np.zeros((count, 6, count, 6)), np.zeros((count, 6))
        _add_depth(matrix, right, frames, poses, pairs, gate)
        if matched is not None:
            scatter(matrix, right, matched.pairs, *matched.compare(poses))
        _add_given(matrix, right, given, poses)
        _add_steps(matrix, right, given, poses, frames.steps)
        normal = matrix.reshape(6 * count, 6 * count)[np.ix_(rows, rows)]
        factor = cho_factor(normal, lower=True, check_finite=False)
        change = np.zeros((count, 6))
        change[moving] = cho_solve(factor, right.ravel()[rows], check_finite=False).reshape(-1, 6)
        poses = moved(poses, change)
        if gate == gates[-1] and np.abs(change[:, :3]).max() < SMALL:
            break
    variances = np.zeros((count, 6))
    if factor is not None:
        variances[moving] = np.diagonal(cho_solve(factor, np.eye(len(rows)), check_finite=False)).reshape(-1, 6)
    sigmas = OPTIMISTIC * np.sqrt(variances)
    return Adjusted(poses, sigmas[:, :3].mean(1), sigmas[:, 3:].mean(1))


def moved(poses: F64, change: F64) -> F64:
    """Poses (N, 4, 4) after a shift [m] and a turn [rad] in their own axes (N, 6)."""
    result = poses.copy()
    result[:, :3, 3] += np.einsum("nij,nj->ni", poses[:, :3, :3], change[:, :3])
    result[:, :3, :3] = poses[:, :3, :3] @ matrix_from_rotvec(change[:, 3:])
    return result


def differences(poses: F64, others: F64) -> F64:
    """Shift [m] and turn [rad] (N, 6), in their own axes, that bring poses (N, 4, 4) to others."""
    relative = inverses(poses) @ others
    return np.concatenate([relative[:, :3, 3], rotvec_from_matrix(relative[:, :3, :3])], 1)


def _add_depth(matrix: F64, right: F64, frames: Frames, poses: F64, pairs: I64, gate: float) -> None:
    found = compare(frames, poses, pairs, gate)
    scatter(matrix, right, pairs, found.hessian, found.gradient)


def _add_given(matrix: F64, right: F64, given: Given, poses: F64) -> None:
    """Pose = given pose with a small shift and turn."""
    off = differences(given.poses, poses)
    turn = np.swapaxes(given.poses[:, :3, :3], 1, 2) @ poses[:, :3, :3]
    weight = np.repeat([given.position**-2, given.rotation**-2], 3)
    off[:, :3] = np.einsum("nji,nj->ni", turn, off[:, :3])
    frame = np.arange(len(poses))
    for axis in range(6):
        matrix[frame, axis, frame, axis] += weight[axis]
    right -= weight * off


def _add_steps(matrix: F64, right: F64, given: Given, poses: F64, steps: I64) -> None:
    """Step = given step with a small shift and turn."""
    a, b = steps[~given.cut].T
    expected = inverses(given.poses[a]) @ given.poses[b]
    step = inverses(poses[a]) @ poses[b]
    off = differences(expected, step)
    weight = np.repeat([given.step_position**-2, given.step_rotation**-2], 3)
    weights = weight / (1 + (weight * off**2).sum(1, keepdims=True) / STEP_ROBUST)
    by_second = np.zeros((len(a), 6, 6))
    by_second[:, :3, :3] = np.swapaxes(expected[:, :3, :3], 1, 2) @ step[:, :3, :3]
    by_second[:, 3:, 3:] = np.eye(3)
    back = inverses(step)
    adjoint = np.zeros((len(a), 6, 6))
    adjoint[:, :3, :3] = adjoint[:, 3:, 3:] = back[:, :3, :3]
    adjoint[:, :3, 3:] = cross_matrices(back[:, :3, 3]) @ back[:, :3, :3]
    slope = np.concatenate([-by_second @ adjoint, by_second], 2)
    weighted = np.swapaxes(slope, 1, 2) * weights[:, None]
    blocks, gradient = weighted @ slope, -np.einsum("nij,nj->ni", weighted, off)
    scatter(matrix, right, steps[~given.cut], blocks, gradient)


def scatter(matrix: F64, right: F64, pairs: I64, hessian: F64, gradient: F64) -> None:
    """Add the terms (M, 12, 12), (M, 12) of pairs (M, 2) of poses to the normal equations (N, 6, N, 6), (N, 6)."""
    for p, first in enumerate(pairs.T):
        np.add.at(right, first, gradient[:, 6 * p : 6 * p + 6])
        for q, second in enumerate(pairs.T):
            block = hessian[:, 6 * p : 6 * p + 6, 6 * q : 6 * q + 6]
            np.add.at(matrix, (first[:, None, None], np.arange(6)[:, None], second[:, None, None], np.arange(6)), block)
