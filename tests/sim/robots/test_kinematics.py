"""Where links are and how they move, beside two physics engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry import matrix_from_quaternion, matrix_from_rotvec, quaternion_from_matrix
from sim import libraries
from sim.controlled import find_robot
from sim.physics.sapien_engine import SapienEngine
from sim.robots.kinematics import link_poses, link_velocities
from sim.robots.model import Robot
from sim.robots.reading import load_robot
from sim.robots.state import RobotState
from tests.synthetic import Room

TREE = """
<mujoco><compiler angle="radian"/><worldbody><body name="base"><freejoint/><geom size="0.1"/>
  <body name="arm" pos="0.2 0.05 -0.1" quat="0.9 0.1 -0.3 0.2">
    <joint name="lift" type="slide" axis="0.6 0 0.8"/><geom size="0.05"/>
    <body name="plate" pos="0 0.1 0.3" quat="0.7 0.1 0.7 0"><geom size="0.05"/>
      <body name="hand" pos="-0.1 0.2 0" quat="0.8 0 0 0.6">
        <joint name="turn" axis="0.48 0.6 0.64" pos="0.03 -0.07 0.02"/><geom size="0.05"/></body></body></body>
  <body name="tail" pos="-0.3 0 0.1"><joint name="wag" axis="0 0 1" pos="0.1 0 0"/><geom size="0.05"/></body>
</body></worldbody></mujoco>
"""


@pytest.fixture
def tree(tmp_path: Path) -> Robot:
    """Two branches; a slide, two hinges beside their links' origins and a fixed link."""
    path = tmp_path / "tree.xml"
    path.write_text(TREE)
    return load_robot(path)


def moving(robot: Robot, count: int) -> RobotState:
    """Robots anywhere, turned and moving in every way."""
    rng = np.random.default_rng(4)
    joints = len(robot.joint_names)
    quaternion = quaternion_from_matrix(matrix_from_rotvec(rng.normal(0, 1, (count, 3))))
    widths = (3, 3, joints, joints)
    position, linear, joint, rate = (rng.uniform(-0.8, 0.8, (count, width)) for width in widths)
    arrays = (position, quaternion, linear, rng.normal(0, 2, (count, 3)), joint, rate)
    return RobotState(*(np.asarray(array, np.float32) for array in arrays))


def test_links_are_where_mujoco_has_them(tree: Robot):
    """Poses and velocities of every link."""
    mujoco = libraries.mujoco()
    model = mujoco.MjModel.from_xml_string(TREE)
    data = mujoco.MjData(model)
    state = moving(tree, 5)
    poses = link_poses(tree, state)
    angular, linear = link_velocities(tree, state, poses)
    for n in range(5):
        base_from_world = matrix_from_quaternion(state.quaternion[n]).T
        data.qpos[:] = np.concatenate([state.position[n], state.quaternion[n], state.joint_position[n]])
        spin = base_from_world @ state.angular_velocity[n]  # MuJoCo's is in the base's axes
        data.qvel[:] = np.concatenate([state.linear_velocity[n], spin, state.joint_velocity[n]])
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(poses[n, :, :3, 3], data.xpos[1:], atol=1e-6)
        np.testing.assert_allclose(poses[n, :, :3, :3], data.xmat[1:].reshape(-1, 3, 3), atol=1e-6)
        for link in range(len(tree.links)):
            velocity = np.zeros(6)
            mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, link + 1, velocity, 0)
            np.testing.assert_allclose(np.concatenate([angular[n, link], linear[n, link]]), velocity, atol=1e-5)


def test_links_are_where_sapien_has_them(room: Room):
    """Every link of a quadruped, right after its reset."""
    try:
        robot, _ = find_robot("go2")
    except SimError as error:
        pytest.skip(str(error))
    engine, state = SapienEngine(robot, [room.mesh], 3), moving(robot, 3)
    engine.reset(np.arange(3), state, np.zeros(3, np.int64))
    engine.set_targets(np.zeros((3, len(robot.actuators)), np.float32))
    poses = link_poses(robot, engine.read())
    for n, body in enumerate(engine._bodies):
        for link, part in enumerate(body.links):
            np.testing.assert_allclose(poses[n, link], part.entity_pose.to_transformation_matrix(), atol=1e-5)
    engine.close()
