"""Ray casting and surface samples."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Mesh
from pipeline.geometry.rays import RayCaster, sample_surface
from tests.mesh.scenes import box, grid_floor


def test_first_hit_has_distance_and_triangle():
    """Down on a box of height 0.7, and past it."""
    mesh = box((1, 2, 0), (2, 4, 0.7))
    hits = RayCaster(mesh).cast(np.array([[1.3, 3.1, 2.0], [0.5, 3.1, 2.0]]), np.array([0, 0, -1.0]))
    assert hits.distance[0] == pytest.approx(1.3)
    assert mesh.face_normals()[hits.triangle[0]].tolist() == [0, 0, 1]
    assert hits.hit.tolist() == [True, False]


def test_all_hits_come_in_order():
    """Top and bottom of the box for each of two rays."""
    caster = RayCaster(box((1, 2, 0.2), (2, 4, 0.7)))
    ray, distance, _ = caster.all_hits(np.array([[1.3, 3.1, 2.0], [1.7, 2.2, 1.0]]), np.array([0, 0, -1.0]))
    assert ray.tolist() == [0, 0, 1, 1]
    assert distance == pytest.approx([1.3, 1.8, 0.3, 0.8])


def test_distances_are_to_the_surface():
    """Beside and above a box."""
    distance = RayCaster(box((0, 0, 0), (1, 1, 1))).distances(np.array([[1.5, 0.5, 0.5], [0.5, 0.5, 1.25]]))
    assert distance == pytest.approx([0.5, 0.25])


def test_an_empty_mesh_is_never_hit():
    """Neither by rays nor by distances."""
    caster = RayCaster(Mesh.from_arrays(np.zeros((0, 3)), np.zeros((0, 3), int)))
    assert not caster.cast(np.zeros((2, 3)), np.array([0, 0, 1.0])).hit.any()
    assert np.isinf(caster.distances(np.zeros((2, 3)))).all()


def test_samples_are_spread_by_area(rng):
    """A sheet four times as large gets four times as many, all on the surface."""
    mesh = grid_floor((0, 0), (1, 1)).joined(grid_floor((2, 0), (4, 2), z=0.5))
    points, triangle = sample_surface(mesh, 10_000, rng)
    assert (points[:, 0] > 1.5).mean() == pytest.approx(0.8, abs=0.01)
    assert RayCaster(mesh).distances(points).max() < 1e-5
    assert ((triangle >= 0) & (triangle < len(mesh.triangles))).all()
