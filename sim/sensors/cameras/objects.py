"""Loose bodies in images: their own Gaussians, drawn with the camera moved into their frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.geometry import Camera, Gaussians
from pipeline.geometry.jit import njit
from pipeline.types import F32, F64, Mask

if TYPE_CHECKING:
    from sim.sensors.cameras.renderer import SceneRenderer

SIGMAS = 2.0
"""Gaussians count to a body's size out to this many standard deviations."""


class ObjectSplats:
    """The bodies of all scenes as scenes of a renderer, from number `first` on."""

    def __init__(self, renderer: SceneRenderer, first: int, splats: Sequence[Gaussians]) -> None:
        self._renderer, self._first = renderer, first
        self._spheres = np.array([_sphere(splat) for splat in splats]).reshape(-1, 4)

    def draw(self, rgb: F32, depth: F32, world_from_objects: F64, world_from_cameras: F64, lens: Camera) -> None:
        """Draw the bodies of each image, at poses (B, K, 4, 4), where they are in front; changes both in place.

        Images (B, H, W, 3) are 0..1, depths (B, H, W) along the camera's z [m], 0 = unknown.
        """
        objects_from_cameras = np.linalg.inv(world_from_objects) @ world_from_cameras[:, None]
        intrinsics = np.array([lens.fx, lens.fy, lens.cx, lens.cy], np.float32)
        seen = _in_sight(depth, _spheres_seen(objects_from_cameras, self._spheres), intrinsics)
        for number in np.flatnonzero(seen.any(0)).tolist():
            rows = np.flatnonzero(seen[:, number])
            self._renderer.draw_over(rgb, depth, rows, lens, objects_from_cameras[rows, number], self._first + number)


def _sphere(splat: Gaussians) -> F64:
    """Middle and radius (4,) of a sphere around a splat [m]."""
    if not len(splat):
        return np.zeros(4)
    means, reach = splat.means.astype(np.float64), SIGMAS * np.exp(splat.log_scales.max(1).astype(np.float64))
    middle = (means.min(0) + means.max(0)) / 2
    return np.append(middle, (np.linalg.norm(means - middle, axis=1) + reach).max())


def _spheres_seen(objects_from_cameras: F64, spheres: F64) -> F32:
    """Middles and radii (B, K, 4) of spheres (K, 4) in the frames of cameras (B, K, 4, 4)."""
    offset = spheres[:, :3] - objects_from_cameras[..., :3, 3]
    middle = np.einsum("bkji,bkj->bki", objects_from_cameras[..., :3, :3], offset)
    radius = np.broadcast_to(spheres[:, 3:], (*middle.shape[:2], 1))
    return np.concatenate([middle, radius], 2, dtype=np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def _in_sight(depth: F32, spheres: F32, intrinsics: F32) -> Mask:
    """Which spheres (B, K, 4) lie before what images (B, H, W) show, in a pixel of the square around them."""
    count, height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    seen = np.zeros(spheres.shape[:2], np.bool_)
    for b in range(count):
        for k in range(spheres.shape[1]):
            x, y, z, radius = spheres[b, k]
            near = z - radius
            if z + radius <= 0:
                continue
            first_row, last_row, first_column, last_column = 0, height, 0, width
            if near > 0.05:
                reach = radius * np.sqrt(1 + (x * x + y * y) / (z * z)) / near  # of its silhouette, at most
                first_column = max(0, int(cx + fx * (x / z - reach)))
                last_column = min(width, int(cx + fx * (x / z + reach)) + 1)
                first_row = max(0, int(cy + fy * (y / z - reach)))
                last_row = min(height, int(cy + fy * (y / z + reach)) + 1)
            for row in range(first_row, last_row):
                for column in range(first_column, last_column):
                    behind = depth[b, row, column]
                    if behind <= 0 or behind > near:
                        seen[b, k] = True
                        break
                if seen[b, k]:
                    break
    return seen
