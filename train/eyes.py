"""What eyes are in training: the network, what they are given, what they aim at, and how images are varied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.types import F32
from sim.env import Observations, SceneEnv
from sim.finding.eyes import BUILDS, DETAIL, PART, Modality, depth_of
from sim.policies.finder import FinderBody
from sim.sensors.cameras.props import Balls
from sim.sensors.networks import CHANNELS, KERNEL
from train.encoders.groups import SHOWN, Images, ObservationGroup
from train.settings.parts import PolicySettings

WIDTHS: dict[Modality, tuple[int, ...]] = {"rgbd": (12, 24, 24, 24), "rgb": (20, 40, 40, 40, 40, 40)}
"""Channels of the layers but the last."""
SIGHT = "sight"
LIGHT, BALANCE, SATURATION, HUE, CONTRAST = 0.4, 0.15, 0.3, 0.08, 0.25
"""By how much images differ in brightness, white balance, saturation, hue [rad] and contrast."""
GRAIN, DEPTH_GRAIN, DEPTH_LOST = 0.03, 0.03, 0.03
"""Noise of colours and of depths, and share of the depths that are lost."""
PATCHED, PATTERNS = 0.6, 1000
"""Share of images that are painted over by patches, and number of patterns of them."""
MOST_PATCHES, PAINT = 150, (0.05, 0.5)
"""Most patches of a pattern, and least and largest deviation of the logarithms of its colours."""


class EyesNetwork(nn.Module):
    """The network of `sim.finding.eyes.Eyes`."""

    def __init__(self, modality: Modality) -> None:
        super().__init__()
        build = BUILDS[modality]
        sizes = (CHANNELS, *WIDTHS[modality], build.outputs)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, KERNEL, stride, dilation, dilation)
            for before, after, stride, dilation in zip(
                sizes[:-1], sizes[1:], build.strides, build.dilations, strict=True
            )
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Log-odds (B, 1 or 9, H / 4, W / 4) for whitened images (B, 4, H, W), see `sim.finding.eyes.Build`."""
        x = images
        for number, layer in enumerate(self.layers):
            x = layer(functional.relu(x) if number else x)
        return x

    def look(self, sight: torch.Tensor) -> tuple[F32, F32]:
        """What is seen, see `Sight`, shows: as `sim.finding.eyes.Eyes.look`, log-odds and depths."""
        near = torch.where(sight[:, 3:] > 0, 1 / (1 + sight[:, 3:]), 0)
        with torch.no_grad():
            said = self(torch.cat([sight[:, :3] / 255, near], 1) - 0.5).cpu().numpy()
        depth = sight[:, 3].contiguous().cpu().numpy()
        return np.ascontiguousarray(said[:, 0]), depth_of(depth, said[:, 1:].transpose(0, 2, 3, 1))

    def arrays(self) -> dict[str, F32]:
        """Weights (3, 3, C, D) and biases (D,) by name, as a file has them."""
        found: dict[str, F32] = {}
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            found[f"weight{number}"] = layer.weight.detach().permute(2, 3, 1, 0).contiguous().numpy()
            found[f"bias{number}"] = layer.bias.detach().numpy()
        return found


def weights_of(arrays: Mapping[str, F32]) -> dict[str, torch.Tensor]:
    """State of an `EyesNetwork` with the weights and biases of a file."""
    found = dict[str, torch.Tensor]()
    for number in range(len(arrays) // 2):
        weight, bias = arrays[f"weight{number}"], arrays[f"bias{number}"]
        found[f"layers.{number}.weight"] = torch.tensor(np.ascontiguousarray(weight.transpose(3, 2, 0, 1)))
        found[f"layers.{number}.bias"] = torch.tensor(bias)
    return found


class Sight(ObservationGroup):
    """Colours 0..255 and depths [m] of a camera, (N, 4, H, W) float32: what the eyes and the map are given.

    Eyes that see colours alone are given the depths of a flat floor.
    """

    name = SIGHT

    def __init__(self, env: SceneEnv, modality: Modality) -> None:
        self._measured, self._body = "depth" in BUILDS[modality].sees, FinderBody.of(env, modality)

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Channels first."""
        colors = Images("rgb").read(env, seen).float()
        if self._measured:
            return torch.cat([colors, Images("depth").read(env, seen)], 1)
        return torch.cat([colors, torch.from_numpy(self._body.flat_floor(seen["projected_gravity"]))[:, None]], 1)


def sight(env: SceneEnv, policy: PolicySettings, device: str) -> ObservationGroup:
    """For the catalog of encoders."""
    return Sight(env, policy.eyes)


class Shown(ObservationGroup):
    """What parts of the images show, (N, 1 or 9, H / 4, W / 4) uint8, 0 or 1, as `sim.finding.eyes.Build` has it.

    The ball is where what is behind it is farther away. Only eyes that see colours alone have to say of details.
    """

    name = SHOWN

    def __init__(self, env: SceneEnv, modality: Modality) -> None:
        self._rows, self._body = np.arange(env.num_envs), FinderBody.of(env, modality)
        self._details = BUILDS[modality].outputs > 1

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Of the ball as it is now."""
        assert env.now, "it was reset"
        state, props = env.now.state, env.props()
        ball, without = (
            env.cameras[0].shoot(self._rows, state, env.scene_of, one)["depth"]
            for one in (props, replace(props, balls=Balls.none(env.num_envs)))
        )
        mask = (ball > 0) & ((without - ball > 1e-3) | (without <= 0))
        of_details = self._body.on_floor(ball, seen["projected_gravity"]) if self._details else ()
        shown, *details = (torch.from_numpy(one).float()[:, None] for one in (mask, *of_details))
        parts = [functional.max_pool2d(shown, PART)]
        parts += [functional.pixel_unshuffle(functional.max_pool2d(one, DETAIL), PART // DETAIL) for one in details]
        return torch.cat(parts, 1).to(torch.uint8)


def shown(env: SceneEnv, policy: PolicySettings) -> ObservationGroup:
    """What a policy's eyes are to say."""
    return Shown(env, policy.eyes)


def varied(colors: torch.Tensor, grain: float = GRAIN) -> torch.Tensor:
    """Colours (B, H, W, 3), 0..1, in another light, by another camera with so much noise, about 0."""
    count = len(colors)

    def drawn(*shape: int) -> torch.Tensor:
        return 2 * torch.rand(count, *shape) - 1

    gain = torch.exp(LIGHT * drawn(1)) * torch.exp(BALANCE * drawn(3))
    grey = torch.full((3, 3), 1 / 3)
    saturation, angle = 1 + SATURATION * drawn(1, 1), HUE * drawn()
    axis = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
    turn = torch.linalg.matrix_exp(angle[:, None, None] * axis)
    matrix = (grey + saturation * (torch.eye(3) - grey)) @ turn * gain[:, :, None]
    result = torch.einsum("bhwc,bdc->bhwd", colors, matrix)
    middle = result.mean((1, 2, 3), keepdim=True)
    result = middle + (result - middle) * (1 + CONTRAST * drawn(1, 1, 1))
    return (result + grain * torch.randn_like(result)).clamp(0, 1) - 0.5


def worn_out(near: torch.Tensor) -> torch.Tensor:
    """Nearness (B, H, W), 0..1, of noisy depths, some of which are lost."""
    depth = (1 / near.clamp(min=1e-3) - 1) * (1 + DEPTH_GRAIN * torch.randn_like(near))
    return torch.where((near > 0) & (torch.rand_like(near) >= DEPTH_LOST), 1 / (1 + depth.clamp(min=0)), 0)


def patches(count: int, height: int, width: int) -> torch.Tensor:
    """Factors of colours (count, 3, height, width): patches of few or many colours, plain or gaudy.

    Painted over, images have edges where nothing is nearer or farther than what is beside it: walls of the world are
    papered, tiled and mottled.
    """
    rng, found = np.random.default_rng(0), np.empty((count, 3, height, width), np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for one in found:
        number, tall = int(np.exp(rng.uniform(np.log(5), np.log(MOST_PATCHES)))), rng.uniform(0.4, 2.5)
        column, row = rng.uniform(0, width, number), rng.uniform(0, height, number)
        nearest = ((x[..., None] - column) ** 2 * tall + (y[..., None] - row) ** 2 / tall).argmin(-1)
        gaudy = rng.uniform(*PAINT)
        color = np.exp(rng.normal(0, gaudy, (number, 1)) + rng.normal(0, gaudy / 2, (number, 3)))
        one[:] = color[nearest].transpose(2, 0, 1)
    return torch.from_numpy(found)
