"""Actions as one of several: how likely each of some values is, where a mean of two ways would be none."""

from __future__ import annotations

import torch
from rsl_rl.modules.distribution import Distribution
from torch import nn


class Binned(Distribution):
    """For each action the probabilities of values from -1 to 1, evenly apart.

    A value between two of them is both, in shares (as in Imani and White, Improving regression performance with
    distributional losses, 2018). The network's output is (..., A * bins).
    """

    def __init__(self, output_dim: int, bins: int) -> None:
        super().__init__(output_dim)
        self._bins = bins
        self._values = nn.Buffer(torch.linspace(-1, 1, bins), persistent=False)

    @property
    def input_dim(self) -> int:
        """Size of the network's output."""
        return self.output_dim * self._bins

    def update(self, mlp_output: torch.Tensor) -> None:
        """Take the network's output."""
        self._logs = mlp_output.unflatten(-1, (self.output_dim, self._bins)).log_softmax(-1)

    def sample(self) -> torch.Tensor:
        """Actions (..., A)."""
        return self._values[torch.distributions.Categorical(logits=self._logs).sample()]

    def deterministic_output(self, mlp_output: torch.Tensor) -> torch.Tensor:
        """The likeliest action (..., A): the mean of its value and the two beside it."""
        chances = mlp_output.unflatten(-1, (self.output_dim, self._bins)).softmax(-1)
        best = chances.argmax(-1, keepdim=True)
        near = ((torch.arange(self._bins, device=best.device) - best).abs() <= 1) * chances
        return (near * self._values).sum(-1) / near.sum(-1)

    def log_prob(self, outputs: torch.Tensor) -> torch.Tensor:
        """Logarithm (...) of how likely actions (..., A) are, those between two values in shares."""
        at = (outputs.clamp(-1, 1) + 1) / 2 * (self._bins - 1)
        shares = (1 - (at[..., None] - torch.arange(self._bins, device=at.device)).abs()).clamp(min=0)
        return (shares * self._logs).sum((-2, -1))

    @property
    def std(self) -> torch.Tensor:
        """Standard deviation (..., A)."""
        chances = self._logs.exp()
        mean = (chances * self._values).sum(-1, keepdim=True)
        return (chances * (self._values - mean).square()).sum(-1).sqrt()
