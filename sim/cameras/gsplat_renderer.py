"""A scene's Gaussians drawn by `gsplat` on a CUDA device.

The numbers of the pictures are those of the pipeline's own rasteriser: the same projection, blur of 0.3 px², least
alpha of 1/255 and near plane. What is left: gsplat lets one Gaussian hide up to 0.999 instead of 0.99, and stops at a
transmittance of 1e-4 instead of 1e-3.

gsplat gives no median depth. It is the expected one here, where more than half is hidden: the same within a surface;
at its edges, and behind what is half transparent, it lies between what is before and what is behind.

Source: V. Ye et al., gsplat: An Open-Source Library for Gaussian Splatting, JMLR 2025; `gsplat.rasterization` of 1.5.3.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Gaussians
from pipeline.splat.raster import Cutoffs
from pipeline.splat.raster.layout import SCREEN_BLUR
from sim import libraries

Float = NDArray[np.float32]

HIDES = 0.5
"""Alpha from which on a pixel has a depth."""
PICTURES = 512
"""Drawn in one call: memory grows with them, some 2 GiB for 30 000 Gaussians in pictures of 84x48."""


class GsplatRenderer:
    """See `SceneRenderer`.

    Args:
        gaussians: In the scene's world frame; those with numbers that are not finite are left out.
        device: As torch names it, like cuda or cuda:1.

    Raises:
        SimError: When torch or gsplat is not installed.
    """

    def __init__(self, gaussians: Gaussians, device: str) -> None:
        self._torch, self._gsplat, self._device = libraries.torch(), libraries.gsplat(), device
        names = ("means", "log_scales", "quaternions", "opacity_logits", "sh")
        numbers = np.concatenate([getattr(gaussians, name).reshape(len(gaussians), -1) for name in names], 1)
        seen = gaussians[np.flatnonzero(np.isfinite(numbers).all(1))]
        self._means = self._tensor(seen.means)
        self._quaternions = self._tensor(seen.quaternions)
        self._scales = self._tensor(seen.log_scales).exp()
        self._opacities = self._tensor(seen.opacity_logits).sigmoid()
        self._sh = self._tensor(seen.sh)
        self._degree = math.isqrt(seen.sh.shape[1]) - 1

    def render(self, camera: Camera, world_from_cameras: NDArray[np.floating]) -> tuple[Float, Float]:
        """What pinhole cameras of one lens see; see `SceneRenderer`."""
        count = len(world_from_cameras)
        rgb = np.empty((count, camera.height, camera.width, 3), np.float32)
        depth = np.empty((count, camera.height, camera.width), np.float32)
        for first in range(0, count, PICTURES):
            part = slice(first, first + PICTURES)
            rgb[part], depth[part] = self._draw(camera, world_from_cameras[part])
        return rgb, depth

    def _draw(self, camera: Camera, world_from_cameras: NDArray[np.floating]) -> tuple[Float, Float]:
        torch = self._torch
        cameras_from_world = self._tensor(np.linalg.inv(world_from_cameras.astype(np.float64)))
        with torch.no_grad():
            drawn, alpha, _ = self._gsplat.rasterization(
                self._means,
                self._quaternions,
                self._scales,
                self._opacities,
                self._sh,
                cameras_from_world,
                self._tensor(camera.matrix).expand(len(world_from_cameras), 3, 3).contiguous(),
                camera.width,
                camera.height,
                near_plane=Cutoffs.near,
                eps2d=float(SCREEN_BLUR),
                sh_degree=self._degree,
                render_mode="RGB+ED",
            )
            depth = torch.where(alpha[..., 0] >= HIDES, drawn[..., 3], 0.0)
            return drawn[..., :3].cpu().numpy(), depth.cpu().numpy()

    def _tensor(self, array: NDArray[Any]) -> Any:
        return self._torch.tensor(array, dtype=self._torch.float32, device=self._device)
