"""Wheels on both sides, which turn a robot by their difference; whatever else it has stays at rest."""

from __future__ import annotations

import numpy as np

from pipeline.types import F32
from sim.control.state import Velocities
from sim.control.velocity import VelocityController
from sim.robots.model import Robot

FORWARD, BACKWARD, YAW_RATE = 0.8, 0.3, 1.5
"""Speed ahead [m/s], backward as a share of it, and yaw rate [rad/s] for the largest actions."""


class DifferentialDrive(VelocityController):
    """Wheels by speed, no faster than the robot's file allows; what else is driven stays at rest."""

    def __init__(self, robot: Robot) -> None:
        wheels = robot.wheels
        assert wheels, "it has wheels"
        fastest = min(FORWARD, wheels.fastest)
        self.velocities = Velocities((-BACKWARD * fastest, fastest), min(YAW_RATE, 2 * wheels.fastest / wheels.track))
        self._radius, self._track = wheels.radius, wheels.track
        names = [actuator.joint for actuator in robot.actuators]
        self._sides = [np.array([names.index(name) for name in side]) for side in (wheels.left, wheels.right)]
        self._signs = [
            np.array([wheels.forward[name] for name in side], np.float32) for side in (wheels.left, wheels.right)
        ]
        self._rest = robot.default_position[robot.driven].astype(np.float32)

    def command(self, actions: F32) -> F32:
        """Speeds of wheels [rad/s] and positions of all else [rad, m] (N, A)."""
        forward, turn = self.velocities.of(actions)
        targets = np.tile(self._rest, (len(actions), 1))
        for columns, signs, left in zip(self._sides, self._signs, (-1, 1), strict=True):
            speed = (forward + left * (turn * self._track / 2)) / self._radius
            targets[:, columns] = speed[:, None] * signs
        return targets
