"""Gaussians before a camera, small enough for the brute-force reference."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Camera, Gaussians, Pose, matrix_from_rotvec

SMALL_CAMERA = Camera(40, 36, 45.0, 47.0, 19.2, 17.3)
SMALL_POSE = Pose(matrix_from_rotvec([0.2, -0.5, 0.3]), np.array([0.3, -0.2, -0.4]))


def scatter(count: int, rng: np.random.Generator, coefficients: int = 16, scale: float = 0.25) -> Gaussians:
    """Gaussians that `SMALL_CAMERA` at `SMALL_POSE` sees, 2 to 5 m away, some across the image's border."""
    depth = rng.uniform(2, 5, count)
    slope = rng.uniform(-0.55, 0.55, (count, 2))
    means = SMALL_POSE.apply(np.concatenate([slope * depth[:, None], depth[:, None]], 1))
    sh = rng.normal(size=(count, coefficients, 3)) * 0.12
    sh[:, 0] = rng.uniform(-0.8, 1.5, (count, 3))
    return Gaussians(
        means.astype(np.float32),
        np.log(scale * rng.uniform(0.3, 1.5, (count, 3))).astype(np.float32),
        rng.normal(size=(count, 4)).astype(np.float32),
        rng.normal(0.3, 1.2, count).astype(np.float32),
        sh.astype(np.float32),
    )


@pytest.fixture
def gaussians(rng) -> Gaussians:
    """Sixty Gaussians of SH degree 3."""
    return scatter(60, rng)
