"""What algorithms beside PPO have in common: a policy without memory, its optimisers, what a checkpoint has of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from tensordict import TensorDict
from torch import nn

from pipeline.errors import TrainError
from train.algorithms.agent import Memories
from train.algorithms.critics import shifted
from train.algorithms.policy import VisionPolicy
from train.distributed import Processes
from train.encoders.groups import IMAGES
from train.environment import STATE, VECTOR, TrainEnv, seen_groups
from train.preset import Preset
from train.recording.demonstrations import Contract, contract_of
from train.recording.replay import Replay
from train.settings.parts import PolicySettings
from train.settings.schedule import scheduled

if TYPE_CHECKING:
    from train.halves import Halves


def gaussian(policy: PolicySettings) -> dict[str, Any]:
    """Configuration of a policy's distribution that isn't squashed, for rsl-rl."""
    return {
        "class_name": "GaussianDistribution",
        "init_std": policy.init_std,
        "std_type": "log",
        "std_range": policy.std_range,
    }


class Learner:
    """Networks by name, each with its optimiser; acts and learns as a subclass says.

    Args:
        preset: What is trained and how.
        seen: Observations of the robots, by group.
        actions: Size of an action.
        device: Where networks are.
        contract: What demonstrations must agree with; None without any.

    Attributes:
        demos_identity: Hash of the demonstrations; empty without any.
    """

    offline = False
    progress = 0.0

    def __init__(
        self,
        preset: Preset,
        seen: TensorDict,
        actions: int,
        device: str,
        contract: Contract | None,
    ) -> None:
        self.preset, self.device, self.contract, self.demos_identity = preset, device, contract, ""
        self.settings = preset.learner_settings
        self._replay: Replay | None = None
        self.groups = [VECTOR, *seen_groups(seen)]
        self.seen, self.state_size, self.actions = seen, seen[STATE].shape[1], actions
        self.actor = self.make_actor().to(device)
        self.networks: dict[str, nn.Module] = {"actor": self.actor}
        self.optimizers = {"actor": self.optimizer(self.actor.parameters())}

    @classmethod
    def of(
        cls, preset: Preset, env: TrainEnv | Halves, device: str = "cpu", processes: Processes | None = None
    ) -> Self:
        """Make a preset's learner.

        Raises:
            TrainError: When datasets of demonstrations don't have what its policy sees.
        """
        contract = contract_of(env.env, preset, env.groups) if preset.demos else None
        return cls(preset, env.get_observations(), env.num_actions, device, contract)

    def make_actor(self) -> VisionPolicy:
        """Make the policy, without memory."""
        policy = self.preset.policy
        return VisionPolicy(
            self.seen,
            {"actor": self.groups},
            "actor",
            self.actions,
            encoder=policy.encoder,
            rnn_type="none",
            rnn_hidden_dim=1,
            output_scale=policy.output_scale,
            hidden_dims=list(policy.actor_hidden_dims),
            activation="elu",
            obs_normalization=policy.obs_normalization,
            distribution_cfg=self.distribution(policy),
        )

    def distribution(self, policy: PolicySettings) -> dict[str, Any]:
        """Configuration of the policy's distribution, for rsl-rl."""
        return gaussian(policy)

    def optimizer(self, parameters: Iterable[torch.Tensor]) -> torch.optim.Optimizer:
        """Adam with the learning rate."""
        return torch.optim.Adam(parameters, lr=self.settings.learning_rate)

    @property
    def memories(self) -> Memories:
        """What the policy remembers, for a checkpoint; may be set."""
        return None, None

    @memories.setter
    def memories(self, memories: Memories) -> None:
        """Do nothing: it remembers nothing."""

    @property
    def learning_rate(self) -> float:
        """Current learning rate of the policy."""
        return self.optimizers["actor"].param_groups[0]["lr"]

    def set_rate(self, progress: float) -> None:
        """Set the policy's learning rate by its schedule, after a share of training."""
        for group in self.optimizers["actor"].param_groups:
            group["lr"] = scheduled(self.settings.schedule, self.settings.learning_rate, progress)

    @property
    def replay(self) -> Replay:
        """Steps that it learns from."""
        assert self._replay, "training has begun"
        return self._replay

    def augmented(self, seen: TensorDict) -> TensorDict:
        """Observations with their images shifted at random."""
        seen = seen.copy()
        for name in self.groups:
            if name in IMAGES:
                seen[name] = shifted(seen[name])
        return seen

    def begin_with(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Give the policy the weights of another one like it, before training."""
        self.actor.load_state_dict(dict(weights))

    def begin(self, folder: Path, slack: int) -> None:
        """Open what it learns from."""
        raise NotImplementedError

    def act(self, obs: TensorDict) -> torch.Tensor:
        """Actions (N, A) that explore."""
        raise NotImplementedError

    def process_env_step(
        self, obs: TensorDict, rewards: torch.Tensor, dones: torch.Tensor, extras: dict[str, torch.Tensor]
    ) -> None:
        """Take what the actions led to."""
        raise NotImplementedError

    def compute_returns(self, obs: TensorDict) -> None:
        """Do nothing: returns are what critics predict."""

    def update(self) -> dict[str, float]:
        """Learn; returns mean losses by name."""
        raise NotImplementedError

    def flush(self) -> None:
        """Do nothing: all is in what `save` returns."""

    def counters(self) -> dict[str, Any]:
        """What a checkpoint has in addition to networks and optimisers."""
        raise NotImplementedError

    def resume(self, counters: dict[str, Any]) -> None:
        """Continue from these."""
        raise NotImplementedError

    def check_demos(self, then: str) -> None:
        """Check that demonstrations, if they were read, are those of that hash.

        Raises:
            TrainError: Otherwise.
        """
        if self.demos_identity not in ("", then):
            raise TrainError(
                "a run continues with the demonstrations with which it began",
                found=f"sha256 {self.demos_identity[:12]}… instead of {then[:12]}…",
                remedy=f"put them back to {self.preset.demos!r}, or train again under another --name",
            )

    def save(self) -> dict[str, Any]:
        """Networks, optimisers and counters."""
        saved: dict[str, Any] = {f"{name}_state_dict": of.state_dict() for name, of in self.networks.items()}
        saved |= {f"{name}_optimizer_state_dict": of.state_dict() for name, of in self.optimizers.items()}
        return saved | {"counters": self.counters()}

    def load(self, loaded_dict: dict[str, Any], load_cfg: dict | None, strict: bool) -> bool:
        """Continue from what was saved."""
        for name, network in self.networks.items():
            network.load_state_dict(loaded_dict[f"{name}_state_dict"], strict=strict)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(loaded_dict[f"{name}_optimizer_state_dict"])
        self.resume(loaded_dict["counters"])
        return True

    def get_policy(self) -> VisionPolicy:
        """The policy, which acts by its mean."""
        return self.actor

    @property
    def spread(self) -> float | None:
        """Mean standard deviation of the last actions."""
        return float(self.actor.output_std.detach().mean())

    def policy_arrays(self) -> dict[str, np.ndarray]:
        """The policy's weights and normalisers by name, a copy."""
        return {name: of.detach().cpu().numpy().copy() for name, of in self.actor.state_dict().items()}

    def train_mode(self) -> None:
        """Prepare for learning."""
        for network in self.networks.values():
            network.train()

    def eval_mode(self) -> None:
        """Prepare for acting."""
        for network in self.networks.values():
            network.eval()

    def broadcast_parameters(self) -> None:
        """Never called: these algorithms train in one process."""
        raise NotImplementedError

    def step(self, name: str, loss: torch.Tensor) -> None:
        """Move a network down the gradient of its loss."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        parameters: Sequence[torch.Tensor] = optimizer.param_groups[0]["params"]
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True
        ):
            parameter.grad = gradient
        optimizer.step()
