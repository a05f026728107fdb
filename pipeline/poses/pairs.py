"""Which pairs of pictures are worth matching: neighbours in the sequence, look-alikes, views that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Pose

Pairs = list[tuple[int, int]]

EXHAUSTIVE = 25
"""Up to so many pictures every pair is tried."""
NEIGHBOURS = 5
"""Sequence neighbours tried on each side; beyond them distances 8, 16, 32 (quadratic overlap)."""
LOOK_ALIKES = 6
"""Pictures tried besides the sequence's neighbours."""
LOOK_ALIKES_ONLY = 20
"""Pictures tried where there is no sequence."""
SEQUENCE = 0.3
"""How alike neighbours must be for a sequence: 0 as any two pictures, 1 as the two most alike."""
LEAST_OVERLAP = 0.25
PROBE_DEPTHS = (1.0, 2.0, 4.0)
"""Depths [m] at which the overlap of two posed views is probed when the scene is unknown; rooms lie in between."""


def all_pairs(count: int) -> Pairs:
    """Every pair (i, j), i < j."""
    return list(combinations(range(count), 2))


def sequence_pairs(count: int) -> Pairs:
    """Neighbours up to `NEIGHBOURS` apart, then 8, 16 and 32 apart."""
    steps = [*range(1, NEIGHBOURS + 1), 8, 16, 32]
    return sorted((i, i + step) for step in steps for i in range(count - step))


def picture_pairs(count: int, likeness: NDArray[np.float64] | None) -> Pairs:
    """Pairs for pictures without poses: all of few, else the sequence's neighbours and look-alikes.

    Photos in a folder are a sequence too, for people walk while they take them and names number them; where neighbours
    are no more alike than other pictures, names say nothing and only look-alikes count.

    Args:
        count: How many pictures.
        likeness: (N, N), from `features.similarity`; None for few pictures.
    """
    if likeness is None or count <= EXHAUSTIVE:
        return all_pairs(count)
    if not is_sequence(likeness):
        return _most_alike(likeness)
    return sorted({*sequence_pairs(count), *_best(likeness)})


def is_sequence(likeness: NDArray[np.float64]) -> bool:
    """Whether pictures (N, N alike) that follow one another show the same place more often than any two do."""
    others = likeness[~np.eye(len(likeness), dtype=bool)].reshape(len(likeness), -1)
    neighbours, any_two, best = np.diagonal(likeness, 1).mean(), others.mean(), others.max(1).mean()
    return bool(neighbours - any_two > SEQUENCE * (best - any_two))


def posed_pairs(poses: Sequence[Pose], cameras: Sequence[Camera]) -> Pairs:
    """Pairs for pictures with rough poses: the sequence's neighbours, and views whose frusta overlap.

    Args:
        poses: world_from_camera [m].
        cameras: Their intrinsics, pinhole or nearly so.
    """
    share = view_overlap(poses, cameras)
    share = np.where(np.minimum(share, share.T) < LEAST_OVERLAP, 0.0, (share + share.T) / 2)
    return sorted({*sequence_pairs(len(poses)), *_best(share)})


def view_overlap(poses: Sequence[Pose], cameras: Sequence[Camera]) -> NDArray[np.float64]:
    """Share (N, N) of view i's probe points that view j sees too, from a similar direction."""
    count, grid = len(poses), (np.arange(6) + 0.5) / 6
    share = np.zeros((count, count))
    rotations = np.array([p.rotation for p in poses])
    centres = np.array([p.translation for p in poses])
    sizes = np.array([(c.width, c.height) for c in cameras], np.float64)
    focal = np.array([(c.fx, c.fy) for c in cameras])
    middle = np.array([(c.cx, c.cy) for c in cameras])
    for i, (pose, camera) in enumerate(zip(poses, cameras, strict=True)):
        uv = np.stack(np.meshgrid(grid * camera.width, grid * camera.height), -1).reshape(-1, 2)
        rays = np.c_[(uv - middle[i]) / focal[i], np.ones(len(uv))]
        points = pose.apply((rays[None] * np.array(PROBE_DEPTHS)[:, None, None]).reshape(-1, 3))
        away = points[None] - centres[:, None]
        local = np.einsum("npk,nkl->npl", away, rotations)
        depth = np.maximum(local[..., 2], 1e-3)
        pixel = local[..., :2] / depth[..., None] * focal[:, None] + middle[:, None]
        inside = ((pixel >= 0) & (pixel < sizes[:, None])).all(-1) & (local[..., 2] > 0.1)
        back = points - pose.translation
        cosine = (away * back).sum(-1) / (np.linalg.norm(away, axis=-1) * np.linalg.norm(back, axis=-1))
        share[i] = (inside & (cosine > np.cos(np.deg2rad(50)))).mean(1)
    return share


def _most_alike(likeness: NDArray[np.float64]) -> Pairs:
    """Each picture with its `LOOK_ALIKES_ONLY` look-alikes."""
    others = np.where(np.eye(len(likeness), dtype=bool), -np.inf, likeness)
    best = np.argsort(-others, axis=1, kind="stable")[:, :LOOK_ALIKES_ONLY]
    return sorted({(min(i, j), max(i, j)) for i, row in enumerate(best.tolist()) for j in row})


def _best(score: NDArray[np.float64]) -> Pairs:
    """For each picture its `LOOK_ALIKES` best partners outside its own stretch of the sequence.

    Next to a partner its neighbours look alike as well; every second one is enough to tie the stretches together.
    """
    count = len(score)
    index = np.arange(count)
    chosen: set[tuple[int, int]] = set()
    for i in range(count):
        left = np.where(np.abs(index - i) > NEIGHBOURS, score[i], 0.0)
        for _ in range(LOOK_ALIKES):
            j = int(np.argmax(left))
            if left[j] <= 0:
                break
            chosen.add((min(i, j), max(i, j)))
            left[max(0, j - 1) : j + 2] = 0
    return sorted(chosen)
