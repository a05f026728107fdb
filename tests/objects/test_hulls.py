"""Closed bodies as convex pieces."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial import ConvexHull

from pipeline.geometry import Mesh, Pose, matrix_from_rotvec
from pipeline.objects.close import close_body
from pipeline.objects.find import find_objects
from pipeline.objects.hulls import hulls_of
from pipeline.objects.shapes import box_mesh
from pipeline.objects.views import Views
from pipeline.scenes.objects import MAX_CORNERS, MAX_HULLS
from pipeline.types import F64

FRAME = Pose(matrix_from_rotvec([0, 0, 0.4]), np.array([1.0, -2.0, 0.5]))


def contains(hulls: tuple[F64, ...], points: F64) -> np.ndarray:
    """Which points (N, 3) are in one of them."""
    planes = [ConvexHull(hull).equations for hull in hulls]
    return np.any([(points @ one[:, :3].T + one[:, 3] < 1e-9).all(1) for one in planes], axis=0)


def test_a_box_is_its_corners():
    """Eight of them, in one piece."""
    (hull,) = hulls_of(box_mesh(FRAME, np.array([0.3, 0.4, 0.6])))
    local = FRAME.inverse().apply(hull)
    expected = {(x, y, z) for x in (-0.15, 0.15) for y in (-0.2, 0.2) for z in (0.0, 0.6)}
    assert {tuple(corner) for corner in np.round(local, 4)} == expected


def test_what_is_round_has_few_corners():
    """A ball's hull is inside of it, and nearly as large."""
    ball = trimesh.creation.icosphere(4, 0.1)
    (hull,) = hulls_of(Mesh.from_arrays(np.asarray(ball.vertices), np.asarray(ball.faces)))
    assert len(hull) <= MAX_CORNERS
    assert trimesh.convex.convex_hull(hull).volume > 0.85 * ball.volume


def test_a_table_is_its_top_and_legs(room_mesh: Mesh):
    """Between them is room; nothing of it is missing."""
    standing = next(one for one in find_objects(room_mesh, 0.0) if one.fixed)
    body = close_body(room_mesh, standing, Views(room_mesh, []))
    assert body
    hulls = hulls_of(body.mesh)
    assert 4 < len(hulls) <= MAX_HULLS
    assert max(map(len, hulls)) <= MAX_CORNERS
    middle = np.array([1.5, 0.9])
    under = np.array([[*middle, z] for z in (0.1, 0.3, 0.5)])
    legs = np.array([[*(middle + sign * np.array([0.47, 0.27])), z] for sign in (-1, 1) for z in (0.1, 0.3, 0.5)])
    assert not contains(hulls, under).any()
    assert contains(hulls, legs).all()
    volume = sum(trimesh.convex.convex_hull(hull).volume for hull in hulls)
    assert volume == pytest.approx(body.volume, rel=0.35)
