"""Which views to match with each other, and how near and far to look: from the sparse points they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.geometry import Pose
from pipeline.poses.scene import SparsePoints

BEST_ANGLE_DEG, SIGMA_BELOW_DEG, SIGMA_ABOVE_DEG = 8.0, 5.0, 12.0
"""Triangulation angle wanted between two views: smaller is unsure, larger looks too different."""
MIN_POINTS = 10
"""With fewer shared points two views are not neighbours, and a view's depth range is not known."""
RANGE_PERCENTILES, RANGE_NEAR, RANGE_FAR = (1.0, 99.0), 0.6, 1.4


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What multi-view stereo must know of a view before it starts.

    Attributes:
        neighbours: Indices of the other views, best first.
        inverse_depth: (2,) float32, lowest and highest inverse depth to look at [1 / scene units].
    """

    neighbours: NDArray[np.int64]
    inverse_depth: NDArray[np.float32]


def surroundings(poses: list[Pose], points: SparsePoints, view_ids: list[int], count: int) -> list[Surroundings | None]:
    """For each view its best `count` neighbours and its depth range; None for a view that shares too few points.

    Source: Y. Yao et al., MVSNet, ECCV 2018, section 4.1 (view selection by triangulation angle).

    Args:
        poses: world_from_camera of the views that may be used.
        points: The scene's sparse points.
        view_ids: The views' indices as `points.view_index` counts them.
        count: How many neighbours at most.
    """
    number = np.full(max([*view_ids, int(points.view_index.max(initial=0))]) + 1, -1, np.int64)
    number[view_ids] = np.arange(len(view_ids))
    view = number[points.view_index]
    order = np.lexsort((view, points.point_index))
    order = order[view[order] >= 0]
    view, point = view[order], points.point_index[order].astype(np.int64)
    centres = np.array([pose.translation for pose in poses]).reshape(-1, 3)
    starts = np.flatnonzero(np.diff(point, prepend=-1, append=-1))
    shared, scores = _score_pairs(view, points.xyz[point], starts, centres)
    found: list[Surroundings | None] = []
    for index, pose in enumerate(poses):
        ranked = np.argsort(-scores[index], kind="stable")
        usable = ranked[(shared[index, ranked] >= MIN_POINTS) & (scores[index, ranked] > 0)][:count]
        depth = pose.inverse().apply(points.xyz[point[view == index]])[:, 2]
        depth = depth[depth > 0]
        if len(usable) == 0 or len(depth) < MIN_POINTS:
            found.append(None)
            continue
        near, far = np.percentile(depth, RANGE_PERCENTILES)
        found.append(Surroundings(usable, np.array([1 / (far * RANGE_FAR), 1 / (near * RANGE_NEAR)], np.float32)))
    return found


_COMPILE: dict[str, Any] = {"cache": True, "nogil": True}


@njit(**_COMPILE)
def _score_pairs(view, xyz, starts, centres):  # noqa: ANN001, ANN202
    """Shared points and summed angle weights (V, V); observations of one point lie between two `starts`."""
    count = len(centres)
    shared = np.zeros((count, count), np.int64)
    scores = np.zeros((count, count))
    for track in range(len(starts) - 1):
        for a in range(starts[track], starts[track + 1]):
            to_a = xyz[a] - centres[view[a]]
            for b in range(a + 1, starts[track + 1]):
                to_b = xyz[b] - centres[view[b]]
                cosine = np.sum(to_a * to_b) / np.sqrt(np.sum(to_a**2) * np.sum(to_b**2))
                angle = np.degrees(np.arccos(min(max(cosine, -1.0), 1.0)))
                sigma = SIGMA_BELOW_DEG if angle < BEST_ANGLE_DEG else SIGMA_ABOVE_DEG
                weight = np.exp(-((angle - BEST_ANGLE_DEG) ** 2) / (2 * sigma**2))
                for i, j in ((view[a], view[b]), (view[b], view[a])):
                    shared[i, j] += 1
                    scores[i, j] += weight
    return shared, scores
