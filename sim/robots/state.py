"""Where robots are and how they move."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from pipeline.geometry import matrix_from_quaternion
from pipeline.types import F32, F64, I64, Floats, Mask


@dataclass(frozen=True, eq=False)
class RobotState:
    """Poses and velocities of N robots, each in the world frame of its own scene.

    Attributes:
        position: (N, 3) position of the base's origin [m].
        quaternion: (N, 4) wxyz, world from base.
        linear_velocity: (N, 3) velocity of the base's origin, world axes [m/s].
        angular_velocity: (N, 3) angular velocity of the base, world axes [rad/s].
        joint_position: (N, J) [rad, m].
        joint_velocity: (N, J) [rad/s, m/s].
    """

    position: F32
    quaternion: F32
    linear_velocity: F32
    angular_velocity: F32
    joint_position: F32
    joint_velocity: F32

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, index: I64 | Mask | slice) -> RobotState:
        """The chosen robots."""
        return RobotState(*(getattr(self, field.name)[index] for field in fields(self)))

    @cached_property
    def world_from_base(self) -> F64:
        """Rotation matrices (N, 3, 3) of the bases, computed once."""
        return matrix_from_quaternion(self.quaternion)

    @property
    def planar(self) -> F64:
        """Position x, y [m] and heading [rad] of the bases (N, 3)."""
        rotations = self.world_from_base
        return np.column_stack([self.position[:, :2], np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0])]).astype(
            np.float64
        )

    @staticmethod
    def at_rest(position: Floats, quaternion: Floats, joints: F32) -> RobotState:
        """Robots that don't move.

        Positions (N, 3), quaternions (N, 4) and joint positions (N, J).
        """
        count = len(position)
        still = np.zeros((count, 3), np.float32)
        return RobotState(
            np.asarray(position, np.float32),
            np.asarray(quaternion, np.float32),
            still,
            still.copy(),
            np.asarray(joints, np.float32),
            np.zeros_like(joints, np.float32),
        )


def headings(quaternion: Floats) -> F64:
    """Horizontal unit vectors (N, 2) ahead of bases (N, 4) wxyz, world from base."""
    ahead = matrix_from_quaternion(np.asarray(quaternion, np.float64))[:, :2, 0]
    return ahead / np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)


def turned_to(offset: F64, heading: F64) -> F64:
    """How far to turn (N,) to the left to look along offsets (N, 2), from headings (N,) [rad]."""
    return (np.arctan2(offset[:, 1], offset[:, 0]) - heading + np.pi) % (2 * np.pi) - np.pi
