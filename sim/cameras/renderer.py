"""What draws a scene's Gaussians: one protocol for every machine, and the CPU's own."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Gaussians
from pipeline.splat.raster import pack, render_batch

Float = NDArray[np.float32]


class SceneRenderer(Protocol):
    """Draws the Gaussians of one scene."""

    def render(self, camera: Camera, world_from_cameras: NDArray[np.floating]) -> tuple[Float, Float]:
        """What pinhole cameras of one lens see.

        Args:
            camera: Pinhole.
            world_from_cameras: (B, 4, 4), B >= 1.

        Returns:
            Colours (B, H, W, 3), 0 where nothing is, which may go beyond 1; and depths (B, H, W) along the cameras' z
            of what hides more than half [m], 0 = unknown. Both are the caller's to change.
        """
        ...


class CpuRenderer:
    """The pipeline's own batch rasteriser; the same bits for any number of threads.

    Args:
        gaussians: In the scene's world frame.
    """

    def __init__(self, gaussians: Gaussians) -> None:
        self._packed = pack(gaussians)

    def render(self, camera: Camera, world_from_cameras: NDArray[np.floating]) -> tuple[Float, Float]:
        """What pinhole cameras of one lens see; see `SceneRenderer`."""
        drawn = render_batch(self._packed, camera, world_from_cameras)
        assert drawn.median_depth is not None  # a batch always has it
        return drawn.rgb, drawn.median_depth
