"""The kernels' spherical harmonics against the shared basis."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import sh_basis
from pipeline.raster.harmonics import differentiate_basis, evaluate_basis


def test_basis_is_the_shared_one(rng):
    """All 16 values at random directions."""
    for direction in rng.normal(size=(20, 3)):
        direction /= np.linalg.norm(direction)
        basis = np.zeros(16, np.float32)
        evaluate_basis(16, *direction.astype(np.float32), basis)
        np.testing.assert_allclose(basis, sh_basis(direction, 16), atol=2e-6)


def test_derivatives_match_finite_differences(rng):
    """By x, y and z taken as independent."""
    step = 1e-5
    for direction in rng.normal(size=(10, 3)):
        direction /= np.linalg.norm(direction)
        analytic = np.zeros((16, 3), np.float32)
        differentiate_basis(16, *direction.astype(np.float32), analytic)
        for axis in range(3):
            offset = step * np.eye(3)[axis]
            numeric = (sh_basis(direction + offset, 16) - sh_basis(direction - offset, 16)) / (2 * step)
            np.testing.assert_allclose(analytic[:, axis], numeric, atol=1e-5)
