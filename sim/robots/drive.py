"""From an agent's actions (-1..1) to what a robot's actuators aim at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.robots.model import Robot

Float = NDArray[np.float32]


class Drive(Protocol):
    """An action space."""

    @property
    def size(self) -> int:
        """Numbers in an action, each in [-1, 1]."""
        ...

    def targets(self, actions: Float) -> Float:
        """Targets (N, A) of the robot's actuators for actions (N, size)."""
        ...


@dataclass(frozen=True)
class DifferentialDrive:
    """Two wheels; an action is (forward speed, turning speed).

    Attributes:
        wheel_radius: [m].
        track: Between the wheels [m].
        speed: Least and greatest forward speed [m/s], for -1 and 1.
        turn: Greatest turning speed [rad/s], to the left for 1.
        size: Numbers in an action.
    """

    wheel_radius: float
    track: float
    speed: tuple[float, float]
    turn: float
    size: int = 2

    def targets(self, actions: Float) -> Float:
        """Speeds (N, 2) of the left and the right wheel [rad/s]."""
        slow, fast = self.speed
        forward = slow + (actions[:, 0] + 1) / 2 * (fast - slow)
        half = actions[:, 1] * self.turn * self.track / 2
        return (np.stack([forward - half, forward + half], 1) / self.wheel_radius).astype(np.float32)

    def actions(self, forward: NDArray[np.floating], turn: NDArray[np.floating]) -> Float:
        """Actions (N, 2) for speeds (N,) [m/s] and turning speeds (N,) [rad/s], as far as they go."""
        slow, fast = self.speed
        action = np.stack([(forward - slow) / (fast - slow) * 2 - 1, turn / self.turn], 1)
        return np.clip(action, -1, 1).astype(np.float32)


class JointOffsets:
    """Positions around the pose at rest; for legs.

    Args:
        robot: All of its actuators aim at positions.
        scale: Offset of an action of 1 [rad].
    """

    def __init__(self, robot: Robot, scale: float = 0.25) -> None:
        columns = [robot.joint_names.index(actuator.joint) for actuator in robot.actuators]
        self._rest, self._scale = robot.default_position[columns].astype(np.float32), np.float32(scale)
        self.size = len(columns)

    def targets(self, actions: Float) -> Float:
        """Joint positions (N, A) [rad]."""
        return (self._rest + self._scale * actions).astype(np.float32)
