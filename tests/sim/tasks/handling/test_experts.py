"""Experts do their tasks, in physics."""

from __future__ import annotations

import numpy as np
import pytest

import sim
from pipeline.errors import SimError
from sim.drivers import find_driver
from sim.randomisation import Randomisation
from sim.robots.catalog import PACKAGE
from sim.scene.scene import SimScene
from sim.sensors.cameras.settings import CameraSettings
from sim.tasks.handling.arm_tasks import ARM_TASKS
from sim.tasks.task import EXPERT

pytest.importorskip("mujoco")
if not PACKAGE.is_dir():
    pytest.skip("example-robot-data is not installed", allow_module_level=True)


VARIED = {
    "randomisation": Randomisation(
        friction=(0.8, 1.2),
        mass=(0.8, 1.2),
        strength=(0.8, 1.2),
        latency=(0.0, 0.05),
        base_height=0.03,
        distractors=4,
    ),
    "camera_settings": CameraSettings(gain=(0.85, 1.15), white_balance=(0.95, 1.05)),
}


def first_successes(scene: SimScene, task: str, count: int, engine: str, **varied: object) -> np.ndarray:
    """Whether the expert solves the first episodes (N,)."""
    env = sim.make(task, [scene], count, robot="panda", cameras=(), expert=True, engine=engine, **varied)
    seen, _ = env.reset(seed=6)
    ended, solved = np.zeros(count, bool), np.zeros(count, bool)
    for _ in range(round(env.task.seconds / env.task.control_period)):
        assert seen[EXPERT].shape == (count, env.controller.size)
        assert np.abs(seen[EXPERT]).max() <= 1
        seen, _, terminated, truncated, info = env.step(seen[EXPERT])
        done = (terminated | truncated) & ~ended
        if done.any():
            solved[done], ended[done] = info["final_success"][done], True
        if ended.all():
            break
    env.close()
    assert ended.all()
    return solved


@pytest.mark.parametrize("task", [task.name for task in ARM_TASKS if not task.picks])
def test_experts_succeed(room_scene: SimScene, task: str) -> None:
    """In 95 % of first episodes at least, on every station of the room."""
    assert first_successes(room_scene, task, 24, "sapien").mean() >= 0.95


def test_an_expert_succeeds_in_mujoco(room_scene: SimScene) -> None:
    """Its contacts are others."""
    assert first_successes(room_scene, "put_cube_on_plate", 6, "mujoco").all()


@pytest.mark.parametrize("task", ["put_cube_on_plate", "lift", "push_to_mark", "stack"])
def test_experts_succeed_whatever_varies(room_scene: SimScene, task: str) -> None:
    """In 95 % of first episodes at least, with all randomisation that there is for arms."""
    assert first_successes(room_scene, task, 24, "sapien", **VARIED).mean() >= 0.95


def test_an_expert_succeeds_in_mujoco_whatever_varies(room_scene: SimScene) -> None:
    """Spare distractors disturb nobody, nor does a base that sinks into the table."""
    assert first_successes(room_scene, "put_cube_on_plate", 6, "mujoco", **VARIED).all()


def test_a_task_without_an_expert_has_none(room_scene: SimScene) -> None:
    """Asking for it is an error; the task itself stays as it is with one."""
    with pytest.raises(SimError, match=r"(?s)expert is asked.*lift_vserl"):
        sim.make("lift_vserl", [room_scene], 1, robot="fetcher", cameras=(), expert=True)
    task = ARM_TASKS[0]
    assert task.expert
    assert list(task.with_expert(task.expert).observations) == [*task.observations, EXPERT]
    assert EXPERT not in task.observations


def test_where_the_path_leads_is_known(room_scene: SimScene) -> None:
    """To a robot on wheels, which arrives; its actions are an observation that the driver gives as well."""
    env = sim.make("navigate", [room_scene], 24, cameras=(), expert=True)
    seen, _ = env.reset(seed=2)
    arrived = over = np.zeros(24, bool)
    act = find_driver("auto", env, 0)
    while not over.all():
        np.testing.assert_array_equal(seen[EXPERT], act())
        seen, _, terminated, truncated, info = env.step(seen[EXPERT])
        ended = (terminated | truncated) & ~over
        arrived, over = arrived | (ended & info.get("final_success", over)), over | ended
    env.close()
    assert arrived.mean() > 0.9
