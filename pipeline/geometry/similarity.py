"""Similarity transforms: the one class that changes scale and frame of everything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pipeline.geometry.pose import Pose
from pipeline.geometry.rotation import is_rotation
from pipeline.types import F64


@dataclass(frozen=True, eq=False)
class Similarity:
    """x_a = scale * rotation @ x_b + translation.

    Clouds, meshes, depth maps and Gaussians take one in their `transformed(a_from_b)`.

    Raises:
        ValueError: When the scale is not positive or the rotation not a rotation.
    """

    scale: float  # positive; units of a per unit of b
    rotation: F64  # (3, 3) float64, right-handed
    translation: F64  # (3,) float64, in frame a

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"a similarity's scale must be positive and finite, got {self.scale}")
        rotation = np.array(self.rotation, np.float64)
        translation = np.array(self.translation, np.float64).reshape(3)
        if not is_rotation(rotation) or not np.isfinite(translation).all():
            raise ValueError(f"a similarity needs a right-handed rotation, got\n{rotation}\n{translation}")
        object.__setattr__(self, "scale", float(self.scale))
        object.__setattr__(self, "rotation", rotation)
        object.__setattr__(self, "translation", translation)

    @staticmethod
    def identity() -> Similarity:
        """The transform that changes nothing."""
        return Similarity(1.0, np.eye(3), np.zeros(3))

    @staticmethod
    def from_pose(pose: Pose, scale: float = 1.0) -> Similarity:
        """A rigid transform as a similarity, with points of b scaled first."""
        return Similarity(scale, pose.rotation, pose.translation)

    @property
    def matrix(self) -> F64:
        """The (4, 4) matrix."""
        result = np.eye(4)
        result[:3, :3], result[:3, 3] = self.scale * self.rotation, self.translation
        return result

    def to_json(self) -> dict[str, object]:
        """JSON values: scale, rotation (three rows) and translation."""
        return {"scale": self.scale, "rotation": self.rotation.tolist(), "translation": self.translation.tolist()}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Similarity:
        """What `to_json` made."""
        return Similarity(content["scale"], np.array(content["rotation"]), np.array(content["translation"]))

    def inverse(self) -> Similarity:
        """`b_from_a` of an `a_from_b`."""
        return Similarity(1 / self.scale, self.rotation.T, -(self.rotation.T @ self.translation) / self.scale)

    def __matmul__(self, other: Similarity) -> Similarity:
        """`a_from_b @ b_from_c` is `a_from_c`."""
        return Similarity(
            self.scale * other.scale,
            self.rotation @ other.rotation,
            self.scale * self.rotation @ other.translation + self.translation,
        )

    def apply(self, points: ArrayLike) -> F64:
        """Points (..., 3) of frame b, in frame a."""
        return self.scale * np.asarray(points, np.float64) @ self.rotation.T + self.translation

    def rotate(self, directions: ArrayLike) -> F64:
        """Directions and normals (..., 3) of frame b, in frame a, of the same length."""
        return np.asarray(directions, np.float64) @ self.rotation.T

    def apply_pose(self, b_from_camera: Pose) -> Pose:
        """The camera's pose in frame a; its own axes keep their unit length, so depths must be scaled too."""
        return Pose(self.rotation @ b_from_camera.rotation, self.apply(b_from_camera.translation))


def fit_similarity(source: ArrayLike, target: ArrayLike, *, with_scale: bool = True) -> Similarity:
    """Least-squares `target_from_source` of paired points (N, 3).

    Source: S. Umeyama, Least-squares estimation of transformation parameters between two point patterns,
    PAMI 1991, section III.

    Raises:
        ValueError: With fewer than three pairs.
    """
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if len(a) != len(b) or len(a) < 3:
        raise ValueError(f"a similarity needs at least 3 pairs of points, got {len(a)} and {len(b)}")
    mean_a, mean_b = a.mean(0), b.mean(0)
    u, singular, vt = np.linalg.svd((b - mean_b).T @ (a - mean_a) / len(a))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = float(singular @ sign / ((a - mean_a) ** 2).sum(1).mean()) if with_scale else 1.0
    return Similarity(scale, rotation, mean_b - scale * rotation @ mean_a)
