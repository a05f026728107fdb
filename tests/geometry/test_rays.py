"""Ray casting and surface samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import KDTree

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


def many_triangles(rng) -> Mesh:
    """Two thousand of all sizes, large and flat ones among them, and ten of no area."""
    corners = rng.uniform(-1, 1, (2000, 1, 3)) + rng.normal(size=(2000, 3, 3)) * rng.choice(
        [0.01, 0.1, 2], (2000, 1, 1)
    )
    corners[:200, :, 2] = 0.25
    corners[-10:, 2] = corners[-10:, 1]
    return Mesh.from_arrays(corners.reshape(-1, 3), np.arange(6000).reshape(-1, 3))


def met_by(mesh: Mesh, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances, sorted, and triangles that a ray meets, each triangle tried (Moller and Trumbore)."""
    a, b, c = np.moveaxis(mesh.corners().astype(np.float64), 1, 0)
    cross = np.cross(direction, c - a)
    scale = np.einsum("nk,nk->n", b - a, cross)
    with np.errstate(all="ignore"):
        u = np.einsum("nk,nk->n", origin - a, cross) / scale
        other = np.cross(origin - a, b - a)
        v, t = other @ direction / scale, np.einsum("nk,nk->n", c - a, other) / scale
        met = np.flatnonzero((u >= 0) & (v >= 0) & (u + v <= 1) & (t >= 0))
    return np.sort(t[met]), met[np.argsort(t[met])]


def test_rays_meet_what_they_meet_without_a_tree(rng):
    """First and all hits of two hundred rays, forty of them along an axis."""
    mesh = many_triangles(rng)
    origins, directions = rng.uniform(-2, 2, (200, 3)).astype(np.float32), rng.normal(size=(200, 3)).astype(np.float32)
    directions[:40] = np.eye(3)[rng.integers(0, 3, 40)] * rng.choice([-1, 1], (40, 1))
    caster = RayCaster(mesh)
    hits, (ray, distance, triangle) = caster.cast(origins, directions), caster.all_hits(origins, directions)
    for index in range(200):
        distances, met = met_by(mesh, origins[index].astype(np.float64), directions[index].astype(np.float64))
        assert set(triangle[ray == index]) == set(met)
        assert distance[ray == index] == pytest.approx(distances, abs=1e-5)
        assert hits.triangle[index] in (met[distances < distances[0] + 1e-5] if len(met) else [-1])
        assert hits.distance[index] == pytest.approx(distances[0] if len(met) else np.inf, abs=1e-5)


def test_distances_are_those_without_a_tree(rng):
    """No point of a fine sample of any triangle is nearer, and one is nearly as near."""
    mesh, points = many_triangles(rng), rng.uniform(-3, 3, (100, 3))
    weights = np.array([(i, j, 24 - i - j) for i in range(25) for j in range(25 - i)]) / 24
    samples = np.einsum("wk,nkc->nwc", weights, mesh.corners()).reshape(-1, 3)
    spacing = 0.5  # [m] of the samples of the largest triangles
    nearest = KDTree(samples).query(points)[0]
    distance = RayCaster(mesh).distances(points)
    assert (distance <= nearest + 1e-5).all() and (np.hypot(distance, spacing) > nearest).all()


def test_a_surface_has_no_gap_between_its_triangles(rng):
    """Rays down through vertices and middles of edges of a bumpy sheet hit it."""
    sheet = grid_floor((0, 0), (1, 1))
    bumps = rng.normal(0, 0.02, len(sheet.vertices)).astype(np.float32)
    sheet = replace(sheet, vertices=sheet.vertices + bumps[:, None] * np.float32([0, 0, 1]))
    corners = sheet.corners()
    targets = np.concatenate([corners, (corners + np.roll(corners, 1, axis=1)) / 2]).reshape(-1, 3)
    targets = targets[((targets[:, :2] > 0.01) & (targets[:, :2] < 0.99)).all(1)]
    assert RayCaster(sheet).cast(targets + np.array([0, 0, 1]), np.array([0, 0, -1.0])).hit.all()


def test_triangles_at_one_place_still_make_a_tree():
    """Many equal triangles can't be split by place."""
    mesh = Mesh.from_arrays(np.eye(3), np.tile([0, 1, 2], (5000, 1)))
    ray, _, triangle = RayCaster(mesh).all_hits(np.zeros((1, 3)), np.ones(3))
    assert len(ray) == 5000 and set(triangle) == set(range(5000))


def test_samples_are_spread_by_area(rng):
    """A sheet four times as large gets four times as many, all on the surface."""
    mesh = grid_floor((0, 0), (1, 1)).joined(grid_floor((2, 0), (4, 2), z=0.5))
    points, triangle = sample_surface(mesh, 10_000, rng)
    assert (points[:, 0] > 1.5).mean() == pytest.approx(0.8, abs=0.01)
    assert RayCaster(mesh).distances(points).max() < 1e-5
    assert ((triangle >= 0) & (triangle < len(mesh.triangles))).all()
