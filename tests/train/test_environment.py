"""A simulation as rsl-rl sees it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from sim.episodes import INVALID
from sim.scene.opening import open_scene
from sim.scene.scene import SimScene
from train.environment import FINAL, STATE, VECTOR, TrainEnv, make_env
from train.preset import load_preset


@pytest.fixture
def env(room_scene: SimScene) -> Iterator[TrainEnv]:
    """Four robots that see."""
    made = make_env(load_preset("navigate", {"num_envs": 4}), [room_scene], seed=3)
    yield made
    made.env.close()


def test_a_critic_gets_what_a_robot_cannot_know(env: TrainEnv):
    """The actor's vectors are those of the task that aren't privileged, in their order; the critic's are all."""
    seen = env.reset(4)
    assert seen["rgb"].shape == (4, 3, 48, 64)
    own = np.concatenate([env.seen["velocity"], env.seen["action"]], 1)
    np.testing.assert_array_equal(seen[VECTOR].numpy(), own)
    rest = np.concatenate([env.seen[name] for name in ("goal", "detours", "pose", "edges", "time")], 1)
    np.testing.assert_array_equal(seen[STATE].numpy(), np.concatenate([own, rest], 1))


def test_a_critic_reads_the_truth():
    """What the actor reads of a gait's sensors has noise; the critic's state has none."""
    scene = open_scene("terrain:0")
    env = make_env(load_preset("walk", {"num_envs": 4}), [scene], seed=3)
    seen, *_ = env.step(torch.zeros(4, env.num_actions))
    terms, now = env.env.task.observations, env.env.now
    assert now
    truth = np.concatenate([term.function(now) for term in terms.values()], 1)
    np.testing.assert_array_equal(seen[STATE].numpy(), truth)
    own = np.concatenate([terms[name].function(now) for name in env.vectors], 1)
    assert 0.01 < np.abs(seen[VECTOR].numpy() - own).mean() < 1


def test_endings_say_what_ended_an_episode(env: TrainEnv):
    """Rewards and steps are those since its beginning; only who ran out of time counts as timed out."""
    env.reset(4)
    still = torch.zeros(4, 2)
    total = np.zeros(4)
    for _ in range(3):
        _, rewards, dones, _ = env.step(still)
        assert not dones.any()
        total += rewards.numpy()
    env.env.episodes.steps[2] = env.env.longest
    actions = still.clone()
    actions[1, 0] = torch.nan
    _, rewards, dones, extras = env.step(actions)
    total += rewards.numpy()
    assert dones.tolist() == [0, 1, 1, 0]
    assert extras["time_outs"].tolist() == [0, 0, 1, 0]
    (final,) = extras[FINAL].numpy()
    now = env.get_observations()[STATE][2].numpy()
    assert env.env.last_step
    at_the_end = [term.function(env.env.last_step)[2] for term in env.env.task.observations.values()]
    np.testing.assert_allclose(final, np.concatenate(at_the_end), rtol=1e-5)
    assert np.abs(final - now).max() > 0.1  # the next episode begins elsewhere
    ended = env.done_info
    assert (ended.env.tolist(), ended.ended_by, ended.success.tolist()) == ([1, 2], [INVALID, "time"], [False, False])
    assert ended.steps.tolist() == [4, 4]
    np.testing.assert_allclose(ended.reward, total[1:3], rtol=1e-5)
    *_, extras = env.step(still)
    assert extras[FINAL].shape == (0, env.get_observations()[STATE].shape[1])
    assert env.done_info.ended_by == []
    assert env.episode_length_buf.tolist() == [5, 1, 1, 5]


def test_the_first_reason_of_a_task_counts(env: TrainEnv):
    """Who reaches the goal in the step of the crash has done it."""
    env.reset(4)
    goals = env.env.scenario.state().goal
    state = env.env.engine.read()
    state.position[:2, :2] = goals[:2]
    env.env.engine.reset(np.arange(2), state[np.arange(2)], env.env.scene_of[:2])
    env.env._world.contact_force = lambda: np.array([0, 1, 0, 0], np.float32)  # type: ignore[method-assign]
    env.step(torch.zeros(4, 2))
    assert (env.done_info.ended_by, env.done_info.success.tolist()) == (["goal", "goal"], [True, True])


def test_a_curriculum_is_for_training(room_scene: SimScene):
    """It begins at the bottom there; a policy is evaluated on the hardest."""
    levels = {}
    for starts in ("train", "held_out"):
        preset = load_preset("navigate", {"task": "climb", "robot": "go2", "num_envs": 4, "policy.encoder": "none"})
        made = make_env(preset, [room_scene], starts=starts)
        made.reset(1)
        levels[starts] = made.env.level.tolist()
        made.env.close()
    assert levels == {"train": [0] * 4, "held_out": [3] * 4}
