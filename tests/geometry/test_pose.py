"""Group laws of rigid transforms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from pipeline.geometry import CV_FROM_GL, Pose, matrix_from_rotvec
from tests.geometry.strategies import point_sets, poses

POSE = Pose(matrix_from_rotvec([0.3, -0.8, 1.1]), [1.0, -2.0, 0.5])


@given(poses, poses, point_sets)
def test_chain_applies_right_factor_first(a_from_b, b_from_c, points):
    """a_from_b @ b_from_c carries points of c to a."""
    np.testing.assert_allclose((a_from_b @ b_from_c).apply(points), a_from_b.apply(b_from_c.apply(points)), atol=1e-12)


@given(poses, point_sets)
def test_inverse_undoes(a_from_b, points):
    """b_from_a @ a_from_b is the identity, on both sides."""
    np.testing.assert_allclose(a_from_b.inverse().apply(a_from_b.apply(points)), points, atol=1e-12)
    np.testing.assert_allclose((a_from_b @ a_from_b.inverse()).matrix, np.eye(4), atol=1e-12)


@given(poses, poses, poses)
def test_chains_are_associative(a, b, c):
    """(a b) c = a (b c)."""
    np.testing.assert_allclose(((a @ b) @ c).matrix, (a @ (b @ c)).matrix, atol=1e-11)


@given(poses, poses)
def test_inverse_of_chain_reverses(a, b):
    """(a b)^-1 = b^-1 a^-1."""
    np.testing.assert_allclose((a @ b).inverse().matrix, (b.inverse() @ a.inverse()).matrix, atol=1e-11)


@given(poses)
def test_quaternion_round_trip(pose):
    """A pose survives its wxyz quaternion, which is unit with w >= 0."""
    quaternion = pose.quaternion
    assert quaternion[0] >= 0
    assert np.linalg.norm(quaternion) == pytest.approx(1)
    np.testing.assert_allclose(Pose.from_quaternion(quaternion, pose.translation).matrix, pose.matrix, atol=1e-12)


def test_matches_matrix_product():
    """Applying equals the 4x4 matrix on homogeneous points."""
    point = np.array([0.2, -1.5, 3.0])
    np.testing.assert_allclose(POSE.apply(point), (POSE.matrix @ [*point, 1])[:3])
    np.testing.assert_allclose(POSE.rotate(point), POSE.matrix[:3, :3] @ point)


def test_gl_axes_convert_on_the_right():
    """A GL camera that looks along its -z looks along +z in CV axes, and the world stays where it is."""
    world_from_gl = POSE.matrix[:3, :3]
    world_from_cv = world_from_gl @ CV_FROM_GL
    np.testing.assert_allclose(world_from_cv @ [0, 0, 1], world_from_gl @ [0, 0, -1])
    np.testing.assert_allclose(world_from_cv @ [0, 1, 0], world_from_gl @ [0, -1, 0])
    assert np.linalg.det(world_from_cv) == pytest.approx(1)


@pytest.mark.parametrize(
    "rotation",
    [np.diag([1.0, 1, -1]), np.eye(3) * 1.01, np.full((3, 3), np.nan), np.zeros((3, 3))],
    ids=["left-handed", "scaled", "nan", "zero"],
)
def test_refuses_what_is_no_rotation(rotation):
    """Left-handed, scaled, not finite and degenerate matrices are errors, never fixed silently."""
    with pytest.raises(ValueError, match="orthonormal and right-handed"):
        Pose(rotation, np.zeros(3))
