"""The coverage map: how much a robot's images can be trusted, by its position and heading."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import KDTree

from pipeline.io.arrays import arrays_of_npz
from pipeline.types import F32, F64, Floats

COVERAGE_FILE = "coverage.npz"
REACH = 1.5
"""Distance across the floor up to which a position counts [cells]."""
LEVEL = 0.4
"""Largest difference in height up to which it counts [m]."""
NEIGHBOURS = 4
EVERYTHING_WRONG = 1.0
"""Mean squared error where nothing is known: no image is worse."""
MIN_ERROR = 1e-6
"""Mean squared error: 60 dB."""
HALF_TRUST_DB = 23.5
"""Expected PSNR that is trusted by one half: smeared floors and holes begin to show below it."""
TRUST_WIDTH_DB = 1.0
"""How fast trust grows with the expected PSNR about that."""
TRUSTED = 0.5
"""Least trust of an image that one should act on."""


@dataclass(frozen=True, eq=False)
class CoverageMap:
    """Expected errors of the splat's images, from positions on the floor, all round.

    An image is known by the slices of the horizon that it spans; slice k is centred on the heading 2 pi k / headings
    and as wide as the distance to the next.
    """

    positions: F32  # (P, 3) float32, on the floor [m, world frame]
    errors: F32  # (P, headings) float32, expected mean squared difference from the truth, colours 0..1
    cell: float  # distance between positions [m]
    camera_height: float  # height of the camera over the floor [m]
    field_of_view: float  # horizontal field of view of the camera [rad]

    @property
    def headings(self) -> F64:
        """The slices' middles about +Z, 0 along +X [rad]."""
        return np.arange(self.errors.shape[1]) * 2 * np.pi / self.errors.shape[1]

    def trust(self, positions: ArrayLike, headings: ArrayLike) -> F64:
        """How much the images of robots can be trusted (N,), 0..1; 0 where the map says nothing.

        They stand on the floor at (N, 3) or (3,) [m] and look along (N,) headings, or one, about +Z [rad].
        """
        points = np.asarray(positions, np.float64).reshape(-1, 3)
        looks = np.broadcast_to(np.asarray(headings, np.float64).reshape(-1), len(points))
        errors = (self._nearby(points) * slice_weights(looks, self.headings, self.field_of_view)).sum(1)
        return trust_of(errors)

    def heading_trust(self, positions: ArrayLike) -> F64:
        """Trust (N, headings) of positions (N, 3) [m] for every heading of the map."""
        nearby = self._nearby(np.asarray(positions, np.float64).reshape(-1, 3))
        return trust_of(nearby @ slice_weights(self.headings, self.headings, self.field_of_view).T)

    def _nearby(self, points: F64) -> F64:
        """Errors (N, headings) at points, from the nearest of the map's, the nearer the more.

        Geometric means: errors lie orders of magnitude apart, and the mean of decibels is nearer to the truth between.
        Source of the weights: R. Franke, G. Nielson, Smooth interpolation of large sets of scattered data, IJNME 1980.
        """
        errors = np.full((len(points), self.errors.shape[1]), EVERYTHING_WRONG)
        if not len(self.positions) or not len(points):
            return errors
        squeeze = np.array([1, 1, REACH * self.cell / LEVEL])  # heights count by their own reach
        count = min(NEIGHBOURS, len(self.positions))
        distance, index = KDTree(self.positions * squeeze).query(
            points * squeeze, count, distance_upper_bound=REACH * self.cell
        )
        distance, index = distance.reshape(-1, count), index.reshape(-1, count)
        share = np.clip(distance / (REACH * self.cell), 1e-6, 1)  # of the reach; infinite where nothing is near
        weight = ((1 - share) / share) ** 2
        known = weight.sum(1) > 0
        weight = weight[known] / weight[known].sum(1, keepdims=True)
        values = np.maximum(self.errors[np.minimum(index[known], len(self.positions) - 1)], MIN_ERROR)
        errors[known] = np.exp(np.einsum("nk,nkh->nh", weight, np.log(values)))
        return errors

    def save(self, folder: Path) -> None:
        """Write `coverage.npz`."""
        with (folder / COVERAGE_FILE).open("wb") as file:
            np.savez(file, **vars(self))

    @staticmethod
    def load(folder: Path) -> CoverageMap:
        """Read what `save` wrote.

        Raises:
            ValueError: When it is damaged, promises more than it holds, or the arrays don't belong together.
        """
        path = folder / COVERAGE_FILE
        names = ("positions", "errors", "cell", "camera_height", "field_of_view")
        data = arrays_of_npz(path, names, limit=path.stat().st_size)
        positions, errors = (data[name].astype(np.float32) for name in ("positions", "errors"))
        cell, camera_height, field_of_view = (float(data[name]) for name in names[2:])
        shapes = {name: array.shape for name, array in data.items()}
        if positions.ndim != 2 or positions.shape[1] != 3 or errors.ndim != 2 or len(errors) != len(positions):
            raise ValueError(f"{COVERAGE_FILE} has errors (P, headings) of positions (P, 3), got {shapes}")
        if not (all(np.isfinite(one).all() for one in data.values()) and cell > 0 and 0 < field_of_view < np.pi):
            raise ValueError(f"{COVERAGE_FILE} has finite numbers, a cell above 0 and a field of view below pi")
        return CoverageMap(positions, errors, cell, camera_height, field_of_view)


def slice_weights(looks: Floats, middles: Floats, field_of_view: float) -> F64:
    """Share (N, K) of the image towards each of (N,) headings that every slice of the horizon fills.

    A pinhole image has its columns evenly spaced by the tangent, not by the angle.
    """
    half_view, half_slice = field_of_view / 2, np.pi / len(middles)
    offset = (middles[None] - looks[:, None] + np.pi) % (2 * np.pi) - np.pi
    low = np.clip(offset - half_slice, -half_view, half_view)
    high = np.clip(offset + half_slice, -half_view, half_view)
    return (np.tan(high) - np.tan(low)) / (2 * np.tan(half_view))


def expected_psnr(error: Floats) -> F64:
    """PSNR [dB] of mean squared errors, any shape."""
    return -10 * np.log10(np.maximum(np.asarray(error, np.float64), MIN_ERROR))


def trust_of(error: Floats) -> F64:
    """Trust 0..1 of images with these expected errors, any shape: a logistic function of the expected PSNR."""
    return 1 / (1 + np.exp(-(expected_psnr(error) - HALF_TRUST_DB) / TRUST_WIDTH_DB))
