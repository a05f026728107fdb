"""Twin delayed deep deterministic policy gradients."""

from __future__ import annotations

import copy
from typing import Any

import torch
from rsl_rl.modules.distribution import Distribution
from tensordict import TensorDict

from train.algorithms.critics import follow
from train.algorithms.off_policy import OffPolicy
from train.environment import STATE
from train.preset import Preset
from train.recording.demonstrations import Contract
from train.recording.replay import Transitions
from train.settings.parts import PolicySettings


class NoisyTanh(Distribution):
    """tanh of the network's output (..., A), with noise of one standard deviation on all actions."""

    def __init__(self, output_dim: int, deviation: float) -> None:
        super().__init__(output_dim)
        self._deviation = deviation

    def update(self, mlp_output: torch.Tensor) -> None:
        """Take the network's output."""
        self._mean = torch.tanh(mlp_output)

    def sample(self) -> torch.Tensor:
        """Actions (..., A) in -1..1."""
        return (self._mean + self._deviation * torch.randn_like(self._mean)).clamp(-1, 1)

    def deterministic_output(self, mlp_output: torch.Tensor) -> torch.Tensor:
        """Actions without noise (..., A)."""
        return torch.tanh(mlp_output)

    @property
    def input_dim(self) -> int:
        """Size of the network's output."""
        return self.output_dim

    @property
    def std(self) -> torch.Tensor:
        """Deviation of the noise (..., A)."""
        return torch.full_like(self._mean, self._deviation)


class TD3(OffPolicy):
    """TD3 (Fujimoto et al., Addressing function approximation error in actor-critic methods, 2018).

    The lower of two critics counts, the policy learns less often than they do, and the actions that they are asked
    about have noise, so that a narrow peak of a critic's is no use.
    """

    def __init__(self, preset: Preset, seen: TensorDict, actions: int, device: str, contract: Contract | None) -> None:
        super().__init__(preset, seen, actions, device, contract)
        self._target_actor = copy.deepcopy(self.actor)
        self.networks["target_actor"] = self._target_actor

    def distribution(self, policy: PolicySettings) -> dict[str, Any]:
        """Configuration of the policy's distribution, for rsl-rl."""
        return {"class_name": "train.algorithms.td3:NoisyTanh", "deviation": self.settings.exploration}

    def future(self, batch: Transitions) -> torch.Tensor:
        """The lowest value near what the policy of a while ago does next."""
        action, limit = self._target_actor(self.augmented(batch.next_seen)), self.settings.smoothing_limit
        noise = (self.settings.smoothing * torch.randn_like(action)).clamp(-limit, limit)
        return self.targets(batch.next_seen[STATE], (action + noise).clamp(-1, 1)).amin(0)

    def improve(self, batch: Transitions) -> None:
        """Update the policy, and the one that follows it."""
        action = self.actor(self.augmented(batch.seen))
        self.minimise("actor", -self.critics(batch.seen[STATE], action)[0].mean())
        follow(self._target_actor, self.actor)
