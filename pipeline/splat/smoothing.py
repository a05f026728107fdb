"""No Gaussian is thinner than what the photos could show: a bound on its extent in space.

Without it Gaussians become needles and sheets that look right at the photos' distance only: nearer, they are seen for
what they are. Source: Z. Yu et al., Mip-Splatting, CVPR 2024, section 4.1. Its 3D smoothing filter convolves each
Gaussian with one of sqrt(0.2) of the smallest pixel that shows it; here the standard deviations themselves are kept
above that, so that a file holds all there is, and every viewer shows it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from pipeline.geometry import Camera, Gaussians, Pose
from pipeline.splat.raster.layout import SLOPE_MARGIN, Cutoffs
from pipeline.splat.views import TrainingView

Float = NDArray[np.float32]

LEAST_PIXELS = math.sqrt(0.2)
"""Least standard deviation [pixels of the view that shows the Gaussian largest]."""
NOTHING = np.float32(1e-30)
BLOCKS = 32


def smooth(gaussians: Gaussians, views: Sequence[TrainingView], fixed: int = 0) -> None:
    """Widen Gaussians, in place, that are thinner than the photos could show.

    Args:
        gaussians: In the world frame, contiguous.
        views: Those trained on.
        fixed: So many of the first Gaussians stay as they are.
    """
    cameras, poses = [view.levels[0].camera for view in views], [view.world_from_camera for view in views]
    least = np.log(np.maximum(LEAST_PIXELS * finest_pixels(gaussians.means, cameras, poses), NOTHING))
    least[:fixed] = -np.inf
    np.maximum(gaussians.log_scales, least[:, None], out=gaussians.log_scales)


def finest_pixels(means: Float, cameras: Sequence[Camera], poses: Sequence[Pose]) -> Float:
    """How large a pixel of the picture that shows it largest is at each point [world units].

    Args:
        means: (N, 3) in the world frame.
        cameras: Pinholes.
        poses: World-from-camera of each.

    Returns:
        (N,) float32; 0 where no picture shows a point.
    """
    if not cameras:
        return np.zeros(len(means), np.float32)
    cameras_from_world = [pose.inverse().matrix[:3] for pose in poses]
    lenses = [(c.fx, c.fy, c.cx, c.cy, c.width, c.height) for c in cameras]
    found = np.empty(len(means), np.float32)
    _finest_pixels(
        np.ascontiguousarray(means, np.float32),
        np.array(cameras_from_world, np.float32),
        np.array(lenses, np.float32),
        np.float32(Cutoffs.near),
        found,
    )
    return found


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def _finest_pixels(means: Float, cameras_from_world: Float, lenses: Float, near: np.float32, found: Float) -> None:
    count = means.shape[0]
    for block in prange(BLOCKS):
        for n in range(block * count // BLOCKS, (block + 1) * count // BLOCKS):
            x, y, z = means[n, 0], means[n, 1], means[n, 2]
            least = np.float32(np.inf)
            for v in range(cameras_from_world.shape[0]):
                pose, lens = cameras_from_world[v], lenses[v]
                depth = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * z + pose[2, 3]
                pixel = depth / max(lens[0], lens[1])
                if depth < near or pixel >= least:
                    continue
                across = pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * z + pose[0, 3]
                down = pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * z + pose[1, 3]
                column, row = lens[0] * across / depth + lens[2], lens[1] * down / depth + lens[3]
                if abs(column - lens[4] / 2) > (0.5 + SLOPE_MARGIN) * lens[4]:
                    continue
                if abs(row - lens[5] / 2) > (0.5 + SLOPE_MARGIN) * lens[5]:
                    continue
                least = pixel
            found[n] = least if least < np.inf else np.float32(0)
