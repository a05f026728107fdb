"""Anti-aliasing: a lower bound on a Gaussian's extent, and opacities for viewers without anti-aliasing.

Source: Z. Yu et al., Mip-Splatting, CVPR 2024, section 4.1. Its 3D smoothing filter convolves each Gaussian with one of
sqrt(0.2) of the smallest pixel that shows it; here the standard deviations themselves are kept above that, so that a
file holds all there is, and every viewer shows it. Without such a bound Gaussians become needles and sheets that look
right at the photos' distance only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.geometry import Camera, Gaussians, Pose, logit
from pipeline.geometry.jit import njit, prange
from pipeline.raster.layout import SCREEN_BLUR, Cutoffs
from pipeline.splat.views import TrainingView, training_camera
from pipeline.types import F32

MIN_PIXELS = math.sqrt(0.2)
"""Lower bound of a standard deviation [pixels of the view that shows the Gaussian largest]."""
MARGIN = 0.15
"""A view shows what is within its image, or as far beside it [shares of the image]."""
MIN_OPACITY = 1e-6
"""Opacities for classic viewers stay this far from 0 and 1, so that they have a logit."""
NOTHING = np.float32(1e-30)
BLOCKS = 32
"""Fixed shares of the work, so that nothing depends on the number of threads."""


def bound_extent(gaussians: Gaussians, views: Sequence[TrainingView], fixed: int = 0) -> Gaussians:
    """Widen Gaussians [world frame] that are thinner than the photos could show; the first `fixed` stay as they are."""
    cameras, poses = [view.levels[0].camera for view in views], [view.world_from_camera for view in views]
    smallest = np.log(np.maximum(MIN_PIXELS * finest_pixels(gaussians.means, cameras, poses), NOTHING))
    smallest[:fixed] = -np.inf
    return replace(gaussians, log_scales=np.maximum(gaussians.log_scales, smallest[:, None]))


def for_classic_viewers(gaussians: Gaussians, cameras: Sequence[Camera], poses: Sequence[Pose]) -> Gaussians:
    """Take from each opacity what a classic viewer's blur adds to the area, at the distance of the nearest camera.

    That blur is a share of a pixel, and opacities can't know how large pixels will be: those of training are taken. In
    larger images than those the error is small, in smaller ones as large as that of any classic splat. The photos'
    cameras come in full size, with their world-from-camera poses; classic Gaussians are returned unchanged.
    """
    if not gaussians.antialiased:
        return gaussians
    pixels = finest_pixels(gaussians.means, [training_camera(camera) for camera in cameras], poses)
    blur = np.sqrt(float(SCREEN_BLUR)) * pixels[:, None].astype(np.float64)
    widest = np.exp(np.sort(gaussians.log_scales.astype(np.float64), 1)[:, 1:])  # what a surface shows of itself
    share = np.prod(widest / np.hypot(widest, blur), 1)
    opacity = share / (1 + np.exp(-gaussians.opacity_logits.astype(np.float64)))
    opacity = opacity.clip(MIN_OPACITY, 1 - MIN_OPACITY)
    return replace(gaussians, opacity_logits=logit(opacity).astype(np.float32), antialiased=False)


def finest_pixels(means: F32, cameras: Sequence[Camera], poses: Sequence[Pose]) -> F32:
    """Size (N,) [world units] of a pixel at points (N, 3), in the image that shows each largest; 0 where none does."""
    sizes = np.zeros(len(means), np.float32)
    if cameras:
        _finest_pixels(
            np.ascontiguousarray(means, np.float32),
            np.array([pose.inverse().matrix[:3] for pose in poses], np.float32),
            np.array([(c.fx, c.fy, c.cx, c.cy, c.width, c.height) for c in cameras], np.float32),
            np.float32(Cutoffs.near),
            sizes,
        )
    return sizes


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def _finest_pixels(means: F32, cameras_from_world: F32, lenses: F32, near: np.float32, found: F32) -> None:
    count = means.shape[0]
    for block in prange(BLOCKS):
        for n in range(block * count // BLOCKS, (block + 1) * count // BLOCKS):
            x, y, z = means[n, 0], means[n, 1], means[n, 2]
            least = np.float32(np.inf)
            for v in range(cameras_from_world.shape[0]):
                pose, lens = cameras_from_world[v], lenses[v]
                depth = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * z + pose[2, 3]
                pixel = depth / max(lens[0], lens[1])
                if depth < near or pixel >= least:
                    continue
                across = pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * z + pose[0, 3]
                down = pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * z + pose[1, 3]
                column, row = lens[0] * across / depth + lens[2], lens[1] * down / depth + lens[3]
                if abs(column - lens[4] / 2) > (0.5 + MARGIN) * lens[4]:
                    continue
                if abs(row - lens[5] / 2) > (0.5 + MARGIN) * lens[5]:
                    continue
                least = pixel
            found[n] = least if least < np.inf else np.float32(0)
