"""Normals from depth."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import Camera
from sim.cameras.normals import normals_of

LENS = Camera(40, 30, 35.0, 37.0, 18.5, 16.0)


def plane(normal: np.ndarray, distance: float) -> np.ndarray:
    """Depth (H, W) of the plane of points with normal . point = -distance."""
    return (-distance / (LENS.rays() @ normal)).astype(np.float32)


def test_normal_of_a_slanted_plane_looks_at_the_camera():
    """Everywhere but at the border."""
    normal = np.array([0.3, -0.5, -0.8])
    normal /= np.linalg.norm(normal)
    found = normals_of(plane(normal, 1.7)[None], LENS)[0]
    np.testing.assert_allclose(found[2:-2, 2:-2].reshape(-1, 3) @ normal, 1, atol=1e-4)
    assert not found[:2].any()
    assert not found[:, -2:].any()


def test_edges_and_the_unknown_have_none():
    """A step in depth, and a pixel without."""
    depth = plane(np.array([0, 0, -1.0]), 1.0)
    depth[:, 20:] = 2.0
    depth[10, 5] = 0
    known = np.linalg.norm(normals_of(depth[None], LENS)[0], axis=-1) > 0
    assert not known[:, 18:22].any()
    assert not known[8:13, 3:8].any()
    assert known[7, 5]
    assert known[10, 8]
    assert known[15, [17, 22]].all()


def test_a_floor_seen_at_a_flat_angle_has_no_edges():
    """Though its depth doubles from row to row near the horizon."""
    floor = plane(np.array([0.0, -1.0, 0.0]), 0.3)[None]
    floor[floor < 0] = 0
    assert (floor[0, 17, 5], floor[0, 18, 5]) == (np.float32(0.3 * 37 / 1.5), np.float32(0.3 * 37 / 2.5))
    found = normals_of(floor, LENS)[0, 20:-2, 2:-2]
    np.testing.assert_allclose(found, np.tile([0, -1, 0], (*found.shape[:2], 1)), atol=1e-3)
