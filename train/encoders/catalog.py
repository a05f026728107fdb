"""Encoders by name: the observation group each needs, and the network that encodes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from rsl_rl.modules import CNN
from torch import nn

from pipeline.errors import TrainError
from pipeline.parameters import require_known
from sim.env import Observations, SceneEnv
from sim.sensors.cameras.settings import Output
from train.encoders.depth_points import EDGE, EDGE_AT_A_TABLE, DepthPoints, DepthVoxels, VoxelCNN
from train.encoders.dinov2 import Dinov2, FeatureNetwork
from train.encoders.gaussian_regressor import image_tokens
from train.encoders.gaussians import GaussianTokens, SetTransformer
from train.encoders.parallel import in_halves

if TYPE_CHECKING:
    from train.preset import PolicySettings

IMAGES = ("rgb", "depth")
"""Groups that are images."""


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

    name: Literal["rgb", "depth"]

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Channels first; those of several cameras one after another."""
        images = [values for name, values in seen.items() if name.rpartition("_")[2] == self.name]
        if self.name == "depth":
            return torch.tensor(np.stack(images, 1))
        return torch.from_numpy(np.concatenate([image.transpose(0, 3, 1, 2) for image in images], 1))


class FrozenFeatures:
    """Observation group: what a frozen network makes of colour images, computed once when they are read.

    Updates pass over each image many times, but not through the network, which is part of neither the policy nor its
    checkpoints. DINOv2's features are eight times as large as images: 74 kB each.

    Attributes:
        module: The network: of colours (N, 3 C, H, W) uint8, for recorded images and an export that begins with images.
    """

    name = "features"

    def __init__(self, module: nn.Module, device: str = "cpu") -> None:
        self.module, self._device = module.to(device), device

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Features of the last images."""
        with torch.no_grad():
            return in_halves(self.module, Images("rgb").read(env, seen).to(self._device))


TRUTHS = ("things", "mark", "ways")
"""Observations of places that only a simulator knows."""


@dataclass(frozen=True)
class Truth:
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


FAR = 5.0
"""Largest depth that is distinguished [m]."""


class ImageCNN(nn.Module):
    """Three convolutions, as in RL from small images since Mnih et al., 2015.

    Images (C, H, W) are colours uint8, or depth [m] with one channel.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, height, width = shape
        self.cnn = CNN(
            input_dim=(height, width),
            input_channels=channels,
            output_channels=[16, 32, 32],
            kernel_size=[4, 3, 3],
            stride=[4, 2, 1],
            activation="elu",
        )
        self.size = int(self.cnn.output_dim)  # type: ignore[arg-type] - flat

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode images (B, C, H, W) as (B, size)."""
        return self.cnn(centred(images))


class ImageResNet(nn.Module):
    """A residual network of the size of IMPALA's (Espeholt et al., 2018): four blocks of 16 and 32 channels.

    A ResNet-18 is made for images of 224 pixels: it would leave 2 x 2 of 64 x 48 and has 11 million weights. This one
    leaves 8 x 6, which keeps positions apart. It begins as ResNets do (He et al., 2016), with a stride and a pool;
    IMPALA's first blocks have four times as many pixels. It has no batch normalisation, since robots that act are
    another batch than those in the update. Images (C, H, W) are colours uint8, or depth [m] with one channel.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, height, width = shape
        self.maps = nn.Sequential(
            nn.Conv2d(channels, 16, 5, stride=2, padding=2),
            nn.MaxPool2d(3, stride=2, padding=1),
            _Residual(16),
            _Residual(16),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.MaxPool2d(3, stride=2, padding=1),
            _Residual(32),
            _Residual(32),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.size = 256
        self.out = nn.Sequential(nn.Linear(32 * -(-height // 8) * -(-width // 8), self.size), nn.ReLU())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode images (B, C, H, W) as (B, size)."""
        return self.out(self.maps(centred(images)))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps + self.change(maps)


def centred(images: torch.Tensor) -> torch.Tensor:
    """Colours 0..255 or depths [m], centred at 0."""
    if images.dtype != torch.uint8:
        return images.clamp(max=FAR) / FAR - 0.5
    return images.to(torch.float32, copy=True).mul_(1 / 255).sub_(0.5)


NETWORKS: dict[str, Callable[[tuple[int, ...]], nn.Module] | None] = {
    "cnn": ImageCNN,
    "dinov2": FeatureNetwork,
    "gaussian_regressor": SetTransformer,
    "gaussians": SetTransformer,
    "none": None,
    "points": SetTransformer,
    "resnet": ImageResNet,
    "truth": None,
    "voxels": VoxelCNN,
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


def find_encoder(policy: PolicySettings) -> Encoder:
    """Find a policy's encoder.

    Raises:
        TrainError: When there is no such encoder, or it doesn't support the modality.
    """
    name, modality = policy.encoder, policy.modality
    require_known(name, NETWORKS, "encoder", TrainError, rule="an encoder has a known name")
    if name == "none":
        return Encoder((), None)
    if name == "truth":
        return Encoder((), lambda *_: Truth())
    if name == "gaussians":
        return Encoder((), lambda env, _: GaussianTokens(env.scenes, env.robot, env.task.camera))
    if name == "points":
        return Encoder(("rgb", "depth"), lambda env, _: DepthPoints(env.cameras))
    if name == "voxels":
        return Encoder(("rgb", "depth"), _voxels)
    if name not in FROZEN:
        return Encoder((modality,), lambda *_: Images(modality))
    if modality != "rgb":
        raise TrainError(
            f"the encoder {name} was trained on colours",
            found=f"policy.modality: {modality}",
            remedy="policy.modality: rgb",
        )
    return Encoder(("rgb",), lambda env, device: FrozenFeatures(FROZEN[name](env, policy), device))


def _voxels(env: SceneEnv, _: str) -> ObservationGroup:
    return DepthVoxels(env.cameras, EDGE_AT_A_TABLE if env.robot.fixed_base else EDGE)


def _dinov2(env: SceneEnv, _: PolicySettings) -> nn.Module:
    return Dinov2((env.task.camera.height, env.task.camera.width))


def _regressor(env: SceneEnv, policy: PolicySettings) -> nn.Module:
    return image_tokens(env.cameras, policy.encoder_file, policy.encoder_sha256)


FROZEN = {"dinov2": _dinov2, "gaussian_regressor": _regressor}
"""Networks before an encoder that are never trained with the policy."""


def make_encoder(name: str, shape: tuple[int, ...]) -> nn.Module:
    """Make the network of an encoder, with an attribute `size`, the number of its outputs.

    The shape is that of one robot's observation.

    Raises:
        TrainError: When there is no such encoder.
        ValueError: For the blind one.
    """
    require_known(name, NETWORKS, "encoder", TrainError, rule="an encoder has a known name")
    network = NETWORKS[name]
    if network is None:
        raise ValueError(f"the encoder {name!r} has nothing to read, got observations of shape {shape}")
    return network(shape)
