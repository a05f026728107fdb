"""Pose of a picture that is not part of the map, against the finished map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Pose
from pipeline.poses import bridge
from pipeline.poses.features import Features
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.matching import Matches
from pipeline.poses.sparse_map import SparseMap
from pipeline.poses.uncertainty import RADIUS_MEDIAN, PoseSigma, tangent_sigma
from pipeline.progress import track

LEAST_INLIERS = 20
RANSAC_ERROR = 8.0
INLIER_ERROR = 4.0
"""As the map's own observations [px]."""


@dataclass(frozen=True, eq=False)
class Localised:
    """A localised picture.

    Attributes:
        pose: world_from_camera in the map's frame.
        sigma: One sigma, the map taken as exact.
        inliers: How many map points it agrees with.
        error: Their mean reprojection error [px].
    """

    pose: Pose
    sigma: PoseSigma
    inliers: int
    error: float


def localise(
    wanted: Sequence[int],
    keyframes: Sequence[Keyframe],
    features: Sequence[Features],
    matches: Sequence[Matches],
    found: SparseMap,
    seed: int,
) -> dict[int, Localised]:
    """PnP with RANSAC on 2D-3D matches found through the registered pictures, then refinement; intrinsics fixed.

    Args:
        wanted: Image ids to localise; none of them part of the map.
        keyframes: All keyframes.
        features: Theirs.
        matches: Verified matches of all pairs.
        found: The map.
        seed: Of the RANSAC.

    Returns:
        What could be localised, by image id; the map is left as it is.
    """
    points_of = {i: found.points_of(i, len(features[i - 1])) for i in found.poses}
    partners: dict[int, list[tuple[int, NDArray[np.intp]]]] = {i: [] for i in wanted}
    for m in matches:
        if m.i + 1 in partners and m.j + 1 in points_of:
            partners[m.i + 1].append((m.j + 1, m.features))
        if m.j + 1 in partners and m.i + 1 in points_of:
            partners[m.j + 1].append((m.i + 1, m.features[:, ::-1]))
    result = {}
    for image_id in track(sorted(partners), "held-out views"):
        seen = _correspondences(partners[image_id], points_of)
        pose = locate(keyframes[image_id - 1], features[image_id - 1], seen, found, seed)
        if pose is not None:
            result[image_id] = pose
    return result


def _correspondences(
    partners: Sequence[tuple[int, NDArray[np.intp]]], points_of: Mapping[int, NDArray[np.intp]]
) -> NDArray[np.intp]:
    """Distinct (feature, point) pairs (K, 2)."""
    rows = [np.zeros((0, 2), np.intp)]
    for other, pair in partners:
        points = points_of[other][pair[:, 1]]
        rows.append(np.stack([pair[:, 0], points], 1)[points >= 0])
    return np.unique(np.concatenate(rows), axis=0)


def locate(
    keyframe: Keyframe, features: Features, seen: NDArray[np.intp], found: SparseMap, seed: int
) -> Localised | None:
    """PnP with RANSAC of one picture on (feature, point) pairs `seen` (K, 2), then refinement; intrinsics fixed.

    Returns:
        Its pose in the map's frame, or None with fewer than `LEAST_INLIERS` inliers.
    """
    import pycolmap

    if len(seen) < LEAST_INLIERS:
        return None
    camera = found.cameras[keyframe.camera_id]
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.random_seed, options.ransac.max_error = seed, RANSAC_ERROR
    pixels, points = features.pixels[seen[:, 0]].astype(np.float64), found.xyz[seen[:, 1]]
    colmap_camera = bridge.to_colmap(camera, keyframe.camera_id, trusted=True)
    answer = pycolmap.estimate_and_refine_absolute_pose(pixels, points, colmap_camera, options)
    if answer is None:
        return None
    refinement = pycolmap.AbsolutePoseRefinementOptions(gradient_tolerance=1e-3)
    mask = _errors(keyframe, found, bridge.from_rigid(answer["cam_from_world"]), pixels, points) < INLIER_ERROR
    if mask.sum() < LEAST_INLIERS:
        return None
    answer = pycolmap.refine_absolute_pose(
        answer["cam_from_world"], pixels, points, mask, colmap_camera, refinement, return_covariance=True
    )
    if answer is None:
        return None
    pose = bridge.from_rigid(answer["cam_from_world"])
    error = _errors(keyframe, found, pose, pixels, points)
    good = error < INLIER_ERROR
    if good.sum() < LEAST_INLIERS:
        return None
    sigma = tangent_sigma(np.asarray(answer["covariance"]), pose, float(np.median(error[good])) / RADIUS_MEDIAN)
    return Localised(pose, sigma, int(good.sum()), float(error[good].mean()))


def _errors(
    keyframe: Keyframe, found: SparseMap, pose: Pose, pixels: NDArray[np.float64], points: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Reprojection errors [px]; infinite behind the camera."""
    local = pose.inverse().apply(points)
    ahead = local[:, 2] > 1e-9
    error = np.full(len(local), np.inf)
    projected = found.cameras[keyframe.camera_id].project(local[ahead])
    error[ahead] = np.linalg.norm(projected - pixels[ahead], axis=1)
    return error
