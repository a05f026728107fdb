"""Training views: photos, depth and masks at the sizes that training goes through."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from pipeline.depth.maps import DepthMap
from pipeline.geometry import Camera, Pose
from pipeline.geometry.jit import njit
from pipeline.types import F32, I64, U8, Mask

LEVELS = 3
"""Sizes of the image pyramid: full, half, quarter."""
AUTO_LONG_SIDE = 480
"""Largest long side that `image_size=0` chooses [px]."""
JUMP = 0.05
"""Relative difference of depth between neighbours above which no surface connects them: a floor seen from 1.3 m height
stays below it up to 13 m at 256 px width."""
RELATIVE_TOLERANCE = 0.005
"""Lower bound of the tolerance, relative to the depth: interpolation and rounding."""
GUESSED_TOLERANCE = 4.0
"""Factor of the tolerance of guessed depth, which then pulls less."""


@dataclass(frozen=True, eq=False)
class ViewDepth:
    """Depth in a colour view."""

    depth: F32  # (H, W) float32 along the optical axis [world units], 0 where unknown
    tolerance: F32  # (H, W) float32 [world units], the difference that doesn't matter

    def halved(self) -> ViewDepth:
        """Half the size (both sides must be even); blocks with a jump or an unknown pixel become unknown."""
        height, width = self.depth.shape
        blocks = self.depth.reshape(height // 2, 2, width // 2, 2)
        low, high, mean = blocks.min((1, 3)), blocks.max((1, 3)), blocks.mean((1, 3))
        known = (low > 0) & (high - low < JUMP * mean)
        tolerance = self.tolerance.reshape(height // 2, 2, width // 2, 2).mean((1, 3))
        return ViewDepth(np.where(known, mean, 0).astype(np.float32), tolerance.astype(np.float32))


@dataclass(frozen=True, eq=False)
class PyramidLevel:
    """A view at one size."""

    camera: Camera  # pinhole camera at this size
    photo: U8  # (3, H, W) uint8
    depth: ViewDepth | None  # measured depth in the view, or None
    mask: Mask | None = None  # (H, W), False where the photo is to be ignored; None where all of it counts


@dataclass(frozen=True, eq=False)
class TrainingView:
    """A photo that training may use; `gain` (3,) is the factor from the splat's brightness to its own, per channel."""

    name: str
    world_from_camera: Pose
    levels: tuple[PyramidLevel, ...]  # the full training size, half, quarter
    gain: F32 = field(default_factory=lambda: np.ones(3, np.float32))


def training_camera(camera: Camera, image_size: int = 0) -> Camera:
    """The camera of an undistorted image at the size that training and evaluation render.

    Its long side is `image_size` [px], or with 0 half the image's, at most 480, and never more than the image has. Both
    sides are rounded to a multiple of 4, so that the pyramid's pixels nest.
    """
    long_side = max(camera.width, camera.height)
    requested = min(image_size or min(long_side // 2, AUTO_LONG_SIDE), long_side)
    width, height = (max(4, round(side * requested / long_side / 4) * 4) for side in (camera.width, camera.height))
    return camera.resized(width, height)


def training_view(
    name: str, photo: U8, camera: Camera, world_from_camera: Pose, depth: ViewDepth | None, mask: Mask | None = None
) -> TrainingView:
    """Build the pyramid of a view.

    The photo (H, W, 3) uint8, the depth and the mask (False = ignore) have the size of a `training_camera`.

    Raises:
        ValueError: When sizes disagree.
    """
    if photo.shape[:2] != (camera.height, camera.width):
        raise ValueError(f"view {name}: the photo is {photo.shape[:2]}, its camera {(camera.height, camera.width)}")
    levels = []
    if depth is not None and mask is not None:  # the sensor saw the same passer-by
        depth = ViewDepth(np.where(mask, depth.depth, np.float32(0)), depth.tolerance)
    for level in range(LEVELS):
        size = camera.width >> level, camera.height >> level
        small = photo if level == 0 else cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
        planes = np.ascontiguousarray(np.moveaxis(np.asarray(small, np.uint8), -1, 0))
        levels.append(PyramidLevel(camera.resized(*size), planes, depth, mask))
        if level + 1 < LEVELS:
            depth = None if depth is None else depth.halved()
            if mask is not None:  # a pixel counts only where all four do
                mask = np.asarray(mask.reshape(size[1] // 2, 2, size[0] // 2, 2).all((1, 3)))
    return TrainingView(name, world_from_camera, tuple(levels))


def depth_in_view(depth_map: DepthMap, camera: Camera, world_from_camera: Pose) -> ViewDepth:
    """Draw a depth map as seen by another camera.

    The map's pixels are the corners of a mesh. Quads across a jump of depth are left out; the rest is drawn into the
    other camera with a depth buffer. Unlike splatted points that leaves no holes where the other image is finer, and
    near surfaces cover far ones. The map is in the world frame, the camera a pinhole.
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
    # pixels next to a jump become unknown: which of both surfaces they show is a matter of a pixel
    jump = np.zeros(drawn.shape, bool)
    for before, after in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        a, b = drawn[before], drawn[after]
        steps = (a > 0) & (b > 0) & (np.abs(a - b) > JUMP * np.minimum(a, b))
        jump[before] |= steps
        jump[after] |= steps
    return ViewDepth(np.where(jump, np.float32(0), drawn), drawn_tolerance)


@njit(nogil=True, error_model="numpy", cache=True)
def _draw_surface(pixels: F32, depth: F32, tolerance: F32, width: int, height: int) -> tuple[F32, F32]:
    """Depth buffer and its tolerance of the mesh with corners at `pixels` (h, w, 2) of depth (h, w), 0 = unknown."""
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
    pixels: F32, depth: F32, tolerance: F32, corner_row: I64, corner_column: I64, drawn: F32, drawn_tolerance: F32
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
