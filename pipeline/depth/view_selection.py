"""Views to match with each other, and their depth ranges, by the sparse points that they share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import KDTree

from pipeline.geometry import Camera, Pose
from pipeline.poses.scene import SparsePoints
from pipeline.types import F32, F64, I64

BEST_ANGLE_DEG, SIGMA_BELOW_DEG, SIGMA_ABOVE_DEG = 12.0, 7.0, 16.0
"""Best triangulation angle of two views: smaller is inaccurate, larger changes the appearance."""
MIN_POINTS = 10
"""Least number of points that neighbours share, and that determine a view's depth range."""
MIN_PARALLAX_DEG = 0.3
"""Least parallax of a view with depth."""
RANGE_NEAR, RANGE_FAR, FAR_PERCENTILE = 0.6, 1.4, 99.5

_CELLS = 20
"""Number of cells of the coarse depth along an image's longer side."""
_HIDDEN = 1.5
"""A point is hidden from a view whose surface there is nearer by this factor."""


@dataclass(frozen=True, eq=False)
class MatchingViews:
    """A view's neighbours, in the order of what each adds, and its range (2,) of inverse depth [1 / scene units].

    `parallax_deg` is the median over the image of the largest angle between this view and a neighbour.
    """

    neighbours: I64
    inverse_depth: F32
    parallax_deg: float


@dataclass(frozen=True, eq=False)
class _Coarse:
    """A view's approximate surface: one world point (rows * columns, 3) and inverse depth (rows, columns) per cell."""

    points: F64
    inverse_depth: F64


def select_views(
    cameras: list[Camera], poses: list[Pose], points: SparsePoints, view_ids: list[int], count: int
) -> list[MatchingViews | None]:
    """For each view its best `count` neighbours and its depth range; None for a view that shares too few points.

    Neighbours are picked greedily by what they add: how many of the view's cells they show, under which angle and at
    which scale, and how well those already picked show them. So an image's corners, and what few views show, are
    covered as well. Sources: Y. Yao et al., MVSNet, ECCV 2018, section 4.1 (weight of the angle); M. Goesele et al.,
    Multi-View Stereo for Community Photo Collections, ICCV 2007, section 4 (greedy choice by coverage).

    Of each view a pinhole camera, its world_from_camera and its index in `points.view_index` are given.
    """
    number = np.full(max([*view_ids, int(points.view_index.max(initial=0))]) + 1, -1, np.int64)
    number[view_ids] = np.arange(len(view_ids))
    view = number[points.view_index]
    observed = csr_array(
        (np.ones((view >= 0).sum(), np.int32), (view[view >= 0], points.point_index[view >= 0])),
        shape=(len(poses), len(points.xyz)),
    )
    shared = (observed @ observed.T).toarray()
    np.fill_diagonal(shared, 0)
    own_points = [points.xyz[observed.indices[observed.indptr[i] : observed.indptr[i + 1]]] for i in range(len(poses))]
    coarse = [_coarse_depth(c, p, xyz) for c, p, xyz in zip(cameras, poses, own_points, strict=True)]
    selected: list[MatchingViews | None] = []
    for index in range(len(poses)):
        others = np.flatnonzero(shared[index] >= MIN_POINTS)
        others = others[[coarse[j] is not None for j in others]]
        own = coarse[index]
        if own is None or len(others) == 0:
            selected.append(None)
            continue
        weights, angles = _overlap(index, others, own, coarse, cameras, poses)
        picked = _pick(weights, count)
        parallax = float(np.median(angles[:, picked].max(1))) if len(picked) else 0.0
        depth_range = _depth_range(cameras[index], poses[index], points.xyz, own)
        selected.append(MatchingViews(others[picked], depth_range, parallax))
    return selected


def _coarse_depth(camera: Camera, world_from_camera: Pose, xyz: F64) -> _Coarse | None:
    """Depth of each cell: the median of the three sparse points nearest in the image."""
    local = world_from_camera.inverse().apply(xyz)
    local = local[local[:, 2] > 0]
    if len(local) < MIN_POINTS:
        return None
    cell = max(camera.width, camera.height) / _CELLS
    columns, rows = max(1, round(camera.width / cell)), max(1, round(camera.height / cell))
    u, v = np.meshgrid(
        (np.arange(columns) + 0.5) / columns * camera.width, (np.arange(rows) + 0.5) / rows * camera.height
    )
    centres = np.stack([u.ravel(), v.ravel()], -1)
    nearest = KDTree(camera.project(local)).query(centres, k=3)[1]
    inverse_depth = np.median(1 / local[nearest, 2], axis=1)
    points = world_from_camera.apply(camera.rays(centres) / inverse_depth[:, None])
    return _Coarse(points, inverse_depth.reshape(rows, columns))


def _overlap(
    index: int, others: I64, own: _Coarse, coarse: list[_Coarse | None], cameras: list[Camera], poses: list[Pose]
) -> tuple[F64, F64]:
    """How well other views show each cell of view `index`, 0..1, and under which angle [deg]: (cells, others)."""
    weights = np.zeros((len(own.points), len(others)))
    angles = np.zeros_like(weights)
    to_own = own.points - poses[index].translation
    distance = np.linalg.norm(to_own, axis=1)
    own_depth = 1 / own.inverse_depth.ravel()
    for column, j in enumerate(others):
        other, camera = coarse[j], cameras[j]
        if other is None:
            continue
        local = poses[j].inverse().apply(own.points)
        ahead = local[:, 2] > 1e-6 * own_depth
        depth = np.where(ahead, local[:, 2], own_depth)
        pixel = camera.project(np.where(ahead[:, None], local, [0, 0, 1]))
        inside = ahead & (pixel > 0).all(1) & (pixel[:, 0] < camera.width) & (pixel[:, 1] < camera.height)
        rows, columns = other.inverse_depth.shape
        row = np.clip(pixel[:, 1] / camera.height * rows, 0, rows - 1).astype(int)
        cell = np.clip(pixel[:, 0] / camera.width * columns, 0, columns - 1).astype(int)
        seen = inside & (other.inverse_depth[row, cell] * depth < _HIDDEN)
        to_other = own.points - poses[j].translation
        cosine = (to_own * to_other).sum(1) / np.maximum(distance * np.linalg.norm(to_other, axis=1), 1e-12)
        angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        sigma = np.where(angle < BEST_ANGLE_DEG, SIGMA_BELOW_DEG, SIGMA_ABOVE_DEG)
        size = depth * cameras[index].fx / (own_depth * camera.fx)
        weights[:, column] = seen * np.exp(-((angle - BEST_ANGLE_DEG) ** 2) / (2 * sigma**2))
        weights[:, column] *= np.minimum(1, 1.5 * np.minimum(size, 1 / size))
        angles[:, column] = np.where(seen, angle, 0)
    return weights, angles


def _pick(weights: F64, count: int) -> I64:
    """Columns in the order of what each adds; a cell that is well covered gains little by one more view."""
    uncovered = np.ones(len(weights))
    gains = 1 - np.exp(-weights)
    left = list(range(weights.shape[1]))
    picked: list[int] = []
    while left and len(picked) < count:
        added = uncovered @ gains[:, left]
        best = int(np.argmax(added))
        if added[best] <= 0:
            break
        picked.append(left.pop(best))
        uncovered *= 1 - gains[:, picked[-1]]
    return np.array(picked, np.int64)


def _depth_range(camera: Camera, world_from_camera: Pose, xyz: F64, own: _Coarse) -> F32:
    """Lowest and highest inverse depth of all sparse points in front of the view.

    Points of other views count too: objects close to the camera are blurred and often have none of this view.
    """
    local = world_from_camera.inverse().apply(xyz)
    nearest_own = own.inverse_depth.max()
    local = local[local[:, 2] > 0.05 / nearest_own]
    pixel = camera.project(local)
    inside = (pixel > 0).all(1) & (pixel[:, 0] < camera.width) & (pixel[:, 1] < camera.height)
    depth = np.sort(local[inside, 2])
    far = max(float(np.percentile(depth, FAR_PERCENTILE)), 1 / float(own.inverse_depth.min()))
    near = min(float(depth[min(MIN_POINTS, len(depth) - 1)]), 1 / float(nearest_own))
    return np.array([1 / (far * RANGE_FAR), 1 / (near * RANGE_NEAR)], np.float32)
