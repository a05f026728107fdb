"""Feet, lifts and mirror images, found in robots' files alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import SimError
from sim.control.trot import TrotController
from sim.controlled import find_robot
from sim.robots.kinematics import link_poses
from sim.robots.legs import Legs, reduced
from sim.robots.model import Robot
from sim.robots.state import RobotState

pytest.importorskip("mujoco")


@pytest.fixture(scope="module")
def go2() -> Robot:
    return find_robot("go2")[0]


def poses(robot: Robot, joints: np.ndarray) -> np.ndarray:
    """Poses of the links relative to the base."""
    identity = np.array([[1.0, 0, 0, 0]])
    return link_poses(robot, RobotState.at_rest(np.zeros((1, 3)), identity, joints[None].astype(np.float32)))


def test_four_feet(go2: Robot):
    """At the calves' ends, 20 to 23 mm thick, from the front left to the rear right."""
    feet = Legs(go2).feet
    assert [go2.links[foot.link].name for foot in feet] == ["FL_calf", "FR_calf", "RL_calf", "RR_calf"]
    assert all(0.018 < foot.radius < 0.025 for foot in feet)
    for foot in feet:
        assert len(foot.joints) == 3
        assert foot.at_rest[2] - foot.radius == pytest.approx(-go2.base_height, abs=0.004)
        np.testing.assert_allclose(foot.points, [[-0.002, 0, -0.213]], atol=0.006)


def test_two_feet():
    """A biped has two."""
    legs = Legs(find_robot("bolt")[0])
    assert len(legs.feet) == 2
    assert sorted(legs.diagonal) == [0, 0.5]


def test_diagonal_feet_step_together(go2: Robot):
    """A trot."""
    left, right, rear_left, rear_right = Legs(go2).diagonal
    assert left == rear_right != right == rear_left


@pytest.mark.parametrize("name", ["go2", "bolt"])
def test_lifts_go_straight_up(name: str):
    """By as much as was asked, one foot at a time, by its own joints."""
    robot, _ = find_robot(name)
    legs = Legs(robot)
    before = legs.positions(poses(robot, robot.default_position))[0]
    for row, offsets in enumerate(legs.offsets_to_lift(0.06)):
        moved = legs.positions(poses(robot, robot.default_position + offsets))[0] - before
        np.testing.assert_allclose(moved[row], [0, 0, 0.06], atol=0.004)
        np.testing.assert_allclose(np.delete(moved, row, 0), 0, atol=1e-6)


@pytest.mark.parametrize("name", ["go2", "bolt"])
def test_mirrored_joints_put_the_feet_to_mirrored_places(name: str):
    """For any joint positions."""
    robot, _ = find_robot(name)
    legs, rng = Legs(robot), np.random.default_rng(2)
    partner, sign = legs.mirror
    rest = robot.default_position
    offset = rng.normal(0, 0.3, len(rest))
    mirrored = sign * offset[partner]
    here = legs.positions(poses(robot, rest + offset))[0]
    there = legs.positions(poses(robot, rest + mirrored))[0]
    other = [
        int(np.abs(np.array([one.at_rest for one in legs.feet]) - foot.at_rest * [1, -1, 1]).sum(1).argmin())
        for foot in legs.feet
    ]
    np.testing.assert_allclose(there, here[other] * [1, -1, 1], atol=0.01)
    np.testing.assert_array_equal(partner[partner], np.arange(len(partner)))


def test_feet_velocities_are_differences_of_positions(go2: Robot):
    """Over a short time, with a turning and moving base."""
    legs, rng = Legs(go2), np.random.default_rng(3)
    joints, rates = rng.normal(0, 0.3, (2, 1, 12)).astype(np.float32)
    quaternion = rng.normal(0, 1, (1, 4))
    quaternion /= np.linalg.norm(quaternion)
    spin, speed = rng.normal(0, 1, (2, 1, 3)).astype(np.float32)
    state = RobotState(np.zeros((1, 3), np.float32), quaternion.astype(np.float32), speed, spin, joints, rates)
    step = 1e-3
    angle = np.linalg.norm(spin) * step
    turn = np.append(np.cos(angle / 2), np.sin(angle / 2) * spin[0] / np.linalg.norm(spin))
    w, v = turn[0], turn[1:]
    later_turn = np.append(
        w * quaternion[0, 0] - v @ quaternion[0, 1:],
        w * quaternion[0, 1:] + quaternion[0, 0] * v + np.cross(v, quaternion[0, 1:]),
    )
    later = replace(
        state,
        position=speed * step,
        quaternion=later_turn[None].astype(np.float32),
        joint_position=joints + rates * np.float32(step),
    )
    here = link_poses(go2, state)
    moved = legs.positions(link_poses(go2, later)) - legs.positions(here)
    np.testing.assert_allclose(legs.velocities(state, here), moved / step, atol=0.02)


def test_a_reduced_robot_touches_the_ground_with_its_feet(go2: Robot):
    """As high as before, with a dozen shapes; masses and joints are untouched."""
    few = reduced(go2)
    assert sum(len(link.shapes) for link in few.links) == 13
    assert few.mass == pytest.approx(go2.mass)
    assert few.joint_names == go2.joint_names
    assert few.reduced
    for here, there in zip(Legs(few).feet, Legs(go2).feet, strict=True):
        np.testing.assert_allclose(here.at_rest, there.at_rest, atol=0.004)


def test_a_pose_at_rest_that_falls_is_refused(go2: Robot):
    """Before the first step: all feet are behind the centre of mass."""
    assert Legs(go2).overhang < -0.05
    bent = go2.default_position.copy()
    bent[[name.endswith("thigh_joint") for name in go2.joint_names]] = 1.9
    with pytest.raises(SimError, match=r"go2 falls before its first step: it is 0\.\d\d m outside"):
        TrotController(replace(go2, default_position=bent))


def test_wheels_are_no_feet():
    """It says which bodies were taken for feet, and what to do."""
    with pytest.raises(SimError, match="two feet at least") as caught:
        Legs(replace(find_robot("rover")[0], links=find_robot("rover")[0].links[:1]))
    assert "collision shapes" in caught.value.remedy


def test_the_camera_of_go2_sees_the_ground_before_its_feet(go2: Robot):
    """It looks down by 30 degrees, to the side by nothing."""
    ahead = go2.base_from_camera.rotation[:, 2]
    np.testing.assert_allclose(ahead, [np.cos(np.pi / 6), 0, -0.5], atol=1e-6)
    right = go2.base_from_camera.rotation[:, 0]
    np.testing.assert_allclose(right, [0, -1, 0], atol=1e-6)


@pytest.mark.parametrize(("name", "steps"), [("go2", False), ("g1", True)])
def test_told_to_stand_two_feet_step_on_the_spot(name: str, steps: bool):
    """Four feet stand."""
    drive = TrotController(find_robot(name)[0])
    drive.start(1)
    drive.reset(np.zeros(1, np.int64), np.zeros((1, 0), np.float32), np.random.default_rng(0))
    seen = np.zeros((1, drive.height_scan.size), np.float32)
    targets = [drive.step(np.zeros((1, drive.size), np.float32), seen, np.zeros((1, 3), np.float32)) for _ in "12345"]
    assert (np.ptp(targets, axis=0).max() > 0.1) == steps
