"""Joints that are sent to positions."""

from __future__ import annotations

import numpy as np

from pipeline.types import F32
from sim.control.controller import Controller
from sim.robots.model import Robot


class JointOffsets(Controller):
    """Joint positions relative to the pose at rest; for legs.

    All actuators are position actuators; an action of 1 is an offset of `scale` [rad].
    """

    def __init__(self, robot: Robot, scale: float = 0.25) -> None:
        self._rest, self._scale = robot.default_position[robot.driven].astype(np.float32), np.float32(scale)
        self.size = len(robot.actuators)

    def command(self, actions: F32) -> F32:
        """Joint positions (N, A) [rad]."""
        return (self._rest + self._scale * actions).astype(np.float32)
