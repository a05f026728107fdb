"""Named areas of the floor: which cells of the grid belong to which."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pipeline.geometry import Mesh
from pipeline.regions.params import Area

COLORS_AROUND = 4
"""Vertices whose mean is a cell's colour."""
COLOR_REACH = 1.5
"""Those are at most so many cells from its centre."""
SAME_COLOR = 25.0
"""CIELAB distance, with lightness counted by a third: light and shade change it most."""
LAB_WEIGHT = np.array([1 / 3, 1.0, 1.0])


def paint_areas(
    areas: Sequence[Area], centres: NDArray[np.floating], height: NDArray[np.floating], cell: float, mesh: Mesh
) -> NDArray[np.int16]:
    """Which area each cell of the floor grid belongs to (X, Y), -1 none; of several the last.

    Args:
        areas: What the card says.
        centres: (X, Y, 2) of the cells [m, world frame].
        height: (X, Y) of the floor [m], NaN where there is none.
        cell: Edge of a cell [m].
        mesh: With the colours of the floor.
    """
    painted = np.full(height.shape, -1, np.int16)
    lab = _floor_lab(centres, height, cell, mesh) if any(area.color for area in areas) else None
    for number, area in enumerate(areas):
        chosen = np.ones(height.shape, bool)
        if area.polygon:
            chosen &= inside_polygon(np.array(area.polygon), centres)
        if area.rgb is not None and lab is not None:
            difference = (lab - _lab(np.array([area.rgb], np.uint8))[0]) * LAB_WEIGHT
            chosen &= np.linalg.norm(difference, axis=-1) < SAME_COLOR  # false for NaN
        painted[chosen] = number
    return painted


def inside_polygon(polygon: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which points (..., 2) lie in the polygon (P, 2), closed by itself, by the even-odd rule."""
    x, y = points[..., 0], points[..., 1]
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        spans = (ay > y) != (by > y)
        if ay != by:
            inside ^= spans & (x < ax + (y - ay) / (by - ay) * (bx - ax))
    return inside


def _floor_lab(
    centres: NDArray[np.floating], height: NDArray[np.floating], cell: float, mesh: Mesh
) -> NDArray[np.float64]:
    """The floor's colour in CIELAB (X, Y, 3), NaN where there is no floor or no vertex near."""
    lab = np.full((*height.shape, 3), np.nan)
    known = np.isfinite(height)
    places = np.column_stack([centres[known], height[known]])
    distance, nearest = KDTree(mesh.vertices).query(places, COLORS_AROUND, distance_upper_bound=COLOR_REACH * cell)
    near = np.isfinite(distance)[..., None]
    colors = _lab(mesh.colors)[np.minimum(nearest, len(mesh.vertices) - 1)]
    count = near.sum(1)
    lab[known] = np.divide((colors * near).sum(1), count, out=np.full((len(places), 3), np.nan), where=count > 0)
    return lab


def _lab(colors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIELAB (N, 3) of sRGB (N, 3)."""
    return cv2.cvtColor((colors / np.float32(255))[None], cv2.COLOR_RGB2LAB)[0]
