"""Gaussians as the batch renderer wants them, with all worked out that no camera changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.geometry import Gaussians, matrix_from_quaternion, morton_order
from pipeline.raster.harmonics import C0
from pipeline.raster.lanes import WIDTH
from pipeline.raster.layout import line_aligned
from pipeline.types import F32

FIELDS = 13
"""Rows of a packed table: mean x y z, covariance xx xy xz yy yz zz, -log(opacity), red green blue of
SH degree 0."""
FAINT_FIELD, COLOR_FIELD = 9, 10
BOUNDS, RADIUS, SPREAD = 5, 3, 4
"""Rows of a table of bounds, see `PackedGaussians`."""
NOTHING = -1e18
"""Radius of the sphere around no Gaussians."""


@dataclass(frozen=True, eq=False)
class PackedGaussians:
    """Gaussians as the batch renderer wants them; pack once, render often.

    They are in Morton order: 16 that follow each other lie close together, so that most are out of sight at once.
    Each 16 have bounds: a sphere around their centres (x y z, radius), the largest standard deviation [world units].
    """

    table: F32  # (13, M) float32, see `FIELDS`; M is N rounded up to 256, with Gaussians that nothing sees
    bounds: F32  # (5, M / 16) float32
    sh: F32  # (N, K, 3) float32
    antialiased: bool

    def __len__(self) -> int:
        return len(self.sh)


def pack(gaussians: Gaussians) -> PackedGaussians:
    """Work out what no camera changes; Gaussians [world frame] with numbers that are not finite are left out."""
    numbers = np.concatenate(
        [getattr(gaussians, name).reshape(len(gaussians), -1) for name in Gaussians.ARRAYS[:-1]], 1
    )
    gaussians = gaussians[np.flatnonzero(np.isfinite(numbers).all(1))]
    count = len(gaussians)
    gaussians = gaussians[morton_order(gaussians.means)]
    axes = matrix_from_quaternion(gaussians.quaternions) * np.exp(gaussians.log_scales.astype(np.float64))[:, None, :]
    covariances = axes @ axes.swapaxes(1, 2)
    table = line_aligned(FIELDS, max(1, -(-count // WIDTH**2)) * WIDTH**2)
    table[:] = 0
    table[:3, :count] = gaussians.means.T
    table[3:FAINT_FIELD, :count] = covariances[:, (0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)].T
    table[FAINT_FIELD] = np.inf
    table[FAINT_FIELD, :count] = np.logaddexp(0, -gaussians.opacity_logits.astype(np.float64))
    table[COLOR_FIELD:, :count] = np.maximum(0.5 + C0 * gaussians.sh[:, 0].T, 0)
    sh = np.ascontiguousarray(gaussians.sh, np.float32)
    return PackedGaussians(table, _bounds(table, gaussians), sh, gaussians.antialiased)


def _bounds(table: F32, gaussians: Gaussians) -> F32:
    """See `PackedGaussians`."""
    count, size = len(gaussians), table.shape[1]
    bounds = line_aligned(BOUNDS, size // WIDTH)
    bounds[:3], bounds[RADIUS], bounds[SPREAD] = 0, NOTHING, 0
    rows = np.minimum(np.arange(size), max(count - 1, 0)).reshape(-1, WIDTH)[: -(-count // WIDTH)]
    means = gaussians.means.astype(np.float64)[rows]
    middle = (means.min(1) + means.max(1)) / 2
    # rounded up by more than the kernels' rounding errors
    radius = np.linalg.norm(means - middle[:, None], axis=2).max(1) * 1.001 + 1e-5 * np.abs(means).max((1, 2))
    bounds[:3, : len(rows)], bounds[RADIUS, : len(rows)] = middle.T, radius
    bounds[SPREAD, : len(rows)] = 1.001 * np.exp(gaussians.log_scales.max(1).astype(np.float64)[rows].max(1))
    return bounds
