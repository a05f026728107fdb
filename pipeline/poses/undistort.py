"""Pinhole pictures of a lens with distortion, of the same size and without empty borders."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera

NEGLIGIBLE = 0.1
"""Distortion that moves no pixel by more [px] is left: resampling would blur more than it corrects."""


def pinhole_for(camera: Camera) -> Camera:
    """The pinhole camera of the same size, zoomed in (or out) just so far that every pixel has a source."""
    if camera.is_pinhole or _largest_shift(camera) < NEGLIGIBLE:
        return Camera(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy)
    low, high = 0.7, 2.0
    for _ in range(30):
        middle = (low + high) / 2
        if _covered(_zoomed(camera, middle), camera):
            high = middle
        else:
            low = middle
    return _zoomed(camera, high)


def undistort(picture: NDArray[np.uint8], camera: Camera, pinhole: Camera) -> NDArray[np.uint8]:
    """The picture (H, W, 3) that the pinhole camera would have taken."""
    if camera.is_pinhole or _largest_shift(camera) < NEGLIGIBLE:
        return picture
    source = _source(camera, pinhole)
    result = cv2.remap(picture, source[..., 0], source[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(result, np.uint8)


def undistort_mask(mask: NDArray[np.bool_], camera: Camera, pinhole: Camera) -> NDArray[np.bool_]:
    """Which pixels (H, W) of the pinhole camera's picture show only pixels of the picture that count."""
    if camera.is_pinhole or _largest_shift(camera) < NEGLIGIBLE:
        return mask
    source = _source(camera, pinhole)
    near = cv2.erode(mask.astype(np.float32), np.ones((3, 3), np.uint8))  # the cubic kernel reaches two pixels far
    result = cv2.remap(near, source[..., 0], source[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(result, np.float32) > 1 - 1e-3


def _source(camera: Camera, pinhole: Camera) -> NDArray[np.float32]:
    """Where (H, W, 2) the pinhole camera's pixels lie in the picture, in OpenCV's convention."""
    return camera.project(pinhole.rays()).astype(np.float32) - np.float32(0.5)


def _zoomed(camera: Camera, zoom: float) -> Camera:
    return Camera(camera.width, camera.height, camera.fx * zoom, camera.fy * zoom, camera.cx, camera.cy)


def _border(camera: Camera) -> NDArray[np.float64]:
    """Pixels (N, 2) all along the picture's edge."""
    x, y = np.linspace(0, camera.width, 64), np.linspace(0, camera.height, 64)
    sides = [np.c_[x, 0 * x], np.c_[x, 0 * x + camera.height], np.c_[0 * y, y], np.c_[0 * y + camera.width, y]]
    return np.concatenate(sides)


def _covered(pinhole: Camera, camera: Camera) -> bool:
    source = camera.project(pinhole.rays(_border(pinhole)))
    inside = (source >= 0) & (source <= np.array([camera.width, camera.height]))
    return bool(inside.all())


def _largest_shift(camera: Camera) -> float:
    ideal = _zoomed(camera, 1.0)
    border = _border(camera)
    return float(np.abs(camera.project(ideal.rays(border)) - border).max())
