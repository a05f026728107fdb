"""The floor: the lowest large level surface below the cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.align.surfaces import Surfaces

Array = NDArray[np.float64]

MIN_SHARE = 0.04
"""Of the level surface's area; less is a shelf seen from above, not a floor."""


@dataclass(frozen=True)
class Floor:
    """A level plane.

    Attributes:
        height: Along up, scene frame [scene units].
        rms: Of the points on it [scene units].
        share: Of all level, upward-facing area.
    """

    height: float
    rms: float
    share: float


def find_floor(surfaces: Surfaces, up: Array, camera_centres: Array) -> Floor | None:
    """The lowest peak of the heights of upward-facing level points below the cameras; None without one.

    Args:
        surfaces: Oriented points, scene frame.
        up: (3,) unit.
        camera_centres: (N, 3), scene frame.
    """
    level = surfaces.normals @ up > np.cos(np.deg2rad(12))
    heights, area = surfaces.points[level] @ up, surfaces.area[level]
    camera_height = float(np.median(camera_centres @ up))
    below = heights < camera_height
    heights, area = heights[below], area[below]
    if len(heights) < 200:
        return None
    low, span = np.percentile(heights, 0.5), float(camera_height - np.percentile(heights, 0.5))
    if span <= 0:
        return None
    width = span / 120
    counts, edges = np.histogram(heights, bins=140, range=(low - 10 * width, low + 130 * width), weights=area)
    smooth = np.convolve(counts, np.ones(3), "same")
    share = smooth / area.sum()
    peaks = np.flatnonzero(share >= max(MIN_SHARE, 0.15 * share.max()))
    if len(peaks) == 0:
        return None
    first = peaks[0]
    top = first + int(np.argmax(smooth[first : first + 4]))  # climb to the peak's summit
    height = float(edges[top] + width / 2)
    for _ in range(5):
        near = np.abs(heights - height) < 2 * width
        height = float(np.average(heights[near], weights=area[near]))
    near = np.abs(heights - height) < 2 * width
    rms = float(np.sqrt(np.average((heights[near] - height) ** 2, weights=area[near])))
    return Floor(height, rms, float(area[near].sum() / area.sum()))
