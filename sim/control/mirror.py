"""Left and right exchanged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.types import F32, I64


def exchanged(points: NDArray[np.floating | np.integer], tolerance: float = 1e-6) -> tuple[I64, F32] | None:
    """Order (K,) of mirrored points (K, 2), ahead and to the left, and signs, 1; None if they aren't symmetric."""
    apart = np.abs(points[:, None] * [1, -1] - points).max(2)
    if apart.min(1).max() > tolerance:
        return None
    return apart.argmin(1), np.ones(len(points), np.float32)
