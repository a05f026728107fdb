"""Rotations: quaternions are wxyz, unit, w >= 0 everywhere; other orders are converted here, at the border."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def quaternion_from_matrix(rotation: ArrayLike) -> NDArray[np.float64]:
    """Quaternions wxyz (..., 4), unit, w >= 0, of rotation matrices (..., 3, 3)."""
    from scipy.spatial.transform import Rotation

    matrix = np.asarray(rotation, np.float64)
    flat = Rotation.from_matrix(matrix.reshape(-1, 3, 3)).as_quat(canonical=True, scalar_first=True)
    return flat.reshape(*matrix.shape[:-2], 4)


def matrix_from_quaternion(wxyz: ArrayLike) -> NDArray[np.float64]:
    """Rotation matrices (..., 3, 3) of quaternions wxyz (..., 4); they need not be unit."""
    from scipy.spatial.transform import Rotation

    quaternion = np.asarray(wxyz, np.float64)
    flat = Rotation.from_quat(quaternion.reshape(-1, 4), scalar_first=True).as_matrix()
    return flat.reshape(*quaternion.shape[:-1], 3, 3)


def wxyz_from_xyzw(xyzw: ArrayLike) -> NDArray[np.float64]:
    """Canonical wxyz (..., 4) of scalar-last quaternions (Isaac Gym, ROS, ARKit loggers)."""
    quaternion = np.roll(np.asarray(xyzw, np.float64), 1, axis=-1)
    return np.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def xyzw_from_wxyz(wxyz: ArrayLike) -> NDArray[np.float64]:
    """Scalar-last quaternions (..., 4) of our wxyz ones."""
    return np.roll(np.asarray(wxyz, np.float64), -1, axis=-1)


def matrix_from_rotvec(rotvec: ArrayLike) -> NDArray[np.float64]:
    """Rotation matrices (..., 3, 3) of axis-angle vectors (..., 3) [rad] (the exponential map)."""
    from scipy.spatial.transform import Rotation

    vector = np.asarray(rotvec, np.float64)
    return Rotation.from_rotvec(vector.reshape(-1, 3)).as_matrix().reshape(*vector.shape[:-1], 3, 3)


def rotvec_from_matrix(rotation: ArrayLike) -> NDArray[np.float64]:
    """Axis-angle vectors (..., 3) [rad] of rotation matrices (..., 3, 3) (the logarithm)."""
    from scipy.spatial.transform import Rotation

    matrix = np.asarray(rotation, np.float64)
    return Rotation.from_matrix(matrix.reshape(-1, 3, 3)).as_rotvec().reshape(*matrix.shape[:-2], 3)


def angle_deg(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Angles [deg] between rotation matrices (..., 3, 3) and (..., 3, 3)."""
    relative = np.swapaxes(np.asarray(a, np.float64), -1, -2) @ np.asarray(b, np.float64)
    return np.rad2deg(np.linalg.norm(rotvec_from_matrix(relative), axis=-1))


def rotation_between(source: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """The smallest rotation (3, 3) from direction `source` (3,) to direction `target` (3,)."""
    a, b = (np.asarray(v, np.float64) / np.linalg.norm(v) for v in (source, target))
    axis, cosine = np.cross(a, b), float(a @ b)
    sine = float(np.linalg.norm(axis))
    if sine < 1e-12:
        if cosine > 0:
            return np.eye(3)
        axis = np.cross(a, np.eye(3)[np.argmin(np.abs(a))])
        return matrix_from_rotvec(np.pi * axis / np.linalg.norm(axis))
    return matrix_from_rotvec(axis / sine * np.arctan2(sine, cosine))


def quaternion_product(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Hamilton products of quaternions wxyz (N, 4): the rotation b, then a."""
    p, q = np.asarray(a, np.float64), np.asarray(b, np.float64)
    scalar = p[:, :1] * q[:, :1] - np.einsum("ni,ni->n", p[:, 1:], q[:, 1:])[:, None]
    vector = p[:, :1] * q[:, 1:] + q[:, :1] * p[:, 1:] + np.cross(p[:, 1:], q[:, 1:])
    return np.concatenate([scalar, vector], 1)


def quaternions_between(sources: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """Quaternions wxyz (N, 4) of the smallest rotations from unit vectors (N, 3) to others (N, 3), none opposite."""
    a, b = np.asarray(sources, np.float64), np.asarray(targets, np.float64)
    quaternions = np.concatenate([1 + np.einsum("ni,ni->n", a, b)[:, None], np.cross(a, b)], 1)
    return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)


def quaternions_from_z(directions: ArrayLike) -> NDArray[np.float64]:
    """Quaternions wxyz (N, 4) of the smallest rotations from +Z to unit directions (N, 3)."""
    x, y, z = np.asarray(directions, np.float64).T
    quaternions = np.stack([1 + z, -y, x, np.zeros_like(x)], 1)
    quaternions[z < -1 + 1e-9] = (0, 1, 0, 0)
    return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)


def is_rotation(matrix: ArrayLike, tolerance: float = 1e-3) -> bool:
    """Whether a (3, 3) matrix is finite, orthonormal and right-handed within `tolerance`."""
    candidate = np.asarray(matrix, np.float64)
    if candidate.shape != (3, 3) or not np.isfinite(candidate).all():
        return False
    orthonormal = np.abs(candidate @ candidate.T - np.eye(3)).max() <= tolerance
    return bool(orthonormal and abs(np.linalg.det(candidate) - 1) <= 3 * tolerance)
