"""Networks for small images."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

from train.models.images import FAR, ImageCNN, ImageResNet

SHAPE = (3, 45, 66)
NETWORKS = pytest.mark.parametrize("network", [ImageCNN, ImageResNet])


def colours(count: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    """Random images."""
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


@NETWORKS
def test_each_image_by_itself(network: type[nn.Module]):
    """As many numbers as said, the same whatever else is in the batch, in training as in use."""
    torch.manual_seed(0)
    made = network(SHAPE).train()
    together = made(colours(5))
    assert together.shape == (5, made.size)
    torch.testing.assert_close(together[3:4], made.eval()(colours(5)[3:4]), rtol=1e-4, atol=1e-5)


@NETWORKS
def test_every_part_of_a_image_counts(network: type[nn.Module]):
    """Each corner and each colour changes what comes out."""
    torch.manual_seed(0)
    made, images = network(SHAPE), torch.full((13, *SHAPE), 90, dtype=torch.uint8)
    corners = [
        (rows, columns) for rows in (slice(0, 12), slice(-12, None)) for columns in (slice(0, 12), slice(-12, None))
    ]
    for number, (channel, (rows, columns)) in enumerate(product(range(3), corners)):
        images[number, channel, rows, columns] = 250
    out = made(images)
    assert (torch.cdist(out, out) + torch.eye(13)).min() > 1e-3


@NETWORKS
def test_all_weights_learn(network: type[nn.Module]):
    """None is cut off from the gradient."""
    torch.manual_seed(0)
    made = network(SHAPE)
    made(colours(8)).square().sum().backward()
    assert all(weights.grad is not None and weights.grad.abs().max() > 0 for weights in made.parameters())


@NETWORKS
def test_depth_beyond_a_few_metres_is_all_the_same(network: type[nn.Module]):
    """But not nearer."""
    torch.manual_seed(0)
    made = network((1, 45, 66))
    near, far, further = (made(torch.full((1, 1, 45, 66), metres)) for metres in (0.6 * FAR, FAR + 0.5, FAR + 20))
    torch.testing.assert_close(far, further)
    assert (near - far).abs().max() > 1e-4


def test_images_stay_as_they_are():
    """Numbers that are floats already are copied before they are centred."""
    images = torch.full((2, 3, 48, 64), 200.0)
    ImageCNN((3, 48, 64))(images)
    assert (images == 200).all()
