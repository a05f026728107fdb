"""A map as a policy's memory: what its cameras saw in this episode, around the robot; an encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from sim.finding.eyes import EYES, FIND
from sim.finding.views import views
from sim.policies.finder import finder_with
from train.encoders.groups import ObservationGroup, set_tensors_of, tensors_of
from train.settings.parts import PolicySettings

if TYPE_CHECKING:
    from sim.env import Observations, SceneEnv


class EpisodeMap(ObservationGroup):
    """Observation group: maps of obstacles, floor, holes and the ball as robots have seen them in their episodes.

    What the ball looks like say the eyes of the driver find, which aren't trained with the policy.
    """

    name = "views"
    recorded = False

    def __init__(self, env: SceneEnv) -> None:
        self._driver = finder_with(EYES[FIND], env)

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Views (N, LAYERS, DIRECTIONS, RINGS) uint8, see `sim.finding.views`."""
        self._driver.see(seen)
        finder = self._driver.finder
        return torch.from_numpy(views(finder.maps, finder.pose))

    def state(self) -> dict[str, torch.Tensor]:
        """What was seen."""
        return tensors_of(self._driver.finder)

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from what was seen."""
        set_tensors_of(self._driver.finder, state)


class MapCNN(nn.Module):
    """Convolutions over views (C, DIRECTIONS, RINGS), whose last direction is beside the first."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, directions, rings = shape
        self.size = 256
        self.maps = nn.Sequential(
            _Around(channels, 24, (2, 2)),
            nn.ELU(),
            _Around(24, 32, (2, 1)),
            nn.ELU(),
            _Around(32, 32, (1, 1)),
            nn.ELU(),
            nn.Flatten(),
            nn.Linear(32 * (directions // 4) * (rings // 2), self.size),
            nn.ELU(),
        )

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Encode views (B, C, DIRECTIONS, RINGS) as (B, size)."""
        return self.maps(views.float().mul(1 / 255))


class _Around(nn.Conv2d):
    """A convolution of 3 by 3 that goes round in directions, with zeros beyond the rings."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__(inputs, outputs, 3, stride)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve (B, C, DIRECTIONS, RINGS)."""
        around = torch.cat([input[:, :, -1:], input, input[:, :, :1]], 2)
        return super().forward(nn.functional.pad(around, (1, 1)))


def maps(env: SceneEnv, policy: PolicySettings, device: str) -> ObservationGroup:
    """Maps of a simulation's robots."""
    return EpisodeMap(env)
