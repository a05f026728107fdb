"""Which pairs of images to match: neighbours in a sequence, and those that look alike or whose poses overlap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Pose
from pipeline.poses.matching import Features
from pipeline.types import F32, F64

WORDS, WORD_SAMPLES = 2048, 256
"""Number of visual words, and of features per image that are used (the largest)."""
Pairs = list[tuple[int, int]]
EXHAUSTIVE = 25
"""Number of images up to which every pair is matched."""
NEIGHBOURS = 5
"""Neighbours matched on each side in a sequence; then those at distances 8, 16, 32 (quadratic overlap)."""
SIMILAR, SIMILAR_ONLY = 6, 20
"""Similar images matched in addition to the sequence's neighbours, and if there is no sequence."""
SEQUENCE = 0.3
"""Minimum similarity of neighbours in a sequence: 0 is that of any two images, 1 that of the most similar ones."""
MIN_OVERLAP = 0.25
"""Minimum share of each view that the other shows too."""
PROBE_DEPTHS = (1.0, 2.0, 4.0)
"""Depths at which the overlap of two posed views is probed [m]: those of rooms."""


def similarity(features: Sequence[Features], rng: np.random.Generator) -> F64:
    """Similarity of images, (N, N) in 0..1: cosine of their weighted visual-word histograms.

    Source: J. Sivic and A. Zisserman, Video Google, ICCV 2003; the words come from the images themselves.
    """
    # The largest features are few, and the same ones in every image that shows them.
    largest = [np.argsort(-f.sizes, kind="stable")[:WORD_SAMPLES] for f in features]
    samples = [f.descriptors[rows].astype(np.float32) for f, rows in zip(features, largest, strict=True)]
    everything = np.concatenate(samples)
    count = min(WORDS, len(everything) // 4)
    if not count:
        return np.ones((len(features), len(features)))
    words = everything[rng.choice(len(everything), count, replace=False)]
    assigned = _nearest(everything, words)
    # One round of k-means.
    order = np.argsort(assigned, kind="stable")
    filled = np.bincount(assigned, minlength=count)
    used = filled > 0
    starts = np.searchsorted(assigned[order], np.flatnonzero(used))
    words[used] = np.add.reduceat(everything[order], starts, axis=0) / filled[used, None]
    assigned = _nearest(everything, words)
    owner = np.repeat(np.arange(len(samples)), [len(s) for s in samples])
    histogram = np.bincount(owner * count + assigned, minlength=len(samples) * count).reshape(-1, count)
    weight = np.log(len(samples) / np.maximum((histogram > 0).sum(0), 1))
    vectors = np.sqrt(histogram) * weight
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors @ vectors.T


def _nearest(points: F32, words: F32) -> NDArray[np.intp]:
    """Index of the nearest word for every point (N,)."""
    half = (words * words).sum(1) / 2
    parts = [np.argmax(points[i : i + 8192] @ words.T - half, axis=1) for i in range(0, len(points), 8192)]
    return np.concatenate(parts)


def sequence_pairs(count: int) -> Pairs:
    """Neighbours up to `NEIGHBOURS` apart, then 8, 16 and 32 apart."""
    steps = [*range(1, NEIGHBOURS + 1), 8, 16, 32]
    return sorted((i, i + step) for step in steps for i in range(count - step))


def image_pairs(count: int, likeness: F64 | None) -> Pairs:
    """Pairs of images without poses: all of a few, otherwise the sequence's neighbours and similar images.

    Photos in a folder are usually a sequence too, numbered by their names. If neighbours are no more similar than other
    images, the order has no meaning, and only similar images are matched. `likeness` (N, N) is from `similarity`, None
    for few images.
    """
    if likeness is None or count <= EXHAUSTIVE:
        return list(combinations(range(count), 2))
    if is_sequence(likeness):
        return sorted({*sequence_pairs(count), *_best(likeness)})
    others = np.where(np.eye(len(likeness), dtype=bool), -np.inf, likeness)
    best = np.argsort(-others, axis=1, kind="stable")[:, :SIMILAR_ONLY]
    return sorted({(min(i, j), max(i, j)) for i, row in enumerate(best.tolist()) for j in row})


def is_sequence(likeness: F64) -> bool:
    """Whether consecutive images are more similar than any two, by their similarities (N, N)."""
    others = likeness[~np.eye(len(likeness), dtype=bool)].reshape(len(likeness), -1)
    neighbours, any_two, best = np.diagonal(likeness, 1).mean(), others.mean(), others.max(1).mean()
    return bool(neighbours - any_two > SEQUENCE * (best - any_two))


def posed_pairs(poses: Sequence[Pose], cameras: Sequence[Camera]) -> Pairs:
    """Pairs of images with approximate world_from_camera [m]: the sequence's neighbours, and overlapping views."""
    share = view_overlap(poses, cameras)
    share = np.where(np.minimum(share, share.T) < MIN_OVERLAP, 0.0, (share + share.T) / 2)
    return sorted({*sequence_pairs(len(poses)), *_best(share)})


def view_overlap(poses: Sequence[Pose], cameras: Sequence[Camera]) -> F64:
    """Share (N, N) of view i's probe points that view j shows too, from a similar direction; without distortion."""
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


def _best(score: F64) -> Pairs:
    """For each image the `SIMILAR` best ones outside its own part of the sequence, without their neighbours."""
    count = len(score)
    index = np.arange(count)
    chosen: set[tuple[int, int]] = set()
    for i in range(count):
        left = np.where(np.abs(index - i) > NEIGHBOURS, score[i], 0.0)
        for _ in range(SIMILAR):
            j = int(np.argmax(left))
            if left[j] <= 0:
                break
            chosen.add((min(i, j), max(i, j)))
            left[max(0, j - 1) : j + 2] = 0
    return sorted(chosen)
