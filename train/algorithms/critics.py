"""Critics of actions, several in one network; and shifted images, by which policies from images learn off-policy."""

from __future__ import annotations

from itertools import pairwise

import torch
from rsl_rl.modules import EmpiricalNormalization
from torch import nn
from torch.nn.functional import layer_norm

FOLLOW = 0.005
"""Share of the way that target networks move towards those that learn with each update."""
SHIFT = 3
"""Largest shift of an image each way [px]: DrQ's four of 84 pixels, for images of 64."""


class Critics(nn.Module):
    """K critics that share nothing but the normalisation of what they see.

    Layers are normalised, which bounds what critics say of actions that nobody tried (Ball et al., Efficient online
    reinforcement learning with offline data, 2023).

    Args:
        state: Size of the observations, S.
        actions: Size of the actions, A; 0 for critics of states.
        hidden: Units of each layer.
        count: K.
    """

    def __init__(self, state: int, actions: int, hidden: tuple[int, ...], count: int) -> None:
        super().__init__()
        self.normalizer = EmpiricalNormalization(state)
        sizes = (state + actions, *hidden, 1)
        self.layers = nn.ModuleList(_Layers(*pair, count) for pair in pairwise(sizes))

    def forward(self, state: torch.Tensor, action: torch.Tensor | None = None) -> torch.Tensor:
        """Values (K, B) of states (B, S) and actions (B, A)."""
        seen = self.normalizer(state)
        inputs = seen if action is None else torch.cat([seen, action], 1)
        *hidden, last = self.layers
        for layer in hidden:
            inputs = layer(inputs)
            inputs = torch.relu(layer_norm(inputs, inputs.shape[-1:]))
        return last(inputs).squeeze(2)


@torch.no_grad()
def follow(network: nn.Module, other: nn.Module) -> None:
    """Move a network towards another one by `FOLLOW` of the way; what is normalised by is taken over."""
    for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
        mine.lerp_(theirs, FOLLOW)
    for mine, theirs in zip(network.buffers(), other.buffers(), strict=True):
        mine.copy_(theirs)


class _Layers(nn.Module):
    """K linear layers side by side, initialised as torch's."""

    def __init__(self, inputs: int, outputs: int, count: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(count, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(count, 1, outputs).uniform_(-bound, bound))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs (K, B, outputs) of inputs (B, inputs), the same for all, or (K, B, inputs)."""
        return torch.baddbmm(self.bias, inputs.expand(len(self.weight), *inputs.shape[-2:]), self.weight)


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Images (B, C, H, W), each shifted at random by up to `SHIFT`, its border repeated.

    Source: Kostrikov et al., Image augmentation is all you need (DrQ), 2020.
    """
    count, channels, height, width = images.shape
    down, right = torch.randint(-SHIFT, SHIFT + 1, (2, count, 1), device=images.device)
    rows = (torch.arange(height, device=images.device) + down).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) + right).clamp(0, width - 1)
    source = (width * rows[:, :, None] + columns[:, None]).flatten(1)[:, None].expand(-1, channels, -1)
    return images.flatten(2).gather(2, source).unflatten(2, (height, width))
