"""Poses laid on a path: the similarity between two sets of poses of the same images, and how sure its scale is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.geometry import Pose, Similarity, fit_similarity
from pipeline.poses.pose_graph import median_rotation
from pipeline.types import F64


def scale_onto(poses: Mapping[int, Pose], path: Mapping[int, Pose]) -> float:
    """The scale that brings the poses to the size of a path, without distant outliers."""
    ids = sorted(poses)
    source, target = positions(ids, poses, path)
    scale, keep = 1.0, np.ones(len(ids), bool)
    for _ in range(5):
        fit = fit_similarity(source[keep], target[keep])
        scale, residual = fit.scale, np.linalg.norm(fit.apply(source) - target, axis=1)
        keep = residual <= 3 * np.median(residual)
    return scale


def onto_path(poses: Mapping[int, Pose], path: Mapping[int, Pose], scale: float = 1.0) -> Similarity:
    """The similarity of that scale onto a path's poses: its rotation from the rotations, its shift by the median.

    The adjustment converges slowly along these seven directions, because the images don't constrain them. Positions
    alone don't determine the rotation about a straight path; rotations preserve the source's up direction.
    """
    ids = sorted(poses)
    source, target = positions(ids, poses, path)
    relative = np.array([path[i].rotation @ poses[i].rotation.T for i in ids])
    rotation = median_rotation(relative, np.eye(3), rounds=5)
    return Similarity(scale, rotation, np.median(target - scale * source @ rotation.T, axis=0))


def path_scale_sigma(poses: Mapping[int, Pose], start: Mapping[int, Pose]) -> float:
    """Relative one sigma of the scale by the sensor's path: its robust residual over the path's extent.

    The errors drift along the path, so only every tenth residual is independent.
    """
    ids = sorted(poses)
    a, b = positions(ids, poses, start)
    residual = 1.4826 * float(np.median(np.abs(a - b)))
    extent = float(np.sqrt(((a - a.mean(0)) ** 2).sum(1).mean()))
    return residual / max(extent, 1e-9) / np.sqrt(max(len(ids) / 10, 1.0))


def positions(ids: Sequence[int], *paths: Mapping[int, Pose]) -> tuple[F64, ...]:
    """Camera positions (N, 3) of several paths."""
    return tuple(np.array([poses[i].translation for i in ids]) for poses in paths)


def in_both(poses: Mapping[int, Pose], others: Mapping[int, Pose]) -> dict[int, Pose]:
    """The poses of images that the others have, too."""
    return {i: pose for i, pose in poses.items() if i in others}
