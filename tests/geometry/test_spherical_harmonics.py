"""Spherical harmonics: orthonormal, and rotated exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from pipeline.geometry import sh_basis, sh_rotation
from tests.geometry.strategies import rotations


def directions(count: int) -> np.ndarray:
    d = np.random.default_rng(5).normal(size=(count, 3))
    return d / np.linalg.norm(d, axis=1, keepdims=True)


def test_basis_is_orthonormal():
    """Integrals of products over the sphere are 1 on the diagonal and 0 off it."""
    cosine, weight = np.polynomial.legendre.leggauss(8)
    azimuth = np.arange(16) / 16 * 2 * np.pi
    z, a = (v.ravel() for v in np.meshgrid(cosine, azimuth, indexing="ij"))
    r = np.sqrt(1 - z * z)
    basis = sh_basis(np.stack([r * np.cos(a), r * np.sin(a), z], -1), 16)
    gram = (basis * np.repeat(weight, 16)[:, None] * 2 * np.pi / 16).T @ basis
    np.testing.assert_allclose(gram, np.eye(16), atol=1e-7)


@given(rotations)
@pytest.mark.parametrize("count", [1, 4, 9, 16])
def test_rotated_coefficients_show_the_same_colour(count, a_from_b):
    """The colour in direction R d with rotated coefficients is the colour in d with the old ones."""
    coefficients = np.random.default_rng(6).normal(size=(count, 3))
    d = directions(50)
    rotated = sh_rotation(a_from_b, count) @ coefficients
    np.testing.assert_allclose(sh_basis(d @ a_from_b.T, count) @ rotated, sh_basis(d, count) @ coefficients, atol=1e-9)


def test_first_band_by_hand():
    """A coefficient on -x shows where -x points after a quarter turn about z."""
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    rotated = sh_rotation(quarter, 4) @ np.array([0, 0, 0, 1.0])
    np.testing.assert_allclose(rotated, [0, 1, 0, 0], atol=1e-12)
