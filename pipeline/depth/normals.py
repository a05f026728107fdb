"""Normals of depth maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera


def plane_normals(
    camera: Camera, inverse_depth: NDArray[np.float32], slope_x: NDArray[np.float32], slope_y: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Normals (H, W, 3), camera axes, unit, facing the camera, of local planes.

    A plane n . X = 1 has inverse depth n . ray(pixel), so its slopes are n_x / fx and n_y / fy.

    Args:
        camera: Pinhole camera.
        inverse_depth: (H, W) at the pixel centres; where it is 0 the result means nothing.
        slope_x: (H, W) its change per pixel along x.
        slope_y: (H, W) its change per pixel along y.
    """
    rays = camera.rays().astype(np.float32)
    normal_x = slope_x * np.float32(camera.fx)
    normal_y = slope_y * np.float32(camera.fy)
    normal_z = inverse_depth - normal_x * rays[..., 0] - normal_y * rays[..., 1]
    normals = -np.stack([normal_x, normal_y, normal_z], -1)
    length = np.sqrt((normals * normals).sum(-1, keepdims=True))
    return normals / np.maximum(length, np.float32(1e-12))
