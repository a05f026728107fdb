"""Mirror images of walking robots: what a mirrored robot sees and does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sim
from sim.env import SceneEnv
from sim.robots.state import RobotState
from train.algorithms.ppo import make_mirror
from train.environment import STATE, VECTOR, TrainEnv

pytest.importorskip("mujoco")
TILE_MIDDLE = 4.0


@pytest.fixture(scope="module", params=["go2", "bolt"])
def env(request: pytest.FixtureRequest) -> SceneEnv:
    """Robots on flat ground, whose middle plane is the mirror."""
    return sim.make("walk", ["terrain:0:flat"], 3, robot=request.param, engine="mujoco-worlds", cameras=())


def mirrored(state: RobotState, env: SceneEnv) -> RobotState:
    """Robots on the other side of the plane y = 4 m, left and right exchanged."""
    partner, sign = env.controller.legs.mirror  # type: ignore[attr-defined]
    position = state.position * [1, -1, 1] + [0, 2 * TILE_MIDDLE, 0]
    return RobotState(
        position.astype(np.float32),
        state.quaternion * np.float32([1, -1, 1, -1]),
        state.linear_velocity * np.float32([1, -1, 1]),
        state.angular_velocity * np.float32([-1, 1, -1]),
        _exchanged(state.joint_position, env, partner, sign),
        state.joint_velocity[:, partner] * sign,
    )


def _exchanged(joints: np.ndarray, env: SceneEnv, partner: np.ndarray, sign: np.ndarray) -> np.ndarray:
    rest = env.robot.default_position.astype(np.float32)
    return rest + (joints - rest)[:, partner] * sign


def test_a_mirrored_robot_sees_mirrored_observations(env: SceneEnv):
    """All that only depends on its state: velocities, gravity, joints, the scan."""
    training, rng = TrainEnv(env, []), np.random.default_rng(1)
    mirror = make_mirror(env, [], critic=True)
    joints = env.robot.default_position + rng.normal(0, 0.2, (3, len(env.robot.default_position)))
    turn = rng.normal(0, 0.2, (3, 4)) + np.array([1, 0, 0, 0])
    turn /= np.linalg.norm(turn, axis=1, keepdims=True)
    state = RobotState(
        rng.uniform([20, 3, 0.9], [24, 5, 1.2], (3, 3)).astype(np.float32),
        turn.astype(np.float32),
        *rng.normal(0, 1, (2, 3, 3)).astype(np.float32),
        joints.astype(np.float32),
        rng.normal(0, 1, joints.shape).astype(np.float32),
    )
    seen = []
    for one in (state, mirrored(state, env)):
        env.engine.reset(np.arange(3), one, np.zeros(3, np.int64))
        step = env.senses.now(env.episodes.action)
        seen.append(training._grouped(*env._observe(step)))
    here, there = (mirror.observations(seen[0]), seen[1])
    chosen = [name for name in training.vectors if name not in ("command", "clock", "action")]
    sizes = {name: space.shape[0] for name, space in env.single_observation_space.spaces.items()}  # type: ignore[attr-defined]
    starts = dict(
        zip(training.vectors, np.cumsum([0, *(sizes[name] for name in training.vectors)]).tolist(), strict=False)
    )
    for name in chosen:
        columns = slice(starts[name], starts[name] + sizes[name])
        np.testing.assert_allclose(here[VECTOR][:, columns], there[VECTOR][:, columns], atol=2e-3, err_msg=name)
    assert here[STATE].shape == there[STATE].shape


def test_twice_is_the_identity(env: SceneEnv):
    """Of observations, of the critic's as well, and of actions."""
    mirror = make_mirror(env, [], critic=True)
    seen = TrainEnv(env, []).get_observations()
    twice = mirror.observations(mirror.observations(seen))
    for name in (VECTOR, STATE):
        torch.testing.assert_close(twice[name], seen[name])
    actions = torch.randn(4, env.controller.size)
    torch.testing.assert_close(mirror.actions(mirror.actions(actions)), actions)
    assert (mirror.actions(actions) != actions).any(0).float().mean() > 0.9
