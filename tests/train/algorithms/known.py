"""Tasks whose best policies are known, and datasets of them; no simulator."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict

from train.algorithms.learner import Learner
from train.preset import Preset, load_preset
from train.recording.demonstrations import Contract
from train.recording.lerobot import Demonstration, new_dataset

LONGEST = 12
"""Steps of an episode of `Cart`."""
STRIDE = 0.15
"""Longest step of a walker of `Chain`: seven take it there, of the twelve that it has."""
GAMMA = 0.9
CONTRACT = Contract("cart", "balance", 10, 1, {"vector": ["x_0"], "state": ["x_0"]}, {}, LONGEST)
SMALL = {
    "num_envs": 16,
    "num_steps_per_env": 8,
    "policy.encoder": "none",
    "policy.actor_hidden_dims": [32, 32],
    "policy.critic_hidden_dims": [32, 32],
    "sac.gamma": GAMMA,
    "sac.batch_size": 64,
    "sac.replay_size": 4096,
    "sac.random_steps": 256,
    "sac.learning_rate": 3e-3,
    "td3.gamma": GAMMA,
    "td3.batch_size": 64,
    "td3.replay_size": 4096,
    "td3.random_steps": 256,
    "td3.learning_rate": 3e-3,
    "offline.gamma": GAMMA,
    "offline.batch_size": 64,
}


def preset(algorithm: str, **changes: object) -> Preset:
    """With small networks, which see a vector."""
    return load_preset("navigate", {"algorithm": algorithm, **SMALL, **changes})


def seen_at(x: torch.Tensor) -> TensorDict:
    """What is seen of positions (N,)."""
    return TensorDict({"vector": x[:, None].clone(), "state": x[:, None].clone()}, batch_size=[len(x)])


class Cart:
    """N linear systems: x' = 0.9 x + 0.3 a, each step costs x^2 + 0.5 a^2; episodes only end by their time limit.

    The best action is -GAIN x (Riccati); it never leaves (-1, 1).
    """

    decay, push, effort = 0.9, 0.3, 0.5

    def __init__(self, count: int, seed: int = 0) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self.x = self._starts(count)
        self.steps = torch.randint(LONGEST, (count,), generator=self._random)

    def _starts(self, count: int) -> torch.Tensor:
        return torch.rand(count, generator=self._random) * 2 - 1

    def step(self, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rewards, ends and time limits (N,)."""
        pushed = action[:, 0].clamp(-1, 1)
        reward = -(self.x**2 + self.effort * pushed**2)
        self.x = self.decay * self.x + self.push * pushed
        self.steps += 1
        over = self.steps >= LONGEST
        self.x = torch.where(over, self._starts(len(over)), self.x)
        self.steps[over] = 0
        return reward, over, over

    @classmethod
    def gain(cls) -> float:
        """By iteration of the Riccati equation, discounted."""
        price = 1.0
        for _ in range(500):
            gain = GAMMA * cls.decay * cls.push * price / (cls.effort + GAMMA * cls.push**2 * price)
            price = 1 + GAMMA * cls.decay**2 * price - GAMMA * cls.decay * cls.push * price * gain
        return gain


class Chain(Cart):
    """N walkers from 0 in steps of up to `STRIDE`: 1 is paid, once, at 1 and beyond. The best action is always 1."""

    def _starts(self, count: int) -> torch.Tensor:
        return torch.zeros(count)

    def step(self, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rewards, ends and time limits (N,)."""
        self.x = (self.x + STRIDE * action[:, 0].clamp(-1, 1)).clamp(min=-0.2)
        self.steps += 1
        won = self.x > 0.999
        over, reward = won | (self.steps >= LONGEST), won.float()
        self.x = torch.where(over, self._starts(len(over)), self.x)
        self.steps[over] = 0
        return reward, over, over & ~won


def train(agent: Learner, task: Cart, iterations: int) -> list[float]:
    """Let an agent learn a task; returns the mean reward of each iteration's steps."""
    agent.train_mode()
    means = []
    for _ in range(iterations):
        rewards = []
        with torch.inference_mode():
            for _ in range(agent.preset.num_steps_per_env):
                reward, over, time_out = task.step(agent.act(seen_at(task.x)))
                agent.process_env_step(seen_at(task.x), reward, over.long(), {"time_outs": time_out.float()})
                rewards.append(float(reward.mean()))
        agent.update()
        means.append(float(np.mean(rewards)))
    return means


def actions(agent: Learner, x: torch.Tensor) -> np.ndarray:
    """What the policy does at positions (N,)."""
    agent.eval_mode()
    with torch.inference_mode():
        return agent.get_policy()(seen_at(x))[:, 0].numpy()


def episode(
    x: Iterable[float], action: Iterable[float], reward: Iterable[float], *, success: bool, truncated: bool = False
) -> Demonstration:
    """An episode of a cart."""
    vectors = [np.array(list(of), np.float32)[:, None] for of in (x, x, action)]
    return Demonstration({}, *vectors, np.array(list(reward), np.float32), success, truncated)


def write(folder: Path, episodes: Iterable[Demonstration], **changes: Any) -> Path:
    """Write a dataset of a cart."""
    about = {"rate": 10, "robot": "cart", "task": "balance", "state": ["x_0"], "environment": ["x_0"]}
    about |= {"action": ["force"], "cameras": {}}
    with new_dataset(folder, **{**about, **changes}) as writer:
        for one in episodes:
            writer.add(one)
    return folder


def walks(rng: np.random.Generator, count: int, right: float, stride: float = STRIDE) -> list[Demonstration]:
    """Episodes on a chain with such steps by actions of -1 or 1, to the right so often."""
    made = []
    for _ in range(count):
        x, taken, paid, position = [], [], [], 0.0
        while len(x) < LONGEST and position <= 0.999:
            x.append(position)
            taken.append(1.0 if rng.random() < right else -1.0)
            position = max(-0.2, position + stride * taken[-1])
            paid.append(float(position > 0.999))
        won = paid[-1] > 0
        made.append(episode(x, taken, paid, success=won, truncated=not won))
    return made
