"""NumPy files from others: plain numbers only, bounded, and safe to read from several threads."""

from __future__ import annotations

import io
import math
import threading

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.pictures import MAX_PIXELS, BadPictureError

_parsing = threading.Lock()
"""The header is a Python literal, and Python 3.11's parser of these is not safe in threads (python/cpython#106905)."""


def array_of_npy(data: bytes) -> NDArray[np.generic]:
    """The array of a NumPy file of version 1 or 2.

    Raises:
        BadPictureError: When it is truncated, too large, no NumPy file or holds anything but numbers.
    """
    content = io.BytesIO(data)
    try:
        with _parsing:
            major, _ = np.lib.format.read_magic(content)
            read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
            shape, by_columns, kind = read(content)
    except (ValueError, SyntaxError, TypeError, EOFError) as error:
        raise BadPictureError(f"no NumPy file: {error}") from error
    size = math.prod(shape)
    if kind.kind not in "fiu" or not 0 < size <= MAX_PIXELS:
        raise BadPictureError(f"an array of {kind} of shape {shape}")
    values = data[content.tell() :]
    if len(values) != size * kind.itemsize:
        raise BadPictureError(f"{len(values)} bytes of {size * kind.itemsize}")
    return np.frombuffer(values, kind).reshape(shape, order="F" if by_columns else "C")
