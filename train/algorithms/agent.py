"""What the training loop knows of an algorithm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from rsl_rl.modules import HiddenState
from tensordict import TensorDict

if TYPE_CHECKING:
    from train.algorithms.policy import VisionPolicy

Memories = tuple[HiddenState, HiddenState]
"""Hidden states of the policy, for the observations and for mirrored ones."""


class Agent(Protocol):
    """An algorithm with its networks, as the training loop uses it; rsl-rl's PPO is one.

    Attributes:
        device: Where its networks are.
        offline: Whether it only updates, and nothing is simulated.
        memories: Hidden states of its policy; may be set.
    """

    device: str
    offline: bool
    memories: Memories

    @property
    def learning_rate(self) -> float:
        """Current learning rate of the policy."""
        ...

    def begin(self, folder: Path, slack: int) -> None:
        """Open what it learns from besides the simulation, before training; files of its own are in the folder.

        At most `slack` steps of each robot are between two checkpoints.
        """
        ...

    def act(self, obs: TensorDict) -> torch.Tensor:
        """Actions (N, A) that explore."""
        ...

    def process_env_step(
        self, obs: TensorDict, rewards: torch.Tensor, dones: torch.Tensor, extras: dict[str, torch.Tensor]
    ) -> None:
        """Take what the actions led to: observations, rewards (N,) and ends (N,).

        In `extras` is which of these are time limits, "time_outs" (N,), and what critics see there, see
        `train.environment.FINAL`.
        """
        ...

    def compute_returns(self, obs: TensorDict) -> None:
        """Take the last observations of an iteration."""
        ...

    def update(self) -> dict[str, float]:
        """Learn; returns mean losses by name."""
        ...

    def flush(self) -> None:
        """Write to the disk what a checkpoint relies on."""
        ...

    def save(self) -> dict[str, Any]:
        """Networks and all else that `load` takes."""
        ...

    def load(self, loaded_dict: dict[str, Any], load_cfg: dict | None, strict: bool) -> bool:
        """Continue from what was saved."""
        ...

    def get_policy(self) -> VisionPolicy:
        """The policy, which acts by its mean."""
        ...

    def train_mode(self) -> None:
        """Prepare for learning."""
        ...

    def eval_mode(self) -> None:
        """Prepare for acting."""
        ...

    def broadcast_parameters(self) -> None:
        """Give all processes the networks of the first."""
        ...
