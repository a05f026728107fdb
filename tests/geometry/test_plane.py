"""Planes from clean and dirty points."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import fit_plane, matrix_from_rotvec, ransac_plane

ROTATION = matrix_from_rotvec([0.4, 0.2, 0.9])


def tilted(rng: np.random.Generator, count: int, noise: float) -> np.ndarray:
    flat = np.c_[rng.uniform(-2, 3, count), rng.uniform(-1, 2, count), rng.normal(0, noise, count)]
    return flat @ ROTATION.T + [0.3, -1, 2]


def test_fit_finds_normal_offset_and_rms(rng):
    """A noisy plane comes back with its noise."""
    plane = fit_plane(tilted(rng, 4000, 0.01))
    assert abs(plane.normal @ ROTATION[:, 2]) == pytest.approx(1, abs=1e-6)
    assert plane.rms == pytest.approx(0.01, rel=0.1)
    assert np.abs(plane.distance(np.array([[0.3, -1, 2]]))).max() < 1e-3


def test_ransac_ignores_outliers(rng):
    """Forty per cent of clutter doesn't tilt it."""
    points = np.concatenate([tilted(rng, 3000, 0.005), rng.uniform(-3, 3, (2000, 3))])
    plane = ransac_plane(points, 0.02, rng)
    assert plane is not None
    assert abs(plane.normal @ ROTATION[:, 2]) > np.cos(np.deg2rad(0.2))
    assert plane.inliers[:3000].mean() > 0.99


def test_near_normal_selects_the_smaller_plane(rng):
    """With a wanted normal the larger plane of another direction is passed over, and the sign follows."""
    floor = np.c_[rng.uniform(0, 1, (2000, 2)), rng.normal(0, 0.003, 2000)]
    wall = np.c_[rng.normal(0, 0.003, 5000), rng.uniform(0.1, 3, (5000, 2))]
    plane = ransac_plane(np.concatenate([floor, wall]), 0.01, rng, near_normal=np.array([0.05, 0, -1.0]))
    assert plane is not None
    assert plane.normal[2] < -0.999


def test_ransac_without_candidates(rng):
    """Two points make no plane."""
    assert ransac_plane(np.zeros((2, 3)), 0.01, rng) is None
