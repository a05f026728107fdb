"""Statistics of the last episodes."""

from __future__ import annotations

import numpy as np
import pytest

from train.environment import DoneInfo
from train.runs.results import WINDOW
from train.runs.trainer import EpisodeStats


def endings(success: list[bool], by: list[str], reward: list[float], steps: list[int], entered: list[bool]) -> DoneInfo:
    """Of as many environments."""
    return DoneInfo(
        env=np.arange(len(by)),
        scene=np.zeros(len(by), np.int64),
        success=np.array(success),
        ended_by=by,
        reward=np.array(reward, np.float32),
        steps=np.array(steps),
        outcomes={"entered": np.array(entered)},
        rewards={"way": 2 * np.array(reward, np.float32)},
    )


def test_means_over_episodes():
    """Success, ends and what else the task tells of an episode; nothing before one has ended."""
    recent = EpisodeStats()
    assert recent.metrics() == {}
    recent.add(endings([True, False], ["goal", "time"], [2.0, -1.0], [10, 80], [True, True]))
    recent.add(endings([True, True], ["goal", "goal"], [3.0, 4.0], [20, 30], [False, True]))
    assert recent.metrics() == pytest.approx(
        {
            "episodes": 4,
            "success": 0.75,
            "reward": 2.0,
            "length": 35.0,
            "ended/goal": 0.75,
            "ended/time": 0.25,
            "outcome/entered": 0.75,
            "reward/way": 4.0,
        }
    )


def test_goes_on_where_it_was_and_forgets_the_oldest():
    """A restored window has the same metrics; old episodes fall out of it."""
    recent = EpisodeStats()
    recent.add(endings([False] * 5, ["time"] * 5, [0.0] * 5, [80] * 5, [True] * 5))
    other = EpisodeStats(list(recent.episodes))
    assert other.metrics() == recent.metrics()
    other.add(endings([True] * WINDOW, ["goal"] * WINDOW, [1.0] * WINDOW, [9] * WINDOW, [False] * WINDOW))
    assert other.metrics()["success"] == 1.0 and other.metrics()["outcome/entered"] == 0.0
