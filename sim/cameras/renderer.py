"""What draws the scenes' Gaussians: one protocol for every machine, and the CPU's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Gaussians
from pipeline.splat.raster import pack, render_batch

Float = NDArray[np.float32]


class SceneRenderer(Protocol):
    """Draws the Gaussians of some scenes."""

    def render(
        self, camera: Camera, world_from_cameras: NDArray[np.floating], scene_of: NDArray[np.integer]
    ) -> tuple[Float, Float]:
        """What pinhole cameras of one lens see.

        Args:
            camera: Pinhole.
            world_from_cameras: (B, 4, 4), B >= 1.
            scene_of: (B,), the number of the scene that each is in.

        Returns:
            Colours (B, H, W, 3), 0 where nothing is, which may go beyond 1; and depths (B, H, W) along the cameras' z
            of what hides more than half [m], 0 = unknown. Both are the caller's to change.
        """
        ...


class CpuRenderer:
    """The pipeline's own batch rasteriser; the same bits for any number of threads.

    Args:
        scenes: The Gaussians of each, in its world frame.
    """

    def __init__(self, scenes: Sequence[Gaussians]) -> None:
        self._packed = [pack(gaussians) for gaussians in scenes]

    def render(
        self, camera: Camera, world_from_cameras: NDArray[np.floating], scene_of: NDArray[np.integer]
    ) -> tuple[Float, Float]:
        """What pinhole cameras of one lens see; see `SceneRenderer`."""
        rgb = np.empty((len(world_from_cameras), camera.height, camera.width, 3), np.float32)
        depth = np.empty(rgb.shape[:3], np.float32)
        for scene in np.unique(scene_of):
            rows = np.flatnonzero(scene_of == scene)
            drawn = render_batch(self._packed[scene], camera, world_from_cameras[rows])
            assert drawn.median_depth is not None  # a batch always has it
            rgb[rows], depth[rows] = drawn.rgb, drawn.median_depth
        return rgb, depth
