"""Where the hand of an arm is, and how it gets somewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry import angle_deg
from sim.physics.state import RobotState
from sim.robots.arm import Arm
from sim.robots.catalog import PACKAGE, find_robot
from sim.robots.hand_drive import HAND_ACTIONS, HandDrive
from sim.robots.kinematics import link_poses
from sim.robots.model import Robot

pytest.importorskip("mujoco")
if not PACKAGE.is_dir():
    pytest.skip("example-robot-data is not installed", allow_module_level=True)

CRANE = """<mujoco><worldbody><body name="post"><freejoint/><geom type="box" size=".1 .1 .1"/>
<body name="mast" pos=".02 0 .3" euler="0 0 35"><joint name="lift" type="slide" axis="0 .6 .8" range="-.3 .4"/>
<geom type="box" size=".02 .02 .1"/><body name="boom" pos=".05 .1 .2" euler="20 0 0">
<joint name="swing" axis=".48 .6 .64" pos=".03 -.02 .05" range="-1.5 1.5"/><geom type="box" size=".2 .02 .02"/>
<body name="palm" pos=".3 0 0" euler="0 90 0"><joint name="wrist" axis="0 0 1" range="-2 2"/>
<geom type="box" size=".03 .05 .02"/>
<body name="left" pos="0 .03 .04"><joint name="l" type="slide" axis="0 1 0" range="0 .04"/>
<geom type="box" size=".01 .005 .04" pos="0 .005 .04"/></body>
<body name="right" pos="0 -.03 .04"><joint name="r" type="slide" axis="0 -1 0" range="0 .04"/>
<geom type="box" size=".01 .005 .04" pos="0 -.005 .04"/></body>
</body></body></body></body></worldbody><actuator>
<position joint="lift" kp="900" kv="90"/><position joint="swing" kp="900" kv="90"/>
<position joint="wrist" kp="90" kv="9"/>
<position joint="l" kp="900" kv="50"/><position joint="r" kp="900" kv="50"/></actuator></mujoco>"""
"""A slide and hinges about skew axes that miss their links' origins."""


@pytest.fixture(params=["panda", "crane"])
def robot(request: pytest.FixtureRequest, tmp_path: Path) -> Robot:
    """Panda, and a robot from a file whose axes are skew."""
    if request.param == "panda":
        return find_robot("panda")[0]
    path = tmp_path / "crane.xml"
    path.write_text(CRANE)
    return find_robot(str(path))[0]


def drawn(arm: Arm, robot: Robot, count: int, share: float = 0.8) -> np.ndarray:
    """Joint positions (N, J) within the limits."""
    rng = np.random.default_rng(4)
    joints = np.tile(robot.default_position, (count, 1)).astype(np.float32)
    middle, half = (arm.low + arm.high) / 2, (arm.high - arm.low) / 2
    joints[:, arm.columns] = middle + share * half * rng.uniform(-1, 1, (count, len(arm.columns)))
    return joints


def test_hands_are_where_the_links_are(robot: Robot):
    """As the poses of all links have it."""
    arm = Arm(robot)
    joints = drawn(arm, robot, 20)
    state = RobotState.at_rest(np.zeros((20, 3)), np.tile([1.0, 0, 0, 0], (20, 1)), joints)
    link = [one.name for one in robot.links].index(arm.gripper.link)
    expected = link_poses(robot, state)[:, link] @ arm.gripper.link_from_hand.matrix
    np.testing.assert_allclose(arm.hands(joints), expected, atol=1e-6)


def test_solved_joints_bring_hands_there(robot: Robot):
    """From nearby, to a millimetre and a tenth of a degree, within the limits; the fingers stay as they were."""
    arm = Arm(robot)
    joints = drawn(arm, robot, 40, 0.6)
    aims, start = arm.hands(joints), joints.copy()
    start[:, arm.columns] += np.random.default_rng(5).uniform(-0.05, 0.05, (40, len(arm.columns)))
    start[:, arm.fingers] = 0.013
    solved = arm.solve(start, aims, 60)
    found = arm.hands(solved)
    off = np.linalg.norm((found - aims)[:, :3, 3], axis=1)
    turned = np.array([angle_deg(a[:3, :3], b[:3, :3]) for a, b in zip(found, aims, strict=True)])
    assert np.median(off) < 1e-3
    assert np.median(turned) < 0.1
    assert np.linalg.norm((arm.hands(start) - aims)[:, :3, 3], axis=1).mean() > 5 * off.mean()
    assert (solved[:, arm.columns] >= arm.low - 1e-6).all()
    assert (solved[:, arm.columns] <= arm.high + 1e-6).all()
    np.testing.assert_array_equal(solved[:, arm.fingers], start[:, arm.fingers])


def test_what_is_no_arm_is_refused():
    """A rover has no gripper; a joint without limits can't be solved for."""
    with pytest.raises(SimError, match="gripper"):
        Arm(find_robot("rover")[0])
    panda = find_robot("panda")[0]
    free = tuple(
        replace(link, joint=replace(link.joint, limits=None)) if link.joint and "joint4" in link.joint.name else link
        for link in panda.links
    )
    with pytest.raises(SimError, match="panda_joint4"):
        Arm(replace(panda, links=free))


@pytest.mark.parametrize("name", HAND_ACTIONS)
def test_actions_move_hands_in_the_bases_axes(name: str):
    """Each element by what it says, the gripper last; `ArmState.actions` is the inverse."""
    robot, _ = find_robot("panda")
    action = HAND_ACTIONS[name]
    drive = HandDrive(robot, action)
    count = drive.size - 1
    joints = np.tile(robot.default_position, (count, 1)).astype(np.float32)
    drive.start(count)
    drive.reset(np.arange(count), joints)
    hands = drive.arm.hands(joints)
    given = np.concatenate([0.4 * np.eye(count), np.where(np.arange(count) % 2, 1.0, -1.0)[:, None]], 1)
    sent = drive.moved(given.astype(np.float32), joints)
    for row, move in enumerate(action.moves):
        step = np.zeros(3)
        step[move % 3] = 0.4 * (action.reach if move < 3 else action.turn)
        target = drive.state.target[row]
        if move < 3:
            np.testing.assert_allclose(target[:3, 3] - hands[row, :3, 3], step, atol=1e-9)
        else:
            turn = target[:3, :3] @ hands[row, :3, :3].T
            axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
            np.testing.assert_allclose(axis, np.sin(step), atol=1e-9)
    fingers = sent[:, -2:]
    np.testing.assert_allclose(fingers[1::2], 0.04, atol=1e-6)
    np.testing.assert_allclose(fingers[::2], 0.0, atol=1e-6)
    before = HandDrive(robot, action)
    before.start(count)
    before.reset(np.arange(count), joints)
    back = before.state.actions(hands, drive.state.target[:, :3, 3], drive.state.target[:, :3, :3], given[:, -1])
    np.testing.assert_allclose(back, given, atol=1e-6)


def test_hands_are_not_sent_far_ahead():
    """With a windup bound, pushing against a wall leads nowhere; without memory, a step begins where the hand is."""
    robot, _ = find_robot("panda")
    joints = robot.default_position[None].astype(np.float32)
    ways = {}
    for name in ("position_yaw", "pd_ee_target_delta_pose", "pd_ee_delta_pose"):
        drive = HandDrive(robot, HAND_ACTIONS[name])
        drive.start(1)
        drive.reset(np.array([0]), joints)
        for _ in range(5):  # the hand doesn't move
            drive.moved(np.eye(1, drive.size, 1, dtype=np.float32), joints)
        ways[name] = float(drive.state.target[0, 1, 3] - drive.arm.hands(joints)[0, 1, 3])
    np.testing.assert_allclose(list(ways.values()), [0.04, 0.5, 0.1], atol=1e-9)
