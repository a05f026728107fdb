"""Balls drawn into pictures."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from sim.cameras.objects import Balls, draw_balls

CAMERA = Camera(60, 40, 50.0, 48.0, 31.0, 18.5)
INTRINSICS = np.array([50.0, 48.0, 31.0, 18.5], np.float32)
POSE = Pose(matrix_from_rotvec([0.3, -2.0, 0.4]), np.array([1.0, -2.0, 0.5]))
CENTER, RADIUS = np.array([0.12, -0.2, 2.0]), 0.4  # in camera axes


def drawn(behind: float, radius: float = RADIUS, center: np.ndarray = CENTER) -> tuple[np.ndarray, np.ndarray]:
    """Picture and depth of a red ball before a wall (0 = nothing) of that depth."""
    rgb, depth = np.zeros((1, 40, 60, 3), np.float32), np.full((1, 40, 60), behind, np.float32)
    ball = Balls(POSE.apply(center)[None], np.array([radius]), np.array([[1.0, 0.2, 0.1]]))
    draw_balls(rgb, depth, ball, POSE.matrix[None], INTRINSICS)
    return rgb[0], depth[0]


def test_depth_is_that_of_the_sphere():
    """Every pixel's point lies on it, and all rays that meet it are drawn."""
    rgb, depth = drawn(0.0)
    shown = depth > 0
    points = CAMERA.rays()[shown] * depth[shown, None]
    np.testing.assert_allclose(np.linalg.norm(points - CENTER, axis=1), RADIUS, atol=1e-4)
    rays = CAMERA.rays() / np.linalg.norm(CAMERA.rays(), axis=-1, keepdims=True)
    off_axis = np.linalg.norm(np.cross(rays, CENTER), axis=-1)
    np.testing.assert_array_equal(shown, off_axis < RADIUS)
    assert (rgb[~shown] == 0).all()
    np.testing.assert_allclose(rgb[shown][:, 1] / rgb[shown][:, 0], 0.2, rtol=1e-5)


def test_light_comes_from_above_in_the_world():
    """The highest point is the brightest."""
    rgb, depth = drawn(0.0)
    shown = depth > 0
    height = POSE.apply(CAMERA.rays()[shown] * depth[shown, None])[:, 2]
    brightness = rgb[shown][:, 0]
    assert np.corrcoef(np.maximum(height, POSE.apply(CENTER)[2]), brightness)[0, 1] > 0.999
    assert brightness.min() > 0.5


def test_what_is_nearer_hides_it():
    """A wall before it, and one that it sticks out of."""
    assert (drawn(1.5)[1] == 1.5).all()
    rgb, depth = drawn(1.75)
    assert 0 < (rgb[..., 0] > 0).sum() < (drawn(0.0)[1] > 0).sum()
    assert (depth <= 1.75).all()


def test_none_and_behind():
    """No radius, behind the camera; around the camera nothing of its front side shows."""
    for arguments in ({"radius": 0.0}, {"center": -CENTER}, {"center": np.zeros(3)}):
        assert not drawn(0.0, **arguments)[1].any()
