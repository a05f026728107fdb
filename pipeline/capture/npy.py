"""NumPy files of captures: depth and confidence, bounded as pictures are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline import arrays
from pipeline.capture.pictures import MAX_PIXELS, BadPictureError


def array_of_npy(data: bytes) -> NDArray[np.generic]:
    """The array of a NumPy file of version 1 or 2.

    Raises:
        BadPictureError: When it is truncated, empty, too large, no NumPy file or holds anything but numbers.
    """
    try:
        values = arrays.array_of_npy(data)
    except arrays.BadArrayError as error:
        raise BadPictureError(str(error)) from error
    if values.dtype.kind == "b" or not 0 < values.size <= MAX_PIXELS:
        raise BadPictureError(f"an array of {values.dtype} of shape {values.shape}")
    return values
