"""The depth distortion of a sensor: a smooth correction over pixel and depth, fitted to multi-view points.

Structured light and stereo sensors measure disparity, and what is wrong with their lenses changes it by a little that
varies slowly over the picture: floor and table top of a Kinect's scan come out a degree from parallel. A. Teichman et
al. (Unsupervised Intrinsic Calibration of Depth Sensors via SLAM, RSS 2013) multiply the depth by a factor per pixel
block and depth; C. Herrera et al. (Joint Depth and Color Camera Calibration with Distortion Correction, PAMI 2012,
section 3.2) add a disparity per pixel that fades with depth. Here both are polynomials of second degree in the ray,
few enough numbers for the sparse points of one capture:

    1 / corrected = 1 / measured + offset(x, y) + factor(x, y) / measured
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from pipeline.depth.noise import NoiseModel
from pipeline.depth.params import DepthParams
from pipeline.depth.raw import read_depth
from pipeline.geometry import Pose
from pipeline.poses.scene import PosedScene
from pipeline.progress import track

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

TERMS = 6
"""1, x, y, x^2, x y, y^2 of the ray (x, y, 1)."""
PRIOR = np.r_[np.full(TERMS, 0.003), np.full(TERMS, 0.01)]
"""One sigma of the offsets [1/m], an eighth of a Kinect's disparity step, and of the factors."""
POINT_SIGMA = 0.005
"""Of the depth: what a multi-view point's own error adds."""
EDGE = 0.05
"""Depth pixels whose 3x3 neighbourhood spreads more than this share are on an edge and not used."""
LEAST_OBSERVATIONS = 2000
BLOCKS, FOLDS = 20, 5
"""The views are cut into so many blocks in time; each fold leaves out every FOLDS-th of them."""
LEAST_GAIN, CERTAINTY = 0.01, 2.0
"""The model is used when it lowers the held-out residuals by this share and by so many standard errors of the gain."""
LEAST_IN_BLOCK = 30
RANGE_PERCENTILES = (1.0, 99.0)
ROUNDS = 12


@dataclass(frozen=True, eq=False)
class Distortion:
    """A correction of depth images.

    Attributes:
        coefficients: (12,) of the offset's terms [1/m], then of the factor's, in the order of `TERMS`.
        nearest: Where the points it was fitted to begin [m]; nearer depths are shifted like those there, in disparity.
        farthest: Where they end [m].
    """

    coefficients: Array
    nearest: float
    farthest: float

    def corrected(self, depth: NDArray[np.float32], rays: Array) -> NDArray[np.float32]:
        """Corrected depths (...) [m] of measured ones (...) [m], 0 staying 0, at rays (..., 3) with z = 1."""
        known = depth > 0
        inverse = 1 / np.where(known, depth, 1).astype(np.float64)
        fitted = np.clip(inverse, 1 / self.farthest, 1 / self.nearest)
        terms = _terms(rays)
        inverse = inverse + terms @ self.coefficients[:TERMS] + fitted * (terms @ self.coefficients[TERMS:])
        return np.where(known & (inverse > 0), 1 / np.maximum(inverse, 1e-6), 0).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Observations:
    """Multi-view points in depth images (M).

    Attributes:
        rays: (M, 3) in the depth camera, z = 1.
        measured: (M,) what the depth image reads there [m].
        expected: (M,) the point's depth [m].
        block: (M,) in which block of views.
    """

    rays: Array
    measured: Array
    expected: Array
    block: NDArray[np.intp]

    @property
    def design(self) -> Array:
        """(M, 12) derivatives of the corrected inverse depth by the coefficients."""
        return _design(1 / self.measured, self.rays)

    @property
    def target(self) -> Array:
        """(M,) what the correction of the inverse depth should be."""
        return 1 / self.expected - 1 / self.measured

    @property
    def sigma(self) -> Array:
        """(M,) one sigma of the target, sensor and point together, up to a common factor."""
        depth = NoiseModel().sigma(self.measured.astype(np.float32)).astype(np.float64)
        return np.hypot(depth, POINT_SIGMA * self.measured) / self.measured**2


def fit_distortion(
    scene: PosedScene, capture_folder: Path, params: DepthParams
) -> tuple[Distortion | None, dict[str, Any]]:
    """Fit the sensor's distortion to the scene's sparse points.

    Args:
        scene: Posed views with calibrated depth cameras.
        capture_folder: What the views' depth paths are relative to.
        params: The range that is used.

    Returns:
        The correction, or None where it is not worth it; and plain JSON values: observations, held-out residuals before
        and after [m], whether it is applied, coefficients.
    """
    data = observe(scene, capture_folder, params)
    report: dict[str, Any] = {"observations": len(data.measured), "applied": False}
    counts = np.bincount(data.block)
    if len(data.measured) < LEAST_OBSERVATIONS or (counts >= LEAST_IN_BLOCK).sum() < 2 * FOLDS:
        return None, report | {"reason": "too few multi-view points meet the depth images"}
    before, after = _cross_validated(data)
    blocks = [data.block == number for number in np.flatnonzero(counts >= LEAST_IN_BLOCK)]
    gains = np.array([1 - np.median(after[block]) / np.median(before[block]) for block in blocks])
    gain, error = float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains)))
    # The gain is in sigmas, where near and far count alike; what people can picture is the median in metres.
    metres = data.sigma * data.measured**2
    report |= {
        "held_out_residual_before_m": float(np.median(before * metres)),
        "held_out_residual_after_m": float(np.median(after * metres)),
        "gain": gain,
        "gain_sigma": error,
    }
    if gain < LEAST_GAIN or gain < CERTAINTY * error:
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
        depth, confidence, camera = read_depth(view, capture_folder)
        flat = maximum_filter(depth, 3) - minimum_filter(depth, 3) < EDGE * depth
        usable = flat & (confidence >= params.min_confidence) & (depth >= params.min_range) & (depth <= params.farthest)
        read = _bilinear(depth, usable, camera.project(local))
        good = read > 0
        directions = local[good] / local[good, 2:]
        rays.append(directions)
        measured.append(read[good])
        expected.append(local[good, 2])
        block.append(np.full(good.sum(), number * BLOCKS // max(len(chosen), 1)))
    return Observations(np.concatenate(rays), np.concatenate(measured), np.concatenate(expected), np.concatenate(block))


def _terms(rays: Array) -> Array:
    x, y = rays[..., 0], rays[..., 1]
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)


def _design(inverse_depth: Array, rays: Array) -> Array:
    terms = _terms(rays)
    return np.concatenate([terms, terms * inverse_depth[..., None]], -1)


def _fit(data: Observations, chosen: NDArray[np.bool_]) -> Array:
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


def _cross_validated(data: Observations) -> tuple[Array, Array]:
    """Absolute residuals in sigmas (M,) without the model, and with one fitted to other blocks."""
    before, after = np.zeros(len(data.measured)), np.zeros(len(data.measured))
    design, target, sigma = data.design, data.target, data.sigma
    for fold in range(FOLDS):
        test = data.block % FOLDS == fold
        coefficients = _fit(data, ~test)
        before[test] = np.abs(target[test]) / sigma[test]
        after[test] = np.abs(target[test] - design[test] @ coefficients) / sigma[test]
    return before, after


def _bilinear(depth: NDArray[np.float32], usable: NDArray[np.bool_], pixels: Array) -> Array:
    """Depth (M,) at pixels (M, 2); 0 where one of the four around is not usable."""
    height, width = depth.shape
    left, top = np.floor(pixels - 0.5).T
    valid = (left >= 0) & (top >= 0) & (left < width - 1) & (top < height - 1)
    c, r = np.where(valid, left, 0).astype(np.intp), np.where(valid, top, 0).astype(np.intp)
    for dr in (0, 1):
        for dc in (0, 1):
            valid &= usable[r + dr, c + dc]
    fx, fy = pixels[:, 0] - 0.5 - left, pixels[:, 1] - 0.5 - top
    upper = depth[r, c] * (1 - fx) + depth[r, c + 1] * fx
    lower = depth[r + 1, c] * (1 - fx) + depth[r + 1, c + 1] * fx
    return np.where(valid, upper * (1 - fy) + lower * fy, 0.0)
