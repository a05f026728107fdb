"""What the pictures say of a sensor's track: places seen again, jumps, and matches that can't be true.

For a pair of matched views the first one's features get depths from views near it on the way, where the sensor is at
its best; the second is located against these points. That gives a relative pose in metres from the pictures and the
sensor's steps alone, to be compared with the sensor's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Pose, angle_deg
from pipeline.poses.features import Features
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.localise import locate
from pipeline.poses.matching import Matches
from pipeline.poses.sensor_track import AGREE, Relation, Track
from pipeline.poses.sparse_map import SparseMap
from pipeline.progress import track

Array = NDArray[np.float64]

NEAR, NEAR_TURN = 2.0, 45.0
"""Views up to so far apart on the way [m] and turned so little [deg] give each other's features a depth."""
LEAST_PARALLAX = 1.5
"""Smallest angle under which two views see a feature that gets a depth [deg]."""
LEAST_POINTS = 20


def relations(
    keyframes: Sequence[Keyframe],
    features: Sequence[Features],
    matches: Sequence[Matches],
    path: Track,
    cameras: Mapping[int, Camera],
    seed: int,
) -> list[Relation]:
    """Every matched pair whose first view's features have depths, held against the sensor.

    Located are pairs that don't agree with the sensor, and loops. Held-out views give no depths.
    """
    poses = path.poses
    rays = {i: _rays(features[i - 1].pixels, cameras[keyframes[i - 1].camera_id]) for i in poses}
    of_first: dict[int, list[Matches]] = {}
    near: dict[int, list[tuple[int, NDArray[np.intp]]]] = {i: [] for i in poses}
    for m in matches:
        i, j = m.i + 1, m.j + 1
        if i not in poses or j not in poses:
            continue
        of_first.setdefault(i, []).append(m)
        if path.apart(i, j) <= NEAR and angle_deg(poses[i].rotation, poses[j].rotation) <= NEAR_TURN:
            if not keyframes[m.j].held_out:
                near[i].append((j, m.features))
            if not keyframes[m.i].held_out:
                near[j].append((i, m.features[:, ::-1]))
    result: list[Relation] = []
    for i in track(sorted(of_first), "checking the sensor's track"):
        depth = _depths(i, near[i], poses, rays, keyframes, cameras, features)
        for m in of_first[i]:
            j = m.j + 1
            known = m.features[np.isfinite(depth[m.features[:, 0]])]
            if len(known) < LEAST_POINTS:
                continue
            points = rays[i][known[:, 0]] * depth[known[:, 0], None]
            camera = cameras[keyframes[m.j].camera_id]
            seen = features[m.j].pixels[known[:, 1]]
            error = _error((poses[j].inverse() @ poses[i]).apply(points), camera, seen)
            located = None
            if error > AGREE or path.is_loop(i, j):
                rows = np.stack([known[:, 1], np.arange(len(known))], 1)
                nothing = np.zeros(0, np.intp)
                there = SparseMap({}, cameras, points, nothing, nothing, nothing)
                found = locate(keyframes[m.j], features[m.j], rows, there, seed)
                if found is not None and found.inliers >= len(known) / 2:
                    located = found.pose
            result.append(Relation(i, j, error, located))
    return result


def _rays(pixels: NDArray[np.float32], camera: Camera) -> Array:
    """Directions (N, 3) with z = 1, lens distortion undone."""
    if not len(pixels):
        return np.zeros((0, 3))
    flat = cv2.undistortPoints(pixels[:, None].astype(np.float64), camera.matrix, np.array(camera.distortion))
    return np.c_[flat.reshape(-1, 2), np.ones(len(pixels))]


def _depths(
    i: int,
    near: Sequence[tuple[int, NDArray[np.intp]]],
    poses: Mapping[int, Pose],
    rays: Mapping[int, Array],
    keyframes: Sequence[Keyframe],
    cameras: Mapping[int, Camera],
    features: Sequence[Features],
) -> Array:
    """Depth [m] of every feature of view i from the near view under the largest parallax; NaN where there is none."""
    depth = np.full(len(rays[i]), np.nan)
    best = np.full(len(rays[i]), np.sin(np.deg2rad(LEAST_PARALLAX)) ** 2)
    for n, pair in near:
        i_from_n = poses[i].inverse() @ poses[n]
        a, b, t = rays[i][pair[:, 0]], i_from_n.rotate(rays[n][pair[:, 1]]), i_from_n.translation
        aa, bb, ab = (a * a).sum(1), (b * b).sum(1), (a * b).sum(1)
        parallax = 1 - ab**2 / (aa * bb)
        z = ((a @ t) * bb - (b @ t) * ab) / np.maximum(aa * bb - ab**2, 1e-12)
        good = (z > 0.05) & (parallax > best[pair[:, 0]])
        pair, z, parallax = pair[good], z[good], parallax[good]
        local = i_from_n.inverse().apply(a[good] * z[:, None])
        seen = features[n - 1].pixels[pair[:, 1]]
        good = _errors(local, cameras[keyframes[n - 1].camera_id], seen) < AGREE
        depth[pair[good, 0]], best[pair[good, 0]] = z[good], parallax[good]
    return depth


def _errors(local: Array, camera: Camera, seen: NDArray[np.float32]) -> Array:
    """Reprojection errors [px] (N,); infinite behind the camera."""
    ahead = local[:, 2] > 0.05
    error = np.full(len(local), np.inf)
    error[ahead] = np.linalg.norm(camera.project(local[ahead]) - seen[ahead], axis=1)
    return error


def _error(local: Array, camera: Camera, seen: NDArray[np.float32]) -> float:
    return float(np.median(_errors(local, camera, seen)))
