"""Robots read from URDF and MJCF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SimError
from sim.control.joints import JointOffsets
from sim.control.wheels import DifferentialDrive
from sim.controlled import find_robot
from sim.robots.model import Robot
from sim.robots.reading import load_robot

URDF = """
<robot name="one_leg">
  <link name="body"><inertial><origin xyz="0.01 0 0.02"/><mass value="2"/>
    <inertia ixx="0.02" iyy="0.03" izz="0.04" ixy="0" ixz="0" iyz="0"/></inertial>
    <collision><origin xyz="0.1 0 0"/><geometry><box size="0.4 0.2 0.1"/></geometry></collision></link>
  <link name="leg"><inertial><mass value="0.5"/>
    <inertia ixx="0.002" iyy="0.002" izz="0.001" ixy="0" ixz="0" iyz="0"/></inertial>
    <collision><origin xyz="0 0 -0.15"/><geometry><cylinder radius="0.02" length="0.3"/></geometry></collision></link>
  <joint name="hip" type="revolute"><parent link="body"/><child link="leg"/><origin xyz="0.15 0.05 -0.02"/>
    <axis xyz="0 1 0"/><limit lower="-0.7" upper="1.1" effort="20" velocity="8"/></joint>
</robot>
"""


@pytest.fixture
def one_leg(tmp_path: Path) -> Robot:
    """A body with a leg, from a URDF."""
    path = tmp_path / "one_leg.urdf"
    path.write_text(URDF)
    return load_robot(path)


def test_urdf_says_what_it_says(one_leg: Robot):
    """Links, joint, inertia, shapes; how high it stands and how wide it is."""
    assert one_leg.joint_names == ("hip",)
    assert [link.name for link in one_leg.links] == ["body", "leg"]
    assert one_leg.mass == pytest.approx(2.5)
    body, leg = one_leg.links
    np.testing.assert_allclose(body.link_from_inertia.translation, [0.01, 0, 0.02])
    assert leg.joint is not None
    assert leg.joint.limits == pytest.approx((-0.7, 1.1))
    np.testing.assert_allclose(leg.joint.axis, [0, 1, 0])
    np.testing.assert_allclose(leg.parent_from_link.translation, [0.15, 0.05, -0.02])
    assert [shape.kind for link in one_leg.links for shape in link.shapes] == ["box", "cylinder"]
    np.testing.assert_allclose(body.shapes[0].size, [0.2, 0.1, 0.05])
    np.testing.assert_allclose(leg.shapes[0].size[:2], [0.02, 0.15])
    assert one_leg.base_height == pytest.approx(0.32)
    assert one_leg.height == pytest.approx(0.37)
    assert one_leg.radius == pytest.approx(np.hypot(0.3, 0.1))


SOLID = '<collision><geometry><box size="0.4 0.2 0.1"/></geometry></collision>'
WEIGHT = '<inertial><mass value="6"/><inertia ixx="0.1" iyy="0.2" izz="0.3" ixy="0" ixz="0" iyz="0"/></inertial>'


@pytest.mark.parametrize(
    ("body", "more", "mass"),
    [
        # as ANYmal's: the base has shapes, and what is fixed to it the mass
        (SOLID, f'<link name="weight">{WEIGHT}</link><joint name="fixed" type="fixed"><parent link="body"/>'
         '<child link="weight"/></joint>', 6),
        (SOLID, "", 1000 * 0.4 * 0.2 * 0.1),
        (SOLID + WEIGHT, "", 6),
    ],
)  # fmt: skip
def test_a_urdf_weighs_what_it_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, body: str, more: str, mass: float
):
    """Shapes without `<inertial>` are weighed as water, and named, only where nothing else gives the link a mass."""
    path = tmp_path / "robot.urdf"
    leg = URDF[URDF.index('<link name="leg">') : URDF.index("</robot>")]
    path.write_text(f'<robot name="one_leg"><link name="body">{body}</link>{more}{leg}</robot>')
    assert load_robot(path).mass == pytest.approx(mass + 0.5)
    assert ("weighs what its shapes would of water" in caplog.text) == (WEIGHT not in body + more)


def test_camera_nobody_placed_looks_ahead_from_the_front_of_the_base(one_leg: Robot):
    """From its box's upper front edge: the leg, which is longer, does not count."""
    np.testing.assert_allclose(one_leg.base_from_camera.translation, [0.3, 0, 0.05], atol=1e-9)
    np.testing.assert_allclose(one_leg.base_from_camera.rotation @ [0, 0, 1], [1, 0, 0], atol=1e-9)


def test_rover_sees_ahead():
    """The camera's z is the base's x, its y points down."""
    robot, drive = find_robot("rover")
    np.testing.assert_allclose(robot.base_from_camera.rotation[:, 2], [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(robot.base_from_camera.rotation[:, 1], [0, 0, -1], atol=1e-9)
    assert robot.base_height == pytest.approx(0, abs=1e-9)
    assert isinstance(drive, DifferentialDrive)
    np.testing.assert_allclose(drive.command(np.array([[1.0, 0.0]], np.float32)), [[10, 10]])
    left, right = drive.command(np.array([[0.0, 0.5]], np.float32))[0]
    assert right > left


def test_legs_move_around_their_rest(tmp_path: Path):
    """An action of zero is the pose at rest, given by the keyframe `home`."""
    path = tmp_path / "leg.xml"
    path.write_text(
        '<mujoco><compiler angle="radian"/><worldbody><body name="b"><freejoint/><geom size="0.1"/>'
        '<body name="l" pos="0 0 -0.1"><joint name="hip" axis="0 1 0"/><geom type="capsule" '
        'fromto="0 0 0 0 0 -0.2" size="0.02"/></body></body></worldbody><actuator><position joint="hip" kp="20" '
        'kv="1"/></actuator><keyframe><key name="home" qpos="0 0 0.3 1 0 0 0 0.4"/></keyframe></mujoco>'
    )
    robot, drive = find_robot(str(path))
    assert isinstance(drive, JointOffsets)
    np.testing.assert_allclose(robot.default_position, [0.4])
    np.testing.assert_allclose(drive.command(np.array([[0.0], [1.0]], np.float32)), [[0.4], [0.65]])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<robot", "compile"),
        ('<robot name="r"><link name="a"><visual><geometry><mesh filename="gone.stl"/></geometry></visual>'
         '<collision><geometry><mesh filename="gone.stl"/></geometry></collision></link></robot>', "gone.stl"),
        ("<mujoco><worldbody>" + 2 * "<body><geom size=\"1\"/></body>" + "</worldbody></mujoco>", "2 bodies"),
    ],
    ids=["broken", "missing mesh", "two robots"],
)  # fmt: skip
def test_bad_files_are_refused(content: str, words: str, tmp_path: Path):
    """The message names the file and what is wrong."""
    path = tmp_path / ("robot.xml" if "mujoco" in content else "robot.urdf")
    path.write_text(content)
    with pytest.raises(SimError, match=words) as caught:
        load_robot(path)
    assert str(path) in str(caught.value)


def test_unknown_robot():
    """What there is."""
    with pytest.raises(SimError, match="rover"):
        find_robot("r2d2")


def test_a_urdf_without_legs_gets_no_motors(one_leg: Robot):
    """What it lacks is said."""
    with pytest.raises(SimError, match="two feet at least"):
        find_robot(str(one_leg.file))


def test_an_mjcf_has_its_own_actuators(tmp_path: Path):
    """Or is told how to write them."""
    path = tmp_path / "ball.xml"
    path.write_text('<mujoco><worldbody><body><freejoint/><geom size=".1"/></body></worldbody></mujoco>')
    with pytest.raises(SimError, match="add <position joint="):
        find_robot(str(path))
