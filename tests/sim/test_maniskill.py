"""ManiSkill's layout: the names that learners read, and what is there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import sim
from pipeline.errors import SimError
from pipeline.geometry import matrix_from_quaternion
from sim.drivers import find_driver
from sim.maniskill import ManiSkillEnv
from sim.robots.catalog import PACKAGE
from sim.robots.kinematics import link_poses
from sim.scene import SimScene


@pytest.fixture
def arms(hall_scene: SimScene) -> Iterator[ManiSkillEnv]:
    """Three at the hall's table."""
    if not PACKAGE.is_dir():
        pytest.skip("example-robot-data is not installed")
    env = ManiSkillEnv(sim.make("put_cube_on_plate_gsenv", [hall_scene], 3, robot="panda"))
    yield env
    env.close()


def test_names_and_shapes(arms: ManiSkillEnv):
    """What RLinf's ManiSkill environment reads of an observation and of info, as its spaces say."""
    seen, info = arms.reset(seed=0)
    assert arms.observation_space.contains(seen)
    assert seen["agent"]["qpos"].shape == seen["agent"]["qvel"].shape == (3, 9)
    for camera in ("3rd_view_camera", "hand_camera"):
        image = seen["sensor_data"][camera]["rgb"]
        assert (image.shape, image.dtype) == ((3, 64, 64, 3), np.uint8)
    assert not np.any(info["success"])
    assert arms.get_language_instruction() == ["pick up the cube and put it on the plate"] * 3
    assert arms.elapsed_steps.tolist() == [0, 0, 0]
    assert arms.single_action_space.shape == (7,)


def test_the_hands_pose_is_the_engines(arms: ManiSkillEnv):
    """In the base's frame, after a move."""
    arms.reset(seed=0)
    seen, *_ = arms.step(np.tile(np.array([0.3, 0.2, 0.1, 0.1, 0, 0.2, 1], np.float32), (3, 1)))
    robot, pose = arms.env.robot, seen["extra"]["tcp_pose"]
    assert robot.gripper
    links = link_poses(robot, arms.env.engine.read())
    link = [one.name for one in robot.links].index(robot.gripper.link)
    hand = np.linalg.inv(links[:, 0]) @ links[:, link] @ robot.gripper.link_from_hand.matrix
    np.testing.assert_allclose(pose[:, :3], hand[:, :3, 3], atol=1e-4)
    np.testing.assert_allclose(matrix_from_quaternion(pose[:, 3:]), hand[:, :3, :3], atol=1e-4)
    assert arms.elapsed_steps.tolist() == [1, 1, 1]


def test_success_and_last_observations(arms: ManiSkillEnv):
    """Who is done is reset in the same step: the observation is the next episode's, the last one is in info."""
    arms.reset(seed=0)
    act = find_driver("auto", arms.env, 0)
    ended = 0
    for _ in range(40):
        seen, _, terminated, truncated, info = arms.step(act())
        np.testing.assert_array_equal(info["success"], terminated)
        assert not truncated.any()
        assert arms.observation_space.contains(seen)
        for row in np.flatnonzero(terminated):
            last = info["final_obs"][row]
            assert arms.single_observation_space.contains(last)
            assert np.abs(last["agent"]["qpos"] - seen["agent"]["qpos"][row]).max() > 0.1
            assert arms.elapsed_steps[row] == 0
            ended += 1
    assert ended >= 3


def test_robots_without_a_hand_are_refused(room_scene: SimScene):
    """With a task to take instead."""
    env = sim.make("navigate", [room_scene], 1, cameras=())
    with pytest.raises(SimError, match="put_cube_on_plate"):
        ManiSkillEnv(env)
    env.close()
