# ruff: noqa: ANN001, ANN202 - numba infers the types of compiled functions
"""Noise and distortion of a depth sensor.

The noise is fitted to the disagreement of overlapping maps. The distortion is a smooth correction of the disparity that
structured light and stereo sensors measure, fitted to multi-view points:

    1 / corrected = 1 / measured + offset(x, y) + factor(x, y) / measured

Both are polynomials of second degree in the ray, few enough coefficients for the sparse points of one capture. Factors
by pixel block are due to A. Teichman et al. (Unsupervised Intrinsic Calibration of Depth Sensors via SLAM, RSS 2013),
offsets by pixel to C. Herrera et al. (Joint Depth and Color Camera Calibration with Distortion Correction, PAMI 2012).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from pipeline.depth.consistency import intrinsics
from pipeline.depth.maps import DepthMap
from pipeline.depth.params import DepthParams
from pipeline.geometry import Pose
from pipeline.geometry.jit import njit
from pipeline.poses.depth_calibration import bilinear, off_edges
from pipeline.poses.scene import PosedScene, read_sensor_depth
from pipeline.progress import track
from pipeline.types import F32, F64, Mask

logger = logging.getLogger(__name__)

MIN_PAIRS = 500
"""Comparisons that a range of depths needs."""
MAX_RELATIVE = 0.1
"""Relative difference of two depths above which they are of different surfaces."""
_BINS = np.array([0.0, 0.8, 1.2, 1.6, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 7.0, 10.0, 20.0, 30.0, 65.0])


@dataclass(frozen=True)
class NoiseModel:
    """One sigma of the depth: sqrt(constant^2 + (linear z)^2 + (quadratic z^2)^2).

    Triangulating sensors grow with z^2 (K. Khoshelham and S. Elberink, Accuracy and Resolution of Kinect Depth Data,
    Sensors 2012, equation 9: 1.4 mm/m^2); a phone's time of flight is about 1 cm at any range (G. Luetzenburg et al.,
    Scientific Reports 2021) or, once filtered with the image, a share of the range. The defaults cover all.
    """

    constant: float = 0.008
    quadratic: float = 0.002
    linear: float = 0.0

    def sigma(self, depth: F32) -> F32:
        """One sigma (...) [m] at the depths (...) [m]."""
        squared = np.float32(self.constant**2) + (np.float32(self.linear) * depth) ** 2
        squared += (np.float32(self.quadratic) * depth * depth) ** 2
        return np.sqrt(squared).astype(np.float32)

    def report(self) -> dict[str, float]:
        """Plain JSON values."""
        return {"constant": self.constant, "linear": self.linear, "quadratic": self.quadratic}

    def __str__(self) -> str:
        """For the log."""
        return f"{1e3 * self.constant:.1f} mm, {1e3 * self.linear:.1f} mm/m, {1e3 * self.quadratic:.2f} mm/m^2"


def fit_noise(pairs: list[tuple[DepthMap, DepthMap]], scale: float) -> tuple[NoiseModel, int]:
    """The noise that explains the disagreement of overlapping views' maps, pose errors included.

    Every second pixel's point is compared with the other map along its normal; the median absolute deviation per range
    of depth determines the model by non-negative least squares. `scale` is scene units per metre.

    Returns:
        The model (the default without enough comparisons), and the number of comparisons.
    """
    residuals, depths = [], []
    for first, second in pairs:
        other_from_own = (second.world_from_camera.inverse() @ first.world_from_camera).matrix[:3]
        off, depth = _residuals(
            first.depth,
            first.normals,
            intrinsics(first.camera),
            second.depth,
            intrinsics(second.camera),
            np.ascontiguousarray(other_from_own, np.float32),
        )
        residuals.append(off / scale)
        depths.append(depth / scale)
    residual = np.concatenate(residuals) if residuals else np.zeros(0)
    depth = np.concatenate(depths) if depths else np.zeros(0)
    rows, targets = [], []
    for low, high in pairwise(_BINS):
        inside = (depth >= low) & (depth < high)
        if inside.sum() < MIN_PAIRS:
            continue
        spread = 1.4826 * float(np.median(np.abs(residual[inside])))
        middle = float(np.median(depth[inside]))
        rows.append(np.array([1.0, middle**2, middle**4]) / spread**2)  # relative errors of the variances count
        targets.append(1.0)
    if not rows:
        return NoiseModel(), len(residual)
    constant, linear, quadratic = (float(v) for v in np.sqrt(nnls(np.array(rows), np.array(targets))[0]))
    return NoiseModel(max(constant, 1e-3), quadratic, linear), len(residual)


@njit(nogil=True, error_model="numpy", cache=True)
def _residuals(depth, normals, camera, other_depth, other_camera, other_from_own):
    """Depth differences, scaled to one map's noise, and the depths they were found at."""
    height, width = depth.shape
    other_height, other_width = other_depth.shape
    residuals = np.zeros(((height + 1) // 2) * ((width + 1) // 2), np.float32)
    depths = np.zeros_like(residuals)
    count = 0
    m = other_from_own
    for y in range(0, height, 2):
        for x in range(0, width, 2):
            z = depth[y, x]
            if not z > 0:
                continue
            ray_x, ray_y = (x + 0.5 - camera[2]) / camera[0], (y + 0.5 - camera[3]) / camera[1]
            px = z * (m[0, 0] * ray_x + m[0, 1] * ray_y + m[0, 2]) + m[0, 3]
            py = z * (m[1, 0] * ray_x + m[1, 1] * ray_y + m[1, 2]) + m[1, 3]
            pz = z * (m[2, 0] * ray_x + m[2, 1] * ray_y + m[2, 2]) + m[2, 3]
            if pz <= 0:
                continue
            u, v = px / pz * other_camera[0] + other_camera[2], py / pz * other_camera[1] + other_camera[3]
            if not (u >= 0 and v >= 0 and u < other_width and v < other_height):
                continue
            column, row = int(u), int(v)
            seen = other_depth[row, column]
            if not seen > 0 or abs(seen - pz) > MAX_RELATIVE * pz:
                continue
            a, b, c = normals[y, x, 0], normals[y, x, 1], normals[y, x, 2]
            nx = m[0, 0] * a + m[0, 1] * b + m[0, 2] * c
            ny = m[1, 0] * a + m[1, 1] * b + m[1, 2] * c
            nz = m[2, 0] * a + m[2, 1] * b + m[2, 2] * c
            other_x = (column + 0.5 - other_camera[2]) / other_camera[0]
            other_y = (row + 0.5 - other_camera[3]) / other_camera[1]
            along_own = a * ray_x + b * ray_y + c
            along_other = nx * other_x + ny * other_y + nz
            if along_own > -0.3 or along_other > -0.3:
                continue
            distance = nx * (seen * other_x - px) + ny * (seen * other_y - py) + nz * (seen - pz)
            residuals[count] = distance / np.sqrt(along_own**2 + along_other**2)
            depths[count] = z
            count += 1
    return residuals[:count], depths[:count]


TERMS = 6
"""1, x, y, x^2, x y, y^2 of the ray (x, y, 1)."""
PRIOR = np.r_[np.full(TERMS, 0.003), np.full(TERMS, 0.01)]
"""One sigma of the offsets [1/m], an eighth of a Kinect's disparity step, and of the factors."""
POINT_SIGMA = 0.005
"""One sigma of a multi-view point [share of the depth]."""
MIN_OBSERVATIONS = 2000
BLOCKS, FOLDS = 20, 5
"""Number of blocks in time of the views; each fold leaves out every FOLDS-th of them."""
MIN_GAIN, CERTAINTY = 0.01, 2.0
"""The model is used when it lowers the held-out residuals by this share and by this many of its standard errors."""
MIN_IN_BLOCK = 30
RANGE_PERCENTILES = (1.0, 99.0)
ROUNDS = 12


@dataclass(frozen=True, eq=False)
class Distortion:
    """A correction of depth images: coefficients (12,) of the offset's `TERMS` [1/m], then of the factor's.

    It was fitted to points from `nearest` to `farthest` [m]; other depths are shifted like these, in disparity.
    """

    coefficients: F64
    nearest: float
    farthest: float

    def corrected(self, depth: F32, rays: F64) -> F32:
        """Corrected depths (...) [m] of measured ones (...) [m], 0 staying 0, at rays (..., 3) with z = 1."""
        known = depth > 0
        inverse = 1 / np.where(known, depth, 1).astype(np.float64)
        fitted = np.clip(inverse, 1 / self.farthest, 1 / self.nearest)
        terms = _terms(rays)
        inverse = inverse + terms @ self.coefficients[:TERMS] + fitted * (terms @ self.coefficients[TERMS:])
        return np.where(known & (inverse > 0), 1 / np.maximum(inverse, 1e-6), 0).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Observations:
    """Multi-view points in depth images: rays (M, 3), z = 1, depths (M,) by image and point [m], blocks of views."""

    rays: F64
    measured: F64
    expected: F64
    block: NDArray[np.intp]

    @property
    def design(self) -> F64:
        """(M, 12) derivatives of the corrected inverse depth by the coefficients."""
        terms = _terms(self.rays)
        return np.concatenate([terms, terms * (1 / self.measured)[..., None]], -1)

    @property
    def target(self) -> F64:
        """(M,) ideal correction of the inverse depth [1/m]."""
        return 1 / self.expected - 1 / self.measured

    @property
    def sigma(self) -> F64:
        """(M,) one sigma of the target, sensor and point together, up to a common factor."""
        depth = NoiseModel().sigma(self.measured.astype(np.float32)).astype(np.float64)
        return np.hypot(depth, POINT_SIGMA * self.measured) / self.measured**2


def fit_distortion(
    scene: PosedScene, capture_folder: Path, params: DepthParams
) -> tuple[Distortion | None, dict[str, object]]:
    """Fit the sensor's distortion to the scene's sparse points, within the range of the parameters.

    Returns:
        The correction, or None where it does not help; and plain JSON values: observations, held-out residuals before
        and after [m], whether it is applied, coefficients.
    """
    data = observe(scene, capture_folder, params)
    report: dict[str, object] = {"observations": len(data.measured), "applied": False}
    counts = np.bincount(data.block)
    if len(data.measured) < MIN_OBSERVATIONS or (counts >= MIN_IN_BLOCK).sum() < 2 * FOLDS:
        return None, report | {"reason": "too few multi-view points meet the depth images"}
    design, target, sigma = data.design, data.target, data.sigma
    before, after = np.abs(target) / sigma, np.zeros(len(target))
    for fold in range(FOLDS):
        test = data.block % FOLDS == fold
        after[test] = np.abs(target[test] - design[test] @ _fit(data, ~test)) / sigma[test]
    blocks = [data.block == number for number in np.flatnonzero(counts >= MIN_IN_BLOCK)]
    gains = np.array([1 - np.median(after[block]) / np.median(before[block]) for block in blocks])
    gain, error = float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains)))
    # The gain is in sigmas, where near and far depths weigh the same; the median in metres is for people.
    metres = sigma * data.measured**2
    report |= {
        "held_out_residual_before_m": float(np.median(before * metres)),
        "held_out_residual_after_m": float(np.median(after * metres)),
        "gain": gain,
        "gain_sigma": error,
    }
    if gain < MIN_GAIN or gain < CERTAINTY * error:
        return None, report | {"reason": "it does not improve points that it was not fitted to"}
    logger.info("depth distortion: held-out residuals fall by %.1f +- %.1f %%", 100 * gain, 100 * error)
    coefficients = _fit(data, np.ones(len(data.measured), bool))
    nearest, farthest = (float(v) for v in np.percentile(data.measured, RANGE_PERCENTILES))
    return Distortion(coefficients, nearest, farthest), report | {
        "applied": True,
        "offset": [float(v) for v in coefficients[:TERMS]],
        "factor": [float(v) for v in coefficients[TERMS:]],
        "nearest": nearest,
        "farthest": farthest,
    }


def observe(scene: PosedScene, capture_folder: Path, params: DepthParams) -> Observations:
    """All sparse points of the training views that meet a depth image away from edges, within the range."""
    points, scale = scene.points, scene.depth_scale
    chosen = [i for i, view in enumerate(scene.views) if view.sensor_depth and not view.held_out]
    rays, measured, expected, block = [np.zeros((0, 3))], [np.zeros(0)], [np.zeros(0)], [np.zeros(0, np.intp)]
    for number, index in enumerate(track(chosen, "depth distortion")):
        view = scene.views[index]
        seen = points.xyz[points.point_index[points.view_index == index]]
        world_from_depth = view.world_from_camera @ (view.camera_from_depth or Pose.identity())
        local = world_from_depth.inverse().apply(seen) / scale
        local = local[local[:, 2] > params.min_range]
        depth, confidence, camera = read_sensor_depth(capture_folder, view)
        usable = off_edges(depth) & (confidence >= params.min_confidence)
        usable &= (depth >= params.min_range) & (depth <= params.farthest)
        read, good = bilinear(depth[None], usable[None], np.zeros(len(local), np.intp), camera.project(local))
        directions = local[good] / local[good, 2:]
        rays.append(directions)
        measured.append(read[good])
        expected.append(local[good, 2])
        block.append(np.full(good.sum(), number * BLOCKS // max(len(chosen), 1)))
    return Observations(np.concatenate(rays), np.concatenate(measured), np.concatenate(expected), np.concatenate(block))


def _terms(rays: F64) -> F64:
    x, y = rays[..., 0], rays[..., 1]
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)


def _fit(data: Observations, chosen: Mask) -> F64:
    """Least squares with Cauchy weights and the prior, on the chosen observations."""
    design, target = data.design[chosen] / data.sigma[chosen, None], data.target[chosen] / data.sigma[chosen]
    coefficients = np.zeros(2 * TERMS)
    for _ in range(ROUNDS):
        residual = target - design @ coefficients
        spread = max(1.4826 * float(np.median(np.abs(residual))), 1e-3)
        weight = 1 / (1 + (residual / spread) ** 2) / spread**2
        hessian = (design * weight[:, None]).T @ design + np.diag(1 / PRIOR**2)
        coefficients = np.linalg.solve(hessian, (design * weight[:, None]).T @ target)
    return np.asarray(coefficients, np.float64)
