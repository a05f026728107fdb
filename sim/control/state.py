"""What controllers sense, what they tell of themselves, and what their actions mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.geometry import rotvec_from_matrix
from pipeline.types import F32, F64, Floats, Mask
from sim.robots.state import RobotState


@dataclass(frozen=True, eq=False)
class Sensed:
    """What a controller knows of N robots.

    Attributes:
        state: Positions and velocities.
        heights: (N, K) ground relative to the base at the points of the controller's scan [m]; K = 0 without one.
        command: (N, 3) of a task that gives one: speed ahead and to the left [m/s], yaw rate [rad/s].
    """

    state: RobotState
    heights: F32
    command: F32 | None


@dataclass(frozen=True)
class Trot:
    """How robots step; a gait is bound to what it was trained with.

    Attributes:
        beat: Steps of each foot per second [Hz].
        lift: Height of a step on level ground, as a fraction of a leg's length.
        scale: Offset of a joint for an action of 1 [rad].
        higher: How much higher a foot is lifted before the largest rise, as a fraction.
        rise: Rises of the ground before a foot between which it is lifted higher and higher [m].
        stands: Whether a robot that is told to stand does, or else steps on the spot.
    """

    beat: float = 2.0
    lift: float = 0.3
    scale: float = 0.5
    higher: float = 1.2
    rise: tuple[float, float] = (0.03, 0.18)
    stands: bool = True


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
class Velocities:
    """Speeds that actions (N, 2) mean.

    Attributes:
        speed: Forward speed [m/s] for -1 and for 1.
        yaw_rate: Yaw rate [rad/s] for 1, to the left.
    """

    speed: tuple[float, float]
    yaw_rate: float

    def of(self, actions: F32) -> tuple[Floats, Floats]:
        """Forward speeds (N,) [m/s] and yaw rates (N,) [rad/s] of actions (N, 2)."""
        slow, fast = self.speed
        return slow + (actions[:, 0] + 1) / 2 * (fast - slow), actions[:, 1] * self.yaw_rate

    def actions(self, forward: Floats, yaw_rate: Floats) -> F32:
        """Actions (N, 2) for forward speeds (N,) [m/s] and yaw rates (N,) [rad/s], clipped."""
        slow, fast = self.speed
        action = np.stack([(forward - slow) / (fast - slow) * 2 - 1, yaw_rate / self.yaw_rate], 1)
        return np.clip(action, -1, 1).astype(np.float32)

    def steered(self, ahead: float, left: float) -> F32:
        """The action (2,) for shares -1 to 1 of the fastest speeds forward and to the left."""
        slow, fast = self.speed
        forward = ahead * (fast if ahead > 0 else -slow)
        return self.actions(np.array([forward]), np.array([left * self.yaw_rate]))[0]


@dataclass(frozen=True)
class EndEffectorAction:
    """What the elements of an action mean; the last one is the gripper's.

    Attributes:
        moves: Which of x, y, z and the turns about x, y, z the others are, 0 to 5; in the base's axes.
        reach: How far the end effector is sent by an action of 1 [m].
        turn: How far it is turned by an action of 1 [rad].
        from_target: Whether that is from where it was sent last, or else from where it is.
        windup: How far from the end effector it may be sent at most [m].
        gripper: A switch opens above 0 and shuts below; a position goes from shut at -1 to open at 1.
    """

    moves: tuple[int, ...]
    reach: float
    turn: float
    from_target: bool = True
    windup: float = np.inf
    gripper: Literal["switch", "position"] = "switch"


@dataclass(frozen=True, eq=False)
class EndEffectorState:
    """Where the end effectors of N arms were sent last, base from end effector, and what actions mean.

    Attributes:
        target: (N, 4, 4).
        wheels: Speeds of what carries the arms; actions of an arm on wheels begin with those of the wheels.
    """

    action: EndEffectorAction
    target: F64
    wheels: Velocities | None = None

    def actions(self, hands: F64, places: F64, rotations: F64, fingers: Floats) -> F32:
        """Actions (N, size) that send hands at poses (N, 4, 4) to places (N, 3), turned as (N, 3, 3), base from hand.

        `fingers` (N,) is 1 to open and -1 to shut. What one action can't reach is clipped.
        """
        action = self.action
        start = self.target if action.from_target else hands
        turns = rotvec_from_matrix(rotations @ start[:, :3, :3].transpose(0, 2, 1))
        six = np.concatenate([(places - start[:, :3, 3]) / action.reach, turns / (action.turn or 1.0)], 1)
        return np.clip(np.column_stack([six[:, action.moves], fingers]), -1, 1).astype(np.float32)
