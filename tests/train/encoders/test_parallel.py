"""A network on halves of a batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from train.encoders.parallel import SMALLEST, in_halves


def network() -> nn.Module:
    """A small one, always the same."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ELU(), nn.Flatten(), nn.Linear(4 * 3 * 4, 5))


@pytest.mark.parametrize("count", [1, SMALLEST - 1, SMALLEST, SMALLEST + 1])
def test_outputs_and_gradients_are_those_of_the_whole(count: int):
    """Of odd and even batches, below and above the smallest that is halved; the input has no gradient."""
    batch = torch.rand(count, 3, 8, 10)
    gradients = []
    for apply in (lambda net: net(batch), lambda net: in_halves(net, batch)):
        net = network()
        output = apply(net)
        (output.square() * torch.arange(1, 6)).sum().backward()
        gradients.append([output.detach(), *(parameter.grad for parameter in net.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_sums_are_the_same_each_time():
    """Bit for bit."""
    batch, net = torch.rand(4 * SMALLEST, 3, 8, 10), network()
    found = []
    for _ in range(3):
        net.zero_grad()
        in_halves(net, batch).square().sum().backward()
        found.append(
            torch.cat([parameter.grad.flatten() for parameter in net.parameters() if parameter.grad is not None])
        )
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_nothing_is_kept_without_gradients():
    """While acting."""
    batch, net = torch.rand(SMALLEST, 3, 8, 10), network()
    with torch.inference_mode():
        made = in_halves(net, batch)
    assert not made.requires_grad
    torch.testing.assert_close(made, net(batch).detach())
