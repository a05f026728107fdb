"""Actions as soft actor-critic samples them: a Gaussian through tanh."""

from __future__ import annotations

import math

import torch
from rsl_rl.modules.distribution import Distribution
from torch import nn

LOG_STD_RANGE = (-5.0, 1.0)
"""Smallest and largest logarithm of the Gaussian's standard deviation."""


class SquashedGaussian(Distribution):
    """tanh of a Gaussian, whose deviation depends on the state (Haarnoja et al., Soft actor-critic, 2018, appendix C).

    The network's output (..., 2 A) is mean and logarithm of the deviation; actions are in (-1, 1).
    """

    def update(self, mlp_output: torch.Tensor) -> None:
        """Take the network's output."""
        self._mean, free = mlp_output.chunk(2, -1)
        low, high = LOG_STD_RANGE
        self._std = torch.exp(low + (high - low) / 2 * (torch.tanh(free) + 1))

    def sample(self) -> torch.Tensor:
        """Actions (..., A)."""
        return self.sample_with_log_prob()[0]

    def sample_with_log_prob(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Actions (..., A) with a gradient, and the logarithm of their density (...)."""
        noise = torch.randn_like(self._mean)
        raw = self._mean + self._std * noise
        gaussian = -0.5 * (noise.square() + math.log(2 * math.pi)) - self._std.log()
        # the derivative of tanh, written so that it doesn't underflow
        squashing = 2 * (math.log(2) - raw - nn.functional.softplus(-2 * raw))
        return torch.tanh(raw), (gaussian - squashing).sum(-1)

    def deterministic_output(self, mlp_output: torch.Tensor) -> torch.Tensor:
        """The middle action (..., A)."""
        return torch.tanh(mlp_output.chunk(2, -1)[0])

    @property
    def input_dim(self) -> int:
        """Size of the network's output."""
        return 2 * self.output_dim

    @property
    def std(self) -> torch.Tensor:
        """Deviation of the Gaussian (..., A)."""
        return self._std
