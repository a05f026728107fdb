"""Calibration of the depth camera against the colour camera, by the sparse map and the depth images.

Every observation of a map point predicts a reading of the depth image. Eight parameters are fitted by robust least
squares: rotation and position of the depth camera, its focal length, and the map's scale, because the depth sensor
defines the metre. A prior at the declared calibration constrains what the scene does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from pipeline.geometry import Camera, Pose, matrix_from_rotvec, rotvec_from_matrix
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.matching import MatchedImages
from pipeline.poses.sparse_map import SparseMap
from pipeline.progress import track
from pipeline.types import F32, F64, Mask

FRAMES, OBSERVATIONS = 100, 8000
"""Largest number of depth images and of observations that are used."""
MIN_OBSERVATIONS = 200
GOOD_ERROR, MIN_VIEWS = 2.0, 3
"""Largest reprojection error of an observation [px], and least number of views of a point, that are used."""
EDGE = 0.05
"""Depth pixels whose 3x3 neighbourhood spreads more than this share are on an edge and not used."""
MIN_CONFIDENCE = 128
SATURATED = 5.0
"""Residual, in sigmas, of an observation that falls outside the depth image or on an edge."""
STEPS, DIFFERENCE = 25, 1e-4
"""Largest number of solver steps; step of the central differences [rad, m or relative], a tenth of a depth pixel."""
MIN_GAIN = 0.05
"""The declared calibration is kept unless the median residual falls by this share."""
NAMES = ("rotation x", "rotation y", "rotation z", "x", "y", "z", "log focal", "log scale")
PRIOR = np.array([*np.deg2rad([2.0, 2.0, 2.0]), 0.03, 0.03, 0.01, 0.005])
"""One sigma of rotation [rad], position [m] and log focal length around the declared calibration: both cameras are
behind one face of the device."""
INDEPENDENT = 10
"""Number of independent observations in a depth image: its errors are mostly systematic and shared by neighbours."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Pose of the depth camera in the colour camera [m], and the factor of its declared focal lengths.

    The map must be multiplied by `map_scale`, of relative sigma `scale_sigma`, to agree with the depth images.
    """

    camera_from_depth: Pose
    focal_factor: float
    map_scale: float
    scale_sigma: float
    report: dict[str, object]

    def depth_camera(self, declared: Camera) -> Camera:
        """The calibrated intrinsics of a depth image."""
        fx, fy = declared.fx * self.focal_factor, declared.fy * self.focal_factor
        return Camera(declared.width, declared.height, fx, fy, declared.cx, declared.cy)


def calibrate(
    root: Path,
    images: MatchedImages,
    sparse_map: SparseMap,
    starts: Sequence[Pose],
    scale_prior: float,
    rng: np.random.Generator,
) -> Calibration | None:
    """Fit the colour-from-depth calibration and the map's scale; None when too few points have valid depth.

    All keyframes in the map must have depth in the capture's folder `root`. `starts` are candidates of
    `camera_from_depth`, the declared one first, of which the best is refined; `scale_prior` is the relative one sigma
    of the map's scale before the fit.
    """
    data = _collect(root, images, sparse_map, rng)
    declared = _parameters(starts[0])
    if np.isfinite(data.metres(declared)).sum() < MIN_OBSERVATIONS:
        return None
    best, _ = min((_fit(data, declared, scale_prior, start=_parameters(s)) for s in starts), key=lambda fit: fit[1])
    # The residuals measure the noise of this sensor and these points, which weights the prior in a second pass. A
    # tenth of the typical noise at least: rounding to millimetres is noise too.
    noise = max(1.4826 * float(np.nanmedian(np.abs(data.residuals(best)))), 0.1)
    data = replace(data, noise=data.noise * noise)
    best, _ = _fit(data, declared, scale_prior, start=best)
    only_scale, _ = _fit(data, declared, scale_prior, free=np.array([7]))
    # The full fit must improve on the declared calibration with the best scale, on the same observations.
    before, after = data.metres(only_scale), data.metres(best)
    common = np.isfinite(before) & np.isfinite(after)
    median_before, median_after = (float(np.median(np.abs(r[common]))) for r in (before, after))
    kept = median_after > (1 - MIN_GAIN) * median_before
    chosen = only_scale if kept else best
    residual, jacobian = _linearise(data, chosen)
    sigma = np.sqrt(np.diagonal(np.linalg.inv(_hessian(data, residual, jacobian, scale_prior))))
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


def depth_ratio(root: Path, images: MatchedImages, sparse_map: SparseMap, rng: np.random.Generator) -> float | None:
    """Approximate factor of a map of unknown scale that makes it agree with the depth images; None with too few points.

    The depth images are taken as aligned with the colour images.
    """
    data = _collect(root, images, sparse_map, rng, all_points=True)
    read, _ = bilinear(data.depth, data.usable, data.frame, np.floor(data.pixels_in_depth(data.points)) + 0.5)
    good = read > 0
    if good.sum() < MIN_OBSERVATIONS:
        return None
    return float(np.median(read[good] / data.points[good, 2]))


def off_edges(depth: F32) -> Mask:
    """Pixels (H, W) whose 3x3 neighbourhood is on one surface."""
    return maximum_filter(depth, 3) - minimum_filter(depth, 3) < EDGE * depth


def bilinear(depth: F32, usable: Mask, frame: NDArray[np.intp], pixels: F64) -> tuple[F64, Mask]:
    """Depth (M,) at pixels (M, 2) of the images `frame` (M,) of (F, H, W); 0 and False unless all four are usable."""
    height, width = depth.shape[1:]
    x, y = pixels.T
    left, top = np.floor(x - 0.5), np.floor(y - 0.5)
    valid = (left >= 0) & (top >= 0) & (left < width - 1) & (top < height - 1)
    c, r = np.where(valid, left, 0).astype(np.intp), np.where(valid, top, 0).astype(np.intp)
    for dr in (0, 1):
        for dc in (0, 1):
            valid &= usable[frame, r + dr, c + dc]
    fx, fy = x - 0.5 - left, y - 0.5 - top
    upper = depth[frame, r, c] * (1 - fx) + depth[frame, r, c + 1] * fx
    lower = depth[frame, r + 1, c] * (1 - fx) + depth[frame, r + 1, c + 1] * fx
    return np.where(valid, upper * (1 - fy) + lower * fy, 0.0), valid


@dataclass(frozen=True, eq=False)
class _Data:
    """Observations (M): points in the colour camera, and the numbers of the depth images (F, H, W) [m] that show them.

    `noise` is a factor of a typical sensor's sigma.
    """

    points: F64
    frame: NDArray[np.intp]
    depth: F32
    usable: Mask
    focal: F64
    centre: F64
    noise: float = 1.0

    @property
    def weight(self) -> float:
        """Weight of one observation, lower where many share a depth image."""
        return min(1.0, INDEPENDENT * len(self.depth) / max(len(self.points), 1))

    def pixels_in_depth(self, local: F64, focal_factor: float = 1.0) -> F64:
        """Depth pixels (M, 2) of points in the depth camera's axes (M, 3)."""
        flat = local[:, :2] / np.maximum(local[:, 2:], 1e-6)
        return flat * self.focal[self.frame] * focal_factor + self.centre[self.frame]

    def metres(self, parameters: F64) -> F64:
        """Read minus predicted depth (M,) [m]; NaN without a reading."""
        rotation, scale = matrix_from_rotvec(parameters[:3]), np.exp(parameters[7])
        local = (self.points * scale - parameters[3:6]) @ rotation
        pixels = self.pixels_in_depth(local, float(np.exp(parameters[6])))
        read, valid = bilinear(self.depth, self.usable, self.frame, pixels)
        return np.where(valid & (local[:, 2] > 0.05), read - local[:, 2], np.nan)

    def residuals(self, parameters: F64) -> F64:
        """`metres` in sigmas of a depth sensor, whose noise grows with the square of the depth."""
        sigma = 0.01 + 0.004 * (self.points[:, 2] * np.exp(parameters[7])) ** 2
        return self.metres(parameters) / (sigma * self.noise)


def _collect(
    root: Path, images: MatchedImages, sparse_map: SparseMap, rng: np.random.Generator, *, all_points: bool = False
) -> _Data:
    ids = [i for i in sorted(sparse_map.poses) if images.keyframes[i - 1].frame.depth]
    ids = [ids[k] for k in np.unique(np.linspace(0, len(ids) - 1, min(len(ids), FRAMES)).astype(int))]
    views = np.bincount(sparse_map.point, minlength=len(sparse_map.xyz))[sparse_map.point]
    error = sparse_map.reprojection(images)
    good = (error < GOOD_ERROR) & (views >= (2 if all_points else MIN_VIEWS)) & np.isin(sparse_map.image, ids)
    rows = np.flatnonzero(good)
    if len(rows) > OBSERVATIONS:
        rows = np.sort(rng.choice(rows, OBSERVATIONS, replace=False))
    size = (1, 1)
    if ids:
        first = images.keyframes[ids[0] - 1].frame
        size = (first.depth_camera or first.camera).height, (first.depth_camera or first.camera).width
    depth, usable = np.zeros((len(ids), *size), np.float32), np.zeros((len(ids), *size), bool)
    focal, centre = np.zeros((len(ids), 2)), np.zeros((len(ids), 2))
    for n, i in enumerate(track(ids, "depth images")):
        frame = images.keyframes[i - 1].frame
        camera = (frame.depth_camera or frame.camera).resized(size[1], size[0])
        focal[n], centre[n] = (camera.fx, camera.fy), (camera.cx, camera.cy)
        depth[n], known = read_depth(root, images.keyframes[i - 1], size)
        usable[n] = known & off_edges(depth[n])
    points, frames = sparse_map.in_camera()[rows], np.searchsorted(ids, sparse_map.image[rows])
    return _Data(points, frames, depth, usable, focal, centre)


def _fit(
    data: _Data, declared: F64, scale_prior: float, *, start: F64 | None = None, free: NDArray[np.intp] | None = None
) -> tuple[F64, float]:
    """Solution (8,) and cost by Levenberg-Marquardt with Cauchy weights over the free parameters, prior at `declared`.

    Observations outside the depth image or on an edge have a constant cost and no gradient.
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
        hessian = _hessian(data, residual, jacobian, scale_prior)[np.ix_(chosen, chosen)]
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
    return x, current


def _hessian(data: _Data, residual: F64, jacobian: F64, scale_prior: float) -> F64:
    """Curvature (8, 8) of the weighted cost and the prior."""
    weight = data.weight / (1 + residual**2)
    return (jacobian * weight[:, None]).T @ jacobian + np.diag(1 / np.r_[PRIOR, scale_prior] ** 2)


def _linearise(data: _Data, x: F64) -> tuple[F64, F64]:
    """Residuals (M,) and their derivatives (M, 8); zero for observations without readings around `x`."""
    residual = data.residuals(x)
    steps = np.diag(np.full(8, DIFFERENCE))
    jacobian = np.stack([(data.residuals(x + d) - data.residuals(x - d)) / (2 * DIFFERENCE) for d in steps], 1)
    usable = np.isfinite(residual) & np.isfinite(jacobian).all(1)
    return np.where(usable, residual, 0.0), np.where(usable[:, None], jacobian, 0.0)


def _parameters(camera_from_depth: Pose) -> F64:
    return np.r_[rotvec_from_matrix(camera_from_depth.rotation), camera_from_depth.translation, 0.0, 0.0]


def read_depth(root: Path, keyframe: Keyframe, size: tuple[int, int]) -> tuple[F32, Mask]:
    """A keyframe's depth [m], and which pixels are known and confident, both of that size (H, W)."""
    frame = keyframe.frame
    raw = cv2.imread(str(root / str(frame.depth)), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.shape != size:
        return np.zeros(size, np.float32), np.zeros(size, bool)
    known = (raw > 0) & (raw < np.iinfo(np.uint16).max)
    depth = (np.where(known, raw, 0) / 1000).astype(np.float32)
    usable = known
    if frame.confidence:
        confidence = cv2.imread(str(root / frame.confidence), cv2.IMREAD_UNCHANGED)
        if confidence is not None and confidence.shape == size:
            usable = known & (confidence >= MIN_CONFIDENCE)
    return depth, usable
