"""Networks of images."""

from __future__ import annotations

import pkgutil

import torch
from rsl_rl.modules import CNN
from torch import nn

from pipeline.errors import TrainError
from pipeline.parameters import require_known
from train.settings.encoders import ENCODERS

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


def make_encoder(name: str, shape: tuple[int, ...]) -> nn.Module:
    """Make the network of an encoder; the shape is that of one robot's observation.

    Raises:
        TrainError: When there is no such encoder.
        ValueError: For the blind one.
    """
    require_known(name, ENCODERS, "encoder", TrainError, rule="an encoder has a known name")
    if not (network := ENCODERS[name].network):
        raise ValueError(f"the encoder {name!r} has nothing to read, got observations of shape {shape}")
    return pkgutil.resolve_name(network)(shape)
