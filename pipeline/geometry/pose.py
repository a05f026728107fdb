"""Rigid transforms, named `a_from_b`, so that chains read `a_from_b @ b_from_c`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pipeline.geometry.rotation import is_rotation, matrix_from_quaternion, quaternion_from_matrix
from pipeline.types import F64

CV_FROM_GL = np.diag([1.0, -1.0, -1.0])
"""Camera axes: OpenCV (y down, z forward) from OpenGL (y up, z back). Multiply poses with it on the RIGHT."""
FARTHEST = 1e5
"""No point of a scene or capture is this far from its origin [m]; what claims to be is damaged."""


@dataclass(frozen=True, eq=False)
class Pose:
    """A rigid transform: x_a = rotation @ x_b + translation.

    Raises:
        ValueError: When the rotation is not a rotation or something is not finite.
    """

    rotation: F64  # (3, 3) float64, orthonormal, right-handed
    translation: F64  # (3,) float64, in frame a [m, or scene units before alignment]

    def __post_init__(self) -> None:
        rotation = np.array(self.rotation, np.float64)
        translation = np.array(self.translation, np.float64).reshape(3)
        if not is_rotation(rotation):
            raise ValueError(f"a pose's rotation must be orthonormal and right-handed, got\n{rotation}")
        if not np.isfinite(translation).all():
            raise ValueError(f"a pose's translation must be finite, got {translation}")
        object.__setattr__(self, "rotation", rotation)
        object.__setattr__(self, "translation", translation)

    @staticmethod
    def identity() -> Pose:
        """The transform that changes nothing."""
        return Pose(np.eye(3), np.zeros(3))

    @staticmethod
    def from_matrix(matrix: ArrayLike) -> Pose:
        """The transform of a (4, 4) or (3, 4) matrix."""
        values = np.asarray(matrix, np.float64)
        return Pose(values[:3, :3], values[:3, 3])

    @staticmethod
    def from_quaternion(wxyz: ArrayLike, translation: ArrayLike) -> Pose:
        """The transform of a quaternion wxyz (4,) and a translation (3,)."""
        return Pose(matrix_from_quaternion(wxyz), np.asarray(translation, np.float64))

    @property
    def matrix(self) -> F64:
        """The (4, 4) matrix."""
        result = np.eye(4)
        result[:3, :3], result[:3, 3] = self.rotation, self.translation
        return result

    @property
    def quaternion(self) -> F64:
        """The rotation as wxyz (4,), unit, w >= 0."""
        return quaternion_from_matrix(self.rotation)

    def inverse(self) -> Pose:
        """`b_from_a` of an `a_from_b`."""
        return Pose(self.rotation.T, -self.rotation.T @ self.translation)

    def __matmul__(self, other: Pose) -> Pose:
        """`a_from_b @ b_from_c` is `a_from_c`."""
        return Pose(self.rotation @ other.rotation, self.rotation @ other.translation + self.translation)

    def apply(self, points: ArrayLike) -> F64:
        """Points (..., 3) of frame b, in frame a."""
        return np.asarray(points, np.float64) @ self.rotation.T + self.translation

    def rotate(self, directions: ArrayLike) -> F64:
        """Directions (..., 3) of frame b, in frame a."""
        return np.asarray(directions, np.float64) @ self.rotation.T
