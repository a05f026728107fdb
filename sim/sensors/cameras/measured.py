"""Depths as a sensor measures them: of a scene's surfaces, not of its splat, which is made to look right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Mesh
from pipeline.geometry.rays import RayCaster
from pipeline.types import F32, I64, Floats
from sim.sensors.cameras.renderer import SceneRenderer


class MeasuredRenderer:
    """A renderer whose depths are those of the scenes' meshes; where there is no mesh, of the splat."""

    def __init__(self, renderer: SceneRenderer, meshes: Sequence[Mesh]) -> None:
        self._renderer, self._meshes = renderer, meshes

    def render(self, camera: Camera, world_from_cameras: Floats, scene_of: NDArray[np.integer]) -> tuple[F32, F32]:
        """Render pinhole cameras of one lens; see `SceneRenderer`."""
        rgb, depth = self._renderer.render(camera, world_from_cameras, scene_of)
        rays, poses = camera.rays().reshape(-1, 3), np.asarray(world_from_cameras, np.float64)
        for scene in np.unique(scene_of):
            rows = np.flatnonzero(scene_of == scene)
            eyes = np.repeat(poses[rows, :3, 3], len(rays), 0)
            directions = np.einsum("nij,kj->nki", poses[rows, :3, :3], rays).reshape(-1, 3)  # z = 1: lengths are depths
            found = RayCaster(self._meshes[scene]).cast(eyes, directions).distance.reshape(len(rows), *depth.shape[1:])
            depth[rows] = np.where(np.isfinite(found), found, depth[rows])
        return rgb, depth

    def draw_over(
        self, rgb: F32, depth: F32, images: I64, camera: Camera, thing_from_cameras: Floats, scene: int
    ) -> None:
        """Draw a thing over images; see `SceneRenderer`."""
        self._renderer.draw_over(rgb, depth, images, camera, thing_from_cameras, scene)
