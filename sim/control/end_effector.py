"""Arms: an action moves the pose that the end effector is sent to, or joints, and opens or shuts the gripper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import matrix_from_rotvec
from pipeline.types import F32, I64
from sim.control.controller import Controller, Move
from sim.control.state import EndEffectorAction, EndEffectorState, Sensed
from sim.control.velocity import FORWARD_AND_TURN
from sim.robots.arm import Arm
from sim.robots.model import Robot

ROUNDS = 2
"""Of inverse kinematics for each action: it begins where the last one ended."""


SIX: tuple[Move, ...] = ("ahead", "left", "up", "roll", "pitch", "yaw")
ALL_SIX = (0, 1, 2, 3, 4, 5)
ACTIONS = {
    "pd_ee_delta_pose": EndEffectorAction(ALL_SIX, 0.1, 0.1, from_target=False, gripper="position"),
    "pd_ee_target_delta_pose": EndEffectorAction(ALL_SIX, 0.1, 0.1, gripper="position"),
    "position_yaw": EndEffectorAction((0, 1, 2, 5), 0.03, 0.12, windup=0.04),
    "position": EndEffectorAction((0, 1, 2), 0.03, 0.0, windup=0.04),
    "position_yaw_10_hz": EndEffectorAction((0, 1, 2, 5), 0.05, 0.2, windup=0.07),
}
"""By name; the first two are ManiSkill's, whose limits are 0.1 m and 0.1 rad a step, with six moves and the gripper."""


class EndEffectorController(Controller):
    """Sends end effectors to poses; joint positions come from inverse kinematics, within their limits of speed.

    The period is that between two actions [s].

    Raises:
        SimError: When the robot is no arm.
    """

    ROWS = ("_target", "_sent")

    def __init__(self, robot: Robot, action: EndEffectorAction, period: float) -> None:
        self.arm = self._arm = Arm(robot)
        self.action = action
        self.size = len(action.moves) + 1
        self.moves = tuple(SIX[number] for number in action.moves)
        self._driven, self._default = robot.driven, robot.default_position.astype(np.float32)
        self._most = period * np.array([joint.max_speed for joint in robot.joints])
        self.start(0)

    def start(self, num_envs: int) -> None:
        """Make room for N robots."""
        self._target = np.tile(np.eye(4), (num_envs, 1, 1))
        self._sent = np.tile(self._default, (num_envs, 1))

    def reset(self, envs: I64, joints: F32, rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,) at joint positions (M, J)."""
        self._target = self._target.copy()  # states that were read hold the old one
        self._target[envs] = self._arm.hands(joints)
        self._sent[envs] = joints

    def end_effectors(self) -> EndEffectorState:
        """Where they were sent last."""
        return EndEffectorState(self.action, self._target)

    def command(self, actions: F32) -> F32:
        """What an exported policy commands, before inverse kinematics: moves (N, size) [m, rad], the gripper's last."""
        scale = [self.action.reach if move < 3 else self.action.turn for move in self.action.moves]
        return (actions * np.array([*scale, 1.0], np.float32)).astype(np.float32)

    def targets(self, actions: F32, now: Sensed) -> F32:
        """Targets (N, A) of the actuators for actions (N, size)."""
        action, hands = self.action, self._arm.hands(now.state.joint_position)
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
        wanted = self._arm.solve(self._sent, moved, ROUNDS)
        share = (actions[:, -1:] > 0) if action.gripper == "switch" else (actions[:, -1:] + 1) / 2
        wanted[:, self._arm.fingers] = self._arm.gripper.positions(np.asarray(share, np.float64))
        self._sent = self._within_speed(wanted)
        return self._sent[:, self._driven]

    def outputs(self, robot: Robot) -> list[dict[str, object]]:
        """Moves and turns of the end effector, base axes; then how far the gripper is to open."""
        found: list[dict[str, object]] = [
            {"end_effector": SIX[move], "unit": "m" if move < 3 else "rad"} for move in self.action.moves
        ]
        return [*found, {"gripper": self.action.gripper, "unit": "1"}]

    def steer(self, asked: Mapping[Move, float], limit: float, view: float, *, shut: bool) -> F32:
        """The action (size,) for what a person asks for, seen from where they look."""
        cos, sin = np.cos(view), np.sin(view)
        turned = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        places, turns = np.array([asked[move] for move in SIX]).reshape(2, 3)
        six = np.concatenate([turned @ places, turned @ turns])
        moves = np.array([*six[list(self.action.moves)], -1.0 if shut else 1.0], np.float32)
        return np.clip(moves, -1, 1)

    def _within_speed(self, wanted: F32) -> F32:
        """Positions (N, J) towards those wanted, no joint faster than it can; those of the arm go together."""
        step = wanted - self._sent
        share = np.minimum(self._most / np.maximum(np.abs(step), 1e-9), 1)
        share[:, self._arm.columns] = share[:, self._arm.columns].min(1, keepdims=True)
        return (self._sent + share * step).astype(np.float32)


class MobileArmController(EndEffectorController):
    """An arm on wheels: an action is the wheels' (forward speed, yaw rate), then the hand's."""

    def __init__(self, robot: Robot, action: EndEffectorAction, base: Controller, period: float) -> None:
        assert base.velocities
        super().__init__(robot, action, period)
        self._base, self._speeds = base, base.velocities
        self._wheels = np.flatnonzero([actuator.mode == "velocity" for actuator in robot.actuators])
        self.size += base.size
        self.moves = (*self.moves, *FORWARD_AND_TURN)

    def end_effectors(self) -> EndEffectorState:
        """Where they were sent last."""
        return EndEffectorState(self.action, self._target, self._speeds)

    def command(self, actions: F32) -> F32:
        """What an exported policy commands: speeds of the wheels [rad/s], then as for a hand."""
        wheels, hands = np.split(actions, [self._base.size], 1)
        return np.concatenate([self._base.command(wheels)[:, self._wheels], super().command(hands)], 1)

    def outputs(self, robot: Robot) -> list[dict[str, object]]:
        """The wheels', then the end effector's."""
        wheels = self._base.outputs(robot)
        return [*(wheels[row] for row in self._wheels), *super().outputs(robot)]

    def targets(self, actions: F32, now: Sensed) -> F32:
        """Targets (N, A) of the actuators for actions (N, size)."""
        wheels, hands = np.split(actions, [self._base.size], 1)
        targets = super().targets(hands, now)
        targets[:, self._wheels] = self._base.command(wheels)[:, self._wheels]
        return targets

    def steer(self, asked: Mapping[Move, float], limit: float, view: float, *, shut: bool) -> F32:
        """The wheels' action, then the end effector's."""
        wheels = self._speeds.steered(asked["forward"], asked["turn"])
        return np.concatenate([wheels, super().steer(asked, limit, view, shut=shut)])


class JointStepController(EndEffectorController):
    """An action moves the joints of the arm from where they are; the fingers, which move alike, are the last element.

    What the arm stands on doesn't drive. Nobody sends the hand anywhere: its target is where its joints are sent.
    """

    def __init__(self, robot: Robot, steps: Sequence[float], period: float) -> None:
        super().__init__(robot, ACTIONS["position"], period)
        self.moves = ()
        if len(steps) != len(self._arm.columns) + 1:
            raise SimError(
                "each joint of the arm has its step, and the fingers have one",
                found=f"{len(steps)} steps for {len(self._arm.columns)} joints of {robot.name}",
                remedy="another task, or an arm of as many joints",
            )
        self.size, self._steps = len(steps), np.array(steps, np.float32)
        gripper = self._arm.gripper
        self._low = np.append(self._arm.low, min(gripper.closed[0], gripper.opened[0]))
        self._high = np.append(self._arm.high, max(gripper.closed[0], gripper.opened[0]))
        self._is_position = np.array([actuator.mode == "position" for actuator in robot.actuators])

    def command(self, actions: F32) -> F32:
        """What an exported policy commands: by how much joints move [rad], and fingers [m]; (N, size)."""
        return actions * self._steps

    def outputs(self, robot: Robot) -> list[dict[str, object]]:
        """Steps of the arm's joints and of the fingers."""
        joints: list[dict[str, object]] = [
            {"joint": robot.joint_names[column], "mode": "step", "unit": "rad"} for column in self._arm.columns
        ]
        return [*joints, {"joint": robot.joint_names[self._arm.fingers[0]], "mode": "step", "unit": "m"}]

    def targets(self, actions: F32, now: Sensed) -> F32:
        """Targets (N, A) of the actuators for actions (N, size)."""
        moving = np.append(self._arm.columns, self._arm.fingers[0])
        sent = np.clip(now.state.joint_position[:, moving] + self.command(actions), self._low, self._high)
        self._sent[:, moving] = sent
        self._sent[:, self._arm.fingers] = sent[:, -1:]
        self._target = self._arm.hands(self._sent)
        return self._sent[:, self._driven] * self._is_position
