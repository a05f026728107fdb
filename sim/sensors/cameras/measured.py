"""Depths as a sensor measures them: of a scene's surfaces, not of its splat, which is made to look right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Mesh
from pipeline.geometry.rays import RayCaster
from pipeline.raster.mesh_depth import mesh_depths
from pipeline.types import F32, I64, Floats
from sim.sensors.cameras.renderer import SceneRenderer


class MeasuredRenderer:
    """A renderer whose depths are those of the scenes' meshes; where there is no mesh nothing is measured.

    What a splat has where no surface was found is what floats before cameras, and no sensor meets it. Without colours,
    which are black then, nothing of a scene's splat is loaded.
    """

    def __init__(self, renderer: SceneRenderer, meshes: Sequence[Mesh], *, colors: bool) -> None:
        self._renderer, self._meshes, self._colors = renderer, meshes, colors

    def render(self, camera: Camera, world_from_cameras: Floats, scene_of: NDArray[np.integer]) -> tuple[F32, F32]:
        """Render pinhole cameras of one lens; see `SceneRenderer`."""
        if self._colors:
            rgb, _ = self._renderer.render(camera, world_from_cameras, scene_of)
        else:
            rgb = np.zeros((len(scene_of), camera.height, camera.width, 3), np.float32)
        scenes, of = np.unique(scene_of, return_inverse=True)
        found = mesh_depths([RayCaster(self._meshes[scene]) for scene in scenes], of, camera, world_from_cameras)
        return rgb, np.where(np.isfinite(found), found, np.float32(0))

    def draw_over(
        self, rgb: F32, depth: F32, images: I64, camera: Camera, thing_from_cameras: Floats, scene: int
    ) -> None:
        """Draw a thing over images; see `SceneRenderer`."""
        self._renderer.draw_over(rgb, depth, images, camera, thing_from_cameras, scene)
