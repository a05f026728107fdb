"""Wheels: two that turn a robot by their difference, alone or under an arm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.types import F32
from sim.control.state import Velocities
from sim.control.velocity import VelocityController
from sim.robots.model import Robot


@dataclass(frozen=True)
class DifferentialDrive(VelocityController):
    """Two wheels, with their radius and distance [m]."""

    wheel_radius: float
    track_width: float
    velocities: Velocities

    def command(self, actions: F32) -> F32:
        """Speeds (N, 2) of the left and the right wheel [rad/s]."""
        forward, turn = self.velocities.of(actions)
        half = turn * self.track_width / 2
        return (np.stack([forward - half, forward + half], 1) / self.wheel_radius).astype(np.float32)


class CarryingDrive(VelocityController):
    """Wheels, all that is driven by speed, of a robot that carries something such as an arm: that stays at rest."""

    def __init__(self, robot: Robot, drive: DifferentialDrive) -> None:
        self._drive, self.velocities = drive, drive.velocities
        self._wheels = np.flatnonzero([actuator.mode == "velocity" for actuator in robot.actuators])
        self._rest = robot.default_position[robot.driven].astype(np.float32)

    def command(self, actions: F32) -> F32:
        """Speeds of wheels [rad/s] and positions of all else [rad, m] (N, A)."""
        targets = np.tile(self._rest, (len(actions), 1))
        targets[:, self._wheels] = self._drive.command(actions)
        return targets
