"""Observation groups in addition to the vectors: what encoders read of a simulation."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from pipeline.errors import TrainError
from sim.env import Observations, SceneEnv
from sim.saved import Saved
from train.encoders.parallel import in_halves
from train.settings.parts import PolicySettings, find_encoder

IMAGES = ("rgb", "depth", "rgbd")
"""Groups that are images."""
VOXELS, TEACHER, SHOWN = "voxels", "teacher", "shown"
"""Groups that are no network's input: what losses aim at, and the right actions."""


class ObservationGroup:
    """An observation group.

    Attributes:
        name: Name of the group.
        frozen: The network that makes it of colour images, if one does.
        recorded: Whether images of a dataset are enough to make it: it isn't about what was seen before.
    """

    name: str
    recorded: bool = True
    frozen: nn.Module | None = None

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Read the current observations of all N robots (N, ...)."""
        raise NotImplementedError

    def state(self) -> dict[str, torch.Tensor]:
        """What it remembers, by name."""
        return {}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from what it remembered."""


@dataclass(frozen=True)
class Images(ObservationGroup):
    """Colour images (N, 3, H, W) uint8, depth images (N, 1, H, W) float32 [m], 0 unknown, or both.

    Both are (N, 4, H, W) uint8, colours and nearness 255 / (1 + depth), 0 unknown: that is enough to learn from, and
    small.
    """

    name: Literal["rgb", "depth", "rgbd"]  # pyright: ignore[reportIncompatibleVariableOverride]

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Channels first; those of several cameras one after another."""
        colors = [torch.from_numpy(values.transpose(0, 3, 1, 2)) for values in _of("rgb", seen)]
        if self.name == "rgb":
            return torch.cat(colors, 1)
        depths = [torch.tensor(values)[:, None] for values in _of("depth", seen)]
        if self.name == "depth":
            return torch.cat(depths, 1)
        return torch.cat([with_nearness(*pair) for pair in zip(colors, depths, strict=True)], 1)


def with_nearness(colors: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """Both in one image, see `Images`: colours (N, 3, H, W) uint8, and depths (N, 1, H, W) [m]."""
    near = torch.where(depth > 0, 255 / (1 + depth.clamp(min=0)), torch.zeros_like(depth))
    return torch.cat([colors, near.round().to(torch.uint8)], 1)


def _of(output: str, seen: Observations) -> list[np.ndarray]:
    """What all cameras measured of one kind."""
    return [values for name, values in seen.items() if name.rpartition("_")[2] == output]


class FrozenFeatures(ObservationGroup):
    """What a frozen network makes of colour images, computed once per image: cameras have slower clocks than robots.

    Updates pass over each image many times, but not through the network, which is part of neither the policy nor its
    checkpoints. DINOv2's features are eight times as large as images: 74 kB each.

    Args:
        frozen: The network: of colours (N, 3 C, H, W) uint8, for recorded images and an export that begins with images.
        device: Where it is.
    """

    name = "features"

    def __init__(self, frozen: nn.Module, device: str = "cpu") -> None:
        self.frozen, self._device = frozen.to(device), device
        self._images, self._features = torch.zeros(0), torch.zeros(0)

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Features of the last images."""
        images = Images("rgb").read(env, seen)
        if images.shape != self._images.shape:
            self._features = self._encoded(images)
        else:
            new = (images != self._images).flatten(1).any(1).nonzero()[:, 0]
            if len(new):
                self._features = self._features.index_copy(0, new.to(self._device), self._encoded(images[new]))
        self._images = images
        return self._features

    def state(self) -> dict[str, torch.Tensor]:
        """The last images and their features."""
        return {"images": self._images.clone(), "features": self._features.cpu().clone()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Continue with these."""
        self._images, self._features = state["images"].cpu().clone(), state["features"].clone().to(self._device)

    def _encoded(self, images: torch.Tensor) -> torch.Tensor:
        assert self.frozen
        with torch.no_grad():
            return in_halves(self.frozen, images.to(self._device))


def tensors_of(saved: Saved) -> dict[str, torch.Tensor]:
    """Copies of what changes during episodes, for a checkpoint."""
    return {name: torch.from_numpy(values.copy()) for name, values in saved.arrays().items()}


def set_tensors_of(saved: Saved, tensors: Mapping[str, torch.Tensor]) -> None:
    """Go on from what `tensors_of` returned."""
    saved.set_arrays({name: values.numpy().copy() for name, values in tensors.items()})


TRUTHS = ("things", "mark", "ways")
"""Observations of places that only a simulator knows."""


@dataclass(frozen=True)
class Truth(ObservationGroup):
    """Where things are, (N, K): vectors, for policies that are to know instead of see."""

    name: str = "truth"

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """One after another.

        Raises:
            TrainError: When the task has none.
        """
        truths = [seen[name] for name in TRUTHS if name in seen]
        if not truths:
            raise TrainError(
                "the encoder truth reads where things are",
                found=f"no {' or '.join(TRUTHS)} among the observations of {env.task.name!r}",
                remedy="train a task of an arm, or policy.encoder: cnn",
            )
        return torch.tensor(np.concatenate(truths, 1))


def images(env: SceneEnv, policy: PolicySettings, device: str) -> ObservationGroup:
    """Colours or depths, by the policy's modality."""
    return Images(policy.modality)


def truth(env: SceneEnv, policy: PolicySettings, device: str) -> ObservationGroup:
    """Where things are."""
    return Truth()


def groups_of(policy: PolicySettings, env: SceneEnv, device: str = "cpu") -> list[ObservationGroup]:
    """Make the observation groups of a simulation that a policy's encoder reads: one or none.

    Raises:
        TrainError: When there is no such encoder, or a pretrained network is missing.
    """
    group = find_encoder(policy).group
    return [pkgutil.resolve_name(group)(env, policy, device)] if group else []
