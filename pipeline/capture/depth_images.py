"""Depth and confidence of a source (PNG, NumPy, OpenEXR): 16-bit millimetres with 0 = unknown, 8-bit confidence."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaptureError
from pipeline.io import arrays
from pipeline.io.image_files import MAX_PIXELS, BadImageError, open_image
from pipeline.types import U8, U16, Floats

NO_READING = 65535
"""Stored by some sensors where nothing was measured."""


def depth_of_png(data: bytes, file: str, units_per_metre: float = 1000.0) -> U16:
    """Depth (H, W) [mm] of a 16-bit PNG, 0 = unknown; 65535 counts as unknown, too.

    Raises:
        BadImageError: When it can't be decoded.
        CaptureError: When it is not a 16-bit single-channel PNG.
    """
    depth = decode_png(data)
    if depth.dtype.itemsize < 2 or depth.ndim != 2:
        raise CaptureError(
            "depth images must be 16-bit PNG with one channel",
            found=f"{8 * depth.dtype.itemsize}-bit with {1 if depth.ndim == 2 else depth.shape[2]} channel(s): "
            "a visualisation, its values are no distances",
            remedy="export raw depth",
            file=file,
        )
    known = depth != NO_READING
    if units_per_metre == 1000:
        return np.where(known, depth, 0).astype(np.uint16)
    return millimetres(np.where(known, depth, 0) / units_per_metre)


def millimetres(metres: Floats) -> U16:
    """Depth (H, W) [m] in millimetres; 0 where it isn't finite, not positive or 65.5 m and more away."""
    scaled = np.round(np.asarray(metres, np.float64) * 1000)
    known = np.isfinite(scaled) & (scaled > 0) & (scaled < NO_READING)
    return np.where(known, scaled, 0).astype(np.uint16)


def confidence_of_png(data: bytes, file: str, levels: tuple[int, ...] = ()) -> U8:
    """Confidence (H, W) of an 8-bit PNG, 0 worst, 255 best; the source's levels, if there are any, spread over 0..255.

    Raises:
        BadImageError: When it can't be decoded.
        CaptureError: When it isn't 8-bit with one channel, or has other values than the levels.
    """
    confidence = decode_png(data)
    if confidence.dtype != np.uint8 or confidence.ndim != 2:
        found = f"{confidence.dtype} of shape {confidence.shape}"
        raise _bad_confidence("a confidence image must be 8-bit with one channel", found, file)
    values = np.asarray(confidence, np.uint8)
    return spread_levels(values, file, levels) if levels else values


def spread_levels(confidence: U8, file: str, levels: tuple[int, ...]) -> U8:
    """Confidence whose values are `levels`, from worst to best, spread over 0..255.

    Raises:
        CaptureError: When it has other values.
    """
    table = np.full(256, -1)
    table[list(levels)] = np.linspace(0, 255, len(levels)).round()
    spread = table[confidence]
    if spread.min(initial=0) < 0:
        found = f"also {sorted(set(np.unique(confidence).tolist()) - set(levels))[:5]}"
        raise _bad_confidence(f"confidence must have the values {', '.join(map(str, levels))}", found, file)
    return spread.astype(np.uint8)


def _bad_confidence(rule: str, found: str, file: str) -> CaptureError:
    return CaptureError(rule, found=found, remedy="export the capture again", file=file)


def save_confidence(confidence: U8, shape: tuple[int, ...], file: str, path: Path) -> None:
    """Write confidence (H, W) as 8-bit PNG.

    Raises:
        CaptureError: When it hasn't the `shape` of the depth image `file`.
    """
    if confidence.shape != shape:
        found = f"{confidence.shape[1]} x {confidence.shape[0]} for depth of {shape[1]} x {shape[0]}"
        raise _bad_confidence("a confidence image must be of the depth image's size", found, file)
    save_depth(confidence, path)


def save_depth(values: U16 | U8, path: Path) -> None:
    """Write depth (H, W) [mm], or its confidence, as 16- or 8-bit PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), values, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise OSError(f"{path} could not be written")


def decode_png(data: bytes) -> NDArray[np.generic]:
    """Values of a PNG, (H, W) or (H, W, channels), decoded completely: OpenCV takes some truncated ones.

    Raises:
        BadImageError: When it can't be decoded.
    """
    with open_image(data, ("PNG",)) as image:
        return np.asarray(image)


def array_of_npy(data: bytes) -> NDArray[np.generic]:
    """The array of a NumPy file of version 1 or 2.

    Raises:
        BadImageError: When it is truncated, empty, too large, no NumPy file or holds anything but numbers.
    """
    try:
        values = arrays.array_of_npy(data)
    except arrays.BadArrayError as error:
        raise BadImageError(str(error)) from error
    if values.dtype.kind == "b" or not 0 < values.size <= MAX_PIXELS:
        raise BadImageError(f"an array of {values.dtype} of shape {values.shape}")
    return values


def depth_of_npy(data: bytes, file: str, units_per_metre: float | None = None) -> U16:
    """Depth (H, W) [mm] of a NumPy file (H, W) or (H, W, 1), 0 = unknown; 16-bit millimetres where no unit is given.

    Raises:
        BadImageError: When it is truncated or no NumPy file.
        CaptureError: When it holds something else.
    """
    values = array_of_npy(data)
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if values.ndim != 2 or (units_per_metre is None and values.dtype != np.dtype("<u2")):
        raise CaptureError(
            f"a depth file must hold one {'16-bit ' if units_per_metre is None else ''}number a pixel",
            found=f"{values.dtype} of shape {values.shape}",
            remedy="export the recording again, with depth as 16-bit PNG in millimetres",
            file=file,
        )
    if units_per_metre is None:
        return np.where(values == NO_READING, 0, values).astype(np.uint16)
    return millimetres(values.astype(np.float64) / units_per_metre)


def depth_of_exr(data: bytes, file: str, max_pixels: int) -> U16:
    """Depth (H, W) [mm] of an EXR image with one channel [m], as 32- or 16-bit float; 0 = unknown.

    Raises:
        BadImageError: When it is truncated or damaged.
        CaptureError: When it is larger than `max_pixels` or has other channels.
    """
    import OpenEXR

    def refused(rule: str, found: str) -> CaptureError:
        return CaptureError(rule, found=found, remedy="export raw depth, not an image of it", file=file)

    try:
        with OpenEXR.File(io.BytesIO(data), header_only=True) as image:
            header = image.header()  # emptied when the image is closed
            low, high = (np.array(corner, np.int64) for corner in header["dataWindow"])
            channels = len(header["channels"])
        width, height = (int(size) for size in high - low + 1)
        if width * height > max_pixels or channels != 1:
            rule = f"an EXR depth image must have one channel and at most {max_pixels} pixels"
            raise refused(rule, f"{channels} channel(s), {width} x {height}")
        with OpenEXR.File(io.BytesIO(data), separate_channels=True) as image:
            (channel,) = image.channels().values()
            metres = np.array(channel.pixels)
    except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        raise BadImageError(f"no readable EXR image: {error}") from error
    if metres.shape != (height, width) or metres.dtype.kind != "f":
        found = f"{metres.dtype} of shape {metres.shape} for {width} x {height} pixels"
        raise refused("an EXR depth image must hold one floating-point number a pixel", found)
    return millimetres(metres)
