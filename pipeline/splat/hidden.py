"""The far side of guessed backs: nobody saw what trained Gaussians do there, so they do anything and are cleared."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from pipeline.geometry import Gaussians, PointCloud, matrix_from_quaternion
from pipeline.splat.unseen import SPACING

NEIGHBOURS = 6
DEPTH, WIDTH = 0.1, 2 * SPACING
"""How far behind a guessed disc, and beside its axis, Gaussians are cleared; shares of the typical distance."""
SUPPORT = 0.01
"""Gaussians nearer to the cloud than this share are kept: the legs of a table are behind its top."""
CLEARED = -9.0
"""Opacity logit of what is cleared; growth prunes it."""


class HiddenSide:
    """What lies behind guessed discs.

    Args:
        guessed: Discs whose third axis points to the side that photos show; at least one.
        cloud: The shared cloud.
        distance: Typical distance from a camera to what it sees [world units].
    """

    def __init__(self, guessed: Gaussians, cloud: PointCloud, distance: float) -> None:
        quaternions = guessed.quaternions / np.linalg.norm(guessed.quaternions, axis=1, keepdims=True)
        self._normals = matrix_from_quaternion(quaternions)[:, :, 2]
        self._centers, self._distance = guessed.means.astype(np.float64), distance
        self._discs, self._cloud = KDTree(self._centers), KDTree(cloud.points)

    def clear(self, gaussians: Gaussians, first: int) -> int:
        """Make the Gaussians from index `first` on that lie there transparent, in place; gives how many."""
        means = gaussians.means[first:].astype(np.float64)
        reach = self._distance * float(np.hypot(DEPTH, WIDTH))
        near = np.flatnonzero(np.asarray(self._discs.query(means, distance_upper_bound=reach)[0]) < reach)
        if not len(near):
            return 0
        count = min(NEIGHBOURS, len(self._centers))
        nearest = np.asarray(self._discs.query(means[near], count)[1]).reshape(len(near), -1)
        offset = means[near, None] - self._centers[nearest]
        height = np.einsum("nkd,nkd->nk", offset, self._normals[nearest])
        beside = np.linalg.norm(offset - height[..., None] * self._normals[nearest], axis=2)
        behind = (height < 0) & (height > -DEPTH * self._distance) & (beside < WIDTH * self._distance)
        supported = np.asarray(self._cloud.query(means[near])[0]) < SUPPORT * self._distance
        chosen = first + near[behind.any(1) & ~supported]
        gaussians.opacity_logits[chosen] = CLEARED
        return len(chosen)
