"""Encoders by name: the observation group each needs, and the network that encodes it."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import nn

from pipeline.errors import TrainError
from sim.cameras.settings import Output
from sim.env import Observations, SceneEnv
from train.models.dinov2 import DinoFeatures, FeatureNetwork
from train.models.gaussians import GaussianTokens, SetTransformer
from train.models.images import ImageCNN, ImageResNet

Modality = Literal["rgb", "depth"]


class ObservationGroup(Protocol):
    """An observation group in addition to the vectors."""

    @property
    def name(self) -> str:
        """Name of the group."""
        ...

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Read the current observations of all N robots (N, ...)."""
        ...


@dataclass(frozen=True)
class Images:
    """Colour images (N, 3, H, W) uint8, or depth images (N, 1, H, W) float32 [m], 0 unknown."""

    name: Modality

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Channels first."""
        if self.name == "depth":
            return torch.tensor(seen[self.name][:, None])
        return torch.from_numpy(np.ascontiguousarray(seen[self.name].transpose(0, 3, 1, 2)))


NETWORKS: dict[str, Callable[[tuple[int, ...]], nn.Module] | None] = {
    "cnn": ImageCNN,
    "dinov2": FeatureNetwork,
    "gaussians": SetTransformer,
    "none": None,
    "resnet": ImageResNet,
}


@dataclass(frozen=True)
class Encoder:
    """What an encoder needs of a simulation.

    Attributes:
        outputs: Outputs of the robots' camera; empty without a camera.
        group: Makes the observation group from a simulation and a device; None for blind policies.
    """

    outputs: tuple[Output, ...]
    group: Callable[[SceneEnv, str], ObservationGroup] | None

    def groups(self, env: SceneEnv, device: str = "cpu") -> list[ObservationGroup]:
        """Make the observation groups of a simulation: one or none.

        Raises:
            TrainError: When a pretrained network is missing.
        """
        return [self.group(env, device)] if self.group else []


def encoder_names() -> list[str]:
    """Names of all encoders."""
    return list(NETWORKS)


def find_encoder(name: str, modality: Modality = "rgb") -> Encoder:
    """Find an encoder by its name.

    Raises:
        TrainError: When there is no such encoder, or it doesn't support the modality.
    """
    _check(name)
    if name == "none":
        return Encoder((), None)
    if name == "gaussians":
        return Encoder((), lambda env, _: GaussianTokens(env.scenes, env.robot, env.task.camera))
    if name == "dinov2":
        if modality != "rgb":
            raise TrainError(
                "the encoder dinov2 was trained on photos",
                found=f"policy.modality: {modality}",
                remedy="policy.modality: rgb",
            )
        return Encoder(
            ("rgb",), lambda env, device: DinoFeatures((env.task.camera.height, env.task.camera.width), device)
        )
    return Encoder((modality,), lambda *_: Images(modality))


def make_encoder(name: str, shape: tuple[int, ...]) -> nn.Module:
    """Make the network of an encoder, with an attribute `size`, the number of its outputs.

    The shape is that of one robot's observation.

    Raises:
        TrainError: When there is no such encoder.
        ValueError: For the blind one.
    """
    _check(name)
    network = NETWORKS[name]
    if network is None:
        raise ValueError(f"the encoder {name!r} has nothing to read, got observations of shape {shape}")
    return network(shape)


def _check(name: str) -> None:
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, 3, 0.4) or encoder_names()
        raise TrainError("an encoder has a known name", found=repr(name), remedy=f"did you mean {', '.join(near)}?")
