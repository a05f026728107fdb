"""Do the given poses fit the pictures? Focal length and a fixed colour-from-sensor offset from epipolar errors alone.

Recorders often give the depth camera's poses and intrinsics for both cameras (7-Scenes does). Before anything is
triangulated, the verified matches already tell: eight numbers (focal length, radial distortion, a rigid offset) that
minimise the distance of matches to their epipolar lines under the given relative poses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from pipeline.poses.features import Features
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.matching import Matches

Array = NDArray[np.float64]

LEAST_BASELINE = 0.05
"""Pairs nearer to each other [m] say nothing: their direction of motion is noise."""
PAIRS, LEAST_MATCHES, MATCHES_PER_PAIR = 800, 30, 15
FOCAL_STARTS = (0.75, 0.87, 1.0, 1.15, 1.33)
PRIOR = np.array([0.2, 0.05, *np.deg2rad([3.0, 3.0, 3.0]), 0.05, 0.05, 0.05])
"""One sigma of log focal, k1, rotation [rad] and translation [m]; holds what the pairs leave open."""
LEAST_GAIN = 0.25
LOSS_SCALE = 2.0
"""Errors beyond this [px] lose weight: wrong matches and drift."""


@dataclass(frozen=True, eq=False)
class SensorOffset:
    """What must be changed in the given poses and intrinsics before triangulating.

    Attributes:
        focal_factor: Multiplies the declared focal lengths.
        k1: Added to the declared radial distortion.
        sensor_from_camera: The colour camera in the given poses' camera frame.
        error_before: Median epipolar error [px] with everything as declared.
        error_after: The same after the change.
    """

    focal_factor: float
    k1: float
    sensor_from_camera: Pose
    error_before: float
    error_after: float

    def camera(self, declared: Camera) -> Camera:
        """The corrected intrinsics."""
        k1, k2, p1, p2 = declared.distortion
        fx, fy = declared.fx * self.focal_factor, declared.fy * self.focal_factor
        return Camera(declared.width, declared.height, fx, fy, declared.cx, declared.cy, (k1 + self.k1, k2, p1, p2))


def fit_sensor_offset(
    keyframes: Sequence[Keyframe],
    features: Sequence[Features],
    matches: Sequence[Matches],
    poses: Mapping[int, Pose],
    rng: np.random.Generator,
) -> SensorOffset:
    """Robust least squares on Sampson errors, started from several focal lengths.

    Nothing is changed where the change would not lower the median error by a quarter: eight numbers fit some of the
    noise of a few poses, and on a track that looks inwards a forward offset is the same as another scale.

    Args:
        keyframes: All keyframes.
        features: Theirs.
        matches: Verified matches.
        poses: Given world_from_sensor of the images to use, by image id.
        rng: Chooses which pairs and matches are used.

    Returns:
        The offset; the identity with infinite errors when no pair has a baseline.

    Source: R. Hartley and A. Zisserman, Multiple View Geometry, 2nd edition, section 11.4.3 (Sampson distance).
    """
    data = _Sample.draw(keyframes, features, matches, poses, rng)
    if data is None:
        return SensorOffset(1.0, 0.0, Pose.identity(), np.inf, np.inf)
    start = np.zeros(len(PRIOR))
    before = float(np.median(np.abs(data.errors(start))))
    candidates = [np.r_[np.log(factor), start[1:]] for factor in FOCAL_STARTS]
    best = min(candidates, key=lambda p: float(np.median(np.abs(data.errors(p)))))
    # The prior enters the robust sum as rows of its own; a weight makes it count like a handful of pairs.
    fit = least_squares(
        lambda p: np.r_[data.errors(p), p / PRIOR * LOSS_SCALE], best, loss="soft_l1", f_scale=LOSS_SCALE, x_scale=PRIOR
    )
    after = float(np.median(np.abs(data.errors(fit.x))))
    if after > (1 - LEAST_GAIN) * before:
        return SensorOffset(1.0, 0.0, Pose.identity(), before, before)
    offset = Pose(matrix_from_rotvec(fit.x[2:5]), fit.x[5:8])
    return SensorOffset(float(np.exp(fit.x[0])), float(fit.x[1]), offset, before, after)


@dataclass(frozen=True, eq=False)
class _Sample:
    """Matches (M) of pairs (P): declared intrinsics, pixels and the sensor's relative motion."""

    focal: Array
    focal_j: Array
    centred: Array
    centred_j: Array
    k1: Array
    pair: NDArray[np.intp]
    j_from_i: Array

    @staticmethod
    def draw(
        keyframes: Sequence[Keyframe],
        features: Sequence[Features],
        matches: Sequence[Matches],
        poses: Mapping[int, Pose],
        rng: np.random.Generator,
    ) -> _Sample | None:
        usable = []
        for m in matches:
            a, b = poses.get(m.i + 1), poses.get(m.j + 1)
            if a is None or b is None or len(m.features) < LEAST_MATCHES:
                continue
            if np.linalg.norm(a.translation - b.translation) > LEAST_BASELINE:
                usable.append(m)
        if len(usable) < 3:
            return None
        chosen = [usable[k] for k in np.sort(rng.permutation(len(usable))[:PAIRS])]
        rows = [m.features[rng.permutation(len(m.features))[:MATCHES_PER_PAIR]] for m in chosen]
        pair = np.repeat(np.arange(len(chosen)), [len(r) for r in rows])

        def side(which: int) -> tuple[Array, Array]:
            owners = [m.i if which == 0 else m.j for m in chosen]
            cameras = [keyframes[k].camera for k in owners]
            centred = [
                features[k].pixels[r[:, which]] - (c.cx, c.cy) for k, r, c in zip(owners, rows, cameras, strict=True)
            ]
            return np.concatenate(centred).astype(np.float64), np.array([(c.fx, c.fy) for c in cameras])[pair]

        centred, focal = side(0)
        centred_j, focal_j = side(1)
        k1 = np.array([keyframes[m.i].camera.distortion[0] for m in chosen])[pair]
        relative = np.array([(poses[m.j + 1].inverse() @ poses[m.i + 1]).matrix for m in chosen])
        return _Sample(focal, focal_j, centred, centred_j, k1, pair, relative)

    def errors(self, parameters: Array) -> Array:
        """Signed Sampson distances [px] (M,) under log focal factor, k1 change, rotation vector, translation."""
        factor, k1 = np.exp(parameters[0]), self.k1 + parameters[1]
        offset = np.eye(4)
        offset[:3, :3], offset[:3, 3] = matrix_from_rotvec(parameters[2:5]), parameters[5:8]
        motion = np.linalg.inv(offset) @ self.j_from_i @ offset
        direction = motion[:, :3, 3] / np.maximum(np.linalg.norm(motion[:, :3, 3], axis=1, keepdims=True), 1e-12)
        essential = np.cross(direction[:, None], np.swapaxes(motion[:, :3, :3], 1, 2))  # rows: t x (column of R)
        essential = np.swapaxes(essential, 1, 2)[self.pair]
        a, b = _bearing(self.centred / self.focal / factor, k1), _bearing(self.centred_j / self.focal_j / factor, k1)
        line_b = np.einsum("mij,mj->mi", essential, a)
        line_a = np.einsum("mji,mj->mi", essential, b)
        norm = np.sqrt((line_b[:, :2] ** 2).sum(1) + (line_a[:, :2] ** 2).sum(1))
        return self.focal[:, 0] * factor * (b * line_b).sum(1) / np.maximum(norm, 1e-12)


def _bearing(distorted: Array, k1: Array) -> Array:
    """Directions (M, 3), z = 1, of distorted image points (M, 2); the inverse series to fourth order in r."""
    r2 = (distorted**2).sum(1)
    straight = distorted * (1 - k1 * r2 + 3 * (k1 * r2) ** 2)[:, None]
    return np.c_[straight, np.ones(len(straight))]
