"""What the actions of arms on wheels mean."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.types import F32
from sim.control.end_effector import ACTIONS, EndEffectorController, JointStepController, MobileArmController
from sim.controlled import find_robot
from tests.sim.control.sensed import at

pytest.importorskip("mujoco")

FETCHER, CARRYING = find_robot("fetcher")
ROVER_DRIVE = find_robot("rover")[1]
ACTION = ACTIONS["position_yaw_10_hz"]
WHEELS = [0, 1]
"""In joint arrays and in those of actuators; what else is driven follows, in joint arrays behind the casters."""
CHAIN, FINGERS = FETCHER.driven[2:8], FETCHER.driven[8:]
STEPS = (0.05, 0.03, 0.03, 0.03, 0.03, 0.05, 0.005)


def joints_near_rest(count: int) -> F32:
    """Joint positions (N, J), wheels turned."""
    joints = np.tile(FETCHER.default_position, (count, 1)).astype(np.float32)
    joints[:, CHAIN] += np.random.default_rng(2).uniform(-0.1, 0.1, (count, 6))
    joints[:, WHEELS] = 7.0
    joints[:, FINGERS] = 0.02
    return joints


def begun(controller: EndEffectorController, count: int) -> F32:
    """Begin episodes; their joints."""
    joints = joints_near_rest(count)
    controller.start(count)
    controller.reset(np.arange(count), joints, np.random.default_rng(0))
    return joints


def test_wheels_come_first_then_the_hand() -> None:
    """Two elements as the rover's, then three moves, a turn and the gripper as a hand's; neither moves the other."""
    both, hand = MobileArmController(FETCHER, ACTION, CARRYING, 0.1), EndEffectorController(FETCHER, ACTION, 0.1)
    assert (both.size, hand.size) == (7, 5)
    actions = np.random.default_rng(5).uniform(-1, 1, (6, 7)).astype(np.float32)
    joints = begun(both, 6)
    begun(hand, 6)
    found, alone = both.targets(actions, at(joints)), hand.targets(actions[:, 2:], at(joints))
    np.testing.assert_array_equal(found[:, WHEELS], ROVER_DRIVE.command(actions[:, :2]))
    np.testing.assert_array_equal(found[:, 2:], alone[:, 2:])
    np.testing.assert_allclose(both.end_effectors().target, hand.end_effectors().target)
    assert both.end_effectors().wheels is CARRYING.velocities
    assert hand.end_effectors().wheels is None
    commands = both.command(actions)
    np.testing.assert_array_equal(commands[:, :2], ROVER_DRIVE.command(actions[:, :2]))
    np.testing.assert_allclose(commands[:, 2:], actions[:, 2:] * [0.05, 0.05, 0.05, 0.2, 1], rtol=1e-6)


def test_wheels_alone_leave_the_arm_at_rest() -> None:
    """So that it does all that a rover does."""
    actions = np.array([[1, -1], [0.2, 0.5]], np.float32)
    found = CARRYING.command(actions)
    np.testing.assert_array_equal(found[:, WHEELS], ROVER_DRIVE.command(actions))
    np.testing.assert_allclose(found[:, 2:], np.tile(FETCHER.default_position[FETCHER.driven[2:]], (2, 1)), atol=1e-6)


def test_joint_steps_are_from_where_joints_are() -> None:
    """Each element moves its joint by its own step, the last one both fingers; wheels stand."""
    controller = JointStepController(FETCHER, STEPS, 0.03)
    assert controller.size == 7
    for element, step in enumerate(STEPS):
        joints = begun(controller, 2)
        actions = np.zeros((2, 7), np.float32)
        actions[:, element] = [1, -0.5]
        controller.targets(actions, at(joints))
        found = controller.targets(actions, at(joints))  # joints that don't follow are not sent farther
        expected = joints.copy()
        moved = FINGERS if element == 6 else CHAIN[[element]]
        expected[:, moved] += np.array([[1], [-0.5]]) * step
        expected[:, WHEELS] = 0
        np.testing.assert_allclose(found, expected[:, FETCHER.driven], atol=1e-6)
        np.testing.assert_allclose(controller.end_effectors().target, controller.arm.hands(expected), atol=1e-6)


def test_joint_steps_end_at_limits() -> None:
    """Of joints and of fingers."""
    controller = JointStepController(FETCHER, STEPS, 0.03)
    joints = begun(controller, 1)
    joints[:, [CHAIN[2], *FINGERS]] = [2.59, 0.001, 0.001]
    found = controller.targets(np.array([[0, 0, 1, 0, 0, 0, -1]], np.float32), at(joints))
    np.testing.assert_allclose(found[:, [4, 8, 9]], [[2.6, 0, 0]], atol=1e-6)


def test_another_number_of_joints_is_refused() -> None:
    """Six joints and the fingers have seven steps."""
    with pytest.raises(SimError, match="6 steps for 6 joints of fetcher"):
        JointStepController(FETCHER, STEPS[1:], 0.03)
