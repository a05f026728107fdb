"""Canonical order of meshes."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import Mesh
from pipeline.mesh.canonical import canonical, sorted_triangles
from tests.mesh.scenes import box, grid_floor, same


def test_order_of_vertices_and_triangles_does_not_matter(rng):
    """A shuffled mesh with its triangles turned round comes out equal."""
    mesh = grid_floor((0, 0), (1, 0.6)).joined(box((0.2, 0.1, 0.3), (0.4, 0.5, 0.9)))
    order = rng.permutation(len(mesh.vertices))
    place = np.argsort(order)
    triangles = np.roll(place[mesh.triangles], 1, axis=1)[rng.permutation(len(mesh.triangles))]
    shuffled = Mesh(mesh.vertices[order], triangles.astype(np.int32), mesh.colors[order], mesh.guessed[order])
    assert same(canonical(mesh), canonical(shuffled))


def test_orientation_stays():
    """Normals still point out of a box."""
    mesh = canonical(box((0, 0, 0), (1, 2, 3)))
    outward = mesh.corners().mean(1) - [0.5, 1, 1.5]
    assert (np.einsum("ij,ij->i", mesh.face_normals(), outward) > 0).all()


def test_equal_vertices_are_merged():
    """Two sheets that share an edge become one."""
    mesh = canonical(grid_floor((0, 0), (0.4, 0.4)).joined(grid_floor((0.4, 0), (0.8, 0.4))))
    assert len(mesh.vertices) == 11 * 21


def test_degenerate_and_repeated_triangles_go():
    """Of (2,0,1), (0,1,2), (1,0,2) and (3,3,1) one is left."""
    triangles = np.array([[2, 0, 1], [0, 1, 2], [1, 0, 2], [3, 3, 1]])
    assert sorted_triangles(triangles).tolist() == [[0, 1, 2]]


def test_an_empty_mesh_stays_empty():
    """No triangles, no vertices."""
    mesh = canonical(Mesh.from_arrays(np.zeros((3, 3)), np.zeros((0, 3), int)))
    assert len(mesh.vertices) == 0 and len(mesh.triangles) == 0
