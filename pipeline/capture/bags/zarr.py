"""Arrays of zarr version 2, read from a capture's files in place, be they in a folder or a zip.

Source: the Zarr storage specification version 2. Its codecs are those of the `numcodecs` package; only those that give
plain numbers are let through, since the format also knows pickled objects.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError

MAX_BYTES = 2**30
"""Largest size of what is read at once, and of a chunk."""
MAX_CHUNKS = 1_000_000
CODECS = ("blosc", "zlib", "gzip", "zstd", "lz4", "bz2")
_NUMBERS = re.compile(r"[<>|][biuf][1248]")


@dataclass(frozen=True, eq=False)
class ZarrArray:
    """An array on disk.

    Attributes:
        source: Source that holds it.
        path: Folder of the array in the source.
        shape: Shape of the whole array.
        chunks: Shape of one chunk.
        dtype: Type of the numbers.
        fill: Value of missing chunks.
        present: Names of the existing chunks.
        meta: Content of its `.zarray`.
    """

    source: CaptureSource
    path: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype
    fill: Any
    present: frozenset[str]
    meta: Mapping[str, Any]

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Rows `first` to `last` - 1, whole along the other axes.

        Raises:
            CaptureError: When a chunk is damaged or the rows are too large.
        """
        first, last = max(0, first), min(last, self.shape[0])
        shape = (max(0, last - first), *self.shape[1:])
        self._bounded(prod(shape) * self.dtype.itemsize)
        result = np.full(shape, self.fill, self.dtype)
        along = range(first // self.chunks[0], -(-last // self.chunks[0]))
        others = [range(-(-size // chunk)) for size, chunk in zip(self.shape[1:], self.chunks[1:], strict=True)]
        for index in product(along, *others):
            content = self._chunk(index)
            if content is None:
                continue
            low = [i * chunk for i, chunk in zip(index, self.chunks, strict=True)]
            low[0] -= first
            to = tuple(
                slice(max(a, 0), min(a + chunk, size)) for a, chunk, size in zip(low, self.chunks, shape, strict=True)
            )
            result[to] = content[tuple(slice(s.start - a, s.stop - a) for s, a in zip(to, low, strict=True))]
        return result

    def all(self) -> NDArray[Any]:
        """The whole array."""
        return self.rows(0, self.shape[0])

    def files(self) -> list[str]:
        """Names of all its files."""
        return [f"{self.path}/.zarray", *sorted(self.present)]

    def _chunk(self, index: tuple[int, ...]) -> NDArray[Any] | None:
        separator = self.meta.get("dimension_separator", ".")
        name = f"{self.path}/{separator.join(map(str, index))}"
        if name not in self.present:
            return None
        self._bounded(prod(self.chunks) * self.dtype.itemsize)
        data: Any = self.source.read(name)
        try:
            if self.meta.get("compressor"):
                from numcodecs.registry import get_codec

                if self.meta["compressor"]["id"] == "blosc":
                    _check_blosc(data, prod(self.chunks) * self.dtype.itemsize)
                data = get_codec(dict(self.meta["compressor"])).decode(data)
            return np.frombuffer(data, self.dtype).reshape(self.chunks, order=self.meta.get("order", "C"))
        except Exception as error:  # whatever the decompressors meet in damaged files
            raise CaptureError(
                f"a chunk of an array must hold {' x '.join(map(str, self.chunks))} numbers",
                found=str(error)[:200],
                remedy="download this file again",
                file=self.source.where(name),
            ) from error

    def _bounded(self, size: int) -> None:
        if size > MAX_BYTES:
            raise CaptureError(
                f"an array's part has at most {MAX_BYTES >> 20} MiB",
                found=f"{size >> 20} MiB",
                remedy="download the array again",
                file=self.source.where(f"{self.path}/.zarray"),
            )


def _check_blosc(data: bytes, size: int) -> None:
    """Blosc believes the sizes in its header of 16 bytes, and reads beyond data that were cut off."""
    unpacked, _, packed = struct.unpack_from("<III", data, 4)
    if (unpacked, packed) != (size, len(data)):
        raise ValueError(f"{len(data)} bytes for {size}, where {packed} for {unpacked} are declared")


def open_array(source: CaptureSource, path: str) -> ZarrArray:
    """The array in a folder of the source.

    Raises:
        CaptureError: When it does not exist, or is none of plain numbers.
    """
    file = source.where(f"{path}/.zarray")
    meta = _read(source, f"{path}/.zarray")
    rule = f"an array must be of zarr version 2, plain numbers, packed by {', '.join(CODECS)} or not at all"
    try:
        shape, chunks = (tuple(int(size) for size in meta[key]) for key in ("shape", "chunks"))
        codec = (meta.get("compressor") or {"id": None})["id"]
        plain = bool(_NUMBERS.fullmatch(str(meta["dtype"]))) and codec in (None, *CODECS) and not meta.get("filters")
        dtype = np.dtype(meta["dtype"]) if plain else np.dtype(np.void)
        fits = len(shape) == len(chunks) >= 1 and min(shape) >= 0 and min(chunks) >= 1
        fits = fits and prod(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True)) <= MAX_CHUNKS
        fill = np.array(meta.get("fill_value") or 0).astype(dtype) if plain else None
    except (KeyError, TypeError, ValueError) as error:
        raise CaptureError(rule, found=f"{error!r}", remedy="download it again", file=file) from error
    if meta.get("zarr_format") != 2 or not plain or not fits:
        found = {key: meta.get(key) for key in ("zarr_format", "shape", "chunks", "dtype", "compressor", "filters")}
        raise CaptureError(rule, found=str(found)[:300], remedy="download it again", file=file)
    present = frozenset(name for name in source.names if name.startswith(path + "/"))
    return ZarrArray(source, path, shape, chunks, dtype, fill, present, meta)


def attributes(source: CaptureSource, path: str) -> dict[str, Any]:
    """Attributes of a group.

    Raises:
        CaptureError: When they are missing or no JSON object.
    """
    return _read(source, f"{path}/.zattrs")


def _read(source: CaptureSource, name: str) -> dict[str, Any]:
    try:
        return source.read_object(name)
    except KeyError as error:  # of an archive, which doesn't list names that begin with a dot
        raise CaptureError(
            "a zarr array or group must have its description",
            found="no such file",
            remedy="download and pack it with the files whose names begin with a dot",
            file=source.where(name),
        ) from error
