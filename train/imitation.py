"""Recording how a policy, or a driver who knows the way, does a task: for learning by imitation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from gymnasium.spaces import Dict
from numpy.typing import NDArray
from tensordict import TensorDict

from pipeline.errors import TrainError
from sim.driver import DriverName, find_driver
from train.environment import VECTOR, TrainEnv
from train.lerobot import DatasetWriter, Demonstration, new_dataset

FRONT = "front"
"""What a camera without a name is called."""


class Actor(Protocol):
    """Acts for all robots: rsl-rl's models do, by their mean."""

    def __call__(self, seen: TensorDict, /) -> torch.Tensor:
        """Actions (N, A) for what is seen."""
        ...

    def reset(self, dones: torch.Tensor | None = None, /) -> None:
        """Forget, where episodes ended (N,); everywhere without."""
        ...


class DrivenActor:
    """One of the simple drivers, who sees through walls.

    Args:
        name: Which.
        env: Whose robots it drives.
        seed: Of what it leaves to chance.
    """

    def __init__(self, name: DriverName, env: TrainEnv, seed: int = 0) -> None:
        self._driver = find_driver(name, env.env, seed)

    def __call__(self, seen: TensorDict, /) -> torch.Tensor:
        """Actions (N, A) for where the robots are."""
        return torch.from_numpy(self._driver.act())

    def reset(self, dones: torch.Tensor | None = None, /) -> None:
        """It remembers nothing."""


@dataclass(frozen=True)
class _Step:
    """Of all N robots: pictures by camera (N, H, W, 3) uint8, what they knew (N, S), did (N, A) and got (N,)."""

    pictures: dict[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    reward: NDArray[np.float32]


def record(
    env: TrainEnv,
    actor: Actor,
    episodes: int,
    folder: Path,
    *,
    seed: int = 0,
    watch: Callable[[int], object] | None = None,
) -> int:
    """Write whole episodes as a LeRobot dataset; gives how many of them were successful.

    Robots do equally many each, however long that takes: of those that end first, short ones would be too many.

    Args:
        env: Its episodes are begun anew.
        actor: Acts.
        episodes: How many.
        folder: Of the dataset; must not be there yet.
        seed: Of the episodes.
        watch: Called with the number of episodes that are written.

    Raises:
        TrainError: When the folder is there or can't be written, or steps a second aren't a whole number.
        MachineError: When pyarrow is not installed.
    """
    task, robot = env.env.task, env.env.robot
    seen = env.reset(seed)
    with (
        new_dataset(
            folder,
            rate=_rate(task.control_period),
            robot=robot.name,
            task=task.name,
            state=_state_names(env),
            action=[f"action_{number}" for number in range(env.num_actions)],
            cameras={name: (of.shape[1], of.shape[2]) for name, of in _pictures(seen).items()},
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
    begun, forgotten = np.zeros(env.num_envs, np.int64), 0
    past: list[_Step] = []
    written = successful = 0
    while written < episodes:
        action = actor(seen).clamp(-1, 1)
        pictures, state = _pictures(seen), seen[VECTOR].cpu().numpy().copy()
        seen, reward, dones, _ = env.step(action)
        actor.reset(dones)
        past.append(_Step(pictures, state, action.cpu().numpy().copy(), reward.cpu().numpy()))
        for one, success in zip(env.endings.env, env.endings.success, strict=True):
            if missing[one]:
                writer.add(_demonstration(past[begun[one] - forgotten :], one, bool(success)))
                missing[one] -= 1
                written, successful = written + 1, successful + int(success)
                if watch:
                    watch(written)
            begun[one] = forgotten + len(past)
        del past[: begun.min() - forgotten]
        forgotten = int(begun.min())
    return successful


def _demonstration(steps: list[_Step], env: int, success: bool) -> Demonstration:
    return Demonstration(
        {name: np.stack([step.pictures[name][env] for step in steps]) for name in steps[0].pictures},
        np.stack([step.state[env] for step in steps]),
        np.stack([step.action[env] for step in steps]),
        np.array([step.reward[env] for step in steps]),
        success,
    )


def _pictures(seen: TensorDict) -> dict[str, NDArray[np.uint8]]:
    """Of all N robots, by camera (N, H, W, 3)."""
    groups = {name: seen[name] for name in map(str, seen.keys()) if name.endswith("rgb")}
    return {
        name.removesuffix("rgb").rstrip("_") or FRONT: of.permute(0, 2, 3, 1).cpu().numpy().copy()
        for name, of in groups.items()
    }


def _state_names(env: TrainEnv) -> list[str]:
    """Of the numbers of the group VECTOR, one by one."""
    spaces = cast(Dict, env.env.single_observation_space)
    known = [name for name, term in env.env.task.observations.items() if not term.privileged]
    return [f"{name}_{number}" for name in known for number in range(math.prod(spaces[name].shape or ()))]


def _rate(period: float) -> int:
    rate = round(1 / period)
    if abs(rate * period - 1) > 1e-6:
        raise TrainError(
            "LeRobot's frames a second are a whole number",
            found=f"a step every {period} s",
            remedy="record a task whose control period divides a second",
        )
    return rate
