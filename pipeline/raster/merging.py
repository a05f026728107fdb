"""The coarse level of a large place: one Gaussian for each 16 of its own.

Source of the merged shapes: B. Kerbl et al., A Hierarchical 3D Gaussian Representation for Real-Time Rendering of Very
Large Datasets, SIGGRAPH 2024, section 4.1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.geometry import Gaussians
from pipeline.raster.lanes import WIDTH
from pipeline.types import F32, F64, I64

CLUSTER = WIDTH * WIDTH
"""Gaussians of which all or none are drawn by themselves."""
LARGE = 400
"""Cubes of 1 m that hold some of a large place: rooms of 25 m² have up to 220."""
IN_A_CUBE = 4
"""Gaussians in a cube that is not held by a stray one."""
CLOSED = 1.35
"""Growth of a merged Gaussian, so that such on a surface leave no gaps."""
MOST = 0.99
"""Highest opacity of a merged Gaussian."""


class Coarse(NamedTuple):
    """A coarse level as the batch renderer wants it, see `PackedGaussians`.

    Each 256 Gaussians that follow each other are a cluster, for which 16 merged ones stand. Clusters have bounds as
    groups of 16 have, and the standard deviation of their merged Gaussians [m] in a sixth row.
    """

    table: F32  # (13, M / 16) float32
    sh: F32  # (M / 16, K, 3) float32
    clusters: F32  # (6, C) float32; C is M / 256 rounded up to 16


def is_large(means: F32) -> bool:
    """Whether Gaussians (N, 3) [m] are those of more than a room."""
    _, count = np.unique(np.floor(means).astype(np.int64), axis=0, return_counts=True)
    return int((count >= IN_A_CUBE).sum()) > LARGE


def compact_order(points: F32) -> I64:
    """Order (N,) of points (N, 3) in which each 256 that follow lie close together, and of these each 16.

    Boxes of points are halved across their longest sides.
    """
    order, left = np.arange(len(points)), [(0, len(points))]
    while left:
        first, end = left.pop()
        clusters = -(-(end - first) // CLUSTER)
        if clusters > 1:
            inside = points[order[first:end]]
            along = inside[:, np.argmax(np.ptp(inside, 0))]
            half = clusters // 2 * CLUSTER
            order[first:end] = order[first:end][np.argpartition(along, half)]
            left += [(first, first + half), (first + half, end)]
    whole = len(order) // CLUSTER * CLUSTER
    rows, size = order[:whole].reshape(-1, CLUSTER), CLUSTER
    while size > WIDTH:
        rows = rows.reshape(-1, size)
        inside = points[rows]
        axis = np.ptp(inside, 1).argmax(1)
        along = np.take_along_axis(inside, axis[:, None, None], 2)[:, :, 0]
        rows, size = np.take_along_axis(rows, along.argsort(1), 1), size // 2
    return np.concatenate([rows.reshape(-1), order[whole:]])


def merged(gaussians: Gaussians, covariances: F64) -> tuple[F64, F64, F64, F64, F64]:
    """One Gaussian for each 16 that follow.

    Means (K, 3), covariances (K, 3, 3), largest standard deviations (K,), opacities (K,) and SH (K, C, 3).

    Each counts by the light that it keeps back, its opacity times its area; the sum of that stays.
    """
    count = -(-len(gaussians) // WIDTH)
    rows = np.minimum(np.arange(count * WIDTH), len(gaussians) - 1).reshape(count, WIDTH)
    there = np.arange(count * WIDTH).reshape(count, WIDTH) < len(gaussians)
    long, wide, _ = np.exp(-np.sort(-gaussians.log_scales.astype(np.float64), 1)).T
    weight = (gaussians.opacities * long * wide + 1e-12)[rows] * there
    share = weight / weight.sum(1, keepdims=True)
    means = gaussians.means.astype(np.float64)[rows]
    middle = np.einsum("kn,knc->kc", share, means)
    off = means - middle[:, None]
    spread = np.einsum("kn,knij->kij", share, covariances[rows] + off[..., :, None] * off[..., None, :]) * CLOSED
    squared = np.linalg.eigvalsh(spread)
    opacity = np.minimum(weight.sum(1) / np.sqrt(squared[:, 1] * squared[:, 2]), MOST)
    return (
        middle,
        spread,
        np.sqrt(squared[:, 2]),
        opacity,
        np.einsum("kn,kncd->kcd", share, gaussians.sh.astype(np.float64)[rows]),
    )
