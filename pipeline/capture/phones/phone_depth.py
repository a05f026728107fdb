"""Depth of phones: it shows what the picture shows, in fewer pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.depth_images import NO_READING
from pipeline.capture.frames import Size
from pipeline.capture.npy import array_of_npy
from pipeline.errors import CaptureError
from pipeline.geometry import Camera

ASPECT_TOLERANCE = 0.01
"""Relative; a size may be rounded by a pixel, but neither cropped nor turned."""


def scaled_camera(camera: Camera, file: str, what: str = "picture") -> Callable[[Size], Camera]:
    """Gives `camera` scaled to another size; a size of another shape is refused, naming `file` and `what` it is."""

    def scaled(size: Size) -> Camera:
        if abs(size[0] * camera.height / (size[1] * camera.width) - 1) > ASPECT_TOLERANCE:
            raise CaptureError(
                f"a {what} must show what its intrinsics are for, {camera.width} x {camera.height} or scaled",
                found=f"{size[0]} x {size[1]}",
                remedy="use the recording as the app exported it, neither cropped nor turned",
                file=file,
            )
        return camera if size == (camera.width, camera.height) else camera.resized(*size)

    return scaled


def depth_of_npy(data: bytes, file: str) -> NDArray[np.uint16]:
    """Depth (H, W) [mm] of a NumPy file of 16-bit integers, 0 = unknown.

    Raises:
        BadPictureError: When it is truncated or no NumPy file.
        CaptureError: When it holds something else.
    """
    depth = array_of_npy(data)
    if depth.dtype != np.dtype("<u2") or depth.ndim != 2:
        raise CaptureError(
            "a depth file must hold one 16-bit number a pixel",
            found=f"{depth.dtype} of shape {depth.shape}",
            remedy="export the recording again",
            file=file,
        )
    return np.where(depth == NO_READING, 0, depth).astype(np.uint16)
