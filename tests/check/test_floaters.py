"""Floaters along the camera's path."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.check.floaters import measure_floaters
from pipeline.geometry import Gaussians
from pipeline.mesh.path import camera_path
from tests.mesh.scenes import box, built, track


def gaussians(means, opacity):
    count = len(means)
    return Gaussians(
        np.array(means, np.float32),
        np.full((count, 3), -4, np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.log(np.array(opacity) / (1 - np.array(opacity))).astype(np.float32),
        np.zeros((count, 1, 3), np.float32),
    )


def test_the_rebuilt_room_has_none():
    """The camera walked through free space."""
    found = measure_floaters(built().mesh, None, track())
    assert (found.triangles, found.area, found.gaussians) == (0, 0.0, 0)
    assert found.path_length > 4


def test_a_planted_blob_is_seen():
    """A box of 10 cm right on the path, between two cameras; beside it nothing changes."""
    middle = (track()[3] + track()[4]) / 2
    blob = box(tuple(middle - 0.05), tuple(middle + 0.05))
    found = measure_floaters(built().mesh.joined(blob), None, track())
    assert found.triangles == 12
    assert found.area == pytest.approx(0.06, rel=0.05)


def test_a_large_triangle_that_crosses_is_seen():
    """None of its corners is near the path."""
    wall = box((0.5, -5, -5), (0.51, 5, 5))
    path = np.array([[0.0, 0, 0], [0.4, 0, 0], [0.9, 0, 0]])
    found = measure_floaters(wall, None, path)
    assert found.triangles >= 2
    assert found.area == pytest.approx(2 * np.pi * 0.15**2, rel=0.2)


def test_opaque_gaussians_count_and_faint_ones_only_add_up():
    """Two inside the tube, one of them opaque; one outside."""
    path = np.array([[0.0, 0, 1], [0.5, 0, 1]])
    splat = gaussians([[0.2, 0.1, 1], [0.3, 0, 1.1], [0.2, 0.3, 1]], [0.9, 0.2, 0.9])
    found = measure_floaters(None, splat, path)
    assert found.gaussians == 1
    assert found.opacity == pytest.approx(1.1, abs=1e-3)


def test_far_apart_cameras_are_not_joined():
    """Nothing is known of the way between unordered photos."""
    path, length = camera_path(np.array([[0.0, 0, 0], [3.0, 0, 0], [3.3, 0, 0]]))
    assert length == pytest.approx(0.3)
    assert not ((path[:, 0] > 0.1) & (path[:, 0] < 2.9)).any()
