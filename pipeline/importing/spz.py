"""SPZ files, versions 2 to 4. Source: github.com/nianticlabs/spz (README.md, load-spz.cc, extensions)."""

from __future__ import annotations

import logging
import math
import struct
import zlib
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.errors import BundleError
from pipeline.export.web import ANTIALIASED, COLOR_RANGE, MAGIC, MIN_LOG_SCALE, SCALE_STEPS, SH_STEPS
from pipeline.geometry import Gaussians
from pipeline.importing.splat_values import CONVERT, counted, opacity_logits, whole_quaternions

logger = logging.getLogger(__name__)

GZIPPED = (2, 3)
"""Versions that are one gzip of a header and columns of bytes; version 4 has a zstd frame for each column."""
EXTENDED = 2
"""The flag of files with extensions."""
ORBIT = 0xADBE0002
"""The extension that limits a viewer's camera; others may change what the columns mean."""
MAX_DEGREE, KEPT_DEGREE = 4, 3
"""Of view dependence: in files, and in Gaussians."""


def read_spz(path: Path) -> Gaussians:
    """Read an SPZ in its axes, y up.

    Raises:
        BundleError: When it has extensions that aren't known.
        ValueError: When it is damaged, as other errors of decoders.
    """
    with path.open("rb") as opened:
        magic = opened.read(4)
        opened.seek(0)
        if magic[:2] == b"\x1f\x8b":
            return _gaussians(*_gzipped(opened))
        if struct.unpack("<I", magic) != (MAGIC,):
            raise ValueError("no SPZ")
        return _gaussians(*_streams(opened.read(), path))


def _widths(degree: int, version: int) -> tuple[int, ...]:
    """Bytes of a Gaussian in each column: positions, opacities, colours, scales, rotations, view dependence."""
    return 9, 1, 3, 3, 3 if version == GZIPPED[0] else 4, 3 * ((degree + 1) ** 2 - 1)


def _checked(version: int, versions: tuple[int, ...], degree: int, fraction: int) -> None:
    if version not in versions or degree > MAX_DEGREE or fraction > 23:
        raise ValueError(f"version {version}, degree {degree}, {fraction} bits")


def _gzipped(opened: BinaryIO) -> tuple[list[bytes], int, int, int]:
    """Columns, fraction bits, flags and degree of versions 2 and 3."""
    unpacked, size = zlib.decompressobj(31), struct.calcsize("<IIIBBBB")
    head = unpacked.decompress(opened.read(4096), size)
    magic, version, count, degree, fraction, flags, _ = struct.unpack("<IIIBBBB", head)
    if magic != MAGIC:
        raise ValueError("no SPZ")
    _checked(version, GZIPPED, degree, fraction)
    widths = _widths(degree, version)
    needed = counted(count) * sum(widths)
    tail = unpacked.unconsumed_tail + opened.read()
    content = unpacked.decompress(tail, needed + 1)  # more where there are extensions
    if len(content) < needed or (len(content) == needed and not unpacked.eof):
        raise ValueError(f"{len(content)} of {needed} bytes, or no end")
    ends = np.cumsum([0, *(count * width for width in widths)]).tolist()
    return [content[at:end] for at, end in pairwise(ends)], fraction, flags, degree


def _streams(content: bytes, path: Path) -> tuple[list[bytes], int, int, int]:
    """The same of version 4."""
    from backports import zstd

    _, version, count, degree, fraction, flags, streams, at = struct.unpack_from("<IIIBBBBI", content)
    _checked(version, (4,), degree, fraction)
    if flags & EXTENDED:
        _check_extensions(content[32:at], path)
    sizes = [counted(count) * width for width in _widths(degree, version) if width]
    if streams != len(sizes) or at < 32 or at + 16 * streams > len(content):
        raise ValueError(f"{streams} streams of {len(sizes)}, listed at byte {at} of {len(content)}")
    listed = [struct.unpack_from("<QQ", content, at + 16 * number) for number in range(streams)]
    start, columns = at + 16 * streams, list[bytes]()
    for (packed, claimed), size in zip(listed, sizes, strict=True):
        column = zstd.ZstdDecompressor().decompress(content[start : start + packed], size + 1)
        if claimed != size or len(column) != size:
            raise ValueError(f"a column of {len(column)} bytes, {claimed} by its list, and not {size}")
        columns.append(column)
        start += packed
    return [*columns, b""][:6], fraction, flags, degree


def _check_extensions(records: bytes, path: Path) -> None:
    at = 0
    while at < len(records):
        kind, size = struct.unpack_from("<II", records, at)
        if kind != ORBIT:
            raise BundleError(
                "an SPZ has no extensions that change what it holds",
                found=f"extension {kind:#010x}",
                remedy=CONVERT,
                file=path,
            )
        at += 8 + size


def _gaussians(contents: list[bytes], fraction: int, flags: int, degree: int) -> Gaussians:
    count, coefficients = len(contents[1]), (degree + 1) ** 2 - 1
    if degree > KEPT_DEGREE:
        logger.warning("view dependence of degree %d is cut to degree %d", degree, KEPT_DEGREE)
    columns = [np.frombuffer(content, np.uint8).reshape(count, -1) for content in contents]
    fixed = np.zeros((count, 3, 4), np.uint8)
    fixed[..., 1:] = columns[0].reshape(count, 3, 3)  # above a byte of zeros, for the sign
    if columns[4].shape[1] == 3:
        xyz = columns[4] / 127.5 - 1
        xyzw = np.column_stack([xyz, np.sqrt(np.maximum(0, 1 - (xyz**2).sum(1)))]).astype(np.float32)
    else:
        packed = columns[4].copy().view("<u4")[:, 0]
        parts = packed[:, None] >> np.array([20, 10, 0], np.uint32)
        sizes = (parts & 511) / 511 / math.sqrt(2)
        xyzw = whole_quaternions(np.where(parts & 512, -sizes, sizes), packed >> np.uint32(30))
    return Gaussians(
        ((fixed.view("<i4")[..., 0] >> 8) / 2.0**fraction).astype(np.float32),
        (columns[3] / SCALE_STEPS + MIN_LOG_SCALE).astype(np.float32),
        np.roll(xyzw, 1, 1),
        opacity_logits(columns[1][:, 0]),
        np.concatenate(
            [
                ((columns[2] / 255 - 0.5) / COLOR_RANGE)[:, None],
                ((columns[5].astype(np.float64) - SH_STEPS) / SH_STEPS).reshape(count, coefficients, 3),
            ],
            1,
        )[:, : (KEPT_DEGREE + 1) ** 2].astype(np.float32),
        antialiased=bool(flags & ANTIALIASED),
    )
