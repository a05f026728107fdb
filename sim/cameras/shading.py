"""The light on what is drawn into pictures: from straight above, and from the camera so that shapes show."""

from __future__ import annotations

import numpy as np
from numba import njit

AMBIENT = np.float32(0.45)
FROM_ABOVE = np.float32(0.3)
FROM_CAMERA = np.float32(0.25)
"""Shares of a surface's colour; together 1."""


@njit(cache=True, nogil=True, inline="always")
def light(up: np.float32, facing: np.float32) -> np.float32:
    """Brightness, 0..1, of a surface by the cosines of its normal with the vertical and with the way to the camera."""
    return AMBIENT + FROM_ABOVE * max(np.float32(0), up) + FROM_CAMERA * facing
