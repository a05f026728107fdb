"""Where robots believe they are: dead reckoning from turning wheels, which drifts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.physics.state import Float, Int

SCALE = 0.03
"""Sigma of the factor by which distances are measured wrong, and turns; constant in an episode."""
YAW_NOISE = 0.01 / np.sqrt(0.2)
"""Random walk of the heading [rad / sqrt(s)]: 0.01 rad in each fifth of a second."""
FARTHEST = 4.0
"""Distances beyond are all the same [m]."""


class DeadReckoning:
    """What N robots know of their poses since their episodes began, where they know it exactly.

    Args:
        count: N.
        period: Between two steps [s].

    Attributes:
        xy: (N, 2) where each believes to be [m], world frame.
        yaw: (N,) and with which heading [rad].
    """

    def __init__(self, count: int, period: float) -> None:
        self.xy, self.yaw = np.zeros((count, 2)), np.zeros(count)
        self._true_xy, self._true_yaw = np.zeros((count, 2)), np.zeros(count)
        self._scale, self._noise = np.ones((count, 2)), YAW_NOISE * np.sqrt(period)

    def begin(self, envs: Int, xy: NDArray[np.floating], yaw: NDArray[np.floating], rng: np.random.Generator) -> None:
        """Robots (M,) are at places (M, 2) with headings (M,), and know it; their sensors are others."""
        self.xy[envs] = self._true_xy[envs] = xy
        self.yaw[envs] = self._true_yaw[envs] = yaw
        self._scale[envs] = rng.normal(1, SCALE, (len(envs), 2))

    def update(self, xy: NDArray[np.floating], yaw: NDArray[np.floating], rng: np.random.Generator) -> None:
        """All N robots moved on to places (N, 2) with headings (N,); on the way, half of the turn came first."""
        turn = (yaw - self._true_yaw + np.pi) % (2 * np.pi) - np.pi
        believed = turn * self._scale[:, 1] + rng.normal(0, self._noise, len(yaw))
        off = self.yaw + believed / 2 - (self._true_yaw + turn / 2)
        moved = (xy - self._true_xy) * self._scale[:, :1]
        cos, sin = np.cos(off), np.sin(off)
        self.xy = self.xy + np.stack([cos * moved[:, 0] - sin * moved[:, 1], sin * moved[:, 0] + cos * moved[:, 1]], 1)
        self.yaw = self.yaw + believed
        self._true_xy, self._true_yaw = np.array(xy, float), np.array(yaw, float)

    def towards(self, goal: NDArray[np.floating]) -> Float:
        """Distance [m], `FARTHEST` at most, and cosine and sine of the bearing (N, 3) at which goals (N, 2) seem."""
        offset = goal - self.xy
        bearing = np.arctan2(offset[:, 1], offset[:, 0]) - self.yaw
        distance = np.minimum(np.linalg.norm(offset, axis=1), FARTHEST)
        return np.column_stack([distance, np.cos(bearing), np.sin(bearing)]).astype(np.float32)
