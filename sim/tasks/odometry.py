"""Odometry: dead reckoning from the rotation of wheels, which drifts."""

from __future__ import annotations

import numpy as np

from pipeline.types import F32, I64, Floats

SCALE = 0.03
"""Standard deviation of the scale factors of measured distances and rotations; constant in an episode."""
YAW_NOISE = 0.01 / np.sqrt(0.2)
"""Random walk of the heading [rad / sqrt(s)]: 0.01 rad per 0.2 s."""
MAX_DISTANCE = 4.0
"""Largest distance that is told apart [m]."""


class DeadReckoning:
    """Estimated poses of N robots, exact at the beginning of their episodes.

    Args:
        num_envs: N.
        period: Time between two steps [s].

    Attributes:
        xy: (N, 2) estimated positions [m], world frame.
        yaw: (N,) estimated headings [rad].
    """

    def __init__(self, num_envs: int, period: float) -> None:
        self.xy, self.yaw = np.zeros((num_envs, 2)), np.zeros(num_envs)
        self._true_xy, self._true_yaw = np.zeros((num_envs, 2)), np.zeros(num_envs)
        self._scale, self._noise = np.ones((num_envs, 2)), YAW_NOISE * np.sqrt(period)

    def reset(self, envs: I64, xy: Floats, yaw: Floats, rng: np.random.Generator) -> None:
        """Reset robots (M,) to known positions (M, 2) and headings (M,), with new scale factors."""
        self.xy[envs] = self._true_xy[envs] = xy
        self.yaw[envs] = self._true_yaw[envs] = yaw
        self._scale[envs] = rng.normal(1, SCALE, (len(envs), 2))

    def update(self, xy: Floats, yaw: Floats, rng: np.random.Generator) -> None:
        """Move all robots to positions (N, 2) and headings (N,), with half of the rotation before the translation."""
        rotation = (yaw - self._true_yaw + np.pi) % (2 * np.pi) - np.pi
        estimated = rotation * self._scale[:, 1] + rng.normal(0, self._noise, len(yaw))
        error = self.yaw + estimated / 2 - (self._true_yaw + rotation / 2)
        moved = (xy - self._true_xy) * self._scale[:, :1]
        cos, sin = np.cos(error), np.sin(error)
        self.xy = self.xy + np.stack([cos * moved[:, 0] - sin * moved[:, 1], sin * moved[:, 0] + cos * moved[:, 1]], 1)
        self.yaw = self.yaw + estimated
        self._true_xy, self._true_yaw = np.array(xy, float), np.array(yaw, float)

    def towards(self, goal: Floats) -> F32:
        """Estimated distance [m], at most `MAX_DISTANCE`, cosine and sine of the bearing (N, 3) of goals (N, 2)."""
        offset = goal - self.xy
        bearing = np.arctan2(offset[:, 1], offset[:, 0]) - self.yaw
        distance = np.minimum(np.linalg.norm(offset, axis=1), MAX_DISTANCE)
        return np.column_stack([distance, np.cos(bearing), np.sin(bearing)]).astype(np.float32)
