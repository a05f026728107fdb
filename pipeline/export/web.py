"""Splats for pages: SOG for PlayCanvas's viewers, SPZ for the others.

Source: github.com/nianticlabs/spz, README.md and src/cc/load-spz.cc. Version 3 is a gzip of columns of bytes; version 4
has a zstd frame for each column, and fewer viewers read it.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np

from pipeline.export.form import Y_DOWN, Y_UP, origin
from pipeline.geometry import Gaussians
from pipeline.scenes.bundle import Bundle
from pipeline.splat.sog import save_sog
from pipeline.types import F32, U8, U32, Floats


def export_sog(bundle: Bundle, folder: Path) -> None:
    """Write `scene.sog`, the full splat."""
    save_sog(bundle.splat().transformed(Y_DOWN), folder / "scene.sog", origin(bundle))


def export_spz(bundle: Bundle, folder: Path) -> None:
    """Write `scene.spz`, the full splat."""
    save_spz(bundle.splat().transformed(Y_UP), folder / "scene.spz")


def export_spz4(bundle: Bundle, folder: Path) -> None:
    """Write `scene.spz`, the full splat, in version 4."""
    save_spz4(bundle.splat().transformed(Y_UP), folder / "scene.spz")


MAGIC, GZIPPED, ZSTD = 0x5053474E, 3, 4
"""What files begin with, and the versions."""
HEADER_BYTES = 32
"""Of version 4; what it needs none of is zero."""
FRACTION_BITS = 12
"""Fraction bits of a position, as the reference writes it: steps of a quarter of a millimetre, within 2 km."""
LARGEST = 2**23 - 1
ANTIALIASED = 1
"""The flag of splats that were trained with anti-aliasing."""
SCALE_STEPS, MIN_LOG_SCALE = 16, -10
COLOR_RANGE = 0.15
SH_STEPS = 128
OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
"""The components xyzw that are stored, by the one that isn't."""


def save_spz(gaussians: Gaussians, path: Path) -> None:
    """Write an SPZ of version 3; y is up by its specification, so turn the Gaussians before.

    Equal splats make equal files.

    Raises:
        ValueError: When there is no Gaussian or a value is not finite.
    """
    about, columns = _columns(gaussians)
    header = struct.pack("<IIIBBBB", MAGIC, GZIPPED, len(gaussians), *about, 0)
    path.write_bytes(gzip.compress(header + b"".join(columns), mtime=0))


def save_spz4(gaussians: Gaussians, path: Path) -> None:
    """Write an SPZ of version 4, as `save_spz`: a header, the sizes of each column, and the columns.

    Raises:
        ValueError: When there is no Gaussian or a value is not finite.
    """
    from backports import zstd

    about, columns = _columns(gaussians)
    whole = [column for column in columns if column]
    packed = [zstd.compress(column) for column in whole]
    header = struct.pack("<IIIBBBBI", MAGIC, ZSTD, len(gaussians), *about, len(packed), HEADER_BYTES)
    sizes = b"".join(struct.pack("<QQ", len(small), len(column)) for small, column in zip(packed, whole, strict=True))
    path.write_bytes(header.ljust(HEADER_BYTES, b"\0") + sizes + b"".join(packed))


def _columns(gaussians: Gaussians) -> tuple[tuple[int, int, int], list[bytes]]:
    """Degree, fraction bits and flags; and the columns of both versions."""
    if not len(gaussians) or not all(np.isfinite(values).all() for values in vars(gaussians).values()):
        raise ValueError("a splat needs at least one Gaussian, all of them finite")
    farthest = max(float(np.abs(gaussians.means).max()), 1.0)
    fraction = min(FRACTION_BITS, math.floor(math.log2(LARGEST / farthest)))
    degree = math.isqrt(gaussians.sh.shape[1]) - 1
    fixed = np.ascontiguousarray(np.round(gaussians.means.astype(np.float64) * 2**fraction).astype("<i4"))
    columns = [
        fixed[..., None].view(np.uint8)[..., :3],
        _bytes(gaussians.opacities * 255).clip(1, 254),  # readers take logits, which 0 and 1 have none of
        _bytes((gaussians.sh[:, 0] * COLOR_RANGE + 0.5) * 255),
        _bytes((gaussians.log_scales - MIN_LOG_SCALE) * SCALE_STEPS),
        _rotations(gaussians.quaternions),
        _bytes(gaussians.sh[:, 1:] * SH_STEPS + SH_STEPS),
    ]
    flags = ANTIALIASED if gaussians.antialiased else 0
    return (degree, fraction, flags), [column.tobytes() for column in columns]


def _bytes(values: Floats) -> U8:
    return np.round(values).clip(0, 255).astype(np.uint8)


def _rotations(quaternions: F32) -> U32:
    """Packed rotations of wxyz (N, 4): the number of the largest of x, y, z, w, then sign and size of the others."""
    xyzw = np.roll(quaternions.astype(np.float64), -1, 1)
    xyzw /= np.linalg.norm(xyzw, axis=1, keepdims=True)
    largest, rows = np.abs(xyzw).argmax(1), np.arange(len(xyzw))
    kept = xyzw[rows[:, None], OTHERS[largest]]
    negative = (kept < 0) ^ (xyzw[rows, largest] < 0)[:, None]
    size = np.round(np.abs(kept) * math.sqrt(2) * 511).astype(np.uint32)
    parts = negative.astype(np.uint32) << np.uint32(9) | size
    packed = largest.astype(np.uint32)
    for part in parts.T:
        packed = packed << np.uint32(10) | part
    return packed.astype("<u4")
