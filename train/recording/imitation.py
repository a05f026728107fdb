"""Recording demonstrations of a policy or a driver, for imitation learning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tensordict import TensorDict

from sim.drivers import Policy
from train.environment import STATE, VECTOR, Actor, TrainEnv
from train.recording.lerobot import DatasetWriter, new_dataset
from train.recording.steps import Step, about_of, demonstration, images_of


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
    seen = env.reset(seed)
    about = about_of(env.env, env.seen)
    with new_dataset(folder, **about) as writer, torch.inference_mode():
        return _rollout(env, actor, seen, episodes, writer, watch)


def _step(env: TrainEnv, action: torch.Tensor) -> tuple[Step, TensorDict, torch.Tensor]:
    """Act (N, A); returns what is recorded of it, the next observations, and which episodes ended."""
    before, images = env.get_observations(), images_of(env.seen)
    state, environment = (before[name].cpu().numpy().copy() for name in (VECTOR, STATE))
    seen, reward, dones, _ = env.step(action)
    return Step(images, state, environment, action.cpu().numpy().copy(), reward.cpu().numpy()), seen, dones


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
    past: list[Step] = []
    written = successful = 0
    while written < episodes:
        step, seen, dones = _step(env, actor(seen).clamp(-1, 1))
        actor.reset(dones)
        past.append(step)
        done = env.done_info
        for row, success, ended_by in zip(done.env, done.success, done.ended_by, strict=True):
            if missing[row]:
                steps = past[start[row] - dropped :]
                writer.add(demonstration(steps, row, success=bool(success), ended=ended_by))
                missing[row] -= 1
                written, successful = written + 1, successful + int(success)
                if watch:
                    watch(written)
            start[row] = dropped + len(past)
        del past[: start.min() - dropped]
        dropped = int(start.min())
    return successful
