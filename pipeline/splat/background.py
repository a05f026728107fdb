"""Sky and what lies beyond all depth: Gaussians on a far shell, where a good part of the pictures shows nothing near.

Without it the sky is built from mist at the depth of the nearest roof, and hangs in the way of every other camera. The
shell is so far away that the steps of training hardly move it; colours and opacities are trained like all others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pipeline.geometry import SH_C0, Gaussians
from pipeline.splat.raster import render
from pipeline.splat.start import quaternions_to
from pipeline.splat.views import TrainingView

MIN_SHARE = 0.05
"""Of all pixels that must show neither depth nor Gaussians; indoors it is less, and there is no shell."""
COVERED = 0.5
DISTANCE = 8.0
"""Of the shell from the cameras' middle [radii of the scene]."""
MAX_SIZE = 0.4
"""Largest standard deviation of a Gaussian [radii]: growth prunes larger ones."""
OVERLAP = 0.6
"""Standard deviation over the spacing."""
MIN_PIXELS = 2
"""Open pixels (quarter size) that a direction needs to get a Gaussian."""
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


def far_shell(gaussians: Gaussians, views: Sequence[TrainingView], radius: float, limit: int) -> Gaussians:
    """Gaussians for the open directions, in the photos' mean colours; none where the pictures are full of things.

    Args:
        gaussians: Those on the cloud.
        views: The training views.
        radius: Of the scene [world units].
        limit: How many at most; at least 1.
    """
    directions, colors, pixels = _open_pixels(gaussians, views)
    coefficients = gaussians.sh.shape[1]
    if len(directions) < MIN_SHARE * pixels:
        return _discs(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(3), 1.0, 1.0, coefficients)
    middle = np.mean([view.world_from_camera.translation for view in views], axis=0)
    count = limit
    while True:  # the finest sphere of which no more than `limit` directions are open
        candidate = _sphere(count)
        chosen, mean = _hit(candidate, directions, colors)
        finer = int(count * 1.3) + 1
        if len(_hit(_sphere(finer), directions, colors)[0]) > limit:
            break
        count = finer
    spacing = np.sqrt(4 * np.pi / count)
    distance = min(DISTANCE, MAX_SIZE / (OVERLAP * spacing)) * radius
    return _discs(candidate[chosen], mean, middle, distance, OVERLAP * spacing * distance, coefficients)


def _open_pixels(
    gaussians: Gaussians, views: Sequence[TrainingView]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """World directions (N, 3) and colours (N, 3) in 0..1 of the pixels that show nothing near, of so many pixels."""
    directions, colors, pixels = [np.zeros((0, 3))], [np.zeros((0, 3))], 0
    for view in views:
        level = view.levels[-1]
        is_open = np.asarray(render(gaussians, level.camera, view.world_from_camera).alpha < COVERED)
        if level.depth is not None:
            is_open &= level.depth.depth == 0
        if level.mask is not None:
            is_open &= level.mask
        rays = view.world_from_camera.rotate(level.camera.rays()[is_open])
        directions.append(rays / np.linalg.norm(rays, axis=1, keepdims=True))
        colors.append(np.moveaxis(level.photo, 0, -1)[is_open] / 255)
        pixels += is_open.size
    return np.concatenate(directions), np.concatenate(colors), pixels


def _sphere(count: int) -> NDArray[np.float64]:
    """Evenly spread unit directions (count, 3): a Fibonacci lattice (R. Swinbank, R. Purser, QJRMS 2006)."""
    index = np.arange(count)
    z = 1 - (2 * index + 1) / count
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(GOLDEN_ANGLE * index), ring * np.sin(GOLDEN_ANGLE * index), z], 1)


def _hit(
    candidates: NDArray[np.float64], directions: NDArray[np.float64], colors: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Indices (M,) of the candidates nearest to enough directions, and the mean colours (M, 3) there."""
    nearest = np.asarray(KDTree(candidates).query(directions)[1])
    hits = np.bincount(nearest, minlength=len(candidates))
    sums = np.stack([np.bincount(nearest, colors[:, c], len(candidates)) for c in range(3)], 1)
    chosen = np.flatnonzero(hits >= MIN_PIXELS)
    return chosen, sums[chosen] / hits[chosen, None]


def _discs(
    directions: NDArray[np.float64],
    colors: NDArray[np.float64],
    middle: NDArray[np.float64],
    distance: float,
    size: float,
    coefficients: int,
) -> Gaussians:
    count = len(directions)
    sh = np.zeros((count, coefficients, 3), np.float32)
    sh[:, 0] = (colors - 0.5) / SH_C0
    return Gaussians(
        (middle + distance * directions).astype(np.float32),
        np.log(np.tile([size, size, 0.1 * size], (count, 1))).astype(np.float32),
        quaternions_to(directions).astype(np.float32),
        np.full(count, 2.0, np.float32),
        sh,
    )
