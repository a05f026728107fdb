"""Convex sets of points."""

from __future__ import annotations

import numpy as np

from pipeline.types import F64


def extreme_points(points: F64, directions: int) -> F64:
    """Points of (V, 3) that are extreme in some direction; directions are spread by the golden angle."""
    rank = np.arange(directions) + 0.5
    z, turn = 1 - 2 * rank / directions, rank * np.pi * (3 - np.sqrt(5))
    flat = np.sqrt(1 - z * z)
    towards = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], 1)
    return points[np.unique((points @ towards.T).argmax(0))]
