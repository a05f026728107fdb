"""Grippers found in a robot's links, and the arms that they make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SimError
from sim.controlled import find_robot
from sim.physics.catalog import ENGINES
from sim.robots.catalog import PACKAGE, ROBOTS
from sim.robots.gripper import PADS, find_gripper
from sim.robots.reading import load_robot
from sim.robots.state import RobotState
from tests.sim.physics.test_conformance import floor

INERTIA = '<inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/>'


def link(name: str, shape: str, at: str = "0 0 0", mass: float = 0.5) -> str:
    """A link with one shape."""
    return (
        f'<link name="{name}"><inertial><mass value="{mass}"/>{INERTIA}</inertial>'
        f'<collision><origin xyz="{at}"/><geometry>{shape}</geometry></collision></link>'
    )


def joint(name: str, kind: str, parent: str, child: str, at: str, axis: str, limit: str) -> str:
    """A joint between two links."""
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
        f'<origin xyz="{at}"/><axis xyz="{axis}"/>{limit}</joint>'
    )


TURN = '<limit lower="-1" upper="2" effort="30" velocity="2"/>'
SLIDE = '<limit lower="0" upper="0.03" effort="15" velocity="1"/>'


def two_fingers(folder: Path, turn: str = TURN, kind: str = "revolute") -> Path:
    """A post, a turning forearm of 30 cm along x, and two fingers that point along x and slide along z."""
    path = folder / "two_fingers.urdf"
    path.write_text(
        '<robot name="two_fingers">'
        + link("post", '<box size="0.1 0.1 0.4"/>', mass=5)
        + link("fore", '<box size="0.3 0.05 0.05"/>', "0.15 0 0")
        + link("upper_finger", '<box size="0.06 0.02 0.01"/>', "0.03 0 0.005", 0.05)
        + link("lower_finger", '<box size="0.06 0.02 0.01"/>', "0.03 0 -0.005", 0.05)
        + joint("turn", kind, "post", "fore", "0 0 0.2", "0 0 1", turn)
        + joint("upper", "prismatic", "fore", "upper_finger", "0.3 0 0", "0 0 1", SLIDE)
        + joint("lower", "prismatic", "fore", "lower_finger", "0.3 0 0", "0 0 -1", SLIDE)
        + "</robot>"
    )
    return path


@pytest.mark.skipif(not PACKAGE.is_dir(), reason="example-robot-data is not installed")
def test_the_rule_agrees_with_the_catalog() -> None:
    """On panda's own file: within a centimetre and a half, and a degree up to half a turn."""
    known, found = ROBOTS["panda"].gripper, find_gripper(load_robot(ROBOTS["panda"].file))
    assert known
    assert found
    assert (found.joints, found.link) == (known.joints, known.link)
    np.testing.assert_allclose([found.opened, found.closed], [known.opened, known.closed], atol=1e-9)
    np.testing.assert_allclose([found.widths[0], found.widths[-1]], known.widths, atol=1e-3)
    away = found.link_from_hand.translation - known.link_from_hand.translation
    assert np.linalg.norm(away) < 0.015
    cosines = np.diag(known.link_from_hand.rotation.T @ found.link_from_hand.rotation)
    assert np.abs(cosines).min() > np.cos(np.deg2rad(1))
    assert cosines[2] > 0


@pytest.mark.skipif(not PACKAGE.is_dir(), reason="example-robot-data is not installed")
def test_legs_have_no_gripper() -> None:
    """Nor is their base fixed."""
    robot, _ = find_robot("go2")
    assert find_gripper(robot) is None
    assert not robot.fixed_base


def test_a_file_with_two_fingers_is_an_arm(tmp_path: Path) -> None:
    """Fixed, weightless, its servos no stronger than the file says; the hand is at the tips and looks along x."""
    robot, _ = find_robot(str(two_fingers(tmp_path)))
    hand = robot.gripper
    assert hand
    assert robot.fixed_base
    assert robot.gravity_compensation
    assert hand.joints == ("upper", "lower")
    assert (hand.opened, hand.closed, hand.link) == (pytest.approx((0.03, 0.03)), (0, 0), "fore")
    np.testing.assert_allclose(hand.link_from_hand.translation, [0.35, 0, 0], atol=1e-6)
    np.testing.assert_allclose(hand.link_from_hand.rotation[:, 2], [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(np.abs(hand.link_from_hand.rotation[:, 1]), [0, 0, 1], atol=1e-6)
    assert np.linalg.det(hand.link_from_hand.rotation) == pytest.approx(1)
    assert [servo.max_force for servo in robot.actuators] == pytest.approx([30, 15, 15])
    np.testing.assert_allclose(robot.default_position, [0.5, 0.03, 0.03], atol=1e-6)
    assert [robot.links[finger].name for finger in robot.fingers] == ["upper_finger", "lower_finger"]
    assert all(shape.friction == PADS for finger in robot.fingers for shape in robot.links[finger].shapes)


def test_an_arm_has_limits(tmp_path: Path) -> None:
    """A joint that turns for ever is refused by name."""
    with pytest.raises(SimError, match=r"(?s)joints of an arm have limits.*turn"):
        find_robot(str(two_fingers(tmp_path, "", "continuous")))


MIRRORED = """
<mujoco><compiler angle="radian" autolimits="true"/><worldbody><body name="post">
  <geom type="box" size="0.05 0.05 0.2"/>
  <body name="fore" pos="0 0 0.2"><joint name="turn" axis="0 0 1" range="-1 2"/>
    <geom type="box" size="0.15 0.02 0.02" pos="0.15 0 0"/>
    <body name="up" pos="0.3 0 0"><joint name="up" type="slide" axis="0 0 1" range="0 0.03"/>
      <geom type="box" size="0.03 0.01 0.005" pos="0.03 0 0.005"/></body>
    <body name="low" pos="0.3 0 0"><joint name="low" type="slide" axis="0 0 1" range="-0.03 0"/>
      <geom type="box" size="0.03 0.01 0.005" pos="0.03 0 -0.005"/></body></body></body></worldbody>
  <equality><joint joint1="low" joint2="up" polycoef="0 -1 0 0 0"/></equality>
  <actuator><position joint="turn" kp="500" kv="50"/><position joint="up" kp="800" kv="40" forcerange="-30 30"/>
  </actuator>
  <keyframe><key name="home" qpos="0.3 0.02 -0.02"/></keyframe>
</mujoco>
"""
"""An arm as MJCF collections have them: no free base, one driven finger, the other on its negative positions."""


@pytest.mark.parametrize("name", ["sapien", "mujoco"])
def test_fingers_of_opposite_signs_move_alike(name: str, tmp_path: Path) -> None:
    """The pose at rest is the keyframe's; one target moves both."""
    path = tmp_path / "mirrored.xml"
    path.write_text(MIRRORED)
    robot, _ = find_robot(str(path))
    assert robot.gripper
    assert (robot.gripper.opened, robot.gripper.closed) == (pytest.approx((0.03, 0.03)), (0, 0))
    assert robot.gripper.joints == ("up", "low")
    np.testing.assert_allclose(robot.default_position, [0.3, 0.02, 0.02], atol=1e-9)
    assert [servo.joint for servo in robot.actuators] == ["turn", "up", "low"]
    engine = ENGINES[name].make(robot, [floor()], 1, 0.02)
    rest = robot.default_position[None].astype(np.float32)
    engine.reset(np.arange(1), RobotState.at_rest(np.array([[0, 0, 1.0]]), np.eye(1, 4), rest), np.zeros(1, int))
    engine.set_targets(np.array([[0.5, 0.01, 0.01]], np.float32))
    engine.step(100)
    np.testing.assert_allclose(engine.read().joint_position, [[0.5, 0.01, 0.01]], atol=1e-3)
    engine.close()
