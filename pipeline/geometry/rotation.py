"""Rotations: quaternions are wxyz, unit, w >= 0 everywhere; other orders are converted here, at the border."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]


def quaternion_from_matrix(rotation: ArrayLike) -> Array:
    """Quaternions wxyz (..., 4), unit, w >= 0, of rotation matrices (..., 3, 3)."""
    matrix = np.asarray(rotation, np.float64)
    flat = Rotation.from_matrix(matrix.reshape(-1, 3, 3)).as_quat(canonical=True, scalar_first=True)
    return flat.reshape(*matrix.shape[:-2], 4)


def matrix_from_quaternion(wxyz: ArrayLike) -> Array:
    """Rotation matrices (..., 3, 3) of quaternions wxyz (..., 4); they need not be unit."""
    quaternion = np.asarray(wxyz, np.float64)
    flat = Rotation.from_quat(quaternion.reshape(-1, 4), scalar_first=True).as_matrix()
    return flat.reshape(*quaternion.shape[:-1], 3, 3)


def wxyz_from_xyzw(xyzw: ArrayLike) -> Array:
    """Canonical wxyz (..., 4) of scalar-last quaternions (Isaac Gym, ROS, ARKit loggers)."""
    quaternion = np.roll(np.asarray(xyzw, np.float64), 1, axis=-1)
    return np.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def xyzw_from_wxyz(wxyz: ArrayLike) -> Array:
    """Scalar-last quaternions (..., 4) of our wxyz ones."""
    return np.roll(np.asarray(wxyz, np.float64), -1, axis=-1)


def matrix_from_rotvec(rotvec: ArrayLike) -> Array:
    """Rotation matrices (..., 3, 3) of axis-angle vectors (..., 3) [rad] (the exponential map)."""
    vector = np.asarray(rotvec, np.float64)
    return Rotation.from_rotvec(vector.reshape(-1, 3)).as_matrix().reshape(*vector.shape[:-1], 3, 3)


def rotvec_from_matrix(rotation: ArrayLike) -> Array:
    """Axis-angle vectors (..., 3) [rad] of rotation matrices (..., 3, 3) (the logarithm)."""
    matrix = np.asarray(rotation, np.float64)
    return Rotation.from_matrix(matrix.reshape(-1, 3, 3)).as_rotvec().reshape(*matrix.shape[:-2], 3)


def angle_deg(a: ArrayLike, b: ArrayLike) -> Array:
    """Angles [deg] between rotation matrices (..., 3, 3) and (..., 3, 3)."""
    relative = np.swapaxes(np.asarray(a, np.float64), -1, -2) @ np.asarray(b, np.float64)
    return np.rad2deg(np.linalg.norm(rotvec_from_matrix(relative), axis=-1))


def rotation_between(source: ArrayLike, target: ArrayLike) -> Array:
    """The smallest rotation (3, 3) that turns direction `source` (3,) into direction `target` (3,)."""
    a, b = (np.asarray(v, np.float64) / np.linalg.norm(v) for v in (source, target))
    axis, cosine = np.cross(a, b), float(a @ b)
    sine = float(np.linalg.norm(axis))
    if sine < 1e-12:
        if cosine > 0:
            return np.eye(3)
        axis = np.cross(a, np.eye(3)[np.argmin(np.abs(a))])
        return matrix_from_rotvec(np.pi * axis / np.linalg.norm(axis))
    return matrix_from_rotvec(axis / sine * np.arctan2(sine, cosine))


def is_rotation(matrix: ArrayLike, tolerance: float = 1e-3) -> bool:
    """Whether a (3, 3) matrix is finite, orthonormal and right-handed within `tolerance`."""
    candidate = np.asarray(matrix, np.float64)
    if candidate.shape != (3, 3) or not np.isfinite(candidate).all():
        return False
    orthonormal = np.abs(candidate @ candidate.T - np.eye(3)).max() <= tolerance
    return bool(orthonormal and abs(np.linalg.det(candidate) - 1) <= 3 * tolerance)
