"""Recording demonstrations of a policy, a driver or a person, for imitation learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tensordict import TensorDict

from pipeline.errors import TrainError
from pipeline.types import F32
from sim.drivers import Policy
from sim.env import Observations
from sim.episodes import TIME
from sim.policies.observed import images_by_camera
from train.environment import STATE, VECTOR, Actor, TrainEnv
from train.recording.demonstrations import column_names
from train.recording.lerobot import DEPTH, About, DatasetWriter, Demonstration, new_dataset


class DrivenActor:
    """A driver, see `sim.policies.catalog.open_driver`."""

    def __init__(self, policy: Policy, env: TrainEnv) -> None:
        self._policy, self._env = policy, env

    def __call__(self, seen: TensorDict, /) -> torch.Tensor:
        """Actions (N, A) for what the simulation showed last."""
        return torch.from_numpy(self._policy(self._env.seen))

    def reset(self, dones: torch.Tensor | None = None, /) -> None:
        """Do nothing: it has no state."""


def record(
    env: TrainEnv,
    actor: Actor,
    episodes: int,
    folder: Path,
    *,
    seed: int = 0,
    watch: Callable[[int], object] | None = None,
) -> int:
    """Write whole episodes as a LeRobot dataset; returns the number of successes.

    Each robot does equally many, however long that takes: otherwise short episodes would be too many. `watch` is called
    with the number of episodes written.

    Raises:
        TrainError: When the folder exists or can't be written, or the steps per second aren't a whole number.
        MachineError: When pyarrow is not installed.
    """
    about = about_of(env)
    seen = env.reset(seed)
    with new_dataset(folder, **about) as writer, torch.inference_mode():
        return _rollout(env, actor, seen, episodes, writer, watch)


def about_of(env: TrainEnv) -> About:
    """What all demonstrations in an environment have in common.

    Raises:
        TrainError: When the steps per second aren't a whole number.
    """
    task = env.env.task
    rate = round(1 / task.control_period)
    if abs(rate * task.control_period - 1) > 1e-6:
        raise TrainError(
            "a LeRobot dataset has a whole number of frames per second",
            found=f"a step every {task.control_period} s",
            remedy="record a task whose control period divides a second",
        )
    return {
        "rate": rate,
        "robot": env.env.robot.name,
        "task": task.text,
        "state": column_names(env.env, env.vectors),
        "environment": column_names(env.env, list(task.observations)),
        "action": [f"action_{number}" for number in range(env.num_actions)],
        "cameras": {name: (of.shape[1], of.shape[2]) for name, of in _images(env.seen).items()},
    }


def _images(seen: Observations) -> dict[str, np.ndarray]:
    """Colours (N, H, W, 3), and depths (N, H, W) where they are measured, by their names in a dataset."""
    depths = images_by_camera(seen, "depth").items()
    return images_by_camera(seen) | {f"{name}{DEPTH}": of for name, of in depths}


class _Step(NamedTuple):
    """A step of N robots: images by name, states and what the simulator knew, all before the actions; rewards."""

    images: dict[str, np.ndarray]
    state: F32
    environment: F32
    action: F32
    reward: F32


def _step(env: TrainEnv, action: torch.Tensor) -> tuple[_Step, TensorDict, torch.Tensor]:
    """Act (N, A); returns what is recorded of it, the next observations, and which episodes ended."""
    before, images = env.get_observations(), {name: of.copy() for name, of in _images(env.seen).items()}
    state, environment = (before[name].cpu().numpy().copy() for name in (VECTOR, STATE))
    seen, reward, dones, _ = env.step(action)
    return _Step(images, state, environment, action.cpu().numpy().copy(), reward.cpu().numpy()), seen, dones


def _demonstration(steps: Sequence[_Step], row: int, *, success: bool, ended_by: str | None) -> Demonstration:
    """A robot's episode, and what ended it."""
    films = {name: np.stack([step.images[name][row] for step in steps]) for name in steps[0].images}
    return Demonstration(
        films,
        np.array([step.state[row] for step in steps]),
        np.array([step.environment[row] for step in steps]),
        np.array([step.action[row] for step in steps]),
        np.array([step.reward[row] for step in steps]),
        success,
        ended_by == TIME,
    )


class Take:
    """An episode of one robot, recorded step by step.

    Attributes:
        ended_by: What ended it, a termination's name or "time"; None while it runs.
        success: Whether it ended by solving the task.
    """

    def __init__(self, env: TrainEnv, seed: int) -> None:
        self._env, self._steps = env, list[_Step]()
        self.ended_by: str | None = None
        self.success = False
        env.reset(seed)

    def step(self, action: F32) -> None:
        """Act (A,)."""
        with torch.inference_mode():
            step, _, _ = _step(self._env, torch.from_numpy(action[None]))
        self._steps.append(step)
        done = self._env.done_info
        if len(done.env):
            self.ended_by, self.success = done.ended_by[0], bool(done.success[0])

    @property
    def seconds(self) -> float:
        """How long it has lasted [s]."""
        return len(self._steps) * self._env.env.task.control_period

    def demonstration(self) -> Demonstration:
        """What was recorded."""
        return _demonstration(self._steps, 0, success=self.success, ended_by=self.ended_by)


def _rollout(
    env: TrainEnv,
    actor: Actor,
    seen: TensorDict,
    episodes: int,
    writer: DatasetWriter,
    watch: Callable[[int], object] | None,
) -> int:
    actor.reset()
    missing = episodes // env.num_envs + (np.arange(env.num_envs) < episodes % env.num_envs)
    start, dropped = np.zeros(env.num_envs, np.int64), 0
    past: list[_Step] = []
    written = successful = 0
    while written < episodes:
        step, seen, dones = _step(env, actor(seen).clamp(-1, 1))
        actor.reset(dones)
        past.append(step)
        done = env.done_info
        for row, success, ended_by in zip(done.env, done.success, done.ended_by, strict=True):
            if missing[row]:
                steps = past[start[row] - dropped :]
                writer.add(_demonstration(steps, row, success=bool(success), ended_by=ended_by))
                missing[row] -= 1
                written, successful = written + 1, successful + int(success)
                if watch:
                    watch(written)
            start[row] = dropped + len(past)
        del past[: start.min() - dropped]
        dropped = int(start.min())
    return successful
