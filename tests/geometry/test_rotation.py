"""Rotations and the quaternion orders at the borders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given

from pipeline.geometry import (
    angle_deg,
    matrix_from_quaternion,
    matrix_from_rotvec,
    quaternion_from_matrix,
    rotation_between,
    rotvec_from_matrix,
    wxyz_from_xyzw,
    xyzw_from_wxyz,
)
from tests.geometry.strategies import rotations, vectors


def test_quaternion_of_a_known_turn_is_scalar_first():
    """90 degrees about z is (cos 45, 0, 0, sin 45) in wxyz."""
    matrix = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    half = np.sqrt(0.5)
    np.testing.assert_allclose(quaternion_from_matrix(matrix), [half, 0, 0, half], atol=1e-15)
    np.testing.assert_allclose(matrix_from_quaternion([half, 0, 0, half]), matrix, atol=1e-15)


def test_xyzw_border_moves_the_scalar():
    """Scalar-last (Isaac Gym, ROS) and ours differ by the position of w, and ours has w >= 0."""
    np.testing.assert_array_equal(wxyz_from_xyzw([0.1, 0.2, 0.3, 0.9]), [0.9, 0.1, 0.2, 0.3])
    np.testing.assert_array_equal(wxyz_from_xyzw([0.1, 0.2, 0.3, -0.9]), [0.9, -0.1, -0.2, -0.3])
    np.testing.assert_array_equal(xyzw_from_wxyz([0.9, 0.1, 0.2, 0.3]), [0.1, 0.2, 0.3, 0.9])


@given(rotations)
def test_batches_equal_singles(rotation):
    """Batched conversion equals one at a time."""
    batch = np.stack([rotation, rotation.T])
    np.testing.assert_allclose(quaternion_from_matrix(batch)[1], quaternion_from_matrix(rotation.T), atol=1e-12)
    np.testing.assert_allclose(matrix_from_quaternion(quaternion_from_matrix(batch)), batch, atol=1e-12)


@given(vectors)
def test_logarithm_undoes_exponential(rotvec):
    """Axis-angle vectors below half a turn survive."""
    assume(np.linalg.norm(rotvec) < 3.1)
    np.testing.assert_allclose(rotvec_from_matrix(matrix_from_rotvec(rotvec)), rotvec, atol=1e-9)


@given(vectors, vectors)
def test_rotation_between_turns_source_onto_target(source, target):
    """The first direction ends on the second, opposite ones included."""
    assume(min(np.linalg.norm(source), np.linalg.norm(target)) > 1e-3)
    for goal in (target, -source):
        rotated = rotation_between(source, goal) @ (source / np.linalg.norm(source))
        np.testing.assert_allclose(rotated, goal / np.linalg.norm(goal), atol=1e-7)


def test_angle_of_a_known_turn():
    """A turn by 0.2 rad is 11.46 degrees, whichever frame it is seen from."""
    base = matrix_from_rotvec([0.4, 1.0, -0.3])
    assert angle_deg(base, base @ matrix_from_rotvec([0, 0.2, 0])) == pytest.approx(np.rad2deg(0.2))
