"""How robots are led over staircases, and when the way is over."""

from __future__ import annotations

import numpy as np
import pytest

import sim
from pipeline.errors import SimError
from sim.env import SceneEnv
from sim.robots.state import RobotState
from sim.scene.flights import COUNT
from sim.tasks.walking.flights import ADVANCE, PATIENCE, SPEED, STAYS, TURN

pytest.importorskip("mujoco")


@pytest.fixture
def env() -> SceneEnv:
    """A robot for each staircase."""
    env = sim.make("flights", ["terrain:0:flights"], 2 * COUNT, robot="go2", engine="mujoco-worlds", cameras=())
    env.reset(seed=2)
    return env


def put(env: SceneEnv, xy: np.ndarray, yaw: np.ndarray) -> None:
    """Let the scenario see robots standing upright at positions (N, 2)."""
    height = env.scenario.terrain.heights(xy) + env.robot.base_height
    quaternion = np.column_stack([np.cos(yaw / 2), np.zeros((len(yaw), 2)), np.sin(yaw / 2)])
    joints = np.tile(env.robot.default_position, (len(xy), 1)).astype(np.float32)
    state = RobotState.at_rest(np.column_stack([xy, height]), quaternion, joints)
    env.scenario.update(state, env.np_random)


def test_each_robot_has_a_staircase_of_its_own(env: SceneEnv):
    """All of them, half to go up."""
    assert sorted(env.scenario._flight) == list(range(2 * COUNT))
    assert env.scenario.state().up.sum() == COUNT


def test_who_follows_gets_there(env: SceneEnv):
    """Points that go where they are told come to the end of all ways, on the right level, and close to the middle."""
    place, yaw = np.split(env.scenario._start[env.scenario._flight], [2], axis=1)
    yaw = yaw[:, 0]
    over = np.zeros(len(place), bool)
    for _ in range(1500):
        put(env, place, yaw)
        state = env.scenario.state()
        over |= state.over
        assert (state.command[:, 0] <= SPEED + 1e-6).all()
        assert (np.abs(state.command[:, 2]) <= TURN + 1e-6).all()
        move = np.where(over, 0, 0.02)
        yaw += move * state.command[:, 2]
        place += (move * state.command[:, 0])[:, None] * np.column_stack([np.cos(yaw), np.sin(yaw)])
    assert over.all()


def test_who_stands_is_stuck(env: SceneEnv):
    """After its patience, and not before; a decimetre makes it begin anew."""
    place, yaw = np.split(env.scenario._start[env.scenario._flight], [2], axis=1)
    yaw = yaw[:, 0]
    steps = round(PATIENCE / env.task.control_period)
    for _ in range(steps - 1):
        put(env, place, yaw)
    assert not env.scenario.state().stuck.any()
    ahead = env.scenario._at(np.full(len(place), 2 * ADVANCE))
    ahead[1:] = place[1:]
    for _ in range(3):
        put(env, ahead, yaw)
    assert env.scenario.state().stuck.tolist() == [False] + [True] * (len(place) - 1)


def test_the_end_counts_when_one_stays(env: SceneEnv):
    """Whoever passes over it only, or lies below it, is not over."""
    place, yaw = env.scenario._goal[env.scenario._flight].mean(1), np.zeros(2 * COUNT)
    put(env, place, yaw)
    assert not env.scenario.state().over.any()
    for _ in range(round(STAYS / env.task.control_period) + 1):
        put(env, place, yaw)
    assert env.scenario.state().over.all()
    put(env, place + 20, yaw)
    assert not env.scenario.state().over.any()


def test_other_scenes_have_none():
    """Neither ground to learn on nor anything else."""
    with pytest.raises(SimError, match="staircases that were drawn"):
        sim.make("flights", ["terrain:0:stairs"], 2, robot="go2", engine="mujoco-worlds", cameras=())
