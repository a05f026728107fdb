"""Drives of arms: an action moves the pose that the hand is sent to, or its joints, and opens or shuts the gripper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import matrix_from_rotvec
from pipeline.types import F32, I64, Floats
from sim.robots.arm import Arm
from sim.robots.drive import ArmState, CarryingDrive, HandAction
from sim.robots.model import Robot

ROUNDS = 2
"""Of inverse kinematics for each action: it begins where the last one ended."""


ALL_SIX = (0, 1, 2, 3, 4, 5)
HAND_ACTIONS = {
    "pd_ee_delta_pose": HandAction(ALL_SIX, 0.1, 0.1, from_target=False, gripper="position"),
    "pd_ee_target_delta_pose": HandAction(ALL_SIX, 0.1, 0.1, gripper="position"),
    "position_yaw": HandAction((0, 1, 2, 5), 0.03, 0.12, windup=0.04),
    "position": HandAction((0, 1, 2), 0.03, 0.0, windup=0.04),
    "position_yaw_10_hz": HandAction((0, 1, 2, 5), 0.05, 0.2, windup=0.07),
}
"""By name; the first two are ManiSkill's, whose limits are 0.1 m and 0.1 rad a step, with six moves and the gripper."""


class HandDrive:
    """Drives the hands of N arms; joint positions come from inverse kinematics, and move within their limits of speed.

    The period is that between two actions [s].

    Attributes:
        arm: The robot's.
        size: Number of elements of an action, each in [-1, 1].

    Raises:
        SimError: When the robot is no arm.
    """

    def __init__(self, robot: Robot, action: HandAction, period: float) -> None:
        self.arm, self.action = Arm(robot), action
        self.size = len(action.moves) + 1
        self._driven, self._default = robot.driven, robot.default_position.astype(np.float32)
        self._most = period * np.array([joint.max_speed for joint in robot.joints])
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
        wished = self.arm.solve(self._sent, moved, ROUNDS)
        share = (actions[:, -1:] > 0) if action.gripper == "switch" else (actions[:, -1:] + 1) / 2
        wished[:, self.arm.fingers] = self.arm.gripper.positions(np.asarray(share, np.float64))
        self._sent = self._within_speed(wished)
        return self._sent[:, self._driven]

    def _within_speed(self, wished: F32) -> F32:
        """Positions (N, J) towards those wished, no joint faster than it can; those of the arm go together."""
        step = wished - self._sent
        share = np.minimum(self._most / np.maximum(np.abs(step), 1e-9), 1)
        share[:, self.arm.columns] = share[:, self.arm.columns].min(1, keepdims=True)
        return (self._sent + share * step).astype(np.float32)


class FetchDrive(HandDrive):
    """An arm on wheels: an action is the wheels' (forward speed, yaw rate), then the hand's."""

    def __init__(self, robot: Robot, action: HandAction, base: CarryingDrive, period: float) -> None:
        super().__init__(robot, action, period)
        self.base = base
        self.size += base.size

    @property
    def state(self) -> ArmState:
        """Where the hands were sent last."""
        return ArmState(self.action, self._target, self.base)

    def targets(self, actions: F32) -> F32:
        """What an exported policy commands: speeds of the wheels [rad/s], then as for a hand."""
        wheels, hands = np.split(actions, [self.base.size], 1)
        return np.concatenate([self.base.wheels.targets(wheels), super().targets(hands)], 1)

    def moved(self, actions: F32, joints: Floats) -> F32:
        """Targets (N, A) of the actuators for actions (N, size) at joint positions (N, J)."""
        wheels, hands = np.split(actions, [self.base.size], 1)
        targets = super().moved(hands, joints)
        targets[:, self.base.rows] = self.base.wheels.targets(wheels)
        return targets


class JointSteps(HandDrive):
    """An action moves the joints of the arm from where they are; the fingers, which move alike, are the last element.

    What the arm stands on doesn't drive. Nobody sends the hand anywhere: its target is where its joints are sent.
    """

    def __init__(self, robot: Robot, steps: Sequence[float], period: float) -> None:
        super().__init__(robot, HAND_ACTIONS["position"], period)
        if len(steps) != len(self.arm.columns) + 1:
            raise SimError(
                "each joint of the arm has its step, and the fingers have one",
                found=f"{len(steps)} steps for {len(self.arm.columns)} joints of {robot.name}",
                remedy="another task, or an arm of as many joints",
            )
        self.size, self._steps = len(steps), np.array(steps, np.float32)
        gripper = self.arm.gripper
        self._low = np.append(self.arm.low, min(gripper.closed[0], gripper.opened[0]))
        self._high = np.append(self.arm.high, max(gripper.closed[0], gripper.opened[0]))
        self._is_position = np.array([actuator.mode == "position" for actuator in robot.actuators])

    def targets(self, actions: F32) -> F32:
        """What an exported policy commands: by how much joints move [rad], and fingers [m]; (N, size)."""
        return actions * self._steps

    def moved(self, actions: F32, joints: Floats) -> F32:
        """Targets (N, A) of the actuators for actions (N, size) at joint positions (N, J)."""
        moving = np.append(self.arm.columns, self.arm.fingers[0])
        sent = np.clip(joints[:, moving] + self.targets(actions), self._low, self._high)
        self._sent[:, moving] = sent
        self._sent[:, self.arm.fingers] = sent[:, -1:]
        self._target = self.arm.hands(self._sent)
        return self._sent[:, self._driven] * self._is_position
