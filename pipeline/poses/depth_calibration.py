"""Where the depth camera sits: colour-from-depth calibration of the sparse map against the depth images.

Every map point seen by an image predicts what the depth image taken with it must read. Eight numbers are fitted by
robust least squares: rotation and position of the depth camera, its focal length, and the map's scale, for the
depth sensor defines the metre. A prior at the declared calibration holds what the scene leaves open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from pipeline.geometry import Camera, Pose, matrix_from_rotvec, rotvec_from_matrix
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.matching import Features
from pipeline.poses.sparse_map import SparseMap
from pipeline.progress import track
from pipeline.types import F32, F64, Mask

FRAMES, OBSERVATIONS = 100, 8000
"""At most so many depth images are read and so many observations used."""
MIN_OBSERVATIONS = 200
GOOD_ERROR, MIN_VIEWS = 2.0, 3
"""Only points seen by so many images, and observations with at most this reprojection error [px], are used."""
EDGE = 0.05
"""Depth pixels whose 3x3 neighbourhood spreads more than this share are on an edge and not used."""
MIN_CONFIDENCE = 128
SATURATED = 5.0
"""Residual, in sigmas, that an observation counts with while it leaves the depth image or meets an edge."""
STEPS, DIFFERENCE = 25, 1e-4
"""Solver steps at most; step of the central differences [rad, m or relative], a tenth of a depth pixel."""
MIN_GAIN = 0.05
"""The declared calibration is kept unless the median residual falls by this share."""
NAMES = ("rotation x", "rotation y", "rotation z", "x", "y", "z", "log focal", "log scale")
PRIOR = np.array([*np.deg2rad([2.0, 2.0, 2.0]), 0.03, 0.03, 0.01, 0.005])
"""One sigma of rotation [rad], position [m] and log focal length around the declared calibration.

Both cameras sit side by side behind one face of the device, so that one is hardly in front of the other.
"""
INDEPENDENT = 10
"""Observations that count in one depth image: its errors are mostly systematic and shared by neighbours."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The fitted calibration.

    Attributes:
        camera_from_depth: The depth camera in the colour camera [m].
        focal_factor: Multiplies the depth camera's declared focal lengths.
        map_scale: Multiplies the map so that it agrees with the depth images.
        scale_sigma: Relative one sigma of it.
        report: Plain JSON values: residuals before and after, sigmas, whether the declared one was kept.
    """

    camera_from_depth: Pose
    focal_factor: float
    map_scale: float
    scale_sigma: float
    report: dict[str, Any]

    def depth_camera(self, declared: Camera) -> Camera:
        """The calibrated intrinsics of a depth image."""
        fx, fy = declared.fx * self.focal_factor, declared.fy * self.focal_factor
        return Camera(declared.width, declared.height, fx, fy, declared.cx, declared.cy)


def calibrate(
    root: Path,
    keyframes: Sequence[Keyframe],
    features: Sequence[Features],
    found: SparseMap,
    starts: Sequence[Pose],
    scale_prior: float,
    rng: np.random.Generator,
) -> Calibration | None:
    """Fit the colour-from-depth calibration and the map's scale.

    Args:
        root: The capture's folder.
        keyframes: All keyframes; those in the map must have depth.
        features: Theirs.
        found: The map, its scale right within a few `scale_prior`.
        starts: Candidates of `camera_from_depth`, the declared one first; the best is refined.
        scale_prior: Relative one sigma of the map's scale before the fit.
        rng: Chooses observations when there are very many.

    Returns:
        The calibration, or None when too few points meet valid depth.
    """
    data = _Data.collect(root, keyframes, features, found, rng)
    declared = _parameters(starts[0])
    if np.isfinite(data.metres(declared)).sum() < MIN_OBSERVATIONS:
        return None
    fits = [_fit(data, declared, scale_prior, start=_parameters(start)) for start in starts]
    best = min(fits, key=lambda fit: fit.cost)
    # What is left tells the noise of this sensor and these points; against it the prior is weighed in a second pass.
    data = replace(data, noise=data.noise * _spread(data.residuals(best.x)))
    best = _fit(data, declared, scale_prior, start=best.x)
    only_scale = _fit(data, declared, scale_prior, free=np.array([7]))
    # The declared calibration with the best scale is what the full fit must beat, on the same observations.
    before, after = data.metres(only_scale.x), data.metres(best.x)
    common = np.isfinite(before) & np.isfinite(after)
    median_before, median_after = (float(np.median(np.abs(r[common]))) for r in (before, after))
    kept = median_after > (1 - MIN_GAIN) * median_before
    chosen = only_scale.x if kept else best.x
    sigma = _sigma(data, chosen, scale_prior)
    unscaled = data.metres(declared)
    report = {
        "observations": int(common.sum()),
        "frames": len(data.depth),
        "declared_kept": kept,
        "residual_median_declared_m": float(np.median(np.abs(unscaled[np.isfinite(unscaled)]))),
        "residual_median_scaled_m": median_before,
        "residual_median_m": median_before if kept else median_after,
        "rotation_deg": float(np.rad2deg(np.linalg.norm(chosen[:3]))),
        "translation_m": [float(v) for v in chosen[3:6]],
        "focal_factor": float(np.exp(chosen[6])),
        "map_scale": float(np.exp(chosen[7])),
        "sigma": dict(zip(NAMES, (float(v) for v in sigma), strict=True)),
    }
    pose = Pose(matrix_from_rotvec(chosen[:3]), chosen[3:6])
    return Calibration(pose, float(np.exp(chosen[6])), float(np.exp(chosen[7])), float(sigma[7]), report)


def depth_ratio(
    root: Path,
    keyframes: Sequence[Keyframe],
    features: Sequence[Features],
    found: SparseMap,
    rng: np.random.Generator,
) -> float | None:
    """What the map must be multiplied with to agree with the depth images roughly, or None with too few points.

    For maps of unknown scale, with depth taken as aligned with the colour image.
    """
    data = _Data.collect(root, keyframes, features, found, rng, all_points=True)
    if len(data.points) < MIN_OBSERVATIONS:
        return None
    column, row = np.floor(data.pixels_in_depth(data.points)).astype(int).T
    read, _ = data.read(column + 0.5, row + 0.5)
    good = read > 0
    if good.sum() < MIN_OBSERVATIONS:
        return None
    return float(np.median(read[good] / data.points[good, 2]))


@dataclass(frozen=True, eq=False)
class _Data:
    """Observations (M): the point in the colour camera, and which depth image (F, H, W) [m] must show it.

    `noise` multiplies the sigma of a typical sensor.
    """

    points: F64
    frame: NDArray[np.intp]
    depth: F32
    usable: Mask
    focal: F64
    centre: F64
    noise: float = 1.0

    @staticmethod
    def collect(
        root: Path,
        keyframes: Sequence[Keyframe],
        features: Sequence[Features],
        found: SparseMap,
        rng: np.random.Generator,
        *,
        all_points: bool = False,
    ) -> _Data:
        ids = [i for i in sorted(found.poses) if keyframes[i - 1].frame.depth]
        ids = [ids[k] for k in np.unique(np.linspace(0, len(ids) - 1, min(len(ids), FRAMES)).astype(int))]
        views = np.bincount(found.point, minlength=len(found.xyz))
        error = found.reprojection(keyframes, [f.pixels for f in features])
        good = (
            (error < GOOD_ERROR) & (views[found.point] >= (2 if all_points else MIN_VIEWS)) & np.isin(found.image, ids)
        )
        rows = np.flatnonzero(good)
        if len(rows) > OBSERVATIONS:
            rows = np.sort(rng.choice(rows, OBSERVATIONS, replace=False))
        size = _depth_size(keyframes, ids)
        depth, usable = np.zeros((len(ids), *size), np.float32), np.zeros((len(ids), *size), bool)
        focal, centre = np.zeros((len(ids), 2)), np.zeros((len(ids), 2))
        for n, i in enumerate(track(ids, "depth images")):
            frame = keyframes[i - 1].frame
            camera = (frame.depth_camera or frame.camera).resized(size[1], size[0])
            focal[n], centre[n] = (camera.fx, camera.fy), (camera.cx, camera.cy)
            depth[n], usable[n] = _read_depth(root, keyframes[i - 1], size)
        return _Data(found.in_camera()[rows], np.searchsorted(ids, found.image[rows]), depth, usable, focal, centre)

    @property
    def weight(self) -> float:
        """What one observation counts for, its neighbours in the same depth image considered."""
        return min(1.0, INDEPENDENT * len(self.depth) / max(len(self.points), 1))

    def pixels_in_depth(self, local: F64, focal_factor: float = 1.0) -> F64:
        """Depth pixels (M, 2) of points in the depth camera's axes (M, 3)."""
        flat = local[:, :2] / np.maximum(local[:, 2:], 1e-6)
        return flat * self.focal[self.frame] * focal_factor + self.centre[self.frame]

    def read(self, x: F64, y: F64) -> tuple[F64, Mask]:
        """Bilinear depth [m] (M,) at pixels, 0 and False where it is unknown or on an edge."""
        height, width = self.depth.shape[1:]
        left, top = np.floor(x - 0.5), np.floor(y - 0.5)
        valid = (left >= 0) & (top >= 0) & (left < width - 1) & (top < height - 1)
        c, r = np.where(valid, left, 0).astype(np.intp), np.where(valid, top, 0).astype(np.intp)
        for dr in (0, 1):
            for dc in (0, 1):
                valid &= self.usable[self.frame, r + dr, c + dc]
        fx, fy = x - 0.5 - left, y - 0.5 - top
        upper = self.depth[self.frame, r, c] * (1 - fx) + self.depth[self.frame, r, c + 1] * fx
        lower = self.depth[self.frame, r + 1, c] * (1 - fx) + self.depth[self.frame, r + 1, c + 1] * fx
        return np.where(valid, upper * (1 - fy) + lower * fy, 0.0), valid

    def metres(self, parameters: F64) -> F64:
        """Read minus predicted depth [m] (M,), NaN where nothing can be read."""
        rotation, scale = matrix_from_rotvec(parameters[:3]), np.exp(parameters[7])
        local = (self.points * scale - parameters[3:6]) @ rotation
        pixel = self.pixels_in_depth(local, float(np.exp(parameters[6])))
        read, valid = self.read(pixel[:, 0], pixel[:, 1])
        return np.where(valid & (local[:, 2] > 0.05), read - local[:, 2], np.nan)

    def residuals(self, parameters: F64) -> F64:
        """The same in sigmas of a depth sensor, whose noise grows with the square of the depth; NaN likewise."""
        sigma = 0.01 + 0.004 * (self.points[:, 2] * np.exp(parameters[7])) ** 2
        return self.metres(parameters) / (sigma * self.noise)


@dataclass(frozen=True, eq=False)
class _Fit:
    """A solution `x` (8,) and its robust `cost`."""

    x: F64
    cost: float


def _fit(
    data: _Data,
    declared: F64,
    scale_prior: float,
    *,
    start: F64 | None = None,
    free: NDArray[np.intp] | None = None,
) -> _Fit:
    """Levenberg-Marquardt with Cauchy weights over the free parameters (all by default), prior at `declared`.

    Observations that leave the depth image or meet an edge count with a constant cost and no gradient.
    """
    spread = np.r_[PRIOR, scale_prior]
    chosen = np.arange(8) if free is None else free

    def cost(x: F64) -> float:
        residual = np.nan_to_num(data.residuals(x), nan=SATURATED)
        return data.weight * float(np.log1p(residual**2).sum()) + float((((x - declared) / spread) ** 2).sum())

    x = (declared if start is None else start).copy()
    current, damping = cost(x), 1e-3
    for _ in range(STEPS):
        residual, jacobian = _linearise(data, x)
        weight = data.weight / (1 + residual**2)
        hessian = ((jacobian * weight[:, None]).T @ jacobian + np.diag(1 / spread**2))[np.ix_(chosen, chosen)]
        gradient = (jacobian.T @ (weight * residual) + (x - declared) / spread**2)[chosen]
        candidate = x.copy()
        candidate[chosen] -= np.linalg.solve(hessian + damping * np.diag(np.diagonal(hessian)), gradient)
        value = cost(candidate)
        if value >= current:
            damping *= 10
            continue
        gain, x, current, damping = current - value, candidate, value, damping / 5
        if gain < 1e-6 * current:
            break
    return _Fit(x, current)


def _spread(residuals: F64) -> float:
    """Robust one sigma of residuals; at least a tenth, for rounding to millimetres is noise too."""
    return max(1.4826 * float(np.nanmedian(np.abs(residuals))), 0.1)


def _linearise(data: _Data, x: F64) -> tuple[F64, F64]:
    """Residuals (M,) and their derivatives (M, 8); zero for observations that can't be read all around `x`."""
    residual = data.residuals(x)
    steps = np.diag(np.full(8, DIFFERENCE))
    jacobian = np.stack([(data.residuals(x + d) - data.residuals(x - d)) / (2 * DIFFERENCE) for d in steps], 1)
    usable = np.isfinite(residual) & np.isfinite(jacobian).all(1)
    return np.where(usable, residual, 0.0), np.where(usable[:, None], jacobian, 0.0)


def _sigma(data: _Data, x: F64, scale_prior: float) -> F64:
    """One sigma (8,) from the curvature of the weighted cost."""
    residual, jacobian = _linearise(data, x)
    weight = data.weight / (1 + residual**2)
    hessian = (jacobian * weight[:, None]).T @ jacobian + np.diag(1 / np.r_[PRIOR, scale_prior] ** 2)
    return np.sqrt(np.diagonal(np.linalg.inv(hessian)))


def _parameters(camera_from_depth: Pose) -> F64:
    return np.r_[rotvec_from_matrix(camera_from_depth.rotation), camera_from_depth.translation, 0.0, 0.0]


def _depth_size(keyframes: Sequence[Keyframe], ids: Sequence[int]) -> tuple[int, int]:
    for i in ids:
        frame = keyframes[i - 1].frame
        camera = frame.depth_camera or frame.camera
        return camera.height, camera.width
    return 1, 1


def _read_depth(root: Path, keyframe: Keyframe, size: tuple[int, int]) -> tuple[F32, Mask]:
    """Depth [m] and which pixels are known, confident and off edges."""
    frame = keyframe.frame
    raw = cv2.imread(str(root / str(frame.depth)), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.shape != size:
        return np.zeros(size, np.float32), np.zeros(size, bool)
    known = (raw > 0) & (raw < np.iinfo(np.uint16).max)
    depth = (np.where(known, raw, 0) / 1000).astype(np.float32)
    flat = maximum_filter(depth, 3) - minimum_filter(depth, 3) < EDGE * depth
    usable = known & flat
    if frame.confidence:
        confidence = cv2.imread(str(root / frame.confidence), cv2.IMREAD_UNCHANGED)
        if confidence is not None and confidence.shape == size:
            usable &= confidence >= MIN_CONFIDENCE
    return depth, usable
