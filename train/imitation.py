"""Recording demonstrations of a policy or a scripted driver, for imitation learning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from tensordict import TensorDict

from pipeline.errors import TrainError
from pipeline.types import F32, U8
from sim.drivers import DriverName, find_driver
from train.algorithms.demonstrations import FRONT, column_names, task_text
from train.environment import STATE, VECTOR, TrainEnv
from train.lerobot import DatasetWriter, Demonstration, new_dataset


class Actor(Protocol):
    """Acts for all robots, as rsl-rl's models do by their mean."""

    def __call__(self, seen: TensorDict, /) -> torch.Tensor:
        """Actions (N, A) for observations."""
        ...

    def reset(self, dones: torch.Tensor | None = None, /) -> None:
        """Reset the hidden state where episodes ended (N,); everywhere by default."""
        ...


class DrivenActor:
    """A scripted driver, which knows the scene."""

    def __init__(self, name: DriverName, env: TrainEnv, seed: int = 0) -> None:
        self._driver = find_driver(name, env.env, seed)

    def __call__(self, seen: TensorDict, /) -> torch.Tensor:
        """Actions (N, A) for the robots' poses."""
        return torch.from_numpy(self._driver())

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
    task = env.env.task
    rate = round(1 / task.control_period)
    if abs(rate * task.control_period - 1) > 1e-6:
        raise TrainError(
            "a LeRobot dataset has a whole number of frames per second",
            found=f"a step every {task.control_period} s",
            remedy="record a task whose control period divides a second",
        )
    seen = env.reset(seed)
    with (
        new_dataset(
            folder,
            rate=rate,
            robot=env.env.robot.name,
            task=task_text(env.env),
            state=column_names(env.env, env.vectors),
            environment=column_names(env.env, list(task.observations)),
            action=[f"action_{number}" for number in range(env.num_actions)],
            cameras={name: (of.shape[1], of.shape[2]) for name, of in _images(env).items()},
        ) as writer,
        torch.inference_mode(),
    ):
        return _rollout(env, actor, seen, episodes, writer, watch)


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
    # images by camera, states, what the simulator knows, actions and rewards of all robots
    past: list[tuple[dict[str, U8], F32, F32, F32, F32]] = []
    written = successful = 0
    while written < episodes:
        action = actor(seen).clamp(-1, 1)
        images, *known = _images(env), *(seen[name].cpu().numpy().copy() for name in (VECTOR, STATE))
        seen, reward, dones, _ = env.step(action)
        actor.reset(dones)
        past.append((images, *known, action.cpu().numpy().copy(), reward.cpu().numpy()))
        for row, success in zip(env.done_info.env, env.done_info.success, strict=True):
            if missing[row]:
                frames, *numbers = zip(*past[start[row] - dropped :], strict=True)
                films = {name: np.stack([frame[name][row] for frame in frames]) for name in frames[0]}
                vectors = (np.array([step[row] for step in steps]) for steps in numbers)
                writer.add(Demonstration(films, *vectors, success=bool(success)))
                missing[row] -= 1
                written, successful = written + 1, successful + int(success)
                if watch:
                    watch(written)
            start[row] = dropped + len(past)
        del past[: start.min() - dropped]
        dropped = int(start.min())
    return successful


def _images(env: TrainEnv) -> dict[str, U8]:
    """Images of all N robots, by camera (N, H, W, 3)."""
    groups = {name: values for name, values in env.seen.items() if name.rpartition("_")[2] == "rgb"}
    return {name.rpartition("_")[0] or FRONT: values.copy() for name, values in groups.items()}
