"""ManiSkill's layout: the names that learners read, what is there, and RLinf on it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from pipeline.errors import SimError
from pipeline.geometry import matrix_from_quaternion
from sim.maniskill import ManiSkillEnv
from sim.robots.catalog import PACKAGE
from sim.robots.kinematics import link_poses
from sim.scene.scene import SimScene

ROOT = Path(__file__).resolve().parents[2]
RLINF = ROOT / ".venv-rlinf" / "bin" / "python"
NAME = "sim.registration:splatyard/PutCubeOnPlateGsenv-v0"


@pytest.fixture
def arms(hall_scene: SimScene) -> Iterator[ManiSkillEnv]:
    """Three at the hall's table, made by gymnasium."""
    if not PACKAGE.is_dir():
        pytest.skip("example-robot-data is not installed")
    env = gymnasium.make(NAME, scenes=[hall_scene], num_envs=3).unwrapped
    assert isinstance(env, ManiSkillEnv)
    yield env
    env.close()


def numbers(layout: dict) -> dict:
    """The same in NumPy arrays."""
    return {name: numbers(part) if isinstance(part, dict) else part.numpy() for name, part in layout.items()}


def test_names_and_shapes(arms: ManiSkillEnv):
    """Of an observation and of info, as its spaces say."""
    seen, info = arms.reset(seed=0)
    assert arms.observation_space.contains(numbers(seen))
    assert seen["agent"]["qpos"].shape == seen["agent"]["qvel"].shape == (3, 9)
    assert torch.equal(arms.agent.robot.get_qpos(), seen["agent"]["qpos"])
    for camera in ("3rd_view_camera", "hand_camera"):
        image = seen["sensor_data"][camera]["rgb"]
        assert (image.shape, image.dtype) == ((3, 64, 64, 3), torch.uint8)
    assert not info["success"].any()
    assert arms.get_language_instruction() == ["pick up the cube and put it on the plate"] * 3
    assert arms.elapsed_steps.tolist() == [0, 0, 0]
    assert arms.single_action_space.shape == (7,)


def test_the_hands_pose_is_the_engines(arms: ManiSkillEnv):
    """In the base's frame, after a move."""
    arms.reset(seed=0)
    seen, *_ = arms.step(torch.tensor([[0.3, 0.2, 0.1, 0.1, 0, 0.2, 1]] * 3))
    robot, pose = arms.env.robot, seen["extra"]["tcp_pose"].numpy()
    assert robot.gripper
    links = link_poses(robot, arms.env.engine.read())
    link = [one.name for one in robot.links].index(robot.gripper.link)
    hand = np.linalg.inv(links[:, 0]) @ links[:, link] @ robot.gripper.link_from_hand.matrix
    np.testing.assert_allclose(pose[:, :3], hand[:, :3, 3], atol=1e-4)
    np.testing.assert_allclose(matrix_from_quaternion(pose[:, 3:]), hand[:, :3, :3], atol=1e-4)
    assert arms.elapsed_steps.tolist() == [1, 1, 1]


def test_episodes_go_on_until_they_are_reset(arms: ManiSkillEnv):
    """Those of some environments, while the others' go on."""
    first, _ = arms.reset(seed=0)
    still = torch.zeros(3, 7)
    for _ in range(100):
        _, _, terminated, _, _ = arms.step(still)
        assert not terminated.any()
    seen, _, _, truncated, _ = arms.step(still)
    assert truncated.all()
    assert arms.elapsed_steps.tolist() == [101] * 3
    again, _ = arms.reset(options={"env_idx": torch.tensor([0, 2])})
    assert arms.elapsed_steps.tolist() == [0, 101, 0]
    assert torch.equal(again["agent"]["qpos"][1], seen["agent"]["qpos"][1])
    assert (again["agent"]["qpos"][[0, 2]] - first["agent"]["qpos"][[0, 2]]).abs().amax(1).min() > 1e-3
    *_, truncated, _ = arms.step(still)
    assert truncated.tolist() == [False, True, False]


def test_robots_without_a_hand_are_refused(room_scene: SimScene):
    """With a task to take instead."""
    with pytest.raises(SimError, match="put_cube_on_plate"):
        ManiSkillEnv("navigate", [room_scene], robot="rover", cameras=())


@pytest.mark.slow
@pytest.mark.foreign
@pytest.mark.skipif(not RLINF.is_file(), reason="make .venv-rlinf/.installed brings RLinf and ManiSkill")
def test_rlinf_runs_on_it():
    """Its own environment, by its interpreter."""
    command = [str(RLINF), "-m", "pytest", "-p", "no:cacheprovider", "tests/sim/test_rlinf.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "4 passed" in done.stdout
