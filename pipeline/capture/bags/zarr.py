"""Arrays of zarr version 2, read from a capture's files in place, be they in a folder or a zip.

Source: the Zarr storage specification version 2. Its codecs are those of the `numcodecs` package; only those that give
plain numbers are let through, since the format also knows pickled objects.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.parameters import checked

MAX_BYTES = 2**30
"""Largest size of what is read at once, and of a chunk."""
MAX_CHUNKS = 1_000_000


class _Compressor(BaseModel, extra="allow"):
    id: Literal["blosc", "zlib", "gzip", "zstd", "lz4", "bz2"]


class _Meta(BaseModel):
    """What `.zarray` holds."""

    zarr_format: Literal[2]
    shape: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
    chunks: tuple[PositiveInt, ...]
    dtype: Annotated[str, Field(pattern="^[<>|][biuf][1248]$")]
    compressor: _Compressor | None = None
    filters: Annotated[list[object], Field(max_length=0)] | None = None
    fill_value: int | float | Literal["NaN", "Infinity", "-Infinity"] | None = None
    order: Literal["C", "F"] = "C"
    dimension_separator: Literal[".", "/"] = "."

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if prod(-(-size // chunk) for size, chunk in zip(self.shape, self.chunks, strict=True)) > MAX_CHUNKS:
            raise ValueError(f"has more than {MAX_CHUNKS} chunks")
        return self


@dataclass(frozen=True, eq=False)
class ZarrArray:
    """An array in a folder of a source; chunks that aren't `present` hold its fill value."""

    source: CaptureSource
    path: str
    meta: _Meta
    present: frozenset[str]

    def rows(self, first: int, last: int) -> np.ndarray:
        """Rows `first` to `last` - 1, whole along the other axes.

        Raises:
            CaptureError: When a chunk is damaged or the rows are too large.
        """
        whole, chunks = self.meta.shape, self.meta.chunks
        first, last = max(0, first), min(last, whole[0])
        shape = (max(0, last - first), *whole[1:])
        self._nbytes(shape)
        result = np.full(shape, np.array(self.meta.fill_value or 0).astype(self.meta.dtype))
        along = range(first // chunks[0], -(-last // chunks[0]))
        others = [range(-(-size // chunk)) for size, chunk in zip(whole[1:], chunks[1:], strict=True)]
        for index in product(along, *others):
            name = f"{self.path}/{self.meta.dimension_separator.join(map(str, index))}"
            if name not in self.present:
                continue
            low = [i * chunk for i, chunk in zip(index, chunks, strict=True)]
            low[0] -= first
            to = tuple(
                slice(max(a, 0), min(a + chunk, size)) for a, chunk, size in zip(low, chunks, shape, strict=True)
            )
            inside = tuple(slice(s.start - a, s.stop - a) for s, a in zip(to, low, strict=True))
            result[to] = self._chunk(name)[inside]
        return result

    def all(self) -> np.ndarray:
        """The whole array."""
        return self.rows(0, self.meta.shape[0])

    def files(self) -> list[str]:
        """Names of all its files."""
        return [f"{self.path}/.zarray", *self.present]

    def _chunk(self, name: str) -> np.ndarray:
        meta, nbytes = self.meta, self._nbytes(self.meta.chunks)
        data = self.source.read(name)
        try:
            if meta.compressor:
                from numcodecs.registry import get_codec

                if meta.compressor.id == "blosc":
                    _check_blosc(data, nbytes)
                data = get_codec(meta.compressor.model_dump()).decode(data)
                assert data is not None
            return np.frombuffer(data, meta.dtype).reshape(meta.chunks, order=meta.order)
        except Exception as error:  # whatever the decompressors meet in damaged files
            rule = f"a chunk of an array must hold {' x '.join(map(str, meta.chunks))} numbers"
            raise self.source.broken(name, rule, str(error)[:200], "download this file again") from error

    def _nbytes(self, shape: tuple[int, ...]) -> int:
        """Size of a part of the array, which must be small enough to be read at once."""
        size = prod(shape) * np.dtype(self.meta.dtype).itemsize
        if size > MAX_BYTES:
            rule, found = f"an array's part has at most {MAX_BYTES >> 20} MiB", f"{size >> 20} MiB"
            raise self.source.broken(f"{self.path}/.zarray", rule, found, "download the array again")
        return size


def _check_blosc(data: bytes, size: int) -> None:
    """Blosc believes the sizes in its header of 16 bytes, and reads beyond data that were cut off."""
    unpacked, _, packed = struct.unpack_from("<III", data, 4)
    if (unpacked, packed) != (size, len(data)):
        raise ValueError(f"{len(data)} bytes for {size}, where {packed} for {unpacked} are declared")


def open_array(source: CaptureSource, path: str) -> ZarrArray:
    """The array in a folder of the source.

    Raises:
        CaptureError: When it does not exist, or holds anything but plain numbers.
    """
    name = f"{path}/.zarray"
    content = read_description(source, name)
    remedy = "use zarr version 2 with plain numbers and a common codec, or none"
    meta = checked(_Meta, content, "array", CaptureError, source.where(name), remedy=remedy)
    present = frozenset(name for name in source.names if name.startswith(path + "/"))
    return ZarrArray(source, path, meta, present)


def read_description(source: CaptureSource, name: str) -> dict[str, object]:
    """The JSON object that describes an array (.zarray) or holds a group's attributes (.zattrs).

    Raises:
        CaptureError: When it is missing or no JSON object.
    """
    try:
        return source.read_object(name)
    except KeyError as error:  # of an archive, which doesn't list names that begin with a dot
        rule, remedy = "a zarr array or group must have its description", "download and pack it with all hidden files"
        raise source.broken(name, rule, "no such file", f"{remedy}, whose names begin with a dot") from error
