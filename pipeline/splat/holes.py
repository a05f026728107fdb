"""Gaussians for what the pictures show and the cloud lacks: windows, lamps, glossy or far surfaces.

Growth only splits what is there, so a part of the picture in which nothing starts would stay black.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt

from pipeline.geometry import SH_C0, Gaussians
from pipeline.splat.raster import render
from pipeline.splat.unseen import joined
from pipeline.splat.views import TrainingView

COVERED = 0.5
"""Pixels with less alpha are holes."""
SPACING = 4
"""Between two new Gaussians in a hole [px at a quarter of the training size]."""
SIZE = 2.0
"""Standard deviation of a new Gaussian [px at a quarter of the training size]."""


def cover_holes(gaussians: Gaussians, views: Sequence[TrainingView], limit: int) -> Gaussians:
    """Add balls in the photos' colours where no Gaussian is seen, at the depth of the nearest covered pixel.

    One view after another, so that a hole is covered once.

    Args:
        gaussians: On the cloud.
        views: The training views.
        limit: How many may be added.
    """
    for view in views:
        if limit <= 0:
            break
        added = _in_view(gaussians, view)[:limit]
        limit -= len(added)
        if len(added):
            gaussians = joined(gaussians, added)
    return gaussians


def _in_view(gaussians: Gaussians, view: TrainingView) -> Gaussians:
    level = view.levels[-1]
    picture = render(gaussians, level.camera, view.world_from_camera)
    hole = picture.alpha < COVERED
    if level.mask is not None:
        hole &= level.mask
    chosen = np.zeros_like(hole)
    chosen[SPACING // 2 :: SPACING, SPACING // 2 :: SPACING] = hole[SPACING // 2 :: SPACING, SPACING // 2 :: SPACING]
    if hole.all():
        chosen[:] = False
    rows, columns = np.nonzero(chosen)
    nearest_row, nearest_column = np.asarray(distance_transform_edt(hole, return_distances=False, return_indices=True))
    depth = picture.depth[nearest_row[rows, columns], nearest_column[rows, columns]].astype(np.float64)
    rays = level.camera.rays(np.stack([columns, rows], -1) + 0.5)
    means = view.world_from_camera.apply(rays * depth[:, None])
    scales = np.log(SIZE * depth / level.camera.fx)
    sh = np.zeros((len(means), gaussians.sh.shape[1], 3), np.float32)
    sh[:, 0] = (level.photo[:, rows, columns].T / 255 - 0.5) / SH_C0
    return Gaussians(
        means.astype(np.float32),
        np.repeat(scales[:, None], 3, 1).astype(np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (len(means), 1)),
        np.zeros(len(means), np.float32),
        sh,
    )
