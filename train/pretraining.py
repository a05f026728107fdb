"""Pretraining of the Gaussian regressor: on pairs of views of bundles, by how its Gaussians look from the other one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional

from pipeline.errors import TrainError
from pipeline.geometry import SH_C0, Camera, Gaussians, Pose, matrix_from_rotvec
from pipeline.parallel import core_count
from pipeline.raster.rasterizer import Raster, rasterize, rasterize_backward
from pipeline.scenes.bundle import Bundle
from pipeline.splat.loss import psnr
from pipeline.types import F32, F64, I64
from sim.scene.opening import LEVEL
from sim.sensors.cameras.renderer import CPU, make_renderer
from train.encoders.gaussian_regressor import GaussianRegressor, PixelGaussians, file_of, rays_of
from train.files import write_atomically
from train.fitting import Watch, fit

SIZE = 64
"""Side of the images [px]."""
FIELDS = 45.0, 100.0
"""Range of the fields of view [deg]."""
LOWEST, PITCHES, ASIDE = 0.15, (-50.0, 15.0), 45.0
"""Least height over the floor [m], range of pitches, and largest angle between headings and the capture's [deg]."""
AWAY, TURNED = 0.3, 15.0
"""The second view's largest distance along each axis [m], and turn about each axis [deg]."""
KNOWN, CLOSEST = 0.6, 0.2
"""A view is used if that share of its depths is known, and hardly any is below [m]."""
TRIES = 60
"""Rounds of drawing a batch of views, until a scene is given up."""
GAIN, BALANCE = (0.85, 1.15), (0.95, 1.05)
"""Ranges of brightness and colour of a pair, as robots' cameras have them."""
BATCH, LEARNING_RATE = 16, 2e-3
DEPTH_WEIGHT, HOLE_WEIGHT = 0.3, 0.1
"""Weights of wrong depths and of holes where something is, beside that of wrong colours."""
TEST_PAIRS, SHOWN = 128, 6
"""Pairs of views by which a scene is tested, and how many of them are shown."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """B pairs of views of scenes, by one pinhole.

    Attributes:
        colors: (B, 2, H, W, 3) float32, 0..1.
        depths: (B, 2, H, W) float32 along the cameras' z [m], 0 = unknown.
        first_from_second: (B, 4, 4) the second camera's pose in the first one's axes.
    """

    camera: Camera
    colors: F32
    depths: F32
    first_from_second: F64

    def __len__(self) -> int:
        return len(self.colors)


class Views:
    """Draws pairs of views in bundles: half from where a camera of the capture was, half from under it.

    Where somebody held a camera is room down to the floor, and something to see.

    Raises:
        TrainError: When a bundle has no cameras.
    """

    def __init__(self, bundles: Sequence[Bundle]) -> None:
        self.bundles = list(bundles)
        if blind := [bundle for bundle in bundles if not bundle.cameras]:
            raise TrainError(
                "an encoder learns from where the capture's cameras were",
                found="a bundle without cameras",
                remedy="leave the bundle out",
                file=blind[0].root,
            )
        self._renderer = make_renderer([bundle.splat(LEVEL) for bundle in bundles], CPU)
        self._cameras = [np.stack([one.world_from_camera.matrix for one in bundle.cameras]) for bundle in bundles]
        self._lowest = [bundle.regions.floor_height + LOWEST for bundle in bundles]

    def draw(self, count: int, rng: np.random.Generator) -> Pairs:
        """Draw pairs.

        Raises:
            TrainError: When a bundle's views show hardly anything.
        """
        focal = SIZE / 2 / math.tan(math.radians(rng.uniform(*FIELDS)) / 2)
        camera = Camera(SIZE, SIZE, focal, focal, SIZE / 2, SIZE / 2)
        bundle_of = rng.integers(len(self.bundles), size=count)
        poses = np.zeros((count, 2, 4, 4))
        colors = np.zeros((count, 2, SIZE, SIZE, 3), np.float32)
        depths = np.zeros((count, 2, SIZE, SIZE), np.float32)
        missing = np.arange(count)
        for _ in range(TRIES):
            poses[missing] = self._poses(bundle_of[missing], rng)
            flat = poses[missing].reshape(-1, 4, 4)
            seen, far = self._renderer.render(camera, flat, np.repeat(bundle_of[missing], 2))
            colors[missing] = seen.reshape(-1, 2, SIZE, SIZE, 3)
            depths[missing] = far.reshape(-1, 2, SIZE, SIZE)
            found = depths[missing].reshape(len(missing), 2, -1)
            known = (found > 0).mean(2)
            near = ((found > 0) & (found < CLOSEST)).mean(2)
            missing = missing[((known < KNOWN) | (near > 0.02)).any(1)]
            if not len(missing):
                break
        else:
            raise TrainError(
                "an encoder learns from views in which something is everywhere",
                found=f"less than {KNOWN:.0%} of each image, {TRIES} times",
                remedy="leave the bundle out",
                file=self.bundles[bundle_of[missing[0]]].root,
            )
        gain = rng.uniform(*BALANCE, (count, 3)) * rng.uniform(*GAIN, (count, 1))
        colors = np.clip(colors * gain[:, None, None, None], 0, 1).astype(np.float32)
        return Pairs(camera, colors, depths, np.linalg.inv(poses[:, 0]) @ poses[:, 1])

    def _poses(self, bundle_of: I64, rng: np.random.Generator) -> F64:
        """Poses (B, 2, 4, 4) of cameras, world from camera."""
        count = len(bundle_of)
        those = np.stack([rng.choice(self._cameras[bundle]) for bundle in bundle_of])
        first = np.tile(np.eye(4), (count, 1, 1))
        first[:, :3, 3] = those[:, :3, 3] + rng.uniform(-AWAY, AWAY, (count, 3)) * np.array([1, 1, 0])
        height, lowest = those[:, 2, 3], np.array([self._lowest[bundle] for bundle in bundle_of])
        lowest[rng.random(count) < 0.5] = np.inf  # as high as the capture's
        first[:, 2, 3] = rng.uniform(np.minimum(lowest, height), height)
        yaw = np.arctan2(those[:, 1, 2], those[:, 0, 2]) + np.radians(rng.uniform(-ASIDE, ASIDE, count))
        pitch = np.radians(rng.uniform(*PITCHES, count))
        forward = np.stack([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)], 1)
        right = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros(count)], 1)
        first[:, :3, :3] = np.stack([right, np.cross(forward, right), forward], 2)
        change = np.tile(np.eye(4), (count, 1, 1))
        change[:, :3, :3] = matrix_from_rotvec(np.radians(rng.uniform(-TURNED, TURNED, (count, 3))))
        change[:, :3, 3] = rng.uniform(-AWAY, AWAY, (count, 3))
        return np.stack([first, first @ change], 1)


class _Render(torch.autograd.Function):
    """The pipeline's rasteriser for torch: images of Gaussians (N, .) by poses; gradients by the Gaussians."""

    @staticmethod
    def forward(ctx: Any, camera: Camera, poses: Sequence[Pose], *parameters: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Planes (V, 4, H, W): colours, and the share of light that passes."""
        means, log_scales, quaternions, logits, colors = (of.detach().contiguous().numpy() for of in parameters)
        sh = np.asarray((colors - 0.5) / SH_C0, np.float32)[:, None]
        gaussians = Gaussians(means, log_scales, quaternions, logits, sh)
        rasters = [rasterize(gaussians, camera, pose) for pose in poses]
        ctx.rasters, ctx.gaussians, ctx.size = rasters, gaussians, (camera.height, camera.width)
        return torch.stack([_planes(raster, *ctx.size) for raster in rasters])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        """Gradients by means, scales, quaternions, logits and colours."""
        height, width = ctx.size
        of = ctx.gaussians
        leaves = of.means, of.log_scales, of.quaternions, of.opacity_logits, of.means  # a colour has three numbers, too
        sums = [torch.zeros(leaf.shape) for leaf in leaves]
        for raster, by in zip(ctx.rasters, grad_outputs[0], strict=True):
            by_planes, by_light = np.zeros_like(raster.planes), np.zeros_like(raster.transmittance)
            by_planes[:3, :height, :width], by_light[:height, :width] = by[:3].numpy(), by[3].numpy()
            found = rasterize_backward(raster, of, by_planes, by_light)
            rows = torch.from_numpy(found.visible).long()
            parts = found.means, found.log_scales, found.quaternions, found.opacity_logits, found.sh[:, 0]
            for total, part in zip(sums, parts, strict=True):
                total[rows] += torch.from_numpy(part[found.visible])
        sums[-1] /= SH_C0
        return None, None, *sums


def _planes(raster: Raster, height: int, width: int) -> torch.Tensor:
    planes = np.concatenate([raster.planes[:3, :height, :width], raster.transmittance[None, :height, :width]])
    return torch.from_numpy(planes)


def render(gaussians: PixelGaussians, row: int, camera: Camera, poses: Sequence[Pose]) -> torch.Tensor:
    """Images (V, 4, H, W) of the Gaussians of one image, by V poses, its camera from theirs.

    Channels are colours, 0..1 over black, and the share of light that passes. They have gradients by the Gaussians.
    """
    flat = [of[row].flatten(1).T for of in gaussians]
    position, scale, quaternion, color, logit = flat
    return _Render.apply(camera, poses, position, scale, quaternion, logit[:, 0], color)  # type: ignore[no-any-return]


def seen_from_first(pairs: Pairs) -> F32:
    """Pixels of the second views (B, H, W) that the first ones see, too: 1, others 0; by both views' depths."""
    camera, depth = pairs.camera, pairs.depths[:, 1, :, :, None]
    rotation, shift = pairs.first_from_second[:, None, None, :3, :3], pairs.first_from_second[:, None, None, :3, 3]
    moved = (rotation @ (camera.rays() * depth)[..., None])[..., 0] + shift
    ahead = moved[..., 2] > 0
    moved[..., 2] = np.maximum(moved[..., 2], 1e-6)
    pixels = np.floor(camera.project(moved))
    inside = ahead & (depth[..., 0] > 0) & ((pixels >= 0) & (pixels < [camera.width, camera.height])).all(-1)
    column, row = np.moveaxis(np.where(inside[..., None], pixels, 0).astype(np.int64), -1, 0)
    there = pairs.depths[np.arange(len(pairs))[:, None, None], 0, row, column]
    return (inside & (there > 0) & (np.abs(there / moved[..., 2] - 1) < 0.1)).astype(np.float32)


def regress(network: GaussianRegressor, pairs: Pairs) -> tuple[PixelGaussians, PixelGaussians]:
    """Gaussians of the first views."""
    images = torch.from_numpy((pairs.colors[:, 0] * 255 + 0.5).astype(np.uint8)).permute(0, 3, 1, 2)
    return network(images, rays_of(pairs.camera).expand(len(pairs), -1, -1, -1))


def loss_of(network: GaussianRegressor, pairs: Pairs) -> torch.Tensor:
    """Wrong colours of both views, where the first one sees what is there; wrong depths; and holes."""
    coarse, fine = regress(network, pairs)
    colors = torch.from_numpy(pairs.colors).permute(0, 1, 4, 2, 3)
    known = torch.from_numpy(pairs.depths[:, 0] > 0)
    weight = torch.stack([torch.ones_like(known, dtype=torch.float32), torch.from_numpy(seen_from_first(pairs))], 1)
    views = [[Pose.identity(), Pose.from_matrix(pose)] for pose in pairs.first_from_second]
    drawn = torch.stack([render(fine, row, pairs.camera, poses) for row, poses in enumerate(views)])
    wrong = ((drawn[:, :, :3] - colors).abs().mean(2) * weight).sum() / weight.sum()
    holes = (drawn[:, 0, 3] * known).mean()
    depth = torch.from_numpy(pairs.depths[:, 0]).clamp(min=1e-3).log()
    off = [functional.l1_loss(of.position[:, 2][known].log(), depth[known]) for of in (coarse, fine)]
    return wrong + DEPTH_WEIGHT * (off[0] + off[1]) + HOLE_WEIGHT * holes


def pretrain(
    bundles: Sequence[Bundle],
    file: Path,
    iterations: int,
    seed: int = 0,
    watch: Watch = lambda iteration, loss: None,
) -> GaussianRegressor:
    """Train a regressor and write its file, see `fit`.

    Args:
        bundles: Bundles to take views of.
        file: File to write.
        iterations: Batches to learn from.
        seed: Seed of views and weights.
        watch: Called with iterations and their losses.

    Raises:
        TrainError: When a bundle has nothing to see, a loss isn't finite, or the file can't be written.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(core_count())
    network, views = GaussianRegressor(), Views(bundles)
    fit(
        network,
        lambda iteration: loss_of(network, views.draw(BATCH, np.random.default_rng([seed, iteration]))),
        iterations,
        LEARNING_RATE,
        file,
        [seed, *(bundle.files.sha256 for bundle in bundles)],
        lambda: write_atomically(file, file_of(network)),
        watch,
    )
    return network


@dataclass(frozen=True)
class Fidelity:
    """How well a regressor knows a scene, by pairs of views.

    Attributes:
        novel: PSNR of the second views [dB], all of their pixels.
        shared: The same of the pixels that the first views see.
        copied: PSNR if the first view is taken for the second, of the same pixels as `novel` [dB].
        depth: Median relative error of depths in the first views.
    """

    novel: float
    shared: float
    copied: float
    depth: float


@torch.no_grad()
def measure(network: GaussianRegressor, bundle: Bundle, picture: Path | None = None) -> Fidelity:
    """Measure a regressor in a bundle by `TEST_PAIRS` pairs of views, always the same; and write some to a picture.

    Rows of the picture are pairs: what the network sees, what the other view would show, and what it does.

    Raises:
        TrainError: When the bundle has nothing to see, or the picture can't be written.
    """
    views, rng = Views([bundle]), np.random.default_rng(1)
    parts, rows = list[tuple[float, float, float, float]](), list[F32]()
    while len(parts) < TEST_PAIRS:
        pairs = views.draw(BATCH, rng)
        gaussians, shared = regress(network, pairs)[1], seen_from_first(pairs)
        for row, pose in enumerate(pairs.first_from_second):
            drawn = render(gaussians, row, pairs.camera, [Pose.from_matrix(pose)])[0, :3].permute(1, 2, 0).numpy()
            drawn, (first, second) = np.clip(drawn, 0, 1), pairs.colors[row]
            both, known = shared[row] > 0, pairs.depths[row, 0] > 0
            off = np.abs(gaussians.position[row, 2].numpy()[known] / pairs.depths[row, 0][known] - 1)
            at_both = psnr(drawn[both], second[both]) if both.any() else math.nan
            parts.append((psnr(drawn, second), at_both, psnr(first, second), float(np.median(off))))
            rows.append(np.concatenate([first, second, drawn], 1))
    if picture:
        sheet = (np.concatenate(rows[:: max(1, len(rows) // SHOWN)][:SHOWN]) * 255 + 0.5).astype(np.uint8)
        large = sheet.repeat(2, 0).repeat(2, 1)
        write_atomically(picture, cv2.imencode(".png", large[..., ::-1])[1].tobytes())
    return Fidelity(*np.nanmean(np.array(parts), 0).tolist())
