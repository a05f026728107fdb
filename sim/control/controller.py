"""What moves a robot: from an agent's actions (-1..1) to the targets of its actuators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.types import F32, I64
from sim.control.state import EndEffectorState, LegsState, Sensed, Trot, Velocities
from sim.physics.state import PhysicsEngine
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.saved import Saved
from sim.sensors.scan_grid import ScanGrid

if TYPE_CHECKING:
    from sim.robots.arm import Arm
    from sim.robots.legs import Legs

Move = Literal["ahead", "left", "up", "roll", "pitch", "yaw", "forward", "turn"]
"""What a person asks for: the first six of an end effector, ahead and left as the viewer sees it, and turns about
these; the others of wheels and gaits."""
UNITS = {("position", "hinge"): "rad", ("velocity", "hinge"): "rad/s", ("velocity", "slide"): "m/s"}
"""Units of an actuator's targets, by its mode and the kind of its joint; metres otherwise."""


class Controller(Saved):
    """An action space, and the loop that follows its actions.

    Subclasses need a size and `command`; the rest says what they need and what they can do.

    Attributes:
        size: Number of elements of an action, each in [-1, 1].
        period: Time between two steps of its own loop [s]; divides the task's control period, which is its default.
        time_step: Time step of the physics [s] that it needs; divides the period. The task's by default.
        height_scan: Where it sees the ground; None if it doesn't.
        moves: What a person can ask it for; none if a person can't drive it.
        legs: Those that it walks on; None on wheels or a fixed base.
        trot: How they step; None without legs.
        velocities: Speeds that its actions mean; None where an action means something else.
        arm: The arm that it moves, with its gripper; None without.
    """

    size: int
    period: float | None = None
    time_step: float | None = None
    height_scan: ScanGrid | None = None
    moves: tuple[Move, ...] = ()
    legs: Legs | None = None
    trot: Trot | None = None
    velocities: Velocities | None = None
    arm: Arm | None = None

    def start(self, num_envs: int) -> None:
        """Make room for N robots."""

    def reset(self, envs: I64, joints: F32, rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,) at joint positions (M, J)."""

    def begin(self, actions: F32, now: Sensed) -> None:
        """Take over new actions (N, size); `targets` gets the same ones until the next."""

    def targets(self, actions: F32, now: Sensed) -> F32:
        """Targets (N, A) of the actuators for one period of its loop, by actions (N, size): by default the commands."""
        return self.command(actions)

    def command(self, actions: F32) -> F32:
        """What an exported policy commands by actions (N, size), before the loop; an affine function."""
        raise NotImplementedError

    def outputs(self, robot: Robot) -> list[dict[str, object]]:
        """What each element of `command` is, with its unit: by default the target of an actuator."""
        kinds = {link.joint.name: link.joint.kind for link in robot.links if link.joint}
        return [
            {"joint": one.joint, "mode": one.mode, "unit": UNITS.get((one.mode, kinds[one.joint]), "m")}
            for one in robot.actuators
        ]

    def measure(self, engine: PhysicsEngine, state: RobotState, heights: F32) -> LegsState | None:
        """What the legs of an engine's robots do now; heights (N, K) are those of the scan. None without legs."""
        return None

    def end_effectors(self) -> EndEffectorState | None:
        """Where the end effectors are sent; None without an arm."""
        return None

    def steer(self, asked: Mapping[Move, float], limit: float, view: float, *, shut: bool) -> F32:
        """The action (size,) for what a person asks for, -limit..limit of each move.

        `view` is where the person looks, to the left of the base's heading [rad]; `shut` closes the gripper.
        Those without `moves` can't be asked.
        """
        raise NotImplementedError

    def following(self, velocity: F32, now: Sensed) -> F32:
        """Targets (N, A) of the actuators for one period of a gait that follows velocities (N, 3).

        These are the speed ahead and to the left [m/s] and the yaw rate [rad/s]. Only legs with `velocities` can.
        """
        raise NotImplementedError

    def mirrored(self, name: str) -> tuple[I64, F32] | None:
        """Order and signs (K,) of the elements of an observation, "action" among them, in the mirror image of a scene.

        None where it depends on the robot alone, or is not known.
        """
        return None
