"""Loose bodies in images: their own Gaussians, drawn with the camera moved into their frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.geometry import Camera, Gaussians
from pipeline.geometry.jit import njit, prange
from pipeline.types import F32, F64, Mask

if TYPE_CHECKING:
    from sim.cameras.renderer import SceneRenderer

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
        objects_from_world = np.linalg.inv(world_from_objects)
        intrinsics = np.array([lens.fx, lens.fy, lens.cx, lens.cy], np.float32)
        for number in range(world_from_objects.shape[1]):
            object_from_cameras = objects_from_world[:, number] @ world_from_cameras
            rows = np.flatnonzero(
                _in_sight(depth, _spheres_seen(object_from_cameras, self._spheres[number]), intrinsics)
            )
            if len(rows):
                scene = self._first + number
                self._renderer.draw_over(rgb, depth, rows, lens, object_from_cameras[rows], scene)


def _sphere(splat: Gaussians) -> F64:
    """Middle and radius (4,) of a sphere around a splat [m]."""
    if not len(splat):
        return np.zeros(4)
    means, reach = splat.means.astype(np.float64), SIGMAS * np.exp(splat.log_scales.max(1).astype(np.float64))
    middle = (means.min(0) + means.max(0)) / 2
    return np.append(middle, (np.linalg.norm(means - middle, axis=1) + reach).max())


def _spheres_seen(object_from_cameras: F64, sphere: F64) -> F32:
    """Middle and radius (B, 4) of a sphere (4,) in the frames of cameras (B, 4, 4)."""
    offset = sphere[:3] - object_from_cameras[:, :3, 3]
    middle = np.einsum("bji,bj->bi", object_from_cameras[:, :3, :3], offset)
    return np.column_stack([middle, np.full(len(middle), sphere[3])]).astype(np.float32)


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _in_sight(depth: F32, spheres: F32, intrinsics: F32) -> Mask:
    """In which images (B, H, W) a sphere lies before what they show, in a pixel of the square around it."""
    count, height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    seen = np.zeros(count, np.bool_)
    for b in prange(count):
        x, y, z, radius = spheres[b]
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
                    seen[b] = True
                    break
            if seen[b]:
                break
    return seen
