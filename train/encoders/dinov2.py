"""DINOv2: a frozen network trained on millions of photos, and the layer learned on top of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pipeline.errors import TrainError, install
from sim.env import SceneEnv
from sim.libraries import load
from train.encoders.groups import FrozenFeatures, ObservationGroup
from train.settings.parts import PolicySettings

MODEL = "vit_small_patch14_dinov2.lvd142m"
REPOSITORY, FILE = f"timm/{MODEL}", "model.safetensors"
"""Weights on the hub: Apache-2.0, 88 MB."""
DOWNLOAD = f"hf download {REPOSITORY} {FILE}"
PATCH = 14
"""Side of a patch [px]."""
ACROSS = 8
"""Patches in a row: 112 pixels; more resolve nothing in small images."""


class Dinov2(nn.Module):
    """The network itself (Oquab et al., 2023, ViT-S/14): a grid of features of an image. It is never trained.

    The weights come from the user's cache; unless `pretrained`, they are random.

    Attributes:
        features: Shape (384, h, w) of an image's features.

    Raises:
        TrainError: When timm is not installed, or the weights are missing or damaged.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, image: tuple[int, int], *, pretrained: bool = True) -> None:
        super().__init__()
        down = max(1, round(ACROSS * image[0] / image[1]))
        self._size = (down * PATCH, ACROSS * PATCH)
        self.network = _network(self._size, pretrained)
        self.features = (int(self.network.embed_dim), down, ACROSS)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(self.network.pretrained_cfg[name]).view(1, 3, 1, 1))
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Dinov2:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (N, 384, h, w) float32 of colours (N, 3, H, W) uint8."""
        large = nn.functional.interpolate(images.to(torch.float32) / 255, self._size, mode="bilinear")
        tokens = self.network.forward_features((large - self.mean) / self.std)
        patches = tokens[:, self.network.num_prefix_tokens :]
        return patches.transpose(1, 2).unflatten(2, self.features[1:])


class FeatureNetwork(nn.Module):
    """The trained layer on features: a 1x1 convolution to 16 channels."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(shape[0], 16, 1), nn.ELU(), nn.Flatten())
        self.size = 16 * shape[1] * shape[2]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Encode features (B, C, h, w) as (B, size)."""
        return self.layers(features)


def _network(size: tuple[int, int], pretrained: bool) -> Any:
    timm = load("timm", "the encoder dinov2 needs timm", install("vision"), TrainError)
    from safetensors import SafetensorError  # of timm

    weights = _cached() if pretrained else None
    overlay = {"file": weights} if weights else None
    try:
        return timm.create_model(
            MODEL, pretrained=pretrained, pretrained_cfg_overlay=overlay, num_classes=0, img_size=size
        )
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TrainError(
            "DINOv2's weights are those of the hub",
            found=str(error).splitlines()[0],
            remedy=f"{DOWNLOAD} --force-download",
            file=weights,
        ) from error


def _cached() -> str:
    """File of the weights, without access to the network: a run must not depend on what is there today."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return hf_hub_download(REPOSITORY, FILE, local_files_only=True)
    except LocalEntryNotFoundError as error:
        raise TrainError(
            "the encoder dinov2 needs DINOv2's weights in the cache",
            found=f"no {FILE} of {REPOSITORY}",
            remedy=f"{DOWNLOAD}; where there is no network, copy the cache's folder from a machine that has one",
            file=HF_HUB_CACHE,
        ) from error


def features(env: SceneEnv, policy: PolicySettings, device: str) -> ObservationGroup:
    """Features of the images of a task's camera.

    Raises:
        TrainError: When timm or the weights are missing.
    """
    camera = env.task.camera
    return FrozenFeatures(Dinov2((camera.height, camera.width)), device)
