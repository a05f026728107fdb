"""Things of a task drawn into pictures, hidden by what the splat shows before them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Float = NDArray[np.float32]

AMBIENT = 0.55
"""Share of a ball's colour that its side away from the light keeps."""


@dataclass(frozen=True, eq=False)
class Balls:
    """A ball in each of B pictures.

    Attributes:
        center: (B, 3), world frame [m].
        radius: (B,) [m]; 0 draws nothing.
        color: (B, 3), 0..1.
    """

    center: NDArray[np.floating]
    radius: NDArray[np.floating]
    color: NDArray[np.floating]


def draw_balls(
    rgb: Float, depth: Float, balls: Balls, world_from_cameras: NDArray[np.floating], intrinsics: Float
) -> None:
    """Draw each picture's ball where it is nearer than the picture's depth; both are changed in place.

    The light comes from straight above.

    Args:
        rgb: (B, H, W, 3), 0..1.
        depth: (B, H, W) [m], 0 = nothing there.
        balls: What to draw.
        world_from_cameras: (B, 4, 4).
        intrinsics: (4,) fx, fy, cx, cy.
    """
    _draw(
        rgb,
        depth,
        np.ascontiguousarray(balls.center, np.float32),
        np.ascontiguousarray(balls.radius, np.float32),
        np.ascontiguousarray(balls.color, np.float32),
        np.ascontiguousarray(world_from_cameras, np.float32),
        np.ascontiguousarray(intrinsics, np.float32),
    )


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _draw(
    rgb: Float, depth: Float, centers: Float, radii: Float, colors: Float, poses: Float, intrinsics: Float
) -> None:
    count, height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    for b in prange(count):
        radius = radii[b]
        if radius <= 0:
            continue
        turn, offset = poses[b, :3, :3], centers[b] - poses[b, :3, 3]
        x = turn[0, 0] * offset[0] + turn[1, 0] * offset[1] + turn[2, 0] * offset[2]
        y = turn[0, 1] * offset[0] + turn[1, 1] * offset[1] + turn[2, 1] * offset[2]
        z = turn[0, 2] * offset[0] + turn[1, 2] * offset[1] + turn[2, 2] * offset[2]
        if z < -radius:
            continue
        whole = x * x + y * y + z * z - radius * radius
        first_row, last_row, first_column, last_column = 0, height - 1, 0, width - 1
        if z > 1.5 * radius:  # a generous box round the ellipse
            reach = 1.5 * radius / (z - radius)
            first_column = max(0, int((x / z - reach) * fx + cx))
            last_column = min(width - 1, int((x / z + reach) * fx + cx))
            first_row = max(0, int((y / z - reach) * fy + cy))
            last_row = min(height - 1, int((y / z + reach) * fy + cy))
        for row in range(first_row, last_row + 1):
            v = (row + np.float32(0.5) - cy) / fy
            for column in range(first_column, last_column + 1):
                u = (column + np.float32(0.5) - cx) / fx
                along, square = u * x + v * y + z, u * u + v * v + 1
                discriminant = along * along - square * whole
                if discriminant < 0:
                    continue
                near = (along - np.sqrt(discriminant)) / square
                if near <= 0:
                    continue
                behind = depth[b, row, column]
                if 0 < behind < near:
                    continue
                depth[b, row, column] = near
                # how far the surface there looks up
                up = (turn[2, 0] * (u * near - x) + turn[2, 1] * (v * near - y) + turn[2, 2] * (near - z)) / radius
                light = AMBIENT + (1 - AMBIENT) * max(np.float32(0), up)
                for channel in range(3):
                    rgb[b, row, column, channel] = colors[b, channel] * light
