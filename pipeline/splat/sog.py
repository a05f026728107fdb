"""The `web` level on disk: SOG (Spatially Ordered Gaussians) version 2, a zip of lossless WebP pictures.

One pixel a Gaussian, in Morton order so that neighbours in space are neighbours in the pictures: positions as 16 bits
of their signed logarithm, rotations as their three smaller components, scales and colours as indices of a codebook,
view-dependent colour as an index of a palette. Source: PlayCanvas, The SOG Format (developer.playcanvas.com).
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import BundleError
from pipeline.geometry import Gaussians
from pipeline.image_files import open_image
from pipeline.splat.codebook import codebook, palette
from pipeline.splat.ply import MAX_GAUSSIANS, MAX_LOG_SCALE

Float = NDArray[np.float32]
Pixels = NDArray[np.uint8]

PALETTE = 65_536
"""Largest number of different view dependences, the format's own: with 8192 for 46 000 Gaussians redkitchen loses 4 dB,
and with this many nothing."""
PALETTE_COLUMNS = 64
"""Entries of the palette in one row of its picture, as the format wants it."""
FIRST_TAG = 252
"""Alpha of a rotation's pixel when w is its largest component; x, y and z follow."""
OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
"""The components that are stored, by the one that isn't."""
LEAST_OPACITY = 1e-6
MAX_ENTRY_BYTES = 2**30
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every entry: equal splats make equal files."""
META_FILE = "meta.json"
REMEDY = "fetch the file again, or take another level of detail"


def save_sog(gaussians: Gaussians, path: Path, about: Mapping[str, Any] | None = None) -> None:
    """Write a bundled SOG. Lossy: positions to some tenths of a millimetre, colours to about two of 255 levels.

    Args:
        gaussians: At least one.
        path: The file.
        about: Goes into the file's `asset.extras`, as in glTF; its "licence" is the copyright.

    Raises:
        ValueError: When there is no Gaussian or a value is not finite.
    """
    if not len(gaussians):
        raise ValueError("a splat needs at least one Gaussian, got none")
    if not all(np.isfinite(values).all() for values in vars(gaussians).values()):
        raise ValueError("a splat's values must be finite")
    gaussians = gaussians[morton_order(gaussians.means)]
    width = 4 * math.ceil(math.sqrt(len(gaussians)) / 4)
    logs = np.sign(gaussians.means) * np.log1p(np.abs(gaussians.means).astype(np.float64))
    low, high = logs.min(0), logs.max(0)
    steps = np.round((logs - low) / np.maximum(high - low, 1e-12) * 65535).astype(np.uint16)
    scale_codes, scales = codebook(gaussians.log_scales)
    color_codes, colors = codebook(gaussians.sh[:, 0])
    opacity = np.round(255 / (1 + np.exp(-gaussians.opacity_logits.astype(np.float64))))
    meta: dict[str, Any] = {
        "version": 2,
        "asset": {"generator": "splatyard"} | ({"copyright": about["licence"], "extras": about} if about else {}),
        "count": len(gaussians),
        "antialias": gaussians.antialiased,
        "means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": scales.tolist(), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": colors.tolist(), "files": ["sh0.webp"]},
    }
    pictures = {
        "means_l.webp": _picture((steps & 255).astype(np.uint8), width),
        "means_u.webp": _picture((steps >> 8).astype(np.uint8), width),
        "scales.webp": _picture(scale_codes, width),
        "quats.webp": _picture(_pack_rotations(gaussians.quaternions), width),
        "sh0.webp": _picture(np.column_stack([color_codes, opacity.astype(np.uint8)]), width),
    }
    if gaussians.sh.shape[1] > 1:
        labels, centres = palette(gaussians.sh[:, 1:].reshape(len(gaussians), -1), PALETTE)
        codes, rest = codebook(centres)
        coefficients = gaussians.sh.shape[1] - 1
        meta["shN"] = {
            "count": len(centres),
            "bands": math.isqrt(coefficients + 1) - 1,
            "codebook": rest.tolist(),
            "files": ["shN_centroids.webp", "shN_labels.webp"],
        }
        pictures["shN_centroids.webp"] = _picture(codes.reshape(-1, 3), PALETTE_COLUMNS * coefficients)
        both = np.column_stack([labels & 255, labels >> 8, np.zeros_like(labels)])
        pictures["shN_labels.webp"] = _picture(both.astype(np.uint8), width)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(META_FILE, ZIP_DATE), json.dumps(meta, separators=(",", ":")))
        for name, pixels in pictures.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_DATE), _webp(pixels))


def load_sog(path: Path) -> Gaussians:
    """Read a bundled SOG of version 2.

    Raises:
        BundleError: When it is no such file, too large, cut short, or holds values that no splat can have.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _decode(archive, path.stat().st_size)
    except Exception as error:  # the decoders of zip and of pictures raise many kinds on damaged files
        raise BundleError(
            "a SOG is a zip of meta.json (version 2) and the pictures that it names",
            found=f"{type(error).__name__}: {error}",
            remedy=REMEDY,
            file=path,
        ) from error


def morton_order(points: Float) -> NDArray[np.int64]:
    """Order (N,) in which points (N, 3) follow a Z-curve of 21 bits an axis."""
    low = points.min(0).astype(np.float64)
    extent = np.maximum(points.max(0) - low, 1e-12)
    cells = ((points - low) / extent * (2**21 - 1)).astype(np.uint64)
    code = np.zeros(len(points), np.uint64)
    for axis in range(3):
        spread = cells[:, axis]
        for shift, mask in (
            (32, 0x1F00000000FFFF),
            (16, 0x1F0000FF0000FF),
            (8, 0x100F00F00F00F00F),
            (4, 0x10C30C30C30C30C3),
            (2, 0x1249249249249249),
        ):
            spread = (spread | (spread << np.uint64(shift))) & np.uint64(mask)
        code |= spread << np.uint64(axis)
    return np.argsort(code, kind="stable")


def _pack_rotations(quaternions: Float) -> Pixels:
    """Pixels (N, 4): three components in steps of 1/255 of their range, alpha tells which one is left out."""
    unit = quaternions.astype(np.float64) / np.linalg.norm(quaternions, axis=1, keepdims=True)
    largest = np.abs(unit).argmax(1)
    rows = np.arange(len(unit))
    unit = unit * np.where(unit[rows, largest] < 0, -1.0, 1.0)[:, None]
    kept = unit[rows[:, None], OTHERS[largest]] * math.sqrt(2)
    return np.column_stack([np.round((kept + 1) / 2 * 255), FIRST_TAG + largest]).clip(0, 255).astype(np.uint8)


def _unpack_rotations(pixels: Pixels) -> Float:
    largest = pixels[:, 3].astype(np.int64) - FIRST_TAG
    if len(pixels) and largest.min() < 0:
        raise ValueError("a rotation whose largest component is unknown")
    kept = (pixels[:, :3] / 255 * 2 - 1) / math.sqrt(2)
    unit, rows = np.zeros((len(pixels), 4)), np.arange(len(pixels))
    unit[rows[:, None], OTHERS[largest]] = kept
    unit[rows, largest] = np.sqrt(np.maximum(0, 1 - (kept**2).sum(1)))
    return unit.astype(np.float32)


def _decode(archive: zipfile.ZipFile, size: int) -> Gaussians:
    meta = json.loads(_entry(archive, META_FILE))
    if meta["version"] != 2:
        raise ValueError(f"version {meta['version']}")
    count = int(meta["count"])
    if not 0 < count <= min(MAX_GAUSSIANS, size):  # they have several bytes each, however well a picture packs
        raise ValueError(f"{count} Gaussians in {size} bytes")

    def pixels(part: str, index: int = 0) -> Pixels:
        flat = _pixels(_entry(archive, meta[part]["files"][index])).reshape(-1, 4)
        if len(flat) < count:
            raise ValueError(f"{part}: {len(flat)} pixels for {count} Gaussians")
        return flat[:count]

    steps = pixels("means")[:, :3] + 256.0 * pixels("means", 1)[:, :3]
    low, high = (np.array(meta["means"][name], np.float64) for name in ("mins", "maxs"))
    logs = low + (high - low) * steps / 65535
    base = pixels("sh0")
    opacity = np.clip(base[:, 3] / 255, LEAST_OPACITY, 1 - LEAST_OPACITY)
    sh = _codes(meta, "sh0")[base[:, :3]][:, None]
    if "shN" in meta:
        sh = np.concatenate([sh, _view_dependence(archive, meta, pixels)], 1)
    log_scales = _codes(meta, "scales")[pixels("scales")[:, :3]]
    means = np.sign(logs) * np.expm1(np.abs(logs))
    if not (np.isfinite(means).all() and np.isfinite(sh).all() and (np.abs(log_scales) <= MAX_LOG_SCALE).all()):
        raise ValueError("values that are not finite, or log scales beyond ±20")
    return Gaussians(
        means.astype(np.float32),
        log_scales.astype(np.float32),
        _unpack_rotations(pixels("quats")),
        np.log(opacity / (1 - opacity)).astype(np.float32),
        sh.astype(np.float32),
        antialiased=meta.get("antialias") is True,
    )


def _view_dependence(
    archive: zipfile.ZipFile, meta: dict[str, Any], pixels: Callable[[str, int], Pixels]
) -> NDArray[np.float64]:
    """Coefficients (N, K - 1, 3) above degree 0."""
    bands, count = int(meta["shN"]["bands"]), int(meta["shN"]["count"])
    coefficients = (bands + 1) ** 2 - 1
    if bands not in (1, 2, 3) or not 0 < count <= 2**16:
        raise ValueError(f"shN: {bands} bands, {count} entries")
    labels = pixels("shN", 1)[:, :2] @ np.array([1, 256])
    entries = _pixels(_entry(archive, meta["shN"]["files"][0]))
    if entries.shape[1] != PALETTE_COLUMNS * coefficients or labels.max() >= count:
        raise ValueError(f"shN: a palette {entries.shape[1]} pixels wide, labels up to {labels.max()} of {count}")
    centres = entries.reshape(-1, coefficients, 4)[:, :, :3]
    return _codes(meta, "shN")[centres[labels]]


def _codes(meta: dict[str, Any], part: str) -> NDArray[np.float64]:
    values = np.array(meta[part]["codebook"], np.float64)
    if values.shape != (256,):
        raise ValueError(f"{part}: a codebook of shape {values.shape}")
    return values


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MAX_ENTRY_BYTES:
        raise ValueError(f"{name} is larger than {MAX_ENTRY_BYTES} bytes")
    return archive.read(name)


def _pixels(data: bytes) -> Pixels:
    """RGBA (H, W, 4)."""
    with open_image(data, ("WEBP", "PNG"), most=2 * MAX_GAUSSIANS) as image:
        return np.array(image.convert("RGBA"))


def _picture(values: Pixels, width: int) -> Pixels:
    """Values (N, C) row by row as a picture (H, width, C), the last row filled up with zeros."""
    height = math.ceil(len(values) / width)
    padded = np.zeros((height * width, values.shape[1]), np.uint8)
    padded[: len(values)] = values
    return padded.reshape(height, width, -1)


def _webp(pixels: Pixels) -> bytes:
    """Lossless, colours kept where alpha is 0."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", lossless=True, exact=True, quality=100, method=4)
    return stream.getvalue()
