"""Colours and opacities of objects fitted once more, so that drawn over the place without them they look as before.

What shone through an object's surface before, such as the dark behind the joints of a door, has another colour once the
object is lined and what is behind it is filled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline.geometry import Camera, Gaussians, Pose
from pipeline.progress import track
from pipeline.raster import contiguous, rasterize, rasterize_backward, render
from pipeline.splat.loss import photometric_loss
from pipeline.splat.optimizer import SparseAdam
from pipeline.splat.schedule import RATES
from pipeline.types import U8

STEPS = 60
"""Steps for each object, one view each."""
SSIM_WEIGHT = 0.2
"""Share of the similarity in the loss, as of a training."""
LAST_RATE = 0.1
"""Factor of the learning rates over the second half, as of a training."""


def refitted(
    objects: Mapping[str, Gaussians], rest: Gaussians, whole: Gaussians, views: Sequence[tuple[Camera, Pose]]
) -> dict[str, Gaussians]:
    """Objects by name whose Gaussians, with those of the rest, show in these views what the whole splat shows.

    All are in the world frame; cameras are pinholes, with their world-from-camera poses.
    """
    if not views:
        return dict(objects)
    shown = [_shown(whole, camera, pose) for camera, pose in views]
    optimizer = SparseAdam(contiguous(Gaussians.concatenate([rest, *objects.values()])))
    rates = {name: np.zeros(getattr(rest, name)[0].size, np.float32) for name in Gaussians.ARRAYS}
    steps, rng = STEPS * len(objects), np.random.default_rng(0)
    for step in track(range(steps), "objects fitted", steps):
        index = int(rng.integers(len(views)))
        (camera, pose), photo = views[index], shown[index]
        raster = rasterize(optimizer.gaussians, camera, pose)
        by_planes = np.zeros_like(raster.planes)
        photometric_loss(raster.planes, photo, SSIM_WEIGHT, by_planes)
        gradients = rasterize_backward(raster, optimizer.gaussians, by_planes, np.zeros_like(raster.transmittance))
        decay = LAST_RATE ** max(0.0, 2 * step / steps - 1)
        rates["opacity_logits"][:] = RATES["opacity_logits"] * decay
        rates["sh"][:3] = RATES["sh"] * decay  # what a few views show tells nothing of other directions
        visible = gradients.visible[gradients.visible >= len(rest)]
        optimizer.step(replace(gradients, visible=visible), rates, {})
    ends = np.cumsum([len(rest), *map(len, objects.values())])
    return {
        name: optimizer.gaussians[np.arange(start, end)]
        for name, start, end in zip(objects, ends[:-1], ends[1:], strict=True)
    }


def _shown(splat: Gaussians, camera: Camera, world_from_camera: Pose) -> U8:
    """What a view (3, H, W) shows of a splat."""
    image = 255 * render(splat, camera, world_from_camera).rgb.clip(0, 1)
    return np.ascontiguousarray(np.moveaxis(image.round().astype(np.uint8), -1, 0))
