"""Depth images as the sensor wrote them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaptureError
from pipeline.geometry import Camera
from pipeline.poses.scene import View

INVALID = 65535
"""What some sensors write for "nothing measured", beside 0."""


def read_depth(view: View, capture_folder: Path) -> tuple[NDArray[np.float32], NDArray[np.uint8], Camera]:
    """Depth (H, W) [m] with 0 = unknown, confidence (H, W) of 255 where the sensor gives none, and their camera.

    Raises:
        CaptureError: When the image is missing, not 16-bit, or not of its camera's size.
    """
    if view.sensor_depth is None:
        raise ValueError(f"view {view.name} has no depth image")
    path = capture_folder / view.sensor_depth
    raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype != np.uint16 or raw.ndim != 2:
        found = "no readable picture" if raw is None else f"{raw.dtype} with shape {raw.shape}"
        raise CaptureError(
            "a depth image is a 16-bit PNG of one channel, in millimetres",
            found=found,
            remedy="convert the depth images, or remove them and build from the pictures alone",
            file=path,
        )
    height, width = raw.shape
    camera = view.depth_camera or view.camera.resized(width, height)
    confidence = np.full(raw.shape, 255, np.uint8)
    if view.sensor_confidence is not None:
        read = cv2.imread(str(capture_folder / view.sensor_confidence), cv2.IMREAD_UNCHANGED)
        confidence = confidence if read is None else np.ascontiguousarray(read, np.uint8)
    if (camera.height, camera.width) != raw.shape or confidence.shape != raw.shape:
        raise CaptureError(
            "depth, its confidence and its intrinsics have one size",
            found=f"depth {raw.shape[::-1]}, confidence {confidence.shape[::-1]}, "
            f"camera {(camera.width, camera.height)}",
            remedy="give the intrinsics of the depth image's own resolution",
            file=path,
        )
    metres = raw.astype(np.float32) / np.float32(1000)
    metres[raw == INVALID] = 0
    return metres, confidence, camera
