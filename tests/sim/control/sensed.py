"""What controllers sense, of robots at given joint positions."""

from __future__ import annotations

import numpy as np

from pipeline.types import F32
from sim.control.state import Sensed
from sim.robots.state import RobotState


def at(joints: F32) -> Sensed:
    """Robots at joint positions (N, J), their bases at the origin."""
    count = len(joints)
    upright = np.tile([1.0, 0, 0, 0], (count, 1))
    return Sensed(RobotState.at_rest(np.zeros((count, 3)), upright, joints), np.zeros((count, 0), np.float32), None)
