"""How robots are led over staircases, and when the way is over."""

from __future__ import annotations

import numpy as np
import pytest

import sim
from pipeline.errors import SimError
from sim.climbing.climber import SPEED, TURN
from sim.env import SceneEnv
from sim.robots.state import RobotState
from sim.scene.flights import COUNT
from sim.tasks.walking.flights import ADVANCE, PATIENCE, STAYS

pytest.importorskip("mujoco")


@pytest.fixture
def env() -> SceneEnv:
    """A robot for each staircase."""
    env = sim.make("flights", ["terrain:0:flights"], 2 * COUNT, robot="go2", engine="mujoco-worlds", cameras=())
    env.reset(seed=2)
    return env


def put(env: SceneEnv, xy: np.ndarray, yaw: np.ndarray) -> None:
    """Let the scenario see robots standing upright at positions (N, 2)."""
    height = env.scenario.ground(xy, env.scene_of) + env.robot.base_height
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
    for _ in range(400):
        put(env, place, yaw)
        state = env.scenario.state()
        over |= state.over
        assert (state.command[:, 0] <= SPEED + 1e-6).all()
        assert (np.abs(state.command[:, 2]) <= TURN + 1e-6).all()
        move = np.where(over, 0, env.task.control_period)
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
    place, yaw = env.scenario._at(env.scenario._end[env.scenario._flight] + 0.1), np.zeros(2 * COUNT)
    for along in np.arange(0.5, 12, 0.5):  # as far as one looks for it
        put(env, env.scenario._at(np.minimum(along, env.scenario._end[env.scenario._flight] - 0.1)), yaw)
    put(env, place, yaw)
    assert not env.scenario.state().over.any()
    for _ in range(round(STAYS / env.task.control_period) + 1):
        put(env, place, yaw)
    assert env.scenario.state().over.all()
    put(env, place + 20, yaw)
    assert not env.scenario.state().over.any()


def test_kinds_are_ways_and_heights(env: SceneEnv):
    """Evaluations show them apart."""
    kinds = env.scenario.kinds()
    assert len(kinds) == 2 * COUNT
    flight = env.scenario.flights()[3]
    way, low, high = kinds[3].split()[0].strip(","), int(kinds[3].split()[1]), int(kinds[3].split()[3])
    assert way == flight.way
    assert low <= 100 * flight.riser < high


def test_other_ground_has_none():
    """Nor is there one in ground to learn on."""
    with pytest.raises(SimError, match="stairs of two steps"):
        sim.make("flights", ["terrain:0:stairs"], 2, robot="go2", engine="mujoco-worlds", cameras=())
