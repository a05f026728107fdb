"""Drives: from an agent's actions (-1..1) to the targets of a robot's actuators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from pipeline.geometry import rotvec_from_matrix
from pipeline.types import F32, F64, I64, Floats, Mask
from sim.height_scan import ScanGrid
from sim.physics.state import PhysicsEngine, RobotState
from sim.robots.model import Robot

if TYPE_CHECKING:
    from sim.robots.legs import Legs


class Drive(Protocol):
    """An action space."""

    @property
    def size(self) -> int:
        """Number of elements of an action, each in [-1, 1]."""
        ...

    def targets(self, actions: F32) -> F32:
        """Targets (N, A) of the robot's actuators for actions (N, size)."""
        ...


@dataclass(frozen=True, eq=False)
class Stepping:
    """The clock of N robots.

    Attributes:
        phase: (N,) fraction of the beat, 0..1.
        moving: (N,) 1 where the robot is to move, 0 where it is to stand.
        swing: (N, F) how far each foot is lifted, 0 on the ground.
        lift: (N, J) offsets of the joints from rest that lift them [rad].
        target: (N, J) positions that the joints were sent to [rad].
    """

    phase: F32
    moving: F32
    swing: F32
    lift: F32
    target: F32


@dataclass(frozen=True, eq=False)
class LegsState:
    """The legs of N robots after a step.

    Attributes:
        due: (N, F) 1 for feet that belong on the ground, by the clock.
        down: (N, F) whether a foot touches the ground.
        velocity: (N, F, 3) of the feet, world axes [m/s].
        clearance: (N, F) height of the feet over the ground [m], at most 0.3.
        knocks: (N,) whether something else than feet touches the ground.
        height: (N,) height of the base over the mean ground below it [m].
    """

    stepping: Stepping
    due: F32
    down: Mask
    velocity: F32
    clearance: F32
    knocks: Mask
    height: F32


@dataclass(frozen=True)
class HandAction:
    """What the elements of an action mean; the last one is the gripper's.

    Attributes:
        moves: Which of x, y, z and the turns about x, y, z the others are, 0 to 5; in the base's axes.
        reach: How far the hand is sent by an action of 1 [m].
        turn: How far it is turned by an action of 1 [rad].
        from_target: Whether that is from where it was sent last, or else from where it is.
        windup: How far from the hand it may be sent at most [m].
        gripper: A switch opens above 0 and shuts below; a position goes from shut at -1 to open at 1.
    """

    moves: tuple[int, ...]
    reach: float
    turn: float
    from_target: bool = True
    windup: float = np.inf
    gripper: Literal["switch", "position"] = "switch"


@dataclass(frozen=True, eq=False)
class ArmState:
    """Where the hands of N arms were sent last, base from hand `target` (N, 4, 4), and what actions mean.

    `wheels` is the drive of what carries the arms; actions of an arm on wheels begin with those of the wheels.
    """

    action: HandAction
    target: F64
    wheels: VelocityDrive | None = None

    def actions(self, hands: F64, places: F64, rotations: F64, fingers: Floats) -> F32:
        """Actions (N, size) that send hands at poses (N, 4, 4) to places (N, 3), turned as (N, 3, 3), base from hand.

        `fingers` (N,) is 1 to open and -1 to shut. What one action can't reach is clipped.
        """
        action = self.action
        start = self.target if action.from_target else hands
        turns = rotvec_from_matrix(rotations @ start[:, :3, :3].transpose(0, 2, 1))
        six = np.concatenate([(places - start[:, :3, 3]) / action.reach, turns / (action.turn or 1.0)], 1)
        return np.clip(np.column_stack([six[:, action.moves], fingers]), -1, 1).astype(np.float32)


class Walker:
    """A `Drive` of legs: its own control loop is at least as fast as the task's, and sees the ground.

    Attributes:
        size: Number of elements of an action, each in [-1, 1].
        period: Time between two steps of its loop [s]; divides the task's control period.
        time_step: Time step of the physics [s]; divides the period.
        height_scan: Where it sees the ground.
        needs_state: Whether `walk` needs the robots' state.
        legs: The robot's.
    """

    size: int
    period: float
    time_step: float
    height_scan: ScanGrid
    needs_state: bool
    legs: Legs

    def start(self, num_envs: int) -> None:
        """Make room for N robots."""
        raise NotImplementedError

    def reset(self, envs: I64, rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,)."""
        raise NotImplementedError

    def begin(self, actions: F32, state: RobotState | None) -> None:
        """Take over new actions (N, size) of robots in this state; `walk` gets the same ones until the next."""

    def walk(self, actions: F32, state: RobotState | None, heights: F32, command: F32 | None) -> F32:
        """Targets (N, A) of the actuators for one period.

        Actions (N, size), heights (N, K) of the scan relative to the base [m], and the command (N, 3) of a task that
        gives one: speed ahead and to the left [m/s], yaw rate [rad/s].
        """
        raise NotImplementedError

    def targets(self, actions: F32) -> F32:
        """What an exported policy commands by actions (N, size), before the walker's own loop; an affine function."""
        raise NotImplementedError

    def measure(self, engine: PhysicsEngine, state: RobotState, heights: F32) -> LegsState:
        """What the legs of an engine's robots do now; heights (N, K) are those of the scan."""
        raise NotImplementedError


class Follower(Walker):
    """A walker that follows velocity commands."""

    def follow(self, velocity: F32, state: RobotState, heights: F32) -> F32:
        """Targets (N, A) of the actuators for one period.

        Velocities (N, 3) are the speed ahead and to the left [m/s] and the yaw rate [rad/s]; heights (N, K) of the
        scan are relative to the base [m].
        """
        raise NotImplementedError


GROUND_REACH = 0.5
"""How far the ground may be above or below where the robot stands, for actions that say where it is [m]."""


class GroundDrive(Walker):
    """An action is the ground as the agent believes it to be, at the points of the scan; a gait steps on it.

    The ground below the feet of the robot at rest is 0, an action of 1 is `GROUND_REACH` above it. Until the next
    action, the robot moves over the same ground, by its odometry. Velocity commands are the task's.
    """

    needs_state = True

    def __init__(self, gait: Follower, base_height: float) -> None:
        self._gait, self._base_height = gait, np.float32(base_height)
        self.period, self.time_step, self.height_scan = gait.period, gait.time_step, gait.height_scan
        self.size, self.legs = gait.height_scan.size, gait.legs
        self.start(0)

    def start(self, num_envs: int) -> None:
        """Make room for N robots."""
        self._gait.start(num_envs)
        self._from = np.zeros((num_envs, 4))

    def reset(self, envs: I64, rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,)."""
        self._gait.reset(envs, rng)

    def begin(self, actions: F32, state: RobotState | None) -> None:
        """Remember from where the ground is seen."""
        assert state is not None
        self._from = np.column_stack([state.planar, state.position[:, 2]])

    def walk(self, actions: F32, state: RobotState | None, heights: F32, command: F32 | None) -> F32:
        """Targets (N, A) of the actuators for one period; the true heights are not used."""
        assert state is not None
        assert command is not None, "a task for this drive gives commands"
        x, y, yaw = (state.planar - self._from[:, :3]).T
        cos, sin = np.cos(self._from[:, 2]), np.sin(self._from[:, 2])
        moved = np.column_stack([cos * x + sin * y, cos * y - sin * x, yaw])
        rise = np.asarray(state.position[:, 2:] - self._from[:, 3:], np.float32)
        return self._gait.follow(command, state, self.height_scan.moved(self.targets(actions), moved) - rise)

    def targets(self, actions: F32) -> F32:
        """Heights (N, K) of the ground relative to the base [m]."""
        return np.float32(GROUND_REACH) * actions - self._base_height

    def measure(self, engine: PhysicsEngine, state: RobotState, heights: F32) -> LegsState:
        """What the legs do now."""
        return self._gait.measure(engine, state, heights)


class VelocityDrive:
    """An action is (forward speed, yaw rate).

    Attributes:
        speed: Forward speed [m/s] for -1 and for 1.
        yaw_rate: Yaw rate [rad/s] for 1, to the left.
    """

    speed: tuple[float, float]
    yaw_rate: float
    size: int = 2

    def velocities(self, actions: F32) -> tuple[Floats, Floats]:
        """Forward speeds (N,) [m/s] and yaw rates (N,) [rad/s] of actions (N, 2)."""
        slow, fast = self.speed
        return slow + (actions[:, 0] + 1) / 2 * (fast - slow), actions[:, 1] * self.yaw_rate

    def actions(self, forward: Floats, yaw_rate: Floats) -> F32:
        """Actions (N, 2) for forward speeds (N,) [m/s] and yaw rates (N,) [rad/s], clipped."""
        slow, fast = self.speed
        action = np.stack([(forward - slow) / (fast - slow) * 2 - 1, yaw_rate / self.yaw_rate], 1)
        return np.clip(action, -1, 1).astype(np.float32)


@dataclass(frozen=True)
class DifferentialDrive(VelocityDrive):
    """Two wheels, with their radius and distance [m]."""

    wheel_radius: float
    track_width: float
    speed: tuple[float, float]
    yaw_rate: float
    size: int = 2

    def targets(self, actions: F32) -> F32:
        """Speeds (N, 2) of the left and the right wheel [rad/s]."""
        forward, turn = self.velocities(actions)
        half = turn * self.track_width / 2
        return (np.stack([forward - half, forward + half], 1) / self.wheel_radius).astype(np.float32)


class CarryingDrive(VelocityDrive):
    """Wheels of a robot that carries something, such as an arm: that stays as it is at rest.

    Attributes:
        wheels: Drive of the wheels, which are all that is driven by speed.
        rows: (W,) which of the actuators are the wheels'.
    """

    def __init__(self, robot: Robot, wheels: DifferentialDrive) -> None:
        self.wheels, self.speed, self.yaw_rate = wheels, wheels.speed, wheels.yaw_rate
        self.rows = np.flatnonzero([actuator.mode == "velocity" for actuator in robot.actuators])
        self._rest = robot.default_position[robot.driven].astype(np.float32)

    def targets(self, actions: F32) -> F32:
        """Speeds of wheels [rad/s] and positions of all else [rad, m] (N, A)."""
        targets = np.tile(self._rest, (len(actions), 1))
        targets[:, self.rows] = self.wheels.targets(actions)
        return targets


class JointOffsets:
    """Joint positions relative to the pose at rest; for legs.

    All actuators are position actuators; an action of 1 is an offset of `scale` [rad].
    """

    def __init__(self, robot: Robot, scale: float = 0.25) -> None:
        self._rest, self._scale = robot.default_position[robot.driven].astype(np.float32), np.float32(scale)
        self.size = len(robot.actuators)

    def targets(self, actions: F32) -> F32:
        """Joint positions (N, A) [rad]."""
        return (self._rest + self._scale * actions).astype(np.float32)
