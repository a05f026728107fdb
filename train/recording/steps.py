"""What is recorded of robots step by step, for imitation learning; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.errors import TrainError
from pipeline.types import F32
from sim.env import TRUTH, Observations, SceneEnv
from sim.episodes import TIME, ended_by
from sim.policies.observed import column_names, images_by_camera, observed
from train.recording.lerobot import DEPTH, About, Demonstration


class Step(NamedTuple):
    """A step of N robots: images by name, states and what the simulator knew, all before the actions; rewards."""

    images: dict[str, np.ndarray]
    state: F32
    environment: F32
    action: F32
    reward: F32


class Take:
    """An episode of one robot, recorded step by step.

    Attributes:
        seen: Last observations of the simulation, which has begun anew where the episode has ended.
        ended_by: What ended it, as `sim.episodes.ended_by` says; None while it runs.
        success: Whether it ended by solving the task.
    """

    def __init__(self, env: SceneEnv, seed: int) -> None:
        self._env, self._steps = env, list[Step]()
        self.ended_by: str | None = None
        self.success = False
        self.seen, info = env.reset(seed=seed)
        self._truth: Observations = info[TRUTH]

    def step(self, action: F32) -> None:
        """Act (A,)."""
        env, images = self._env, images_of(self.seen)
        state, known = observed(env, self.seen).state, observed(env, {**self.seen, **self._truth}).environment
        self.seen, reward, terminated, truncated, info = env.step(action[None])
        self._truth = info[TRUTH]
        self._steps.append(Step(images, state, known, action[None].copy(), reward))
        if terminated[0] or truncated[0]:
            self.ended_by, self.success = ended_by(env.task, info, 0), bool(info["final_success"][0])

    @property
    def seconds(self) -> float:
        """How long it has lasted [s]."""
        return len(self._steps) * self._env.task.control_period

    def demonstration(self) -> Demonstration:
        """What was recorded."""
        return demonstration(self._steps, 0, success=self.success, ended=self.ended_by)


def demonstration(steps: Sequence[Step], row: int, *, success: bool, ended: str | None) -> Demonstration:
    """The episode of one of N robots, of all its steps, and what ended it."""
    films = {name: np.stack([step.images[name][row] for step in steps]) for name in steps[0].images}
    return Demonstration(
        films,
        np.array([step.state[row] for step in steps]),
        np.array([step.environment[row] for step in steps]),
        np.array([step.action[row] for step in steps]),
        np.array([step.reward[row] for step in steps]),
        success,
        ended == TIME,
    )


def about_of(env: SceneEnv, seen: Observations) -> About:
    """What all demonstrations in an environment have in common, which has such observations.

    Raises:
        TrainError: When the steps per second aren't a whole number.
    """
    task = env.task
    rate = round(1 / task.control_period)
    if abs(rate * task.control_period - 1) > 1e-6:
        raise TrainError(
            "a LeRobot dataset has a whole number of frames per second",
            found=f"a step every {task.control_period} s",
            remedy="record a task whose control period divides a second",
        )
    return {
        "rate": rate,
        "robot": env.robot.name,
        "task": task.text,
        "state": column_names(env, task.vectors),
        "environment": column_names(env, list(task.observations)),
        "action": [f"action_{number}" for number in range(env.controller.size)],
        "cameras": {name: (of.shape[1], of.shape[2]) for name, of in images_of(seen).items()},
    }


def images_of(seen: Observations) -> dict[str, np.ndarray]:
    """Copies of colours (N, H, W, 3), and depths (N, H, W) where they are measured, by their names in a dataset."""
    depths = images_by_camera(seen, "depth").items()
    named = images_by_camera(seen) | {f"{name}{DEPTH}": of for name, of in depths}
    return {name: of.copy() for name, of in named.items()}
