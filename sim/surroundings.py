"""Places round robots that turn with them: where a critic is told what is near."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPOKES = 8


def ring(radius: float) -> NDArray[np.float64]:
    """Offsets ahead and to the left (SPOKES, 2) [m], evenly around, the first straight ahead."""
    angle = np.arange(SPOKES) * (2 * np.pi / SPOKES)
    return radius * np.column_stack([np.cos(angle), np.sin(angle)])


HERE_AND_NEAR = np.concatenate([np.zeros((1, 2)), *(ring(radius) for radius in (0.15, 0.35, 0.6))])
"""As far as a robot gets in a second (25, 2) [m]."""
NEXT = ring(0.35)
"""Where a robot could go next (8, 2) [m]."""


def places_around(pose: NDArray[np.floating], offsets: NDArray[np.floating]) -> NDArray[np.floating]:
    """World places (N, K, 2) [m] at offsets (K, 2) ahead and to the left of poses (N, 3): x, y [m], yaw [rad]."""
    cos, sin = np.cos(pose[:, 2, None]), np.sin(pose[:, 2, None])
    ahead, left = offsets.T
    return pose[:, None, :2] + np.stack([cos * ahead - sin * left, sin * ahead + cos * left], -1)
