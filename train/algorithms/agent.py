"""What the training loop knows of an algorithm, and how one is made."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from rsl_rl.modules import HiddenState
from tensordict import TensorDict

from pipeline.errors import TrainError
from train.algorithms.policy import VisionPolicy
from train.distributed import Processes
from train.environment import TrainEnv
from train.preset import Preset

if TYPE_CHECKING:
    from train.halves import Halves

Memories = tuple[HiddenState, HiddenState]
"""Hidden states of the policy, for the observations and for mirrored ones."""


class Agent(Protocol):
    """An algorithm with its networks, as the training loop uses it; rsl-rl's PPO is one.

    Attributes:
        device: Where its networks are.
        offline: Whether it only updates, and nothing is simulated.
        memories: Hidden states of its policy; may be set.
        progress: Share of training that is done, 0..1; set before each update.
    """

    device: str
    offline: bool
    memories: Memories
    progress: float

    @property
    def learning_rate(self) -> float:
        """Current learning rate of the policy."""
        ...

    @property
    def spread(self) -> float | None:
        """Mean standard deviation of the last actions; None if it has none."""
        ...

    def begin_with(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Give the policy the weights of another one like it, before training."""
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


def make_agent(
    preset: Preset, env: TrainEnv | Halves, device: str = "cpu", processes: Processes | None = None
) -> Agent:
    """Make a preset's algorithm with its networks.

    Raises:
        TrainError: When the preset, the environment and the number of processes don't suit it.
    """
    learning, found = preset.learning, f"algorithm: {preset.algorithm}"
    if processes and not learning.rollouts:
        raise TrainError(
            "several processes train ppo, and dagger with memory", found=found, remedy="leave --num-gpus away"
        )
    if preset.learns_gait and not learning.rollouts:
        raise TrainError("gaits are learned by ppo", found=found, remedy="leave --algorithm away")
    return cast("Agent", pkgutil.resolve_name(learning.learner).of(preset, env, device, processes))
