"""A gait on ground as an agent believes it to be."""

from __future__ import annotations

import numpy as np

from pipeline.types import F32, I64
from sim.control.controller import Controller
from sim.control.mirror import exchanged
from sim.control.state import LegsState, Sensed
from sim.physics.state import PhysicsEngine
from sim.robots.model import Robot
from sim.robots.state import RobotState

GROUND_REACH = 0.5
"""How far the ground may be above or below where the robot stands, for actions that say where it is [m]."""


class GroundController(Controller):
    """An action is the ground as the agent believes it to be, at the points of the scan; a gait steps on it.

    The ground below the feet of the robot at rest is 0, an action of 1 is `GROUND_REACH` above it. Until the next
    action, the robot moves over the same ground, by its odometry. Velocity commands are the task's.
    """

    ROWS = ("_from",)
    PARTS = ("_gait",)

    def __init__(self, gait: Controller, base_height: float) -> None:
        assert gait.height_scan
        self._gait, self._base_height, self._scan = gait, np.float32(base_height), gait.height_scan
        self.period, self.time_step, self.height_scan = gait.period, gait.time_step, gait.height_scan
        self.size, self.legs, self.trot = gait.height_scan.size, gait.legs, gait.trot
        self.start(0)

    def start(self, num_envs: int) -> None:
        """Make room for N robots."""
        self._gait.start(num_envs)
        self._from = np.zeros((num_envs, 4))

    def reset(self, envs: I64, joints: F32, rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,)."""
        self._gait.reset(envs, joints, rng)

    def begin(self, actions: F32, now: Sensed) -> None:
        """Remember from where the ground is seen."""
        self._from = np.column_stack([now.state.planar, now.state.position[:, 2]])

    def targets(self, actions: F32, now: Sensed) -> F32:
        """Targets (N, A) of the actuators for one period; the true heights are not used."""
        assert now.command is not None, "a task for this controller gives commands"
        x, y, yaw = (now.state.planar - self._from[:, :3]).T
        cos, sin = np.cos(self._from[:, 2]), np.sin(self._from[:, 2])
        moved = np.column_stack([cos * x + sin * y, cos * y - sin * x, yaw])
        rise = np.asarray(now.state.position[:, 2:] - self._from[:, 3:], np.float32)
        believed = self._scan.moved(self.command(actions), moved) - rise
        return self._gait.following(now.command, Sensed(now.state, believed, now.command))

    def command(self, actions: F32) -> F32:
        """Heights (N, K) of the ground relative to the base [m]."""
        return np.float32(GROUND_REACH) * actions - self._base_height

    def outputs(self, robot: Robot) -> list[dict[str, object]]:
        """The ground at each point of the scan, ahead and to the left of the base [m]."""
        return [{"ground_above_base_at": point, "unit": "m"} for point in self._scan.points.round(3).tolist()]

    def measure(self, engine: PhysicsEngine, state: RobotState, heights: F32) -> LegsState | None:
        """What the legs do now."""
        return self._gait.measure(engine, state, heights)

    def mirrored(self, name: str) -> tuple[I64, F32] | None:
        """As the legs' observations; an action exchanges the points of the scan."""
        return exchanged(self._scan.points) if name == "action" else self._gait.mirrored(name)
