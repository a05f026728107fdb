"""Training views: photos and depth at the sizes that training goes through."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Pose
from pipeline.splat.masks import halved_mask, without_masked
from pipeline.splat.supervision import ViewDepth

LEVELS = 3
"""Sizes of the pyramid: whole, half, quarter."""
AUTO_LONG_SIDE = 480
"""Largest long side that `image_size=0` chooses [px]."""


@dataclass(frozen=True, eq=False)
class Level:
    """A view at one size.

    Attributes:
        camera: Pinhole.
        photo: (3, H, W) uint8.
        depth: Measured depth in the view, or None.
        mask: (H, W), False where the photo is to be ignored; None where all of it counts.
    """

    camera: Camera
    photo: NDArray[np.uint8]
    depth: ViewDepth | None
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class TrainingView:
    """A photo that training may use.

    Attributes:
        name: The view's name.
        world_from_camera: Its pose.
        levels: From the whole training size to the quarter.
        gain: (3,) float32, how much brighter than the splat each channel of the photo is.
    """

    name: str
    world_from_camera: Pose
    levels: tuple[Level, ...]
    gain: NDArray[np.float32] = field(default_factory=lambda: np.ones(3, np.float32))


def training_camera(camera: Camera, image_size: int = 0) -> Camera:
    """The camera at the size that training and evaluation render.

    Args:
        camera: Of the undistorted picture.
        image_size: Long side [px]; 0 takes half the picture's, at most 480. Never more than the picture has. Both sides
            are rounded to a multiple of 4, so that the pyramid's pixels nest.
    """
    long_side = max(camera.width, camera.height)
    wanted = min(image_size or min(long_side // 2, AUTO_LONG_SIDE), long_side)
    width, height = (max(4, round(side * wanted / long_side / 4) * 4) for side in (camera.width, camera.height))
    return camera.resized(width, height)


def training_view(
    name: str,
    photo: NDArray[np.uint8],
    camera: Camera,
    world_from_camera: Pose,
    depth: ViewDepth | None,
    mask: NDArray[np.bool_] | None = None,
) -> TrainingView:
    """Build the pyramid of a view.

    Args:
        name: The view's name.
        photo: (H, W, 3) uint8 at the camera's size, both sides multiples of 4.
        camera: Of `training_camera`.
        world_from_camera: Its pose.
        depth: At the same size, or None.
        mask: (H, W), False = ignore; None ignores nothing.

    Raises:
        ValueError: When sizes disagree.
    """
    if photo.shape[:2] != (camera.height, camera.width):
        raise ValueError(f"view {name}: the photo is {photo.shape[:2]}, its camera {(camera.height, camera.width)}")
    levels = []
    depth = without_masked(depth, mask)
    for level in range(LEVELS):
        size = camera.width >> level, camera.height >> level
        small = photo if level == 0 else cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
        planes = np.ascontiguousarray(np.moveaxis(np.asarray(small, np.uint8), -1, 0))
        levels.append(Level(camera.resized(*size), planes, depth, mask))
        if level + 1 < LEVELS:
            depth = None if depth is None else depth.halved()
            mask = None if mask is None else halved_mask(mask)
    return TrainingView(name, world_from_camera, tuple(levels))
