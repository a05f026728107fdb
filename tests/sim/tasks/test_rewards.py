"""Rewards: what they are worth at any length of a step, their sums, and what users set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import sim
from pipeline.errors import SimError
from sim.config import EnvConfig
from sim.controlled import find_robot
from sim.env import SceneEnv
from sim.scene.scene import SimScene
from sim.tasks import terms
from sim.tasks.catalog import TASKS, find_task
from sim.tasks.driving.driving_tasks import NAVIGATE
from sim.tasks.settings import RewardSettings, TaskSettings
from sim.tasks.task import Reward, about

TERMS = {
    "lasts": Reward(terms.always, -0.5, per="second"),
    "counts": Reward(terms.always, 0.25, per="step"),
    "happens": Reward(terms.tipped, -3.0),
}


@pytest.mark.parametrize("period", [0.1, 0.2])
def test_what_lasts_is_worth_the_same_at_any_rate(room_scene: SimScene, period: float):
    """Two seconds of it; what is counted by the step is worth twice at twice the rate. Each sum is told at the end."""
    task = replace(NAVIGATE, control_period=period, seconds=2.0, rewards=TERMS, terminations={})
    env = SceneEnv(task, [room_scene], *find_robot("rover"), 3, EnvConfig(cameras=()))
    env.reset(seed=1)
    total = np.zeros(3)
    for _ in range(round(2.0 / period)):
        _, reward, _, truncated, info = env.step(np.zeros((3, 2), np.float32))
        total += reward
    assert truncated.all()
    counted = 0.25 * 2 / period
    np.testing.assert_allclose(total, -1.0 + counted, rtol=1e-5)
    sums = info["final_rewards"]
    assert list(sums) == list(TERMS)
    for name, expected in (("lasts", -1.0), ("counts", counted), ("happens", 0.0)):
        np.testing.assert_allclose(sums[name], expected, rtol=1e-5)
    env.step(np.zeros((3, 2), np.float32))
    np.testing.assert_allclose(env.episodes.sums, [[-0.5 * period, 0.25, 0]] * 3, rtol=1e-5)
    env.close()


def test_users_set_weights_and_time(room_scene: SimScene):
    """Of one term and one task; all else stays, the catalog too."""
    settings = TaskSettings(seconds=0.4, rewards={"time": RewardSettings(weight=-7.0)})
    env = sim.make("navigate", [room_scene], 1, cameras=(), task_settings=settings)
    assert env.longest == 2
    assert env.task.rewards["time"] == Reward(terms.always, -7.0, per="second")
    assert env.task.rewards["goal"] == NAVIGATE.rewards["goal"]
    assert find_task("navigate") == NAVIGATE
    env.close()


@pytest.mark.parametrize("weight", [np.nan, np.inf, 1e9, "much"])
def test_weights_are_numbers(weight: object):
    """Finite ones."""
    with pytest.raises(ValueError, match="weight"):
        TaskSettings(rewards={"time": {"weight": weight}})  # type: ignore[dict-item]


def test_an_unknown_reward_is_refused():
    """By the names that there are."""
    with pytest.raises(SimError, match=r"(?s)speed.*progress, time, action_rate"):
        find_task("navigate", TaskSettings(rewards={"speed": RewardSettings(weight=1.0)}))


def test_every_term_says_what_it_is():
    """Of observations, rewards, ends, outcomes and success, of all tasks."""
    for task in TASKS.values():
        said = {name: about(term.function) for name, term in {**task.observations, **task.rewards}.items()}
        said |= {name: about(term) for name, term in {**task.terminations, **task.outcomes}.items()}
        assert all(said.values()), (task.name, said)
        assert task.goal[0].isupper()
