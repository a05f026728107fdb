"""Splats of GaussianSplats3D: `.ksplat` files of version 0.1.

Source: github.com/mkkellogg/GaussianSplats3D, src/loaders/SplatBuffer.js: a header, headers of sections, and in each
section the middles of buckets, then rows of one size, whose positions count from the middle of their bucket.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from pipeline.geometry import Gaussians
from pipeline.importing.splat_values import color_coefficients, counted, opacity_logits
from pipeline.splat.ply import MAX_LOG_SCALE
from pipeline.types import F32, F64, Floats

HEADER, SECTION = 4096, 1024
"""Bytes of the file's header and of a section's."""
RANGE = 1.5
"""Range of view-dependent coefficients in bytes where the file doesn't say."""
ROWS = (("<f4", "<f4"), ("<f2", "<f2"), ("<f2", "u1"))
"""Types of scales and rotations, and of view dependence, by level of compression; level 0 has whole positions."""
MAX_DEGREE = 2


@dataclass(frozen=True)
class _Section:
    """What a section's header says; bytes are counted from the beginning of the file."""

    count: int
    most: int
    capacity: int
    buckets: int
    block: float
    bucket_bytes: int
    steps: int
    full: int
    partial: int
    degree: int

    @staticmethod
    def read(content: bytes, at: int, level: int) -> _Section:
        count, most, capacity, buckets, block, bucket_bytes, _, steps, _, full, partial, degree = struct.unpack_from(
            "<IIIIfHHIIIIH", content, at
        )
        if degree > MAX_DEGREE or count > most or max(full, partial) > buckets or (level and bucket_bytes != 12):
            raise ValueError(f"a section of {count} of {most} Gaussians, {buckets} buckets, degree {degree}")
        return _Section(
            count, most, capacity, buckets, block, bucket_bytes, steps or (32767 if level else 1), full, partial, degree
        )

    def row(self, level: int) -> np.dtype:
        """Layout of a Gaussian."""
        kind, bands = ROWS[level]
        fields = [("means", "<u2" if level else "<f4", 3), ("scales", kind, 3), ("turn", kind, 4), ("color", "u1", 4)]
        return np.dtype([*fields, ("rest", bands, 3 * ((self.degree + 1) ** 2 - 1))])

    @property
    def before(self) -> int:
        """Bytes before the rows."""
        return self.bucket_bytes * self.buckets + 4 * self.partial

    def bucket_of(self, sizes: np.ndarray) -> np.ndarray:
        """Which bucket each Gaussian is in; full ones come first, then those of these sizes."""
        whole = np.repeat(np.arange(self.full), self.capacity) if self.full * self.capacity <= self.count else None
        if whole is None or int(sizes.sum(dtype=np.uint64)) != self.count - len(whole):
            raise ValueError(f"{self.full} full buckets and {len(sizes)} others for {self.count} Gaussians")
        bucket = np.concatenate([whole, self.full + np.repeat(np.arange(len(sizes)), sizes)])
        if self.count and bucket.max() >= self.buckets:
            raise ValueError(f"{bucket.max() + 1} of {self.buckets} buckets")
        return bucket


def read_ksplat(path: Path) -> Gaussians:
    """Read a .ksplat in the frame of its file.

    Raises:
        ValueError: When it is of another version or damaged, as other errors of decoders.
    """
    content = path.read_bytes()
    major, minor, _, sections, _, _, count, level = struct.unpack_from("<BBHIIIIH", content)
    low, high = struct.unpack_from("<ff", content, 36)
    if (major, minor) != (0, 1) or level >= len(ROWS) or HEADER + SECTION * sections > len(content):
        raise ValueError(f"version {major}.{minor}, compression {level}, {sections} sections")
    counted(count)
    at, parts = HEADER + SECTION * sections, list[Gaussians]()
    for number in range(sections):
        section = _Section.read(content, HEADER + SECTION * number, level)
        end = at + section.before + section.row(level).itemsize * section.most
        if end > len(content):
            raise ValueError(f"a section that ends at byte {end} of {len(content)}")
        if section.count:
            parts.append(_rows(content, at, section, level, (low or -RANGE, high or RANGE)))
        at = end
    if sum(map(len, parts)) != count:
        raise ValueError(f"{sum(map(len, parts))} of {count} Gaussians")
    return Gaussians.concatenate(sorted(parts, key=lambda part: -part.sh.shape[1]))


def _rows(content: bytes, at: int, section: _Section, level: int, limits: tuple[float, float]) -> Gaussians:
    rows = np.frombuffer(content, section.row(level), section.count, at + section.before)
    means = rows["means"].astype(np.float64)
    if level:
        sizes = np.frombuffer(content, "<u4", section.partial, at)
        middles = np.frombuffer(content, "<f4", 3 * section.buckets, at + 4 * section.partial).reshape(-1, 3)
        means = (means - section.steps) * (section.block / 2 / section.steps) + middles[section.bucket_of(sizes)]
    rest: Floats = rows["rest"].astype(np.float64)
    if level == len(ROWS) - 1:
        rest = limits[0] + rest / 255 * (limits[1] - limits[0])
    scales = np.maximum(rows["scales"].astype(np.float64), math.exp(-MAX_LOG_SCALE))
    return Gaussians(
        means.astype(np.float32),
        np.log(scales).clip(-MAX_LOG_SCALE).astype(np.float32),
        rows["turn"].astype(np.float32),
        opacity_logits(rows["color"][:, 3]),
        np.concatenate([color_coefficients(rows["color"][:, :3] / 255), _bands(rest, section.degree)], 1),
    )


def _bands(rest: F64, degree: int) -> F32:
    """Coefficients (N, K, 3) of values (N, 3 K): band by band, each red, then green, then blue."""
    ends = [3 * ((band + 1) ** 2 - 1) for band in range(degree + 1)]
    bands = [rest[:, start:end].reshape(len(rest), 3, -1).transpose(0, 2, 1) for start, end in pairwise(ends)]
    return np.concatenate([np.zeros((len(rest), 0, 3)), *bands], 1).astype(np.float32)
