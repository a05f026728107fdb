"""Depth and confidence images at the border: 16-bit millimetres with 0 = unknown, 8-bit confidence."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.capture.pictures import MAX_PIXELS, BadPictureError
from pipeline.errors import CaptureError

NO_READING = 65535


def write_depth(data: bytes, file: str, path: Path) -> tuple[int, int]:
    """Check a depth PNG and write it to `path` with 65535 turned into 0; returns (width, height).

    Raises:
        BadPictureError: When it can't be decoded.
        CaptureError: When it is not a 16-bit single-channel PNG.
    """
    depth = _decode(data)
    if depth.dtype.itemsize < 2 or depth.ndim != 2:
        raise CaptureError(
            "depth images must be 16-bit PNG with one channel, in millimetres",
            found=f"{8 * depth.dtype.itemsize}-bit with {1 if depth.ndim == 2 else depth.shape[2]} channel(s): "
            "a visualisation, its values are no distances",
            remedy="export raw depth",
            file=file,
        )
    if (depth == NO_READING).any():
        encoded, png = cv2.imencode(
            ".png", np.where(depth == NO_READING, 0, depth).astype(np.uint16), [cv2.IMWRITE_PNG_COMPRESSION, 1]
        )
        assert encoded
        path.write_bytes(png.tobytes())
    else:
        path.write_bytes(data)
    return depth.shape[1], depth.shape[0]


def write_confidence(data: bytes, file: str, path: Path, size: tuple[int, int]) -> None:
    """Check an 8-bit confidence PNG (0 worst, 255 best) of the depth image's `size` and copy it.

    Raises:
        BadPictureError: When it can't be decoded.
        CaptureError: When it is not 8-bit, or of another size than the depth.
    """
    confidence = _decode(data)
    found = (confidence.shape[1], confidence.shape[0])
    if confidence.dtype != np.uint8 or confidence.ndim != 2 or found != size:
        raise CaptureError(
            "a confidence image must be 8-bit with one channel and of the depth image's size",
            found=f"{confidence.dtype} {found[0]} x {found[1]} beside depth of {size[0]} x {size[1]}",
            remedy="export the capture again",
            file=file,
        )
    path.write_bytes(data)


def _decode(data: bytes) -> NDArray[np.generic]:
    """Decode a PNG completely (Pillow refuses truncated ones, OpenCV does not always)."""
    try:
        image = Image.open(io.BytesIO(data))
        if image.format != "PNG":
            raise BadPictureError(f"{image.format} instead of PNG")
        if image.width * image.height > MAX_PIXELS:
            raise BadPictureError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS // 10**6} million")
        return np.asarray(image)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise BadPictureError(str(error)) from error
