"""Sub-models of one place that a mapper could not join, joined by the points that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Similarity
from pipeline.poses.bridge import robust_similarity
from pipeline.poses.matching import Matches
from pipeline.poses.sparse_map import SparseMap

LEAST_SHARED, LEAST_SHARE = 15, 0.3
"""Points that two sub-models must share, and their least share of those that matches say are the same."""
SAME = 0.03
"""How far apart shared points may lie after joining [share of their usual distance from the cameras]."""


def join(maps: Sequence[SparseMap], matches: Sequence[Matches], seed: int) -> list[tuple[SparseMap, int]]:
    """Join what can be joined, the largest first.

    A point of one sub-model is one of another where they hold the same feature of a picture that both have, or
    features of two pictures that match. The robust similarity between such pairs lays one sub-model over the other.

    Args:
        maps: Sub-models, each in a frame and scale of its own.
        matches: Verified matches.
        seed: Of the RANSAC.

    Returns:
        Maps with the number of sub-models that each was made of, the largest first. Points of joined maps are doubled
        where they shared them; cameras are those of the largest.
    """
    left = sorted(maps, key=_rank)
    result: list[tuple[SparseMap, int]] = []
    while left:
        base, made_of = left.pop(0), 1
        tried = 0
        while tried < len(left):
            fit = _fit(base, left[tried], matches, seed)
            if fit is None:
                tried += 1
                continue
            base = _both(base, left.pop(tried).transformed(fit))
            made_of, tried = made_of + 1, 0  # what did not fit the smaller map may fit the larger one
        result.append((base, made_of))
    return sorted(result, key=lambda r: _rank(r[0]))


def _rank(found: SparseMap) -> tuple[int, int]:
    return -len(found.poses), min(found.poses)


def _fit(base: SparseMap, other: SparseMap, matches: Sequence[Matches], seed: int) -> Similarity | None:
    """The similarity base_from_other, or None where too few points agree on one."""
    shared = _shared_points(base, other, matches)
    if len(shared) < LEAST_SHARED:
        return None
    near = SAME * float(np.median(base.in_camera()[:, 2]))
    answer = robust_similarity(other.xyz[shared[:, 1]], base.xyz[shared[:, 0]], near, seed)
    if answer is None:
        return None
    fit, inliers = answer
    return fit if inliers.sum() >= max(LEAST_SHARED, LEAST_SHARE * len(shared)) else None


def _shared_points(base: SparseMap, other: SparseMap, matches: Sequence[Matches]) -> NDArray[np.intp]:
    """Distinct pairs (K, 2) of points of both maps that should be the same."""
    here, there = _points(base), _points(other)
    rows = [np.zeros((0, 2), np.intp)]
    for image in here.keys() & there.keys():
        count = min(len(here[image]), len(there[image]))
        rows.append(np.stack([here[image][:count], there[image][:count]], 1))
    for m in matches:
        for a, b, pair in ((m.i + 1, m.j + 1, m.features), (m.j + 1, m.i + 1, m.features[:, ::-1])):
            if a in here and b in there:
                known = (pair[:, 0] < len(here[a])) & (pair[:, 1] < len(there[b]))
                rows.append(np.stack([here[a][pair[known, 0]], there[b][pair[known, 1]]], 1))
    both = np.concatenate(rows)
    return np.unique(both[(both >= 0).all(1)], axis=0)


def _points(found: SparseMap) -> dict[int, NDArray[np.intp]]:
    """The point of every feature of every image up to the last one that has any, -1 where there is none."""
    last = {int(i): int(found.feature[found.image == i].max()) for i in np.unique(found.image)}
    return {i: found.points_of(i, count + 1) for i, count in last.items()}


def _both(base: SparseMap, other: SparseMap) -> SparseMap:
    """One map of two in the same frame; pictures that both have stay where the first has them."""
    new = ~np.isin(other.image, sorted(base.poses))
    return replace(
        base,
        poses={**other.poses, **base.poses},
        cameras={**other.cameras, **base.cameras},
        xyz=np.concatenate([base.xyz, other.xyz]),
        image=np.concatenate([base.image, other.image[new]]),
        feature=np.concatenate([base.feature, other.feature[new]]),
        point=np.concatenate([base.point, other.point[new] + len(base.xyz)]),
    )
