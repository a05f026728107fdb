"""Drives: from an agent's actions (-1..1) to the targets of a robot's actuators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.types import F32, Floats
from sim.robots.model import Robot


class Drive(Protocol):
    """An action space."""

    @property
    def size(self) -> int:
        """Number of elements of an action, each in [-1, 1]."""
        ...

    def targets(self, actions: F32) -> F32:
        """Targets (N, A) of the robot's actuators for actions (N, size)."""
        ...


@dataclass(frozen=True)
class DifferentialDrive:
    """Two wheels, with their radius and distance [m]; an action is (forward speed, yaw rate).

    Attributes:
        speed: Forward speed [m/s] for -1 and for 1.
        yaw_rate: Yaw rate [rad/s] for 1, to the left.
    """

    wheel_radius: float
    track_width: float
    speed: tuple[float, float]
    yaw_rate: float
    size: int = 2

    def targets(self, actions: F32) -> F32:
        """Speeds (N, 2) of the left and the right wheel [rad/s]."""
        slow, fast = self.speed
        forward = slow + (actions[:, 0] + 1) / 2 * (fast - slow)
        half = actions[:, 1] * self.yaw_rate * self.track_width / 2
        return (np.stack([forward - half, forward + half], 1) / self.wheel_radius).astype(np.float32)

    def actions(self, forward: Floats, yaw_rate: Floats) -> F32:
        """Actions (N, 2) for forward speeds (N,) [m/s] and yaw rates (N,) [rad/s], clipped."""
        slow, fast = self.speed
        action = np.stack([(forward - slow) / (fast - slow) * 2 - 1, yaw_rate / self.yaw_rate], 1)
        return np.clip(action, -1, 1).astype(np.float32)


class JointOffsets:
    """Joint positions relative to the pose at rest; for legs.

    All actuators are position actuators; an action of 1 is an offset of `scale` [rad].
    """

    def __init__(self, robot: Robot, scale: float = 0.25) -> None:
        columns = [robot.joint_names.index(actuator.joint) for actuator in robot.actuators]
        self._rest, self._scale = robot.default_position[columns].astype(np.float32), np.float32(scale)
        self.size = len(columns)

    def targets(self, actions: F32) -> F32:
        """Joint positions (N, A) [rad]."""
        return (self._rest + self._scale * actions).astype(np.float32)
