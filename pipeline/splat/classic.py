"""Anti-aliased Gaussians for viewers that draw every splat in the classic way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.geometry import Camera, Gaussians, Pose
from pipeline.splat.raster.layout import SCREEN_BLUR
from pipeline.splat.smoothing import finest_pixels
from pipeline.splat.views import training_camera

LEAST_OPACITY = 1e-6


def for_classic_viewers(gaussians: Gaussians, cameras: Sequence[Camera], poses: Sequence[Pose]) -> Gaussians:
    """Take from each opacity what a classic viewer's blur adds to the area, at the distance of the nearest camera.

    That blur is a share of a pixel, and opacities can't know how large pixels will be: those of training are taken. In
    larger pictures than those the error is small, in smaller ones as large as that of any classic splat.

    Args:
        gaussians: In the world frame; classic ones come back as they are.
        cameras: Of the photos, in full size.
        poses: World-from-camera of each.
    """
    if not gaussians.antialiased:
        return gaussians
    pixels = finest_pixels(gaussians.means, [training_camera(camera) for camera in cameras], poses)
    blur = np.sqrt(float(SCREEN_BLUR)) * pixels[:, None].astype(np.float64)
    widest = np.exp(np.sort(gaussians.log_scales.astype(np.float64), 1)[:, 1:])  # what a surface shows of itself
    share = np.prod(widest / np.hypot(widest, blur), 1)
    opacity = share / (1 + np.exp(-gaussians.opacity_logits.astype(np.float64)))
    opacity = opacity.clip(LEAST_OPACITY, 1 - LEAST_OPACITY)
    logits = np.log(opacity / (1 - opacity)).astype(np.float32)
    return replace(gaussians, opacity_logits=logits, antialiased=False)
