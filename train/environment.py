"""A simulation as rsl-rl's `VecEnv`: observation groups, rewards and endings as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rsl_rl.env import VecEnv
from tensordict import TensorDict

from sim.env import SceneEnv
from sim.episodes import TIME

VECTOR, STATE = "vector", "state"
"""Observation groups: what a robot knows besides what it sees, and all that only a critic may know."""


INVALID = "invalid action"
"""What ended an episode whose action was no number."""


class Sense(Protocol):
    """Something that an agent sees, as a group of observations."""

    @property
    def group(self) -> str:
        """Its name."""
        ...

    def read(self, env: SceneEnv, seen: dict[str, Any]) -> torch.Tensor:
        """What all N robots see now (N, ...).

        Args:
            env: Where they are.
            seen: Its newest observations.
        """
        ...


@dataclass(frozen=True)
class Pictures:
    """Camera pictures (N, 3, H, W) uint8.

    Attributes:
        group: Name of the observation.
    """

    group: str = "rgb"

    def read(self, env: SceneEnv, seen: dict[str, Any]) -> torch.Tensor:
        """Channels first."""
        return torch.from_numpy(np.ascontiguousarray(seen[self.group].transpose(0, 3, 1, 2)))


@dataclass(frozen=True)
class Depths:
    """Depth pictures (N, 1, H, W) float32 [m]; 0 unknown.

    Attributes:
        group: Name of the observation.
    """

    group: str = "depth"

    def read(self, env: SceneEnv, seen: dict[str, Any]) -> torch.Tensor:
        """One channel."""
        return torch.tensor(seen[self.group][:, None])


@dataclass(frozen=True, eq=False)
class Endings:
    """Episodes (M,) that ended in a step.

    Attributes:
        env: Where each ran.
        scene: In which scene.
        success: Whether the task was done.
        by: What ended each: a termination's name, "time" or, for an action that is no number, "invalid action".
        reward: Sum over each.
        steps: Length of each.
        outcomes: What else the task tells of an episode, by name (M,).
    """

    env: NDArray[np.int64]
    scene: NDArray[np.int64]
    success: NDArray[np.bool_]
    by: list[str]
    reward: NDArray[np.float32]
    steps: NDArray[np.int64]
    outcomes: dict[str, NDArray[np.bool_]]


class TrainEnv(VecEnv):
    """A `SceneEnv` for rsl-rl.

    Args:
        env: The simulation.
        senses: What the agent sees.
        device: Of the tensors.
        seed: Of the episodes.

    Attributes:
        endings: Of the last step.
        seen: What the simulation gave last, before it became groups.
    """

    def __init__(self, env: SceneEnv, senses: Sequence[Sense], device: str = "cpu", seed: int = 0) -> None:
        self.env, self._senses, self.device = env, list(senses), device
        self.num_envs, self.num_actions = env.num_envs, env.drive.size
        self.max_episode_length = round(env.task.seconds / env.task.control_period)
        self.cfg: dict[str, Any] | object = {}
        self._known = [name for name, term in env.task.observations.items() if not term.privileged]
        self._all = list(env.task.observations)
        self.episode_length_buf = torch.zeros(self.num_envs, dtype=torch.long)
        self._reward = np.zeros(self.num_envs, np.float32)
        self._now = self.reset(seed)

    def reset(self, seed: int) -> TensorDict:
        """Begin all episodes anew; the same seed gives the same ones."""
        seen, _ = self.env.reset(seed=seed)
        self._reward[:] = 0
        self.episode_length_buf[:] = 0
        self._now = self._groups(seen)
        return self._now

    def get_observations(self) -> TensorDict:
        """What all see now."""
        return self._now

    def step(self, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Act; actions (N, A)."""
        scene = self.env.scene_of.copy()
        seen, reward, terminated, truncated, info = self.env.step(actions.cpu().numpy())
        self._reward += reward
        self.episode_length_buf += 1
        done = terminated | truncated
        self.endings = self._endings(np.flatnonzero(done), scene, info)
        self._reward[done] = 0
        self.episode_length_buf[torch.from_numpy(done)] = 0
        self._now = self._groups(seen)
        extras = {"time_outs": torch.from_numpy(truncated.astype(np.float32)).to(self.device)}
        dones = torch.from_numpy(done.astype(np.int64)).to(self.device)
        return self._now, torch.from_numpy(reward).to(self.device), dones, extras

    def _endings(self, done: NDArray[np.int64], scene: NDArray[np.int64], info: dict[str, Any]) -> Endings:
        reasons = {name: info[f"ended_by_{name}"] for name in self.env.task.terminations}
        reasons |= {INVALID: info["invalid_action"]}
        by = [next((name for name, rows in reasons.items() if rows[row]), TIME) for row in done]
        success = np.asarray(info.get("final_success", np.zeros(self.num_envs, bool)))[done]
        steps = self.episode_length_buf.numpy()[done].copy()
        outcomes = {name: np.asarray(values)[done] for name, values in info.get("final_outcomes", {}).items()}
        return Endings(done, scene[done], success, by, self._reward[done].copy(), steps, outcomes)

    def state(self) -> dict[str, Any]:
        """For a checkpoint: the simulation, what all see, and how far their episodes are."""
        return {
            "simulation": torch.frombuffer(bytearray(self.env.save()), dtype=torch.uint8),
            "seen": {name: group.clone() for name, group in self._now.items()},
            "reward": torch.from_numpy(self._reward.copy()),
            "steps": self.episode_length_buf.clone(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            SimError: When it is the state of another simulation.
        """
        self.env.restore(state["simulation"].cpu().numpy().tobytes())
        self._now = TensorDict(state["seen"], batch_size=[self.num_envs]).clone().to(self.device)
        self._reward = state["reward"].cpu().numpy().copy()
        self.episode_length_buf = state["steps"].cpu().clone()

    def _groups(self, seen: dict[str, Any]) -> TensorDict:
        self.seen = seen
        groups = {
            # copied into torch's own memory, which is aligned: products differ in the last bits by alignment
            VECTOR: torch.tensor(np.concatenate([seen[name] for name in self._known], 1)),
            STATE: torch.tensor(np.concatenate([seen[name] for name in self._all], 1)),
        }
        groups |= {sense.group: sense.read(self.env, seen) for sense in self._senses}
        return TensorDict(groups, batch_size=[self.num_envs]).to(self.device)
