"""How noisy a depth sensor is: a model, and its fit to how far overlapping maps disagree."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import nnls

from pipeline.depth.maps import DepthMap
from pipeline.geometry import Pose

MIN_PAIRS = 500
"""Fewer comparisons than this don't say anything about a depth range."""
MAX_RELATIVE = 0.1
"""Depths that differ by more are of two surfaces, not of one with noise."""
_BINS = np.array([0.0, 0.8, 1.2, 1.6, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 7.0, 10.0, 20.0, 30.0, 65.0])


@dataclass(frozen=True)
class NoiseModel:
    """One sigma of the depth: sqrt(constant^2 + (linear z)^2 + (quadratic z^2)^2).

    Triangulating sensors grow with z^2 (K. Khoshelham and S. Elberink, Accuracy and Resolution of Kinect Depth Data,
    Sensors 2012, equation 9: 1.4 mm/m^2); a phone's time of flight is about 1 cm at any range (G. Luetzenburg et al.,
    Scientific Reports 2021) or, once filtered with the picture, a share of the range. The defaults cover all.

    Attributes:
        constant: [m].
        quadratic: [1/m].
        linear: [1].
    """

    constant: float = 0.008
    quadratic: float = 0.002
    linear: float = 0.0

    def sigma(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
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
    """The noise that explains how far maps of overlapping views disagree, pose errors included.

    Every second pixel's point is compared with the other map along its normal; the spread (median absolute deviation)
    per range of depth gives the model's three numbers by least squares that can't go below zero.

    Args:
        pairs: Cleaned maps of overlapping views.
        scale: Scene units per metre.

    Returns:
        The model, and how many comparisons it rests on. Without enough of them it is the default.
    """
    residuals, depths = [], []
    for first, second in pairs:
        other_from_own = second.world_from_camera.inverse() @ first.world_from_camera
        found = _residuals(
            first.depth, first.normals, _numbers(first), second.depth, _numbers(second), _matrix(other_from_own)
        )
        residuals.append(found[0] / scale)
        depths.append(found[1] / scale)
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


def _numbers(depth_map: DepthMap) -> NDArray[np.float32]:
    camera = depth_map.camera
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32)


def _matrix(pose: Pose) -> NDArray[np.float32]:
    return np.ascontiguousarray(pose.matrix[:3], np.float32)


_COMPILE: dict[str, Any] = {"nogil": True, "error_model": "numpy", "cache": True}


@njit(**_COMPILE)
def _residuals(depth, normals, camera, other_depth, other_camera, other_from_own):  # noqa: ANN001, ANN202
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
