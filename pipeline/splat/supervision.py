"""Measured depth as a colour camera sees it.

A depth map has a camera of its own, perhaps beside the colour camera. Its pixels are taken as the corners of a mesh;
quads across a jump of depth are left out, the rest is drawn into the colour camera with a depth buffer. Unlike
splatting points that leaves no holes where the colour picture is finer, and hides what a nearer surface covers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.depth.maps import DepthMap
from pipeline.geometry import Camera, Pose

Float = NDArray[np.float32]

JUMP = 0.05
"""Relative difference of depth between neighbours above which no surface connects them: a floor seen from 1.3 m height
stays below it up to 13 m at 256 px width."""
RELATIVE_TOLERANCE = 0.005
"""Least tolerance, relative to the depth: interpolation and rounding."""
GUESSED_TOLERANCE = 4.0
"""Factor of the tolerance of guessed depth, which then pulls less."""


@dataclass(frozen=True, eq=False)
class ViewDepth:
    """Depth in a colour view.

    Attributes:
        depth: (H, W) float32 along the optical axis [world units], 0 where unknown.
        tolerance: (H, W) float32 [world units], the difference that doesn't matter.
    """

    depth: Float
    tolerance: Float

    def halved(self) -> ViewDepth:
        """At half the size; both sides must be even. Blocks with a jump or an unknown pixel become unknown."""
        height, width = self.depth.shape
        blocks = self.depth.reshape(height // 2, 2, width // 2, 2)
        low, high, mean = blocks.min((1, 3)), blocks.max((1, 3)), blocks.mean((1, 3))
        known = (low > 0) & (high - low < JUMP * mean)
        tolerance = self.tolerance.reshape(height // 2, 2, width // 2, 2).mean((1, 3))
        return ViewDepth(np.where(known, mean, 0).astype(np.float32), tolerance.astype(np.float32))


def depth_in_view(depth_map: DepthMap, camera: Camera, world_from_camera: Pose) -> ViewDepth:
    """Draw a depth map as seen by another camera.

    Args:
        depth_map: In the world frame.
        camera: Pinhole camera of the view at the wanted size.
        world_from_camera: Pose of the view.
    """
    view_from_map = world_from_camera.inverse() @ depth_map.world_from_camera
    points = view_from_map.apply(depth_map.camera.rays() * depth_map.depth[..., None].astype(np.float64))
    depth = points[..., 2]
    known = (depth_map.depth > 0) & (depth > 1e-6)
    pixels = np.zeros((*depth.shape, 2))
    pixels[known] = camera.project(points[known])
    tolerance = np.maximum(depth_map.sigma, RELATIVE_TOLERANCE * depth_map.depth)
    tolerance = np.where(depth_map.guessed, GUESSED_TOLERANCE * tolerance, tolerance)
    drawn, drawn_tolerance = _draw_surface(
        pixels.astype(np.float32),
        np.where(known, depth, 0).astype(np.float32),
        tolerance.astype(np.float32),
        camera.width,
        camera.height,
    )
    return ViewDepth(_without_edges(drawn), drawn_tolerance)


def _without_edges(depth: Float) -> Float:
    """Set pixels beside a jump of depth to unknown: which of both surfaces they show is a matter of a pixel."""
    jump = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        a = depth[:-1] if axis == 0 else depth[:, :-1]
        b = depth[1:] if axis == 0 else depth[:, 1:]
        steps = (a > 0) & (b > 0) & (np.abs(a - b) > JUMP * np.minimum(a, b))
        if axis == 0:
            jump[:-1] |= steps
            jump[1:] |= steps
        else:
            jump[:, :-1] |= steps
            jump[:, 1:] |= steps
    return np.where(jump, np.float32(0), depth)


@njit(nogil=True, error_model="numpy", cache=True)
def _draw_surface(pixels: Float, depth: Float, tolerance: Float, width: int, height: int) -> tuple[Float, Float]:
    """Depth buffer (height, width) of the mesh whose corners are a map's pixels, and the tolerance there.

    Args:
        pixels: (h, w, 2) where each corner lies in the picture.
        depth: (h, w) depth of each corner in the picture's camera, 0 where unknown.
        tolerance: (h, w).
        width: Of the picture [px].
        height: Of the picture [px].
    """
    drawn, drawn_tolerance = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    rows, columns = depth.shape
    corner_row, corner_column = np.empty(3, np.int64), np.empty(3, np.int64)
    for row in range(rows - 1):
        for column in range(columns - 1):
            low = min(depth[row, column], depth[row, column + 1], depth[row + 1, column], depth[row + 1, column + 1])
            high = max(depth[row, column], depth[row, column + 1], depth[row + 1, column], depth[row + 1, column + 1])
            if low <= 0 or high - low > JUMP * low:
                continue
            for half in range(2):
                corner_row[0], corner_column[0] = row + half, column + half
                corner_row[1], corner_column[1] = row, column + 1
                corner_row[2], corner_column[2] = row + 1, column
                _draw_triangle(pixels, depth, tolerance, corner_row, corner_column, drawn, drawn_tolerance)
    return drawn, drawn_tolerance


@njit(nogil=True, error_model="numpy", cache=True)
def _draw_triangle(
    pixels: Float,
    depth: Float,
    tolerance: Float,
    corner_row: NDArray[np.int64],
    corner_column: NDArray[np.int64],
    drawn: Float,
    drawn_tolerance: Float,
) -> None:
    """Draw one triangle where it is nearer than what is there; 1 / depth is linear on the screen."""
    height, width = drawn.shape
    r0, r1, r2 = corner_row[0], corner_row[1], corner_row[2]
    c0, c1, c2 = corner_column[0], corner_column[1], corner_column[2]
    x0, y0 = float(pixels[r0, c0, 0]), float(pixels[r0, c0, 1])
    x1, y1 = float(pixels[r1, c1, 0]), float(pixels[r1, c1, 1])
    x2, y2 = float(pixels[r2, c2, 0]), float(pixels[r2, c2, 1])
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    if area == 0.0:
        return
    left, right = max(0, int(np.ceil(min(x0, x1, x2) - 0.5))), min(width - 1, int(np.floor(max(x0, x1, x2) - 0.5)))
    top, bottom = max(0, int(np.ceil(min(y0, y1, y2) - 0.5))), min(height - 1, int(np.floor(max(y0, y1, y2) - 0.5)))
    for y in range(top, bottom + 1):
        for x in range(left, right + 1):
            px, py = x + 0.5, y + 0.5
            a = ((x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)) / area
            b = ((x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)) / area
            c = 1 - a - b
            if a < 0 or b < 0 or c < 0:
                continue
            z = 1 / (a / depth[r0, c0] + b / depth[r1, c1] + c / depth[r2, c2])
            if drawn[y, x] == 0 or z < drawn[y, x]:
                drawn[y, x] = z
                drawn_tolerance[y, x] = a * tolerance[r0, c0] + b * tolerance[r1, c1] + c * tolerance[r2, c2]
