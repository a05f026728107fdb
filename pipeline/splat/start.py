"""The Gaussians that training starts from: flat discs on the shared point cloud."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from pipeline.geometry import SH_C0, Gaussians, PointCloud

NEIGHBOURS = 3
MIN_SPACING = 1e-4
"""Of the cloud's largest side: coincident points get discs of this size."""


def initial_gaussians(
    cloud: PointCloud, count: int, sh_coefficients: int, rng: np.random.Generator, *, opacity: float, flatness: float
) -> Gaussians:
    """Discs on at most `count` points of the cloud, drawn without replacement.

    Args:
        cloud: In the world frame.
        count: How many at most.
        sh_coefficients: 1, 4, 9 or 16.
        rng: Draws the points.
        opacity: Of each disc.
        flatness: Standard deviation along the normal, relative to that across.

    Raises:
        ValueError: When the cloud has fewer points than a neighbourhood.
    """
    if len(cloud) <= NEIGHBOURS:
        raise ValueError(f"a splat needs at least {NEIGHBOURS + 1} points to start from, got {len(cloud)}")
    if len(cloud) > count:
        cloud = cloud[np.sort(rng.choice(len(cloud), count, replace=False))]
    points = cloud.points.astype(np.float64)
    distances = np.asarray(KDTree(points).query(points, NEIGHBOURS + 1)[0])[:, 1:]
    smallest = MIN_SPACING * float(np.ptp(points, axis=0).max())
    spacing = np.sqrt((distances**2).mean(1)).clip(smallest)

    normals = cloud.normals.astype(np.float64)
    has_normal = np.linalg.norm(normals, axis=1) > 0.5
    normals[~has_normal] = (0, 0, 1)
    scales = np.repeat(spacing[:, None], 3, 1)
    scales[:, 2] *= np.where(has_normal, flatness, 1.0)

    sh = np.zeros((len(cloud), sh_coefficients, 3), np.float32)
    sh[:, 0] = (cloud.colors / 255 - 0.5) / SH_C0
    logit = np.log(opacity / (1 - opacity))
    return Gaussians(
        cloud.points.astype(np.float32),
        np.log(scales).astype(np.float32),
        quaternions_to(normals).astype(np.float32),
        np.full(len(cloud), logit, np.float32),
        sh,
    )


def quaternions_to(directions: np.ndarray) -> np.ndarray:
    """Quaternions wxyz (N, 4) that turn +Z into unit directions (N, 3) by the smallest angle."""
    x, y, z = directions.T
    quaternions = np.stack([1 + z, -y, x, np.zeros_like(x)], 1)
    quaternions[z < -1 + 1e-9] = (0, 1, 0, 0)
    return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
