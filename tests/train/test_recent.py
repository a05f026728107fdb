"""What the last episodes tell of training."""

from __future__ import annotations

import numpy as np
import pytest

from train.environment import Endings
from train.recent import Recent
from train.statistics import WINDOW


def endings(success: list[bool], by: list[str], reward: list[float], steps: list[int], entered: list[bool]) -> Endings:
    """Of as many environments."""
    return Endings(
        env=np.arange(len(by)),
        scene=np.zeros(len(by), np.int64),
        success=np.array(success),
        by=by,
        reward=np.array(reward, np.float32),
        steps=np.array(steps),
        outcomes={"entered": np.array(entered)},
    )


def test_means_over_episodes():
    """Success, ends and what else the task tells of an episode; nothing before one has ended."""
    recent = Recent()
    assert recent.figures() == {}
    recent.add(endings([True, False], ["goal", "time"], [2.0, -1.0], [10, 80], [True, True]))
    recent.add(endings([True, True], ["goal", "goal"], [3.0, 4.0], [20, 30], [False, True]))
    assert recent.figures() == pytest.approx(
        {
            "episodes": 4,
            "success": 0.75,
            "reward": 2.0,
            "length": 35.0,
            "ended/goal": 0.75,
            "ended/time": 0.25,
            "outcome/entered": 0.75,
        }
    )


def test_goes_on_where_it_was_and_forgets_the_oldest():
    """A restored window has the same figures; old episodes fall out of it."""
    recent, other = Recent(), Recent()
    recent.add(endings([False] * 5, ["time"] * 5, [0.0] * 5, [80] * 5, [True] * 5))
    other.restore(recent.state())
    assert other.figures() == recent.figures()
    other.add(endings([True] * WINDOW, ["goal"] * WINDOW, [1.0] * WINDOW, [9] * WINDOW, [False] * WINDOW))
    assert other.figures()["success"] == 1.0 and other.figures()["outcome/entered"] == 0.0
