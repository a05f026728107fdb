"""What encoders read of a simulation."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from train.encoders.groups import FrozenFeatures


class Counting(nn.Module):
    """Means of colours; counts the images that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.images = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3)."""
        self.images += len(images)
        return images.float().mean((2, 3))


def seen(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Images of four robots."""
    return {"rgb": rng.integers(0, 255, (4, 6, 8, 3), np.uint8)}


def read(group: FrozenFeatures, images: dict[str, np.ndarray]) -> torch.Tensor:
    """The group needs no more than the images."""
    return group.read(None, images)  # type: ignore[arg-type]


def test_a_frozen_network_runs_once_per_image():
    """Where a camera took none since, features are the last ones; a policy gets the same either way."""
    network, rng = Counting(), np.random.default_rng(0)
    group, images = FrozenFeatures(network), seen(rng)
    first = read(group, images)
    assert network.images == 4
    torch.testing.assert_close(read(group, {"rgb": images["rgb"].copy()}), first)
    assert network.images == 4
    later = {"rgb": images["rgb"].copy()}
    later["rgb"][2] = seen(rng)["rgb"][0]
    after = read(group, later)
    assert network.images == 5
    torch.testing.assert_close(after, network(torch.from_numpy(later["rgb"].transpose(0, 3, 1, 2))))
    torch.testing.assert_close(first[[0, 1, 3]], after[[0, 1, 3]])
    assert not torch.allclose(first[2], after[2])


def test_it_goes_on_with_what_it_remembered():
    """So that a resumed training has the same features to the last bit."""
    network, rng = Counting(), np.random.default_rng(1)
    group, images = FrozenFeatures(network), seen(rng)
    before = read(group, images)
    again = FrozenFeatures(network)
    again.restore(group.state())
    network.images = 0
    assert torch.equal(read(again, images), before)
    assert network.images == 0
