"""Gaussians from one image, by a network that is trained before policies are and stays as it is.

An image becomes a Gaussian per pixel: depth, scales, rotation, colour and opacity, which are then refined by what their
neighbours in space are (H. Wang et al., Reinforcement learning with generalizable Gaussian splatting, 2024, section
III). Policies read them as tokens of the form of `train.encoders.gaussians`. Those are a scene's own Gaussians, and
know what no camera sees; these here are computed from images alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from pipeline.errors import TrainError, install
from pipeline.geometry import Camera, Pose
from pipeline.io.files import read_plain
from sim.env import SceneEnv
from sim.libraries import load
from train.encoders.gaussians import AXES, COLOR, POSITION, SPREAD
from train.encoders.groups import FrozenFeatures, ObservationGroup
from train.settings.parts import PolicySettings

if TYPE_CHECKING:
    from sim.sensors.cameras.rig import CameraRig

FORMAT = "splatyard.gaussian_regressor.1"
MAX_BYTES = 64 * 2**20
BLOCK = 4
"""Side of the squares of pixels whose Gaussians become one token [px]."""
WIDTHS = 16, 32, 48, 64, 96
"""Channels at each resolution, from all pixels to a sixteenth of them along each axis."""
OUTPUTS = 1, 3, 4, 3, 1
"""Numbers of a pixel: depth, scales, rotation, colour, opacity."""
USUAL_DEPTH, NEAREST, FARTHEST = 1.5, 0.03, 30.0
"""Depths [m]: that from which the network starts, and the range."""
USUAL_OPACITY = 2.0
"""Logit from which the network starts."""


class PixelGaussians(NamedTuple):
    """A Gaussian per pixel of B images (B, ., H, W), in camera axes.

    Attributes:
        position: (B, 3, H, W) [m].
        log_scale: (B, 3, H, W) log of the standard deviations [m] along its own axes.
        quaternion: (B, 4, H, W) unit, wxyz, camera from own axes.
        color: (B, 3, H, W), about 0..1.
        opacity: (B, 1, H, W) logit.
    """

    position: torch.Tensor
    log_scale: torch.Tensor
    quaternion: torch.Tensor
    color: torch.Tensor
    opacity: torch.Tensor


class GaussianRegressor(nn.Module):
    """The network: a U-Net (Ronneberger et al., 2015), and a graph of each pixel's neighbours.

    It gets the direction of each pixel's ray with its colour, so that it serves any pinhole.
    """

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            _Layers(before, after, stride=1 if first else 2)
            for first, before, after in zip((True, *[False] * 4), (5, *WIDTHS), WIDTHS, strict=False)
        )
        self.up = nn.ModuleList(
            _Layers(below + own, own) for below, own in zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(WIDTHS[0], sum(OUTPUTS), 1)
        self.own, self.other = (nn.Conv2d(WIDTHS[0] + sum(OUTPUTS), WIDTHS[0], 1) for _ in range(2))
        self.offset = nn.Conv2d(3, WIDTHS[0], 1, bias=False)
        self.refine = nn.Conv2d(2 * WIDTHS[0], sum(OUTPUTS), 1)
        for last in (self.head, self.refine):
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, images: torch.Tensor, rays: torch.Tensor) -> tuple[PixelGaussians, PixelGaussians]:
        """Gaussians of each pixel, before and after they are refined.

        Args:
            images: Colours (B, 3, H, W) uint8.
            rays: Directions (B, 2, H, W), x and y at a depth of 1.
        """
        colors = images.to(torch.float32) / 255
        maps, skips = torch.cat([colors - 0.5, rays], 1), list[torch.Tensor]()
        for layers in self.down:
            maps = layers(maps)
            skips.append(maps)
        for layers, skip in zip(self.up, skips[-2::-1], strict=True):
            maps = functional.interpolate(maps, skip.shape[2:], mode="nearest")
            maps = layers(torch.cat([maps, skip], 1))
        numbers = self.head(maps)
        coarse = _gaussians(numbers, colors, rays)
        numbers = numbers + self.refine(torch.cat([maps, self._neighbours(maps, numbers, coarse.position)], 1))
        return coarse, _gaussians(numbers, colors, rays)

    def _neighbours(self, maps: torch.Tensor, numbers: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """What the eight neighbours in the image are, and where they are from each pixel's Gaussian in its depths.

        An edge convolution (Y. Wang et al., Dynamic graph CNN, 2019, section 3.1).
        """
        features = torch.cat([maps, numbers], 1)
        own, depth = self.own(features), position[:, 2:]
        height, width = depth.shape[2:]
        others, places = (functional.pad(of, (1, 1, 1, 1), "replicate") for of in (self.other(features), position))
        most = torch.zeros_like(own)
        for row in range(3):
            for column in range(3):
                window = slice(None), slice(None), slice(row, row + height), slice(column, column + width)
                away = self.offset((places[window] - position) / depth)
                most = torch.maximum(most, own + others[window] + away)  # from 0 on: that is ReLU's too
        return most


class _Layers(nn.Module):
    """Two convolutions, normalised by groups, with a short cut past the second."""

    def __init__(self, before: int, after: int, *, stride: int = 1) -> None:
        super().__init__()
        self.one = nn.Conv2d(before, after, 3, stride, 1)
        self.two = nn.Conv2d(after, after, 3, 1, 1)
        self.norms = nn.ModuleList(nn.GroupNorm(8, after) for _ in range(2))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps = functional.silu(self.norms[0](self.one(maps)))
        return maps + functional.silu(self.norms[1](self.two(maps)))


def _gaussians(numbers: torch.Tensor, colors: torch.Tensor, rays: torch.Tensor) -> PixelGaussians:
    """The network's numbers as Gaussians."""
    away, scale, turn, change, opacity = numbers.split(OUTPUTS, 1)
    depth = (USUAL_DEPTH * away.exp()).clamp(NEAREST, FARTHEST)
    position = torch.cat([rays * depth, depth], 1)
    pixel = (rays[:, :1, :, 1:] - rays[:, :1, :, :-1]).mean((2, 3), keepdim=True)  # size of one at a depth of 1
    one = torch.cat([torch.ones_like(turn[:, :1]), torch.zeros_like(turn[:, 1:])], 1)
    return PixelGaussians(
        position,
        (depth * pixel * 0.7).log() + scale.clamp(-3, 3),
        functional.normalize(one + turn, dim=1),
        colors + change,
        USUAL_OPACITY + opacity,
    )


def rays_of(camera: Camera) -> torch.Tensor:
    """Directions (2, H, W) of a pinhole's pixels: x and y at a depth of 1."""
    return torch.from_numpy(camera.rays()[..., :2]).permute(2, 0, 1).float()


def merged(gaussians: PixelGaussians) -> torch.Tensor:
    """Tokens (B, T, 13), see `train.encoders.gaussians`, in camera axes: one for each square of `BLOCK` pixels.

    Position, colour and spread are means by opacity; that of spreads is log-Euclidean (Arsigny et al., 2006).
    """
    rotation = _matrices(gaussians.quaternion)
    spread = torch.einsum("bikhw,bkhw,bjkhw->bijhw", rotation, gaussians.log_scale, rotation)
    numbers = torch.cat([gaussians.position, spread[:, AXES[0], AXES[1]], gaussians.color], 1)
    weight = gaussians.opacity.sigmoid()
    opacity = functional.avg_pool2d(weight, BLOCK, ceil_mode=True)
    means = functional.avg_pool2d(weight * numbers, BLOCK, ceil_mode=True) / opacity.clamp(min=1e-6)
    return torch.cat([means, opacity], 1).flatten(2).transpose(1, 2)


def _matrices(quaternions: torch.Tensor) -> torch.Tensor:
    """Rotation matrices (B, 3, 3, H, W) of unit quaternions (B, 4, H, W), wxyz."""
    w, x, y, z = quaternions.unbind(1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


class ImageTokens(nn.Module):
    """A frozen regressor behind cameras: images to tokens.

    Tokens of an image are in the frame of the link that carries its camera, by the mount in the robot's file: a
    camera's own frame, turned so that x is forward and z up where it looks ahead from a base. That needs no pose, so
    they can be computed of recorded images as well.

    Args:
        regressor: The trained network.
        cameras: Lens and mount, link from camera, of each camera whose colours are stacked.
    """

    rays: torch.Tensor
    rotation: torch.Tensor
    translation: torch.Tensor

    def __init__(self, regressor: GaussianRegressor, cameras: Sequence[tuple[Camera, Pose]]) -> None:
        super().__init__()
        self.regressor = regressor
        self.register_buffer("rays", torch.stack([rays_of(lens) for lens, _ in cameras]))
        mounts = [torch.from_numpy(mount.matrix).float() for _, mount in cameras]
        self.register_buffer("rotation", torch.stack([mount[:3, :3] for mount in mounts]))
        self.register_buffer("translation", torch.stack([mount[:3, 3] for mount in mounts]))
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Tokens (N, C, T, 13) of colours (N, 3 C, H, W) uint8."""
        each = images.unflatten(1, (len(self.rays), 3))
        return torch.stack([self._of_camera(number, each[:, number]) for number in range(len(self.rays))], 1)

    def _of_camera(self, number: int, images: torch.Tensor) -> torch.Tensor:
        rays = self.rays[number].expand(len(images), -1, -1, -1)
        tokens = merged(self.regressor(images, rays)[1])
        rotation = self.rotation[number]
        position = tokens[..., POSITION] @ rotation.T + self.translation[number]
        first, second = (torch.tensor(axes) for axes in AXES)
        spread = torch.zeros(*tokens.shape[:2], 3, 3, dtype=tokens.dtype, device=tokens.device)
        spread[..., first, second] = tokens[..., SPREAD]
        spread[..., second, first] = tokens[..., SPREAD]
        spread = (rotation @ spread @ rotation.T)[..., first, second]
        return torch.cat([position, spread, tokens[..., COLOR.start :]], -1)


def image_tokens(rigs: Sequence[CameraRig], file: str, sha256: str = "") -> ImageTokens:
    """The frozen regressor of a file behind a robot's cameras.

    Raises:
        TrainError: When the file is not a regressor's or has another hash, or a lens is no pinhole.
    """
    cameras = list[tuple[Camera, Pose]]()
    for rig in rigs:
        lens = rig.camera.lens
        if not isinstance(lens, Camera) or not lens.is_pinhole:
            raise TrainError(
                "the encoder gaussian_regressor sees by pinholes",
                found=f"the lens of the camera {rig.camera.name!r} is distorted",
                remedy="use a pinhole, or policy.encoder: cnn",
            )
        cameras.append((lens, rig.mount))
    sizes = {(lens.height, lens.width) for lens, _ in cameras}
    if len(sizes) != 1:
        raise TrainError(
            "the encoder gaussian_regressor sees by cameras of one size",
            found=", ".join(f"{width} x {height}" for height, width in sorted(sizes)) or "no camera",
            remedy="choose one by --set cameras",
        )
    return ImageTokens(load_regressor(file, sha256), cameras)


def file_of(regressor: GaussianRegressor) -> bytes:
    """Content of a file of safetensors.

    Raises:
        TrainError: When safetensors isn't installed.
    """
    return _safetensors().torch.save(regressor.state_dict(), {"format": FORMAT})


def load_regressor(file: str | Path, sha256: str = "") -> GaussianRegressor:
    """Read a file of `file_of`.

    Raises:
        TrainError: When it isn't that, its hash is another one, or safetensors isn't installed.
    """
    safetensors = _safetensors()
    path, rule = Path(file).expanduser(), "the encoder gaussian_regressor has a file of its weights"
    remedy = "splatyard policy pretrain-encoder --scene SCENE --out FILE, then --set policy.encoder_file=FILE"
    try:
        if not str(file):
            raise ValueError("none is named")
        content = read_plain(path, MAX_BYTES)
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("it is another file than the one with which the run began")
        with safetensors.safe_open(path, "pt") as opened:
            if (opened.metadata() or {}).get("format") != FORMAT:
                raise ValueError(f"it is not marked as {FORMAT}")
        weights = safetensors.torch.load(content)
        regressor = GaussianRegressor()
        regressor.load_state_dict(weights)
        if not all(bool(torch.isfinite(of).all()) for of in regressor.parameters()):
            raise ValueError("weights are not finite")
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        found = str(error).splitlines()[0][:300]
        raise TrainError(rule, found=found, remedy=remedy, file=path if str(file) else None) from error
    return regressor


def _safetensors() -> ModuleType:
    load("safetensors", "encoders' weights are files of safetensors", install("train"), TrainError)
    import safetensors.torch

    return safetensors


def features(env: SceneEnv, policy: PolicySettings, device: str) -> ObservationGroup:
    """Tokens of the images of a simulation's cameras.

    Raises:
        TrainError: When the network's file is missing, or another one than when the run began.
    """
    return FrozenFeatures(image_tokens(env.cameras, policy.encoder_file, policy.encoder_sha256), device)
