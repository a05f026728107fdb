"""Where robots believe they are: by odometry whose errors grow with the way."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import matrix_from_rotvec
from pipeline.types import F64, I64
from sim.robots.state import RobotState
from sim.saved import Saved

ROUGH = 0.3
"""Share of the drift that is drawn anew in each step, and of the tilt."""
TURN = 100.0
"""By how many degrees a metre headings drift, for a drift of 1."""


class Odometry(Saved):
    """Believed poses of N robots, in frames that are turned against their worlds.

    Attributes:
        place: (N, 3) believed positions of the bases [m].
        rotation: (N, 3, 3) odometry from base, as believed.
    """

    ROWS = ("place", "rotation", "_last", "_turn", "_scale", "_spin", "_lean")

    def __init__(self, count: int, drift: float, tilt: float) -> None:
        self._drift, self._tilt = drift, tilt
        self.place, self._last = np.zeros((count, 3)), np.zeros((count, 3))
        self.rotation = np.tile(np.eye(3), (count, 1, 1))
        self._turn, self._spin = np.zeros(count), np.zeros(count)
        self._scale, self._lean = np.zeros((count, 2)), np.zeros((count, 2))

    def reset(self, robots: I64, state: RobotState, rng: np.random.Generator) -> None:
        """Begin where robots (M,) are, of whom these are the states: at the origin, looking anywhere."""
        count = len(robots)
        self.place[robots], self._last[robots] = 0, state.position
        self._turn[robots] = rng.uniform(-np.pi, np.pi, count)
        self._scale[robots] = rng.normal(0, self._drift, (count, 2))
        self._spin[robots] = np.deg2rad(rng.normal(0, TURN * self._drift, count))
        self._lean[robots] = rng.normal(0, self._tilt, (count, 2))
        self.rotation[robots] = _about_z(self._turn[robots]) @ state.world_from_base

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Go on to where all robots are now."""
        step, self._last = state.position - self._last, state.position.astype(np.float64)
        way = np.linalg.norm(step[:, :2], axis=1)
        self._turn = self._turn + self._spin * way
        turn = _about_z(self._turn)
        moved = np.einsum("nij,nj->ni", turn, step)
        moved[:, :2] *= 1 + self._scale[:, :1]
        moved[:, 2] += self._scale[:, 1] * way
        self.place = self.place + moved + ROUGH * self._drift * way[:, None] * rng.standard_normal(step.shape)
        lean = self._lean + ROUGH * self._tilt * rng.standard_normal(self._lean.shape)
        self.rotation = turn @ state.world_from_base @ matrix_from_rotvec(np.pad(lean, ((0, 0), (0, 1))))


def _about_z(angle: F64) -> F64:
    """Rotations (N, 3, 3) by angles (N,) about z [rad]."""
    return matrix_from_rotvec(angle[:, None] * [0, 0, 1])
