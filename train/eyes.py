"""Training of the eyes that find a ball: on single images of robots that drive about, by which pixels show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import sim
from pipeline.errors import TrainError
from pipeline.io.weights import write_weights
from pipeline.types import F32, U8, Mask
from sim.env import SceneEnv
from sim.finding.eyes import CHANNELS, DILATIONS, KERNEL, PART, STRIDES, EyesCard, nearness, whitened
from sim.policies.finder import FinderDriver
from sim.scene.scene import SimScene
from sim.sensors.cameras.props import Balls
from sim.sensors.cameras.settings import CameraSettings
from sim.tasks.task import StepState
from train.files import writing

WIDTHS = (12, 24, 24, 24, 1)
"""Channels of the layers."""
ROBOTS, GROUP = 64, 16
"""Robots at a time, and scenes that they are in at a time."""
STEPS_IN_GROUP = 24
REMEMBERED = 12_000
"""Newest images that are learned from."""
BATCH, UPDATES, RATE = 96, 2, 3e-3
"""Images of a batch, batches for each step of the robots, and learning rate at first; it falls to 0."""
LED, FINDING = 0.25, 0.4
"""Share of the robots that are led to the ball, so that it is seen from near; and of those that drive to what the eyes
take for it, so that they learn what it isn't. The others drive at random."""
TURN_AWAY, STRAY = 0.2, 0.3
"""Probability of other speeds in a step of random driving, and noise on the actions of those who are led."""
MOUNT = CameraSettings(mount_translation=0.1, mount_rotation=0.06)
"""So much higher or lower, and tilted, are the cameras of other robots [m, rad]."""
LIGHT, BALANCE, SATURATION, HUE, CONTRAST = 0.4, 0.15, 0.3, 0.08, 0.25
"""By how much images differ in brightness, white balance, saturation, hue [rad] and contrast."""
GRAIN, DEPTH_GRAIN, DEPTH_LOST = 0.03, 0.03, 0.03
"""Noise of colours and of depths, and share of the depths that are lost."""


class EyesNetwork(nn.Module):
    """The network of `sim.finding.eyes.Eyes`."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (CHANNELS, *WIDTHS)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, KERNEL, stride, dilation, dilation)
            for before, after, stride, dilation in zip(sizes[:-1], sizes[1:], STRIDES, DILATIONS, strict=True)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Log-odds (B, H / 4, W / 4) for whitened images (B, 4, H, W)."""
        x = images
        for number, layer in enumerate(self.layers):
            x = layer(functional.relu(x) if number else x)
        return x[:, 0]

    def look(self, rgb: U8, depth: F32) -> F32:
        """As `sim.finding.eyes.Eyes.look`."""
        with torch.no_grad():
            return self(torch.from_numpy(whitened(rgb, depth)).permute(0, 3, 1, 2)).numpy()

    def arrays(self) -> dict[str, F32]:
        """Weights (3, 3, C, D) and biases (D,) by name, as a file has them."""
        found: dict[str, F32] = {}
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            found[f"weight{number}"] = layer.weight.detach().permute(2, 3, 1, 0).contiguous().numpy()
            found[f"bias{number}"] = layer.bias.detach().numpy()
        return found


class _Views:
    """Images of robots in many scenes, and which parts of them show the ball."""

    def __init__(self, scenes: Sequence[SimScene], robot: str, seed: int, network: EyesNetwork) -> None:
        self._rng = np.random.default_rng(seed)
        self.env: SceneEnv = sim.make("find", list(scenes), ROBOTS, robot=robot, seed=seed, camera_settings=MOUNT)
        self._seen, _ = self.env.reset(seed=seed)
        self._finder = FinderDriver(network.look, self.env)
        self._taken = 0
        self._speeds = np.zeros((ROBOTS, 2))

    def draw(self) -> tuple[U8, F32, Mask]:
        """Colours (N, H, W, 3), depths (N, H, W) [m] and parts that show the ball (N, H / 4, W / 4)."""
        env = self.env
        assert env.now, "it was reset"
        if self._taken % STEPS_IN_GROUP == 0:
            weights = np.zeros(len(env.scenes))
            weights[self._rng.choice(len(weights), min(GROUP, len(weights)), replace=False)] = 1
            env.scene_weights = weights
        self._taken += 1
        images = self._seen["rgb"].copy(), self._seen["depth"].copy(), self._shown(env.now)
        self._seen, *_ = env.step(self._actions(env.now))
        return images

    def _shown(self, now: StepState[Any]) -> Mask:
        """Parts of the images that show the ball, by how far away what is behind it is."""
        env, rows = self.env, np.arange(ROBOTS)
        props = env.props()
        ball, without = (
            env.cameras[0].shoot(rows, now.state, env.scene_of, one)["depth"]
            for one in (props, replace(props, balls=Balls.none(ROBOTS)))
        )
        mask = (ball > 0) & ((without - ball > 1e-3) | (without <= 0))
        count, height, width = mask.shape
        return np.asarray(mask.reshape(count, height // PART, PART, width // PART, PART).any((2, 4)))

    def _actions(self, now: StepState[Any]) -> F32:
        env, rng = self.env, self._rng
        velocities, expert = env.controller.velocities, env.expert
        assert velocities and expert, "wheels and paths"
        found = self._finder(self._seen)
        other = np.column_stack([rng.uniform(-0.1, 0.6, ROBOTS), rng.uniform(-1.5, 1.5, ROBOTS)])
        self._speeds = np.where(rng.random((ROBOTS, 1)) < TURN_AWAY, other, self._speeds)
        noisy = expert(now) + STRAY * rng.standard_normal(found.shape)
        share = (np.arange(ROBOTS) / ROBOTS)[:, None]
        action = np.where(
            share < LED, noisy, np.where(share < LED + FINDING, found, velocities.actions(*self._speeds.T))
        )
        return np.clip(action, -1, 1).astype(np.float32)


def train_eyes(
    scenes: Sequence[SimScene], file: Path, *, robot: str, steps: int, seed: int, watch: Callable[[int], object]
) -> EyesCard:
    """Train eyes in scenes and write their two files; `watch` is called with the number of steps done.

    Raises:
        TrainError: When the files can't be written.
        SimError: When a scene is of no use.
    """
    if file.suffix != ".npz":
        raise TrainError(
            "eyes are written as FILE.npz, with FILE.json beside it", found=str(file), remedy="--out find.npz"
        )
    torch.manual_seed(seed)
    network, rng = EyesNetwork(), np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps * UPDATES))
    views = _Views(scenes, robot, seed, network)
    with closing(views.env):
        lens = views.env.cameras[0].camera.lens
        memory: list[tuple[U8, F32, Mask]] = []
        for step in range(steps):
            memory = [*memory, views.draw()][-REMEMBERED // ROBOTS :]
            for _ in range(UPDATES):
                loss = _loss(network, *_batch(memory, rng))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            watch(step + 1)
    card = EyesCard(
        width=lens.width,
        height=lens.height,
        focal=float(lens.fx),  # type: ignore[union-attr]
        sha256="",
        seed=seed,
        images=steps * ROBOTS,
        scenes=tuple(scene.lock.reference for scene in scenes),
        metrics={},
    )
    with writing(file):
        write_weights(file, card, network.arrays())
    return card


def _batch(memory: Sequence[tuple[U8, F32, Mask]], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Whitened, varied images (B, 4, H, W), and parts that show the ball (B, h, w)."""
    at = rng.integers(len(memory), size=BATCH), rng.integers(ROBOTS, size=BATCH)
    rgb, depth, shown = (np.stack([memory[i][k][j] for i, j in zip(*at, strict=True)]) for k in range(3))
    flip = rng.random(BATCH) < 0.5
    for one in (rgb, depth, shown):
        one[flip] = one[flip][:, :, ::-1]
    grain = 1 + DEPTH_GRAIN * rng.standard_normal(depth.shape, dtype=np.float32)
    depth = np.where(rng.random(depth.shape, dtype=np.float32) < DEPTH_LOST, 0, depth * grain)
    near = nearness(depth) - np.float32(0.5)
    colors = varied(torch.from_numpy(rgb).float().div_(255))
    images = torch.cat([colors.permute(0, 3, 1, 2), torch.from_numpy(near)[:, None]], 1)
    return images, torch.from_numpy(shown.astype(np.float32))


def varied(colors: torch.Tensor) -> torch.Tensor:
    """Colours (B, H, W, 3), 0..1, in another light, by another camera, about 0."""
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
    return (result + GRAIN * torch.randn_like(result)).clamp(0, 1) - 0.5


def _loss(network: EyesNetwork, images: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    odds = network(images)
    return functional.binary_cross_entropy_with_logits(odds, shown, reduction="sum") / len(images)
