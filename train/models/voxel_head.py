"""What a policy remembers, spelled out: voxels and heights round the robot."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

NEAR = 0.1
"""Errors of heights below count by their square [m]."""


class VoxelHead(nn.Module):
    """3-D transposed convolutions, each doubling the grid; 50 000 parameters for a small memory.

    Args:
        latent: Numbers that a policy's layers get.
        shape: Of the grid (X, Y, Z), multiples of 8.
    """

    def __init__(self, latent: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        x, y, z = (side // 8 for side in shape)
        self.network = nn.Sequential(
            nn.Linear(latent, 48 * x * y * z),
            nn.Unflatten(1, (48, x, y, z)),
            nn.ELU(),
            nn.ConvTranspose3d(48, 24, 3, stride=2, padding=1, output_padding=1),
            nn.ELU(),
            nn.ConvTranspose3d(24, 12, 3, stride=2, padding=1, output_padding=1),
            nn.ELU(),
            nn.ConvTranspose3d(12, 2, 2, stride=2),  # no overlap: on a CPU this layer decides how long all takes
        )
        self.height = nn.Linear(shape[2], 1)

    def forward(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of what is remembered (B, L): logits of being occupied (B, X, Y, Z), heights of the ground (B, X, Y) [m]."""
        occupied, columns = self.network(latent).unbind(1)
        return occupied, self.height(columns).squeeze(-1)


def voxel_loss(logits: torch.Tensor, heights: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropy, to which the few occupied voxels add as much as the free ones, and smooth L1 of the heights.

    Args:
        logits: (B, X, Y, Z) of being occupied.
        heights: (B, X, Y) [m].
        truth: (B, X, Y, Z + 1) as `train.voxels.Voxels` gives it.

    Returns:
        The loss, and the intersection over the union of what is taken for occupied and what is.
    """
    truth = truth.to(logits.dtype)
    occupied, ground = truth[..., :-1], truth[..., -1]
    wrong = functional.binary_cross_entropy_with_logits(logits, occupied, reduction="none")
    full, free = occupied.sum().clamp(min=1), (1 - occupied).sum().clamp(min=1)
    balanced = ((wrong * occupied).sum() / full + (wrong * (1 - occupied)).sum() / free) / 2
    taken = logits.detach() > 0
    union = (taken | (occupied > 0)).sum().clamp(min=1)
    iou = (taken & (occupied > 0)).sum() / union
    return balanced + functional.smooth_l1_loss(heights, ground, beta=NEAR), iou
