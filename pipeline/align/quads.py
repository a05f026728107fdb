"""Flat four-cornered things of known size (tags, sheets of paper), measured from the views that show them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.poses.scene import View

Array = NDArray[np.float64]

MAX_ERROR_PX = 2.0
"""Largest median reprojection error of the corners: above it the thing moved, or these are several."""
CORNER_SIGMA_PX = 0.3
LEAST_SIGMA = 0.002
"""Relative: how exactly people measure and printers print."""
PAIRS = np.array(list(combinations(range(4), 2)))
"""The six distances between four corners: two quads are congruent when all of them are equal."""


@dataclass(frozen=True, eq=False)
class Sighting:
    """A quad in a view.

    Attributes:
        view: The view.
        corners: (4, 2) pixels of the view's undistorted picture, around the quad in the thing's own order.
    """

    view: View
    corners: Array


@dataclass(frozen=True, eq=False)
class Measured:
    """What several views tell of a quad.

    Attributes:
        corners: (4, 3), scene frame [scene units].
        metres_per_unit: By all six distances between corners.
        sigma: Of that, relative: from the corners' noise and from how far the distances disagree.
    """

    corners: Array
    metres_per_unit: float
    sigma: float


def rectangle(width: float, height: float) -> Array:
    """The six distances [m] between the corners of a rectangle, its first side being the width."""
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    return np.linalg.norm(corners[PAIRS[:, 0]] - corners[PAIRS[:, 1]], axis=1)


def distances(corners: Array) -> Array:
    """The six distances (..., 6) between corners (..., 4, 3), in the order of `rectangle`."""
    return np.linalg.norm(corners[..., PAIRS[:, 0], :] - corners[..., PAIRS[:, 1], :], axis=-1)


def unevenness(found: Array, expected: Array) -> Array:
    """Relative scatter (...) of the factors between distances (..., 6) and those of the thing, (6,) [m]."""
    factors = found / expected
    return factors.std(-1) / factors.mean(-1)


def measure(sightings: list[Sighting], expected: Array, most_uneven: float) -> Measured | None:
    """Triangulate a quad and compare it with the thing's own distances, (6,) [m]; None where it can't be trusted."""
    if len(sightings) < 2:
        return None
    origins = np.array([sighting.view.world_from_camera.translation for sighting in sightings])
    rays = np.array([s.view.world_from_camera.rotate(s.view.camera.rays(s.corners)) for s in sightings])
    corners = np.array([nearest_point(origins, rays[:, k]) for k in range(4)])
    if not np.isfinite(corners).all():
        return None
    errors, pixel = [], []
    for sighting in sightings:
        local = sighting.view.world_from_camera.inverse().apply(corners)
        if (local[:, 2] <= 0).any():
            return None
        errors.append(np.linalg.norm(sighting.view.camera.project(local) - sighting.corners, axis=1))
        pixel.append(local[:, 2].mean() / sighting.view.camera.fx)
    found = distances(corners)
    uneven = float(unevenness(found, expected))
    if np.median(errors) > MAX_ERROR_PX or uneven > most_uneven:
        return None
    own = CORNER_SIGMA_PX * float(np.mean(pixel)) / np.sqrt(len(sightings)) / float(found.mean())
    return Measured(corners, 1 / float((found / expected).mean()), float(np.hypot(own, uneven / 2)))


def combined(measured: list[Measured]) -> tuple[float, float]:
    """Metres per scene unit by several quads, and its relative sigma."""
    values = np.array([quad.metres_per_unit for quad in measured])
    weights = np.array([1 / quad.sigma**2 for quad in measured])
    value = float((weights * values).sum() / weights.sum())
    scatter = np.sqrt((weights * (values / value - 1) ** 2).sum() / weights.sum())
    return value, max(LEAST_SIGMA, float(weights.sum() ** -0.5), float(scatter) / len(values) ** 0.5)


def nearest_point(origins: Array, rays: Array) -> Array:
    """The point (3,) nearest to all lines through origins (N, 3) along rays (N, 3); NaN where they are parallel."""
    directions = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    matrix = across.sum(0)
    if np.linalg.cond(matrix) > 1e6:
        return np.full(3, np.nan)
    return np.linalg.solve(matrix, np.einsum("nij,nj->i", across, origins))
