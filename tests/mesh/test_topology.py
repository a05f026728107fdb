"""Components and borders."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np

from pipeline.geometry import Mesh
from pipeline.mesh.topology import (
    border_report,
    canonical,
    neighbours_of_triangles,
    neighbours_of_vertices,
    sorted_triangles,
    triangle_components,
)
from tests.mesh.scenes import box, grid_floor, same


def test_separate_boxes_are_components():
    """Two boxes, two labels."""
    mesh = box((0, 0, 0), (1, 1, 1)).joined(box((2, 0, 0), (3, 1, 1)))
    labels = triangle_components(mesh.triangles)
    assert len(np.unique(labels[:12])) == len(np.unique(labels[12:])) == 1
    assert labels[0] != labels[12]


def test_a_turned_triangle_is_a_patch_of_its_own():
    """Only when winding matters."""
    mesh = grid_floor((0, 0), (0.4, 0.4))
    turned = mesh.triangles.copy()
    turned[7] = turned[7, ::-1]
    labels = triangle_components(turned, same_winding=True)
    assert (labels == labels[7]).sum() == 1
    assert len(np.unique(triangle_components(turned))) == 1


def test_neighbours_of_a_soup(rng):
    """Of triangles of which many share an edge: the next ones at each edge, and how many there are, by hand."""
    triangles = np.array([rng.choice(9, 3, replace=False) for _ in range(40)])
    at = defaultdict[tuple[int, int], list[tuple[int, bool]]](list)
    for f, corners in enumerate(triangles.tolist()):
        for a, b in zip(corners, [*corners[1:], corners[0]], strict=True):
            at[min(a, b), max(a, b)].append((f, a < b))
    alike, any_way = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    around = np.zeros((9, 9), int)
    for (a, b), found in at.items():
        around[a, b] = around[b, a] = len(found)
        for (e, up), (f, other) in pairwise(found):
            any_way[e, f] = any_way[f, e] = True
            alike[e, f] |= up != other
            alike[f, e] |= up != other
    assert np.array_equal(neighbours_of_triangles(triangles, same_winding=False).toarray() > 0, any_way)
    assert np.array_equal(neighbours_of_triangles(triangles).toarray() > 0, alike)
    assert np.array_equal(neighbours_of_vertices(triangles, 9).toarray(), around)
    assert neighbours_of_triangles(triangles).has_sorted_indices
    assert max(map(len, at.values())) > 2


def test_a_box_is_watertight_and_a_sheet_is_not():
    """Border of a 1 x 0.4 m sheet: 2.8 m."""
    assert border_report(box((0, 0, 0), (1, 1, 1)))["watertight"]
    sheet = border_report(canonical(grid_floor((0, 0), (1, 0.4))))
    assert not sheet["watertight"]
    assert abs(sheet["border_length"] - 2.8) < 1e-3
    assert sheet["edges_of_opposite_winding"] == 0


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
    assert sorted_triangles(triangles)[0].tolist() == [[0, 1, 2]]


def test_an_empty_mesh_stays_empty():
    """No triangles, no vertices."""
    mesh = canonical(Mesh.from_arrays(np.zeros((3, 3)), np.zeros((0, 3), int)))
    assert len(mesh.vertices) == 0 and len(mesh.triangles) == 0
