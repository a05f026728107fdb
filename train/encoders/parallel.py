"""A network on two cores: the halves of a batch at the same time, each on a thread.

For small convolutions that is faster than torch's own threads, and sums don't depend on the number of cores.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

SMALLEST = 64
"""Rows of the smallest batch that is halved."""


def in_halves(network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Output of a network, which treats each row alone, for a batch (B, ...); no gradient by the batch."""
    if len(batch) < SMALLEST or batch.device.type != "cpu":
        return network(batch)
    return _Halves.apply(network, batch, *network.parameters())  # type: ignore[no-any-return]


class _Halves(torch.autograd.Function):
    """Its gradient is the sum of both halves' gradients."""

    @staticmethod
    def forward(ctx: Any, network: nn.Module, batch: torch.Tensor, *parameters: nn.Parameter) -> torch.Tensor:
        """Keeps the graphs of both halves, unless no gradient is needed."""
        with_gradient = any(ctx.needs_input_grad)

        def output(half: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode(not with_gradient):
                return network(half)

        halves = _at_once(output, batch.chunk(2))
        ctx.parameters, ctx.halves = parameters, halves
        return torch.cat([half.detach() for half in halves])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        """Gradients with respect to the parameters."""

        def gradients(half: torch.Tensor, by_half: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return torch.autograd.grad(half, ctx.parameters, by_half)

        one, other = _at_once(gradients, ctx.halves, grad_outputs[0].chunk(2))
        return None, None, *(a + b for a, b in zip(one, other, strict=True))


def _at_once(function: Callable[..., Any], *halves: tuple[torch.Tensor, ...]) -> list[Any]:
    """Results for the first and the second half."""
    return list(_threads().map(function, *halves))


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, "half", torch.set_num_threads, (1,))
