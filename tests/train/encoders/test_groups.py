"""What encoders read of a simulation."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from train.encoders.groups import FrozenFeatures, Images


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


def test_colours_and_nearness_are_one_image():
    """Of each camera, one after another; what is unknown is far away."""
    rng = np.random.default_rng(2)
    images = {f"{camera}_rgb": rng.integers(0, 255, (2, 3, 4, 3), np.uint8) for camera in ("left", "right")}
    depths = {"left_depth": np.array([[[0, 1, 4, 0.25]] * 3] * 2, np.float32)}
    depths["right_depth"] = np.full((2, 3, 4), 2, np.float32)
    found = Images("rgbd").read(None, images | depths).numpy()  # type: ignore[arg-type]
    assert (found.shape, found.dtype) == ((2, 8, 3, 4), np.uint8)
    np.testing.assert_array_equal(found[:, :3], images["left_rgb"].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(found[:, 4:7], images["right_rgb"].transpose(0, 3, 1, 2))
    assert found[1, 3, 2].tolist() == [0, 128, 51, 204]
    assert (found[:, 7] == 85).all()
