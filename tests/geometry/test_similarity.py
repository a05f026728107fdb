"""Group laws of similarities, and what they do to each type."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from pipeline.geometry import Camera, Mesh, PointCloud, Pose, Similarity, fit_similarity, matrix_from_rotvec
from tests.geometry.strategies import point_sets, poses, similarities

TURN = Similarity(2.5, matrix_from_rotvec([0.3, -0.8, 1.1]), [1.0, -2.0, 0.5])


@given(similarities, similarities, point_sets)
def test_chain_applies_right_factor_first(a_from_b, b_from_c, points):
    """a_from_b @ b_from_c carries points of c to a."""
    expected = a_from_b.apply(b_from_c.apply(points))
    np.testing.assert_allclose((a_from_b @ b_from_c).apply(points), expected, rtol=1e-9, atol=1e-9)


@given(similarities, point_sets)
def test_inverse_undoes(a_from_b, points):
    """b_from_a after a_from_b changes nothing."""
    np.testing.assert_allclose(a_from_b.inverse().apply(a_from_b.apply(points)), points, atol=1e-9)


@given(similarities)
def test_matrix_is_the_same_map(a_from_b):
    """The 4x4 matrix of the inverse is the inverse matrix."""
    np.testing.assert_allclose(a_from_b.inverse().matrix, np.linalg.inv(a_from_b.matrix), rtol=1e-7, atol=1e-7)


@given(similarities, poses, point_sets)
def test_images_stay_the_same(a_from_b, b_from_camera, points):
    """Points and camera moved together project to the same pixels, and depth scales."""
    camera = Camera(64, 48, 51.0, 49.0, 30.5, 25.5)
    local = points + np.array([0, 0, 4.5])
    moved = a_from_b.apply_pose(b_from_camera).inverse().apply(a_from_b.apply(b_from_camera.apply(local)))
    np.testing.assert_allclose(camera.project(moved), camera.project(local), atol=1e-6)
    np.testing.assert_allclose(moved[:, 2], a_from_b.scale * local[:, 2], rtol=1e-7)


@given(similarities, point_sets)
def test_fit_recovers(a_from_b, points):
    """Umeyama's fit finds the similarity from exact pairs."""
    spread = points + np.array([[0, 0, 0], [4, 0, 0], [0, 5, 0], [0, 0, 6], [1, 2, 3], [-4, 1, 0], [0, -5, 2]])
    fitted = fit_similarity(spread, a_from_b.apply(spread))
    np.testing.assert_allclose(fitted.matrix, a_from_b.matrix, atol=1e-5)


def test_fit_never_mirrors():
    """Mirrored points get the best proper rotation."""
    points = np.random.default_rng(3).normal(size=(20, 3))
    assert np.linalg.det(fit_similarity(points, points * [1, 1, -1]).rotation) == pytest.approx(1)


def test_cloud_follows():
    """Points move, normals turn, sigmas scale."""
    cloud = PointCloud(
        np.array([[1.0, 2, 3]], np.float32),
        np.array([[0, 0.6, 0.8]], np.float32),
        np.array([[1, 2, 3]], np.uint8),
        np.array([0.1], np.float32),
        np.array([2], np.int32),
        np.array([False]),
    ).transformed(TURN)
    np.testing.assert_allclose(cloud.points[0], TURN.apply([1.0, 2, 3]), rtol=1e-6)
    np.testing.assert_allclose(cloud.normals[0], TURN.rotation @ [0, 0.6, 0.8], rtol=1e-5)
    assert cloud.sigma[0] == pytest.approx(0.25)


def test_mesh_follows():
    """Areas scale by the square, normals turn and keep their side."""
    mesh = Mesh.from_arrays(np.array([[0.0, 0, 0], [2, 0, 0.3], [0, 1, 0.1]]), np.array([[0, 1, 2]]))
    moved = mesh.transformed(TURN)
    assert moved.face_areas()[0] == pytest.approx(TURN.scale**2 * mesh.face_areas()[0], rel=1e-5)
    np.testing.assert_allclose(moved.face_normals()[0], TURN.rotation @ mesh.face_normals()[0], atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_refuses_impossible_scales(scale):
    """Zero, negative and non-finite scales are errors."""
    with pytest.raises(ValueError, match="scale must be positive"):
        Similarity(scale, np.eye(3), np.zeros(3))


def test_from_pose_is_the_same_rigid_map():
    """A pose as a similarity maps points alike."""
    pose = Pose(TURN.rotation, TURN.translation)
    np.testing.assert_allclose(Similarity.from_pose(pose).apply([1.0, 2, 3]), pose.apply([1.0, 2, 3]))
