"""A policy from what a robot measures to what its actuators aim at, as one network without a state of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from pipeline.errors import TrainError
from sim.robots.drive import Drive
from train.models.policy import SightPolicy

STATES = {"GRU": ("h",), "LSTM": ("h", "c")}
"""What kinds of memory hold, by name."""
TRIES = 64


class Controller(nn.Module):
    """For one robot and one step.

    Inputs are what the robot sees, if anything; its vectors; what it remembers. Outputs are its action (1, A) in
    [-1, 1], its actuators' targets (1, T), and what it remembers then.

    Args:
        policy: In use, not learning.
        sight: The first input: "rgb" (1, H, W, 3) uint8; "depth" (1, H, W) [m], 0 unknown; another group of the
            policy's observations; or None for a blind one.
        frozen: A network between colours (1, 3, H, W) and the policy.
        drive: From actions to targets.

    Attributes:
        states: Names of what it remembers.

    Raises:
        TrainError: When the drive is more than factors and sums.
    """

    gain: torch.Tensor
    rest: torch.Tensor

    def __init__(self, policy: SightPolicy, sight: str | None, frozen: nn.Module | None, drive: Drive) -> None:
        super().__init__()
        self.policy, self.frozen, self._sight = policy, frozen, sight
        rnn = policy.memory.rnn if policy.memory else None
        self.states = STATES[type(rnn).__name__] if rnn else ()
        self._size = rnn.hidden_size if rnn else 0
        gain, rest = linear(drive)
        self.register_buffer("gain", torch.from_numpy(gain))
        self.register_buffer("rest", torch.from_numpy(rest))

    def blank(self) -> list[torch.Tensor]:
        """What it remembers (1, 1, M) at the beginning of an episode."""
        return [torch.zeros(1, 1, self._size) for _ in self.states]

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """One step."""
        measured = list(inputs[: len(inputs) - len(self.states)])
        before = inputs[len(measured) :]
        code = [self._see(measured.pop(0))] if self._sight else []
        latent = torch.cat([self.policy.obs_normalizer(torch.cat(measured, -1)), *code], -1)
        after: Sequence[torch.Tensor] = ()
        if self.policy.memory:
            out, held = self.policy.memory.rnn(latent[None], before[0] if len(before) == 1 else tuple(before))
            latent, after = out[0], held if isinstance(held, tuple) else (held,)
        action = self.policy.means(latent).clamp(-1, 1)
        return action, action @ self.gain.T + self.rest, *after

    def _see(self, sight: torch.Tensor) -> torch.Tensor:
        if self._sight == "rgb":
            sight = sight.permute(0, 3, 1, 2)
        elif self._sight == "depth":
            sight = sight[:, None]
        if self.frozen is not None:
            sight = self.frozen(sight)
        assert self.policy.encoder is not None  # it sees
        return self.policy.encoder(sight)


def linear(drive: Drive) -> tuple[np.ndarray, np.ndarray]:
    """Gain (T, A) and rest (T,) of a drive: its targets are gain @ action + rest.

    Raises:
        TrainError: When it is more than that.
    """
    rest = drive.targets(np.zeros((1, drive.size), np.float32))[0]
    gain = (drive.targets(np.eye(drive.size, dtype=np.float32)) - rest).T
    tries = np.random.default_rng(0).uniform(-1, 1, (TRIES, drive.size)).astype(np.float32)
    if not np.allclose(tries @ gain.T + rest, drive.targets(tries), rtol=1e-4, atol=1e-5):
        raise TrainError(
            "a drive that is exported gives targets that grow evenly with its actions",
            found=type(drive).__name__,
            remedy="write your own file with the policy's actions",
        )
    return np.ascontiguousarray(gain, np.float32), np.ascontiguousarray(rest, np.float32)
