"""Gaussians as the batch renderer wants them, with all worked out that no camera changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.geometry import Gaussians, matrix_from_quaternion, morton_order
from pipeline.raster.harmonics import C0
from pipeline.raster.lanes import WIDTH
from pipeline.raster.layout import BOUNDS, COLOR_FIELD, FAINT_FIELD, FIELDS, RADIUS, SPREAD, line_aligned
from pipeline.raster.merging import CLUSTER, Coarse, compact_order, is_large, merged
from pipeline.types import F32, F64, Floats

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
    coarse: Coarse | None = None  # of a place that is more than a room, where asked for

    def __len__(self) -> int:
        return len(self.sh)


def pack(gaussians: Gaussians, *, coarsely: bool = False) -> PackedGaussians:
    """Work out what no camera changes; Gaussians [world frame] with numbers that are not finite are left out.

    A place of more than a room is drawn `coarsely` where that hardly shows: for robots' cameras, not to measure by.
    """
    numbers = np.concatenate(
        [getattr(gaussians, name).reshape(len(gaussians), -1) for name in Gaussians.ARRAYS[:-1]], 1
    )
    gaussians = gaussians[np.flatnonzero(np.isfinite(numbers).all(1))]
    count = len(gaussians)
    large = coarsely and is_large(gaussians.means)
    gaussians = gaussians[compact_order(gaussians.means) if large else morton_order(gaussians.means)]
    axes = matrix_from_quaternion(gaussians.quaternions) * np.exp(gaussians.log_scales.astype(np.float64))[:, None, :]
    covariances = axes @ axes.swapaxes(1, 2)
    table = line_aligned(FIELDS, max(1, -(-count // WIDTH**2)) * WIDTH**2)
    faint = np.logaddexp(0, -gaussians.opacity_logits.astype(np.float64))
    _fill(table, gaussians.means, covariances, faint, gaussians.sh)
    sh = np.ascontiguousarray(gaussians.sh, np.float32)
    coarse = _coarse(gaussians, covariances, table.shape[1] // WIDTH) if large else None
    return PackedGaussians(table, _bounds(gaussians, table.shape[1] // WIDTH), sh, gaussians.antialiased, coarse)


def _coarse(gaussians: Gaussians, covariances: F64, size: int) -> Coarse:
    """The coarse level of Gaussians in compact order, with room for `size`."""
    means, spreads, deviations, opacities, sh = merged(gaussians, covariances)
    table, coefficients = line_aligned(FIELDS, size), np.zeros((size, *sh.shape[1:]), np.float32)
    _fill(table, means, spreads, -np.log(opacities), sh)
    coefficients[: len(sh)] = sh
    own = _bounds(gaussians, -(-size // CLUSTER) * WIDTH, CLUSTER)
    clusters = line_aligned(BOUNDS + 1, own.shape[1])
    firsts = np.arange(0, len(deviations), WIDTH)
    clusters[:BOUNDS], clusters[BOUNDS] = own, 0
    held = np.minimum(WIDTH, len(deviations) - firsts)
    clusters[BOUNDS, : len(firsts)] = np.add.reduceat(deviations, firsts) / held
    return Coarse(table, coefficients, clusters)


def _fill(table: F32, means: Floats, covariances: F64, faint: Floats, sh: Floats) -> None:
    """Write a table; see `FIELDS`."""
    count = len(means)
    table[:] = 0
    table[:3, :count] = means.T
    table[3:FAINT_FIELD, :count] = covariances[:, (0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)].T
    table[FAINT_FIELD] = np.inf
    table[FAINT_FIELD, :count] = faint
    table[COLOR_FIELD:, :count] = np.maximum(0.5 + C0 * sh[:, 0].T, 0)


def _bounds(gaussians: Gaussians, size: int, each: int = WIDTH) -> F32:
    """See `PackedGaussians`; of groups of `each` that follow, for a table of `size` columns."""
    count = len(gaussians)
    bounds = line_aligned(BOUNDS, size)
    bounds[:3], bounds[RADIUS], bounds[SPREAD] = 0, NOTHING, 0
    rows = np.minimum(np.arange(size * each), max(count - 1, 0)).reshape(-1, each)[: -(-count // each)]
    means = gaussians.means.astype(np.float64)[rows]
    middle = (means.min(1) + means.max(1)) / 2
    # rounded up by more than the kernels' rounding errors
    radius = np.linalg.norm(means - middle[:, None], axis=2).max(1) * 1.001 + 1e-5 * np.abs(means).max((1, 2))
    bounds[:3, : len(rows)], bounds[RADIUS, : len(rows)] = middle.T, radius
    bounds[SPREAD, : len(rows)] = 1.001 * np.exp(gaussians.log_scales.max(1).astype(np.float64)[rows].max(1))
    return bounds
