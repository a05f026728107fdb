"""What a policy sees with, by name: the observations that it needs, and the network that reads them."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from pipeline.errors import TrainError
from sim.cameras.mount import Output
from sim.env import SceneEnv
from train.environment import Depths, Pictures, Sense
from train.models.dinov2 import DinoFeatures, FeatureNetwork
from train.models.pictures import PictureCNN, PictureResNet
from train.models.sets import SetTransformer
from train.tokens import GaussianTokens

Sees = Literal["rgb", "depth"]

NETWORKS: dict[str, Callable[[tuple[int, ...]], nn.Module] | None] = {
    "cnn": PictureCNN,
    "dinov2": FeatureNetwork,
    "gaussians": SetTransformer,
    "none": None,
    "resnet": PictureResNet,
}


@dataclass(frozen=True)
class Encoder:
    """A way of seeing.

    Attributes:
        outputs: What a robot's camera gives; empty where there is no camera.
        sense: Makes what the agent sees of a simulation and the device of its tensors; None for the blind.
    """

    outputs: tuple[Output, ...]
    sense: Callable[[SceneEnv, str], Sense] | None

    def senses(self, env: SceneEnv, device: str = "cpu") -> list[Sense]:
        """What an agent sees of a simulation: one group of observations or none.

        Raises:
            TrainError: When a pretrained network isn't there.
        """
        return [self.sense(env, device)] if self.sense else []


def encoder_names() -> list[str]:
    """All there are."""
    return list(NETWORKS)


def find_encoder(name: str, sees: Sees = "rgb") -> Encoder:
    """What a policy with that encoder sees.

    Args:
        name: Of the encoder.
        sees: What its camera gives, where it has one.

    Raises:
        TrainError: When there is no such encoder, or it doesn't take what the camera gives.
    """
    _check(name)
    if name == "none":
        return Encoder((), None)
    if name == "gaussians":
        return Encoder((), lambda env, _: GaussianTokens(env.scenes, env.robot, env.task.camera))
    if name == "dinov2":
        if sees != "rgb":
            raise TrainError(
                "the encoder dinov2 was trained on photos", found=f"policy.sees: {sees}", remedy="policy.sees: rgb"
            )
        return Encoder(
            ("rgb",), lambda env, device: DinoFeatures((env.task.camera.height, env.task.camera.width), device)
        )
    return Encoder((sees,), lambda *_: Pictures() if sees == "rgb" else Depths())


def make_encoder(name: str, shape: tuple[int, ...]) -> nn.Module:
    """The part of a policy that reads what is seen: a network with an attribute `size`, the numbers that come out.

    Args:
        name: Of the encoder.
        shape: Of what one robot sees.

    Raises:
        TrainError: When there is no such encoder.
        ValueError: When the blind one is asked for.
    """
    _check(name)
    network = NETWORKS[name]
    if network is None:
        raise ValueError(f"the encoder {name!r} has nothing to read, got observations of shape {shape}")
    return network(shape)


def _check(name: str) -> None:
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, 3, 0.4) or encoder_names()
        raise TrainError("an encoder has a name", found=repr(name), remedy=f"did you mean {', '.join(near)}?")
