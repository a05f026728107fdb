"""A map as a policy's memory: what its cameras saw in this episode, around the robot; an encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from sim.finding.eyes import EYES, FIND
from sim.finding.views import beliefs, views
from sim.policies.finder import finder_with
from train.encoders.groups import ObservationGroup, set_tensors_of, tensors_of
from train.settings.parts import PolicySettings

if TYPE_CHECKING:
    from sim.env import Observations, SceneEnv


class EpisodeMap(ObservationGroup):
    """Observation group: what robots have seen in their episodes, as maps, and what the driver find believes by them.

    What the ball looks like say the eyes of that driver, which aren't trained with the policy.
    """

    name = "views"
    recorded = False

    def __init__(self, env: SceneEnv) -> None:
        self._driver = finder_with(EYES[FIND], env)

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Views (N, LAYERS + BELIEFS, DIRECTIONS, RINGS) uint8, see `sim.finding.views`."""
        self._driver(seen)
        finder = self._driver.finder
        return torch.from_numpy(np.concatenate([views(finder.maps, finder.pose, finder.radius), beliefs(finder)], 1))

    def state(self) -> dict[str, torch.Tensor]:
        """What was seen."""
        return tensors_of(self._driver.finder)

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from what was seen."""
        set_tensors_of(self._driver.finder, state)


class MapCNN(nn.Module):
    """Convolutions around a view (C, DIRECTIONS, RINGS), whose last direction is beside the first.

    What is on all rings of a direction are its channels. Wider and wider apart, four convolutions see every direction.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        layers, directions, rings = shape
        self.size = 128
        self.first = _Around(layers * rings, 64, stride=2)
        self.others = nn.ModuleList(_Around(64, 64, dilation=apart) for apart in (1, 2, 4))
        self.out = nn.Sequential(nn.Flatten(), nn.Linear(64 * directions // 2, self.size), nn.ELU())

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Encode views (B, C, DIRECTIONS, RINGS) as (B, size)."""
        maps = self.first(views.float().mul(1 / 255).transpose(2, 3).flatten(1, 2)).relu()
        for layer in self.others:
            maps = maps + layer(maps).relu()
        return self.out(maps)


class _Around(nn.Conv1d):
    """A convolution of five directions that goes round."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(inputs, outputs, 5, stride, 2 * dilation, dilation, padding_mode="circular")


def maps(env: SceneEnv, policy: PolicySettings, device: str) -> ObservationGroup:
    """Maps of a simulation's robots."""
    return EpisodeMap(env)
