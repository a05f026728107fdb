"""Convex sets of points."""

from __future__ import annotations

import numpy as np

from pipeline.types import F64


def extreme_points(points: F64, directions: int) -> F64:
    """Points of (V, 3) that are extreme in some of so many directions."""
    return points[np.unique((points @ spread(directions).T).argmax(0))]


def spread(directions: int) -> F64:
    """Unit vectors (D, 3) that are spread over the sphere by the golden angle."""
    rank = np.arange(directions) + 0.5
    z, turn = 1 - 2 * rank / directions, rank * np.pi * (3 - np.sqrt(5))
    flat = np.sqrt(1 - z * z)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), z], 1)
