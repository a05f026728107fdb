"""Robust planes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pipeline.types import F64, Floats, Mask


@dataclass(frozen=True, eq=False)
class Plane:
    """The points x with normal @ x = offset."""

    normal: F64  # (3,) float64, unit
    offset: float  # [same unit as the points]
    inliers: Mask = field(default_factory=lambda: np.zeros(0, bool))  # (N,) bool, the points that it was fitted to
    rms: float = 0.0  # root mean square distance of the inliers

    def distance(self, points: Floats) -> F64:
        """Signed distances (N,) of points (N, 3)."""
        return np.asarray(points, np.float64) @ self.normal - self.offset

    def reflected(self, points: Floats) -> F64:
        """Points (..., 3) in the mirror of the plane."""
        return points - 2 * self.distance(points)[..., None] * self.normal


BIN = 3.0
"""Width of the bins in which directions are counted [degrees]."""


def commonest_direction(normals: Floats, weights: Floats, alike: float) -> Mask:
    """Which upright directions (N, 3) are within so many degrees of the one about +Z with the most weight (N,)."""
    angles = np.rad2deg(np.arctan2(normals[:, 1], normals[:, 0])) % 360
    bins = np.bincount((angles / BIN).astype(int), weights, round(360 / BIN))
    peak = ((np.roll(bins, 1) + bins + np.roll(bins, -1)).argmax() + 0.5) * BIN
    return np.asarray(np.abs((angles - peak + 180) % 360 - 180) < alike)


def fit_plane(points: Floats) -> Plane:
    """Least-squares plane of points (N, 3), N >= 3."""
    p = np.asarray(points, np.float64)
    centre = p.mean(0)
    normal = np.linalg.eigh((p - centre).T @ (p - centre))[1][:, 0]
    offset = float(normal @ centre)
    rms = float(np.sqrt(np.mean((p @ normal - offset) ** 2)))
    return Plane(normal, offset, np.ones(len(p), bool), rms)


def ransac_plane(
    points: Floats,
    tolerance: float,
    rng: np.random.Generator,
    *,
    near_normal: F64 | None = None,
    max_angle_deg: float = 15.0,
    trials: int = 500,
) -> Plane | None:
    """The plane with most points (N, 3) within `tolerance`, refitted to them; None without a candidate.

    With `near_normal` only planes within `max_angle_deg` of it count, and the result points the same way.
    Source: M. Fischler, R. Bolles, Random sample consensus, CACM 1981.
    """
    p = np.asarray(points, np.float64)
    if len(p) < 3:
        return None
    scored = p if len(p) <= 20_000 else p[rng.choice(len(p), 20_000, replace=False)]
    corners = p[rng.integers(0, len(p), (trials, 3))]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1)
    usable = length > 1e-12
    normals[usable] /= length[usable, None]
    if near_normal is not None:
        cosine = normals @ (near_normal / np.linalg.norm(near_normal))
        normals *= np.where(cosine < 0, -1, 1)[:, None]
        usable &= np.abs(cosine) >= np.cos(np.deg2rad(max_angle_deg))
    if not usable.any():
        return None
    normals, offsets = normals[usable], np.einsum("ij,ij->i", normals[usable], corners[usable, 0])
    counts = [int((np.abs(scored @ n - d) < tolerance).sum()) for n, d in zip(normals, offsets, strict=True)]
    best = int(np.argmax(counts))
    normal, offset = normals[best], float(offsets[best])
    inliers, rms = np.zeros(len(p), bool), 0.0
    for _ in range(3):
        inliers = np.abs(p @ normal - offset) < tolerance
        if inliers.sum() < 3:
            return None
        fitted = fit_plane(p[inliers])
        sign = 1.0 if fitted.normal @ normal >= 0 else -1.0
        normal, offset, rms = sign * fitted.normal, sign * fitted.offset, fitted.rms
    return Plane(normal, offset, inliers, rms)
