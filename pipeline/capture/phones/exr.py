"""Depth in OpenEXR images: one channel of metres."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.depth_images import millimetres
from pipeline.capture.pictures import BadPictureError
from pipeline.errors import CaptureError


def depth_of_exr(data: bytes, file: str, max_pixels: int) -> NDArray[np.uint16]:
    """Depth (H, W) [mm] of an EXR image with one channel [m], as 32- or 16-bit float; 0 = unknown.

    Raises:
        BadPictureError: When it is truncated or damaged.
        CaptureError: When it is larger than `max_pixels` or has other channels.
    """
    import OpenEXR

    try:
        with OpenEXR.File(io.BytesIO(data), header_only=True) as image:
            header = image.header()  # emptied when the image is closed
            low, high = (np.array(corner, np.int64) for corner in header["dataWindow"])
            channels = len(header["channels"])
        width, height = (int(size) for size in high - low + 1)
        if width * height > max_pixels or channels != 1:
            raise CaptureError(
                f"an EXR depth image must have one channel and at most {max_pixels} pixels",
                found=f"{channels} channel(s), {width} x {height}",
                remedy="export raw depth, not a picture of it",
                file=file,
            )
        with OpenEXR.File(io.BytesIO(data), separate_channels=True) as image:
            (channel,) = image.channels().values()
            metres = np.array(channel.pixels)
    except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        raise BadPictureError(f"no readable EXR image: {error}") from error
    if metres.shape != (height, width) or metres.dtype.kind != "f":
        raise CaptureError(
            "an EXR depth image must hold one floating-point number a pixel",
            found=f"{metres.dtype} of shape {metres.shape} for {width} x {height} pixels",
            remedy="export raw depth, not a picture of it",
            file=file,
        )
    return millimetres(metres)
