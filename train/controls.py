"""What an agent sees, spoilt: how much of what a policy does comes from its pictures."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict

from pipeline.errors import TrainError
from train.environment import STATE, VECTOR
from train.results import Control


class Sight:
    """Observations on their way to a policy in one episode of each robot.

    A control acts on all groups that are seen, never on vectors.

    Args:
        control: What is done to them.
        seed: Of the shuffling.
    """

    def __init__(self, control: Control, seed: int) -> None:
        self._control, self._rng = control, np.random.default_rng(seed)
        self._first: dict[str, torch.Tensor] = {}

    def spoil(self, seen: TensorDict) -> TensorDict:
        """What the policy gets instead of groups of observations of N robots; these stay as they are.

        Raises:
            TrainError: When there is nothing to spoil: the policy is blind, or there is one robot to shuffle.
        """
        if self._control == "none":
            return seen
        groups = [str(name) for name in seen.keys() if name not in (VECTOR, STATE)]  # noqa: SIM118 - no plain dict
        if not groups:
            raise TrainError(
                "a control spoils what a policy sees",
                found=f"control {self._control!r}, and a policy that sees nothing",
                remedy="evaluate a blind policy without controls",
            )
        order = torch.from_numpy(others(len(seen), self._rng)) if self._control == "shuffled" else None
        spoilt = seen.copy()
        for name in groups:
            spoilt[name] = self._instead(name, seen[name], order)
        return spoilt

    def _instead(self, name: str, pictures: torch.Tensor, order: torch.Tensor | None) -> torch.Tensor:
        if order is not None:
            return pictures[order.to(pictures.device)]
        if self._control == "black":
            return torch.zeros_like(pictures)
        return self._first.setdefault(name, pictures.clone())


def others(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """For each of N one of the others (N,), a cycle through all: each other one is as likely.

    Raises:
        TrainError: When there are no others.
    """
    if count < 2:
        raise TrainError(
            "pictures are shuffled between robots", found="a single one", remedy="take two episodes or more"
        )
    ring, order = rng.permutation(count), np.empty(count, np.int64)
    order[ring] = np.roll(ring, 1)
    return order
