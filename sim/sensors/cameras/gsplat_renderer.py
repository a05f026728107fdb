"""The scenes' Gaussians rendered by `gsplat` (Ye et al., JMLR 2025) on a CUDA device, many cameras in a call.

The images equal those of the pipeline's own rasteriser, except that gsplat lets one Gaussian hide up to 0.999 instead
of 0.99 and stops at a transmittance of 1e-4 instead of 1e-3. Its depth is the expected one, where more than half is
hidden, not the median: they differ at edges and behind what is half transparent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Gaussians
from pipeline.raster import Cutoffs
from pipeline.raster.composite import FAINT, draw_over
from pipeline.raster.layout import screen_blur
from pipeline.types import F32, I64, Floats
from sim import libraries

if TYPE_CHECKING:
    import torch

HIDES = 0.5
"""Smallest alpha of a pixel with a depth."""
FIELDS = ("means", "log_scales", "quaternions", "opacity_logits", "sh")
IMAGES = 512
"""Images in one call: memory grows with them, about 2 GiB for 30 000 Gaussians in images of 84x48."""


class GsplatRenderer:
    """See `SceneRenderer`; Gaussians with numbers that are not finite are left out.

    Raises:
        SimError: When torch or gsplat is not installed.
    """

    def __init__(self, scenes: Sequence[Gaussians], device: str) -> None:
        self._torch, self._gsplat, self._device = libraries.torch(), libraries.gsplat(), device
        numbers = [
            np.concatenate([getattr(each, name).reshape(len(each), -1) for name in FIELDS], 1) for each in scenes
        ]
        finite = [np.flatnonzero(np.isfinite(rows).all(1)) for rows in numbers]
        seen = [gaussians[rows] for gaussians, rows in zip(scenes, finite, strict=True)]
        most = max(map(len, seen)), max(gaussians.sh.shape[1] for gaussians in seen)
        # scenes of a call have equally many: the others' last ones are transparent
        self._means, log_scales, self._quaternions, logits, self._sh = (
            self._tensor(np.stack([_padded(getattr(gaussians, name), most, rest) for gaussians in seen]))
            for name, rest in zip(FIELDS, (0.0, 0.0, 1.0, -np.inf, 0.0), strict=True)
        )
        self._scales, self._opacities = log_scales.exp(), logits.sigmoid()
        self._antialiased = np.array([gaussians.antialiased for gaussians in seen])
        self._degree = math.isqrt(most[1]) - 1

    def render(self, camera: Camera, world_from_cameras: Floats, scene_of: NDArray[np.integer]) -> tuple[F32, F32]:
        """Render pinhole cameras of one lens; see `SceneRenderer`."""
        count = len(world_from_cameras)
        rgb = np.empty((count, camera.height, camera.width, 3), np.float32)
        depth = np.empty((count, camera.height, camera.width), np.float32)
        for antialiased in (False, True):
            chosen = np.flatnonzero(self._antialiased[scene_of] == antialiased)
            for scenes, some in _calls(scene_of[chosen]):
                rows = chosen[some]
                rgb[rows], depth[rows], _ = self._draw(camera, scenes, world_from_cameras[rows], antialiased)
        return rgb, depth

    def draw_over(
        self, rgb: F32, depth: F32, images: I64, camera: Camera, thing_from_cameras: Floats, scene: int
    ) -> None:
        """Draw a thing over images; see `SceneRenderer`."""
        antialiased = bool(self._antialiased[scene])
        for first in range(0, len(images), IMAGES):
            rows = slice(first, first + IMAGES)
            drawn, far, alpha = self._draw(camera, [scene], thing_from_cameras[None, rows], antialiased, float(FAINT))
            draw_over(rgb, depth, images[rows], drawn[0], alpha[0], far[0])

    def _draw(
        self,
        camera: Camera,
        scenes: list[int],
        world_from_cameras: Floats,
        antialiased: bool,
        least: float = HIDES,
    ) -> tuple[F32, F32, F32]:
        """Images, depths and opacities of S scenes by C cameras each, whose poses are (S, C, 4, 4).

        Pixels of `least` alpha have a depth.
        """
        torch = self._torch
        cameras_from_world = self._tensor(np.linalg.inv(world_from_cameras.astype(np.float64)))
        with torch.no_grad():
            drawn, alpha, _ = self._gsplat.rasterization(
                self._means[scenes],
                self._quaternions[scenes],
                self._scales[scenes],
                self._opacities[scenes],
                self._sh[scenes],
                cameras_from_world,
                self._tensor(camera.matrix).expand(*world_from_cameras.shape[:2], 3, 3).contiguous(),
                camera.width,
                camera.height,
                near_plane=Cutoffs.near,
                eps2d=float(screen_blur(antialiased)),
                rasterize_mode="antialiased" if antialiased else "classic",
                sh_degree=self._degree,
                render_mode="RGB+ED",
            )
            depth = torch.where(alpha[..., 0] >= least, drawn[..., 3], 0.0)
            return drawn[..., :3].cpu().numpy(), depth.cpu().numpy(), alpha[..., 0].cpu().numpy()

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return self._torch.tensor(array, dtype=self._torch.float32, device=self._device)


def _padded(values: F32, most: tuple[int, int], rest: float) -> F32:
    """Padded to numbers of rows and SH coefficients."""
    shape = (most[0], *values.shape[1:]) if values.ndim < 3 else (*most, 3)
    result = np.full(shape, rest, np.float32)
    result[tuple(map(slice, values.shape))] = values
    return result


def _calls(scene_of: NDArray[np.integer]) -> Iterator[tuple[list[int], NDArray[np.intp]]]:
    """Scenes (S,) of a call, and the rows (S, C) of their images; some rows come twice, so that all have C."""
    parts: list[tuple[int, NDArray[np.intp]]] = []
    for scene in np.unique(scene_of):
        rows = np.flatnonzero(scene_of == scene)
        parts += [(int(scene), rows[first : first + IMAGES]) for first in range(0, len(rows), IMAGES)]
    parts.sort(key=lambda part: -len(part[1]))
    while parts:
        cameras = len(parts[0][1])
        alike = sum(2 * len(rows) >= cameras for _, rows in parts[: max(1, IMAGES // cameras)])
        call, parts = parts[:alike], parts[alike:]
        yield [scene for scene, _ in call], np.stack([np.resize(rows, cameras) for _, rows in call])
