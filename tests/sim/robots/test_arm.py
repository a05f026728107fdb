"""Kinematics of arms: where hands are, and joints that bring them somewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry import matrix_from_rotvec, rotvec_from_matrix
from pipeline.types import F32, F64
from sim.controlled import find_robot
from sim.robots.arm import Arm
from sim.robots.catalog import PACKAGE
from sim.robots.kinematics import link_poses
from sim.robots.model import Robot
from sim.robots.state import RobotState

pytest.importorskip("mujoco")
if not PACKAGE.is_dir():
    pytest.skip("example-robot-data is not installed", allow_module_level=True)

PANDA, _ = find_robot("panda")
OBLIQUE = """
<mujoco><compiler angle="radian" autolimits="true"/><worldbody><body name="post">
  <geom type="box" size="0.05 0.05 0.2"/>
  <body name="rail" pos="0.02 0.1 0.3" euler="0.2 0.1 -0.3">
    <joint name="rail" type="slide" axis="1 3 0" range="-0.3 0.4"/>
    <geom type="box" size="0.05 0.05 0.02"/>
    <body name="one" pos="0 0 0.1"><joint name="one" axis="1 2 2" pos="0.05 -0.02 0.1" range="-1.5 2"/>
      <geom type="box" size="0.02 0.02 0.15" pos="0 0 0.15"/>
      <body name="two" pos="0 0 0.3"><joint name="two" axis="0 1 0.2" pos="0 0.03 0" range="-2 1.6"/>
        <geom type="box" size="0.02 0.02 0.15" pos="0 0 0.15"/>
        <body name="plate" pos="0 0.02 0.3" euler="0 0.3 0"><geom type="box" size="0.02 0.02 0.02"/>
          <body name="three"><joint name="three" axis="1 0 0" range="-1.2 1.5"/>
            <geom type="box" size="0.02 0.02 0.05" pos="0 0 0.05"/>
            <body name="four" pos="0 0 0.1"><joint name="four" axis="0 1 0" pos="0.01 0 -0.02" range="-1.5 1.2"/>
              <geom type="box" size="0.02 0.02 0.04" pos="0 0 0.04"/>
              <body name="hand" pos="0 0 0.08"><joint name="five" axis="0 0 1" range="-2 2"/>
                <geom type="box" size="0.02 0.06 0.02"/>
                <body name="left" pos="0 0 0.03"><joint name="left" type="slide" axis="0 1 0" range="0 0.03"/>
                  <geom type="box" size="0.01 0.005 0.03" pos="0 0.005 0.03"/></body>
                <body name="right" pos="0 0 0.03"><joint name="right" type="slide" axis="0 -1 0" range="0 0.03"/>
                  <geom type="box" size="0.01 0.005 0.03" pos="0 -0.005 0.03"/></body>
              </body></body></body></body></body></body></body></body></worldbody>
  <actuator><position joint="rail" kp="500" kv="50"/><position joint="one" kp="500" kv="50"/>
    <position joint="two" kp="500" kv="50"/><position joint="three" kp="500" kv="50"/>
    <position joint="four" kp="500" kv="50"/><position joint="five" kp="500" kv="50"/>
    <position joint="left" kp="800" kv="40"/><position joint="right" kp="800" kv="40"/></actuator>
  <keyframe><key name="home" qpos="0.05 0.2 0.5 0.3 0.4 -0.2 0.03 0.03"/></keyframe>
</mujoco>
"""
"""A rail, hinges about oblique axes beside the links' origins, a fixed link among them, and two fingers."""


@pytest.fixture(params=["panda", "oblique"])
def robot(request: pytest.FixtureRequest, tmp_path: Path) -> Robot:
    """Two arms that have little in common."""
    if request.param == "panda":
        return PANDA
    path = tmp_path / "oblique.xml"
    path.write_text(OBLIQUE)
    return find_robot(str(path))[0]


def anywhere(robot: Robot, count: int, seed: int) -> F32:
    """Joint positions (N, J) within all limits."""
    low, high = np.array([joint.limits for joint in robot.joints]).T
    return np.random.default_rng(seed).uniform(low, high, (count, len(low))).astype(np.float32)


def hands_of(robot: Robot, joints: F32) -> F64:
    """Base from hands, by the kinematics of all links."""
    assert robot.gripper
    count, link = len(joints), [one.name for one in robot.links].index(robot.gripper.link)
    state = RobotState.at_rest(np.zeros((count, 3)), np.tile([1.0, 0, 0, 0], (count, 1)), joints)
    return link_poses(robot, state)[:, link] @ robot.gripper.link_from_hand.matrix


def check_reached(arm: Arm, found: F32, aims: F64) -> None:
    """Within a millimetre, 0.2 degrees and all limits."""
    poses = arm.hands(found)
    assert np.linalg.norm(poses[:, :3, 3] - aims[:, :3, 3], axis=1).max() < 1e-3
    turned = rotvec_from_matrix(poses[:, :3, :3] @ aims[:, :3, :3].transpose(0, 2, 1))
    assert np.rad2deg(np.linalg.norm(turned, axis=1)).max() < 0.2
    chain = found[:, arm.columns]
    assert (chain >= arm.low - 1e-6).all()
    assert (chain <= arm.high + 1e-6).all()


def test_hands_are_where_the_links_are(robot: Robot) -> None:
    """At joint positions anywhere, as by the recursion over all links, which engines are compared with."""
    joints = anywhere(robot, 40, 1)
    np.testing.assert_allclose(Arm(robot).hands(joints), hands_of(robot, joints), atol=1e-6)


def test_the_chain_is_that_to_the_hand(robot: Robot) -> None:
    """Its columns and limits are those of the joints but for the fingers, from the base outwards."""
    arm = Arm(robot)
    assert robot.gripper
    assert [robot.joint_names[column] for column in arm.fingers] == list(robot.gripper.joints)
    rest = [joint for joint in robot.joints if joint.name not in robot.gripper.joints]
    assert [robot.joint_names[column] for column in arm.columns] == [joint.name for joint in rest]
    np.testing.assert_array_equal(np.stack([arm.low, arm.high], 1), [joint.limits for joint in rest])


def test_panda_reaches_over_its_table() -> None:
    """From rest, wherever the hand points down before it, turned either way; the fingers stay as they were."""
    arm, rng, count = Arm(PANDA), np.random.default_rng(2), 200
    aims = np.tile(np.eye(4), (count, 1, 1))
    aims[:, :3, 3] = rng.uniform([0.3, -0.28, 0.015], [0.64, 0.3, 0.3], (count, 3))
    yaw = rng.uniform(-0.7, 0.7, count)
    aims[:, :3, :3] = matrix_from_rotvec(yaw[:, None] * np.array([0, 0, 1.0])) @ np.diag([1.0, -1, -1])
    joints = np.tile(PANDA.default_position, (count, 1)).astype(np.float32)
    joints[:, arm.fingers] = rng.uniform(0, 0.04, (count, 2))
    given = joints.copy()
    found = arm.solve(joints, aims, 60)
    check_reached(arm, found, aims)
    np.testing.assert_array_equal(joints, given)
    np.testing.assert_array_equal(found[:, arm.fingers], joints[:, arm.fingers])


def test_poses_near_rest_are_reached(robot: Robot) -> None:
    """Those of joints a third of a radian or 10 cm from rest, with slides and oblique axes too."""
    arm, rng = Arm(robot), np.random.default_rng(3)
    there = np.tile(robot.default_position, (60, 1)).astype(np.float32)
    kinds = np.array([robot.joints[column].kind == "slide" for column in arm.columns])
    there[:, arm.columns] += rng.uniform(-1, 1, (60, len(kinds))) * np.where(kinds, 0.1, 0.33)
    there[:, arm.columns] = np.clip(there[:, arm.columns], arm.low, arm.high)
    rest = np.tile(robot.default_position, (60, 1)).astype(np.float32)
    aims = arm.hands(there)
    assert np.linalg.norm(aims[:, :3, 3] - arm.hands(rest)[:, :3, 3], axis=1).max() > 0.1
    check_reached(arm, arm.solve(rest, aims, 100), aims)


def test_what_is_out_of_reach_keeps_limits() -> None:
    """Joints stay finite."""
    arm = Arm(PANDA)
    aims = np.tile(np.eye(4), (2, 1, 1))
    aims[:, :3, :3] = np.diag([1.0, -1, -1])
    aims[:, :3, 3] = [[1.5, 0.4, 0.3], [-0.3, -1.2, 0.1]]
    found = arm.solve(np.tile(PANDA.default_position, (2, 1)), aims, 60)
    assert (found[:, arm.columns] >= arm.low - 1e-6).all()
    assert (found[:, arm.columns] <= arm.high + 1e-6).all()
    assert np.isfinite(found).all()


def test_reachable_poses_are_reached_from_near(robot: Robot) -> None:
    """Those of joints anywhere within all limits, from a seventh of a radian away: 95 % within a millimetre."""
    arm, there = Arm(robot), anywhere(robot, 200, 7)
    start = there.copy()
    start[:, arm.columns] += np.random.default_rng(8).normal(0, 0.15, (200, len(arm.columns)))
    start[:, arm.columns] = np.clip(start[:, arm.columns], arm.low, arm.high)
    aims = arm.hands(there)
    found = arm.solve(start, aims, 100)
    away = np.linalg.norm(arm.hands(found)[:, :3, 3] - aims[:, :3, 3], axis=1)
    assert (away < 1e-3).mean() >= 0.95
    assert (found[:, arm.columns] >= arm.low - 1e-6).all()
    assert (found[:, arm.columns] <= arm.high + 1e-6).all()


def test_what_is_out_of_reach_settles(robot: Robot) -> None:
    """Pointing down, a metre beyond: another call moves no joint by a thousandth of a radian."""
    arm, rng = Arm(robot), np.random.default_rng(9)
    aims = np.tile(np.eye(4), (40, 1, 1))
    aims[:, :3, :3] = np.diag([1.0, -1, -1])
    angle = rng.uniform(-1, 1, 40)
    aims[:, :3, 3] = np.stack([2 * np.cos(angle), 2 * np.sin(angle), rng.uniform(0, 0.5, 40)], 1)
    first = arm.solve(np.tile(robot.default_position, (40, 1)), aims, 400)
    second = arm.solve(first, aims, 60)
    assert np.abs(second - first).max() < 1e-3
    assert (second[:, arm.columns] >= arm.low - 1e-6).all()
    assert (second[:, arm.columns] <= arm.high + 1e-6).all()


def test_what_is_no_arm_is_refused() -> None:
    """A robot without gripper, and a chain with a joint that turns for ever, by its name."""
    with pytest.raises(SimError, match=r"(?s)an arm has a gripper.*rover"):
        Arm(find_robot("rover")[0])
    links = list(PANDA.links)
    number = next(n for n, link in enumerate(links) if link.joint and link.joint.name == "panda_joint3")
    joint = links[number].joint
    assert joint
    links[number] = replace(links[number], joint=replace(joint, limits=None))
    with pytest.raises(SimError, match=r"(?s)joints have limits.*none for panda_joint3\b"):
        Arm(replace(PANDA, links=tuple(links)))
