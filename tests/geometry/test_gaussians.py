"""Gaussians from colours, in one set, and their opacities; clouds in one; rotations between directions."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import (
    SH_C0,
    Gaussians,
    PointCloud,
    logit,
    matrix_from_quaternion,
    quaternion_product,
    quaternions_between,
    quaternions_from_z,
    sigmoid,
)


def _colored(count: int, opacity: float, coefficients: int) -> Gaussians:
    grey = np.full((count, 3), 0.25)
    upright = np.tile([1.0, 0, 0, 0], (count, 1))
    return Gaussians.from_colors(np.zeros((count, 3)), np.full((count, 3), 0.5), upright, grey, opacity, coefficients)


def test_colours_and_opacity_are_those_requested():
    """Scales as logarithms, opacity as logit, the colour from everywhere, all float32."""
    made = _colored(3, 0.8, 4)
    np.testing.assert_allclose(np.exp(made.log_scales), 0.5, rtol=1e-6)
    np.testing.assert_allclose(made.opacities, 0.8, rtol=1e-6)
    np.testing.assert_allclose(made.sh[:, 0] * SH_C0 + 0.5, 0.25, rtol=1e-6)
    assert not made.sh[:, 1:].any()
    assert {array.dtype for array in vars(made).values() if isinstance(array, np.ndarray)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("coefficients", [1, 4, 9])
def test_the_first_part_decides_on_sh_and_antialiasing(coefficients):
    """Missing coefficients are zero, others are cut off; everything else is one after the other."""
    first, second = _colored(2, 0.5, 4), _colored(3, 0.9, coefficients)
    second.sh[:] = 1
    whole = Gaussians.concatenate([first, second])
    assert len(whole) == 5
    assert whole.sh.shape == (5, 4, 3)
    assert (whole.sh[2:, : min(4, coefficients)] == 1).all()
    assert not whole.sh[2:, coefficients:].any()
    np.testing.assert_array_equal(whole.opacity_logits[2:], second.opacity_logits)
    assert not whole.antialiased


def test_logit_is_the_inverse_of_sigmoid(rng):
    """In float64, both ways."""
    values = rng.normal(size=20)
    np.testing.assert_allclose(logit(sigmoid(values)), values)


def test_clouds_in_one_keep_all_points(rng):
    """Every array, in order."""
    count = 5
    cloud = PointCloud(
        rng.normal(size=(count, 3)).astype(np.float32),
        rng.normal(size=(count, 3)).astype(np.float32),
        rng.integers(0, 255, (count, 3)).astype(np.uint8),
        rng.random(count).astype(np.float32),
        np.arange(count, dtype=np.int32),
        np.arange(count) % 2 == 0,
    )
    whole = PointCloud.concatenate([cloud[:2], cloud[2:]])
    for name, values in vars(cloud).items():
        np.testing.assert_array_equal(getattr(whole, name), values)


def test_quaternions_rotate_one_direction_to_another(rng):
    """From +Z and from any direction, by the smallest angle; products rotate one after the other."""
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, 9, 3)))
    from_z, between = quaternions_from_z(a), quaternions_between(a, b)
    np.testing.assert_allclose(matrix_from_quaternion(from_z)[:, :, 2], a, atol=1e-12)
    np.testing.assert_allclose(np.einsum("nij,nj->ni", matrix_from_quaternion(between), a), b, atol=1e-12)
    np.testing.assert_allclose(2 * np.arccos(between[:, 0]), np.arccos((a * b).sum(1)), atol=1e-7)
    both = matrix_from_quaternion(quaternion_product(between, from_z))
    np.testing.assert_allclose(both[:, :, 2], b, atol=1e-12)
    np.testing.assert_allclose(quaternions_from_z([[0.0, 0, -1]]), [[0, 1, 0, 0]])
