"""Numbers of tasks that users may set."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import sim
from pipeline.errors import SimError
from sim.scene.scene import SimScene
from sim.tasks.catalog import TASKS, find_task
from sim.tasks.parameters import parameters_of
from sim.tasks.settings import TaskSettings
from sim.tasks.task import Task
from train.preset import load_preset


def parts_of(task: Task) -> list[Callable[..., Any]]:
    """The scenario and the terms that may have parameters."""
    rewards = [term.function for term in task.rewards.values()]
    return [task.scenario, task.success, *rewards, *task.terminations.values(), *task.outcomes.values()]


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_a_name_is_one_number_in_a_task(task: Task):
    """With bounds that hold its default, and a meaning; success and what ends an episode agree."""
    for part in parts_of(task):
        for name, one in parameters_of([part]).items():
            assert one.value == task.parameters[name].value, name
    for name, one in task.parameters.items():
        same = find_task(task.name, TaskSettings(parameters={name: one.value}))
        assert same.parameters[name].value == one.value
        assert len(one.meaning) > 10


def test_all_terms_that_have_a_parameter_change():
    """The radius of a goal is one in success, reward and end; other tasks keep theirs."""
    task = find_task("navigate", TaskSettings(parameters={"radius": 1.5, "min_length": 2}))
    goals = [task.success, task.rewards["goal"].function, task.terminations["goal"]]
    assert [parameters_of([term])["radius"].value for term in goals] == [1.5] * 3
    assert parameters_of([task.scenario])["min_length"].value == 2
    assert TASKS["navigate"].parameters["radius"].value == 0.4
    assert parameters_of([pickle.loads(pickle.dumps(task.success))])["radius"].value == 1.5


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("navigate", {"raduis": 1.0}, "one of min_length, radius"),
        ("navigate", {"radius": -1.0}, "0.05 to 5"),
        ("weave", {"posts": 2.5}, "1 to 50"),
        ("explore", {"share": float("nan")}, "finite"),
    ],
)
def test_what_cannot_be_set_is_told(name: str, parameters: dict[str, float], says: str):
    """An unknown name, a number out of bounds, half a post, and no number at all."""
    with pytest.raises((SimError, ValueError)) as told:
        find_task(name, TaskSettings(parameters=parameters))
    assert says in str(told.value)


def test_a_wide_goal_is_reached_at_once(room_scene: SimScene):
    """The number reaches the simulation: within five metres of the ball most are there, but for walls between."""
    settings = TaskSettings(parameters={"radius": 5.0})
    wide, usual = (sim.make("navigate", [room_scene], 8, cameras=(), task_settings=one) for one in (settings, None))
    shares = []
    for env in (wide, usual):
        env.reset(seed=3)
        _, _, ended, _, info = env.step(np.zeros((8, 2), np.float32))
        shares.append((ended & info["ended_by_goal"]).mean())
    assert shares[0] > 0.5 and shares[1] == 0


def test_a_preset_sets_parameters_by_name():
    """As users do on the command line."""
    preset = load_preset("navigate", {"task.parameters.radius": "0.25"})
    assert find_task(preset.task, preset.task_settings).parameters["radius"].value == 0.25
