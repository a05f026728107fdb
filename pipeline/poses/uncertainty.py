"""How sure poses are: the bundle adjustment's covariance, freed from the choice of the frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Pose

if TYPE_CHECKING:
    import pycolmap

Array = NDArray[np.float64]

HALF_ANGLE = 2.0
"""Ceres perturbs a quaternion by half the rotation vector: rotation entries of the covariance count twice."""

RADIUS_MEDIAN = 1.1774
"""Median length of a 2D Gaussian vector of unit sigma per axis."""


@dataclass(frozen=True)
class PoseSigma:
    """One sigma of a pose, per axis: of its rotation [deg] and of its position [scene units]."""

    rotation_deg: float
    position: float


def pose_sigmas(
    covariance: pycolmap.BACovariance, poses: Mapping[int, Pose], pixel_sigma: float
) -> dict[int, PoseSigma]:
    """Sigmas of all poses against their common frame.

    Args:
        covariance: Of an adjustment with unit pixel sigma; images that it held fixed get no sigma.
        poses: world_from_camera by image id.
        pixel_sigma: The residuals' one sigma per axis [px].
    """
    ids = [i for i in sorted(poses) if _block(covariance, i, i) is not None]
    joint = np.zeros((6 * len(ids), 6 * len(ids)))
    for row, i in enumerate(ids):
        for column, j in enumerate(ids[row:], row):
            block = _block(covariance, i, j)
            if block is not None:
                joint[6 * row : 6 * row + 6, 6 * column : 6 * column + 6] = block
                joint[6 * column : 6 * column + 6, 6 * row : 6 * row + 6] = block.T
    chosen = [poses[i] for i in ids]
    jacobian = np.array([_world_from_tangent(pose) for pose in chosen])
    for n in range(len(ids)):
        joint[6 * n : 6 * n + 6] = jacobian[n] @ joint[6 * n : 6 * n + 6]
    for n in range(len(ids)):
        joint[:, 6 * n : 6 * n + 6] = joint[:, 6 * n : 6 * n + 6] @ jacobian[n].T
    variance = np.maximum(np.diagonal(without_gauge(joint, chosen)).reshape(-1, 2, 3).mean(2), 0) * pixel_sigma**2
    return {
        i: PoseSigma(float(np.rad2deg(np.sqrt(turn))), float(np.sqrt(shift)))
        for i, (turn, shift) in zip(ids, variance, strict=True)
    }


def tangent_sigma(covariance: Array, pose: Pose, pixel_sigma: float) -> PoseSigma:
    """Sigma of one pose from its (6, 6) covariance in COLMAP's tangent, everything else taken as exact."""
    jacobian = _world_from_tangent(pose)
    turn, shift = np.diagonal(jacobian @ covariance @ jacobian.T).reshape(2, 3).mean(1) * pixel_sigma**2
    return PoseSigma(float(np.rad2deg(np.sqrt(turn))), float(np.sqrt(shift)))


def without_gauge(joint: Array, poses: Sequence[Pose]) -> Array:
    """The joint covariance (6N, 6N) of world rotations [rad] and centres without what one similarity could explain.

    Frame and scale of a reconstruction are a convention; their uncertainty would hide that of the poses
    against each other.

    Source: W. Baarda, S-transformations and criterion matrices, Netherlands Geodetic Commission 1973.
    """
    centres = np.array([pose.translation for pose in poses])
    centres = centres - centres.mean(0)
    extent2 = max(float((centres**2).sum(1).mean()), 1e-12)
    generator = np.zeros((len(poses), 6, 7))
    generator[:, :3, :3] = np.eye(3)
    generator[:, 3:, :3] = -_cross(centres)
    generator[:, 3:, 3:6] = np.eye(3)
    generator[:, 3:, 6] = centres
    generator = generator.reshape(-1, 7)
    weight = np.tile(np.repeat([extent2, 1.0], 3), len(poses))
    inverse = np.linalg.pinv((generator.T * weight) @ generator) @ (generator.T * weight)
    left = joint - generator @ (inverse @ joint)
    return left - (left @ inverse.T) @ generator.T


def _block(covariance: pycolmap.BACovariance, i: int, j: int) -> Array | None:
    block = covariance.get_cam_cov_from_world(i) if i == j else covariance.get_cam_cross_cov_from_world(i, j)
    if block is None:
        return None
    values = np.asarray(block, np.float64)
    return values if values.shape == (6, 6) else None


def _world_from_tangent(pose: Pose) -> Array:
    """(6, 6): small world rotation and centre shift of COLMAP's tangent (half rotation, translation).

    Camera-from-world is perturbed on the left, R <- exp(w) R; with c = -R^T t: dc = -R^T (dt + [t]x w).
    """
    translation = pose.inverse().translation
    result = np.zeros((6, 6))
    result[:3, :3] = -HALF_ANGLE * pose.rotation
    result[3:, :3] = -HALF_ANGLE * pose.rotation @ _cross(translation[None])[0]
    result[3:, 3:] = -pose.rotation
    return result


def _cross(vectors: Array) -> Array:
    """Matrices (N, 3, 3) with [v]x y = v x y."""
    result = np.zeros((len(vectors), 3, 3))
    x, y, z = vectors.T
    result[:, 0, 1], result[:, 0, 2], result[:, 1, 2] = -z, y, -x
    result[:, 1, 0], result[:, 2, 0], result[:, 2, 1] = z, -y, x
    return result
