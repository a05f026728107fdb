"""Drives of arms: an action moves the pose that the hand is sent to, and opens or shuts the gripper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.geometry import matrix_from_rotvec, rotvec_from_matrix
from pipeline.types import F32, F64, I64, Floats
from sim.robots.arm import Arm
from sim.robots.model import Robot

ROUNDS = 2
"""Of inverse kinematics for each action: it begins where the last one ended."""


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


ALL_SIX = (0, 1, 2, 3, 4, 5)
HAND_ACTIONS = {
    "pd_ee_delta_pose": HandAction(ALL_SIX, 0.1, 0.1, from_target=False, gripper="position"),
    "pd_ee_target_delta_pose": HandAction(ALL_SIX, 0.1, 0.1, gripper="position"),
    "position_yaw": HandAction((0, 1, 2, 5), 0.03, 0.12, windup=0.04),
    "position": HandAction((0, 1, 2), 0.03, 0.0, windup=0.04),
}
"""By name; the first two are ManiSkill's, whose limits are 0.1 m and 0.1 rad a step, with six moves and the gripper."""


@dataclass(frozen=True, eq=False)
class ArmState:
    """Where the hands of N arms were sent last, base from hand `target` (N, 4, 4), and what actions mean."""

    action: HandAction
    target: F64

    def actions(self, hands: F64, places: F64, rotations: F64, fingers: Floats) -> F32:
        """Actions (N, size) that send hands at poses (N, 4, 4) to places (N, 3), turned as (N, 3, 3), base from hand.

        `fingers` (N,) is 1 to open and -1 to shut. What one action can't reach is clipped.
        """
        action = self.action
        start = self.target if action.from_target else hands
        turns = rotvec_from_matrix(rotations @ start[:, :3, :3].transpose(0, 2, 1))
        six = np.concatenate([(places - start[:, :3, 3]) / action.reach, turns / (action.turn or 1.0)], 1)
        return np.clip(np.column_stack([six[:, action.moves], fingers]), -1, 1).astype(np.float32)


class HandDrive:
    """Drives the hands of N arms; joint positions come from inverse kinematics.

    Attributes:
        arm: The robot's.
        size: Number of elements of an action, each in [-1, 1].

    Raises:
        SimError: When the robot is no arm.
    """

    def __init__(self, robot: Robot, action: HandAction) -> None:
        self.arm, self.action = Arm(robot), action
        self.size = len(action.moves) + 1
        self._driven, self._default = robot.driven, robot.default_position.astype(np.float32)
        self.start(0)

    def start(self, num_envs: int) -> None:
        """Make room for N robots."""
        self._target = np.tile(np.eye(4), (num_envs, 1, 1))
        self._sent = np.tile(self._default, (num_envs, 1))

    def reset(self, envs: I64, joints: F32) -> None:
        """Begin episodes in environments (M,) at joint positions (M, J)."""
        self._target = self._target.copy()  # states that were read hold the old one
        self._target[envs] = self.arm.hands(joints)
        self._sent[envs] = joints

    @property
    def state(self) -> ArmState:
        """Where the hands were sent last."""
        return ArmState(self.action, self._target)

    def targets(self, actions: F32) -> F32:
        """What an exported policy commands, before inverse kinematics: moves (N, size) [m, rad], the gripper's last."""
        scale = [self.action.reach if move < 3 else self.action.turn for move in self.action.moves]
        return (actions * np.array([*scale, 1.0], np.float32)).astype(np.float32)

    def moved(self, actions: F32, joints: Floats) -> F32:
        """Targets (N, A) of the actuators for actions (N, size) at joint positions (N, J)."""
        action, hands = self.action, self.arm.hands(joints)
        six = np.zeros((len(actions), 6))
        six[:, action.moves] = actions[:, :-1]
        target = self._target if action.from_target else hands
        place = target[:, :3, 3] + six[:, :3] * action.reach
        away = place - hands[:, :3, 3]
        far = np.maximum(np.linalg.norm(away, axis=1, keepdims=True) / action.windup, 1)
        moved = target.copy()
        moved[:, :3, 3] = hands[:, :3, 3] + away / far
        moved[:, :3, :3] = matrix_from_rotvec(six[:, 3:] * action.turn) @ target[:, :3, :3]
        self._target = moved
        self._sent = self.arm.solve(self._sent, moved, ROUNDS)
        fingers = self.arm.gripper
        share = (actions[:, -1:] > 0) if action.gripper == "switch" else (actions[:, -1:] + 1) / 2
        self._sent[:, self.arm.fingers] = fingers.closed + share * (fingers.opened - fingers.closed)
        return self._sent[:, self._driven]
