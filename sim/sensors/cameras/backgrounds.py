"""Images of the splat by cameras that stand still: each is drawn once, as long as nothing changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.geometry import Camera
from pipeline.types import F32, F64, I64

if TYPE_CHECKING:
    from sim.sensors.cameras.renderer import SceneRenderer


class Backgrounds:
    """Images of N robots' cameras, each of F pinholes, kept with the poses and scenes that they show.

    An image is drawn anew where its camera was moved, as at the beginning of an episode.
    """

    def __init__(self, renderer: SceneRenderer, lens: Camera, num_robots: int, faces: int) -> None:
        self._renderer, self._lens = renderer, lens
        shape = num_robots, faces, lens.height, lens.width
        self._poses, self._scene = np.full((num_robots, faces, 4, 4), np.nan), np.zeros(num_robots, np.int64)
        self._rgb, self._depth = np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32)

    def render(self, robots: I64, world_from_cameras: F64, scene_of: I64) -> tuple[F32, F32]:
        """Colours and depths (M * F, H, W) of robots (M,), as `SceneRenderer.render` gives them.

        Poses are (M * F, 4, 4), scenes (M,).
        """
        poses = world_from_cameras.reshape(len(robots), -1, 4, 4)
        moved = (self._poses[robots] != poses).any((1, 2, 3)) | (self._scene[robots] != scene_of)
        if moved.any():
            rows, faces = robots[moved], poses.shape[1]
            drawn = self._renderer.render(self._lens, poses[moved].reshape(-1, 4, 4), np.repeat(scene_of[moved], faces))
            self._poses[rows], self._scene[rows] = poses[moved], scene_of[moved]
            self._rgb[rows], self._depth[rows] = (image.reshape(len(rows), faces, *image.shape[1:]) for image in drawn)
        rgb, depth = self._rgb[robots], self._depth[robots]
        return rgb.reshape(-1, *rgb.shape[2:]), depth.reshape(-1, *depth.shape[2:])
