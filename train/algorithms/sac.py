"""Soft actor-critic."""

from __future__ import annotations

from typing import Any, cast

import torch
from tensordict import TensorDict

from train.algorithms.off_policy import OffPolicy
from train.algorithms.squashed import SquashedGaussian
from train.environment import STATE
from train.preset import Preset
from train.recording.demonstrations import Contract
from train.recording.replay import Transitions
from train.settings.parts import PolicySettings

FIRST_TEMPERATURE = 0.01
"""Weight of the entropy at the beginning: rewards of a step are small."""


class Temperature(torch.nn.Module):
    """Weight of the entropy, so that the policy keeps half an entropy of -1 per action (as RLPD does)."""

    def __init__(self) -> None:
        super().__init__()
        self.log = torch.nn.Parameter(torch.tensor(FIRST_TEMPERATURE).log())

    def forward(self) -> torch.Tensor:
        """The weight, without gradient."""
        return self.log.detach().exp()


class SAC(OffPolicy):
    """Soft actor-critic (Haarnoja et al., Soft actor-critic algorithms and applications, 2018)."""

    def __init__(self, preset: Preset, seen: TensorDict, actions: int, device: str, contract: Contract | None) -> None:
        super().__init__(preset, seen, actions, device, contract)
        self._temperature = Temperature().to(device)
        self.networks["temperature"] = self._temperature
        self.optimizers["temperature"] = self.optimizer(self._temperature.parameters())

    def distribution(self, policy: PolicySettings) -> dict[str, Any]:
        """Configuration of the policy's distribution, for rsl-rl."""
        return {"class_name": "train.algorithms.squashed:SquashedGaussian"}

    def _policy(self, seen: TensorDict) -> tuple[torch.Tensor, torch.Tensor]:
        """Sampled actions (B, A), and the logarithms of their densities (B,)."""
        seen = self.augmented(seen)
        distribution = cast("SquashedGaussian", self.actor.distribution)
        distribution.update(self.actor.mlp(self.actor.get_latent(seen)))
        return distribution.sample_with_log_prob()

    def future(self, batch: Transitions) -> torch.Tensor:
        """The lowest value of what the policy does next, and its entropy."""
        action, density = self._policy(batch.next_seen)
        return self.targets(batch.next_seen[STATE], action).amin(0) - self._temperature() * density

    def improve(self, batch: Transitions) -> None:
        """Update policy and temperature."""
        action, density = self._policy(batch.seen)
        value = self.critics(batch.seen[STATE], action).amin(0)
        self.minimise("actor", (self._temperature() * density - value).mean())
        surprise = density.detach().mean() - self.actions / 2
        self.minimise("temperature", -self._temperature.log * surprise)
