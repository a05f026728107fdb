"""Cameras: pixels, rays, lenses."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.geometry import Camera

CAMERA = Camera(640, 480, 510.0, 495.0, 322.0, 236.5)
LENS = Camera(640, 480, 510.0, 495.0, 322.0, 236.5, (0.08, -0.03, 0.002, -0.001))


def test_rays_undo_projection():
    """The ray of a projected point goes through it."""
    points = np.array([[0.3, -0.2, 2.0], [-1.0, 0.7, 3.1]])
    np.testing.assert_allclose(CAMERA.rays(CAMERA.project(points)) * points[:, 2:], points, atol=1e-12)


def test_pixel_centres_are_at_a_half():
    """The first ray of the grid belongs to pixel (0.5, 0.5)."""
    np.testing.assert_allclose(CAMERA.rays()[0, 0], CAMERA.rays(np.array([0.5, 0.5])))
    assert CAMERA.rays().shape == (480, 640, 3)


def test_resizing_keeps_directions():
    """A pixel at half size sees what the double pixel saw."""
    half = CAMERA.resized(320, 240)
    np.testing.assert_allclose(half.rays(np.array([100.0, 60.0])), CAMERA.rays(np.array([200.0, 120.0])))


def test_distortion_is_opencvs():
    """Projection with a lens equals cv2.projectPoints, and undistorting a pixel gives the ray back."""
    points = np.array([[0.5, -0.4, 1.5], [-0.6, 0.3, 2.0]])
    expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), LENS.matrix, np.array(LENS.distortion))[0]
    np.testing.assert_allclose(LENS.project(points), expected.reshape(-1, 2), atol=1e-9)
    ray = LENS.undistorted_ray(LENS.project(points[0]))
    np.testing.assert_allclose(ray, points[0] / points[0, 2], atol=1e-4)


def test_rays_of_a_lens_are_refused():
    """Rays need a pinhole camera."""
    with pytest.raises(ValueError, match="undistort first"):
        LENS.rays()


def test_json_round_trip():
    """Nothing is lost in JSON."""
    assert Camera.from_json(LENS.to_json()) == LENS


@pytest.mark.parametrize(
    "values", [(0, 480, 1.0, 1.0, 0, 0), (640, 480, -5.0, 5, 320, 240), (640, 480, 500.0, 500, 5000, 240)]
)
def test_refuses_impossible_cameras(values):
    """Empty images, negative focal lengths and far-off principal points are errors."""
    with pytest.raises(ValueError, match="a camera"):
        Camera(*values)
