"""NumPy files from others (.npy, .npz): plain numbers only, bounded before they are read, safe in several threads."""

from __future__ import annotations

import errno
import io
import math
import struct
import threading
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

BAD_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, ValueError)
"""Exceptions of zipfile on damaged files."""
_parsing = threading.Lock()
"""The header is a Python literal, and Python 3.11's parser of these is not safe in threads (python/cpython#106905)."""


class BadArrayError(ValueError):
    """Raised when a file holds anything but an array of numbers of the size that it declares."""


def array_of_npy(data: bytes) -> np.ndarray:
    """The array of a NumPy file of version 1 or 2, read-only and in the file's byte order.

    Raises:
        BadArrayError: When it is truncated, no NumPy file or holds anything but numbers.
    """
    return _read(io.BytesIO(data), len(data))


def arrays_of_npz(
    path: Path, needed: Sequence[str], optional: Sequence[str] = (), *, limit: int
) -> dict[str, np.ndarray]:
    """Named arrays of an .npz file, of at most `limit` bytes together when unpacked; its other content is not read.

    Raises:
        BadArrayError: When the file is damaged, lacks an array, or one is too large or holds anything but numbers.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            present = [name for name in (*needed, *optional) if f"{name}.npy" in members]
            if missing := [name for name in needed if name not in present]:
                raise BadArrayError(f"no array {', '.join(missing)}")
            total = sum(members[f"{name}.npy"].file_size for name in present)
            if total > limit:
                raise BadArrayError(f"{total} bytes of arrays, {limit} are allowed")
            for name in present:
                info = members[f"{name}.npy"]
                with archive.open(info) as member:
                    array = _read(member, info.file_size)
                arrays[name] = array.astype(array.dtype.newbyteorder("="), order="K")
    except BadArrayError:
        raise
    except BAD_ZIP as error:
        raise BadArrayError(f"no readable npz file: {error}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a seek to before the file's beginning
            raise
        raise BadArrayError(f"no readable npz file: {error}") from error
    return arrays


def _read(file: IO[bytes], size: int) -> np.ndarray:
    """The array of a stream of `size` bytes; its header is compared with that before it is read."""
    try:
        with _parsing:
            major, _ = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
            shape, by_columns, kind = header(file)
    except (ValueError, SyntaxError, TypeError, EOFError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise BadArrayError(f"no NumPy file: {error}") from error
    if kind.kind not in "fiub" or min(shape, default=0) < 0:
        raise BadArrayError(f"an array of {kind} of shape {shape}")
    expected, left = math.prod(shape) * kind.itemsize, size - file.tell()
    if expected != left:
        raise BadArrayError(f"{left} bytes for an array of {kind} of shape {shape}")
    values = file.read(expected)
    if len(values) != expected:
        raise BadArrayError(f"{len(values)} bytes of {expected}")
    flat = np.frombuffer(values, kind) if kind.kind != "b" else np.frombuffer(values, np.uint8) != 0
    return flat.reshape(shape, order="F" if by_columns else "C")
