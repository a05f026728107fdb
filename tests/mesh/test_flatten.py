"""Flat planes and sharp seams."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from pipeline.geometry import Mesh
from pipeline.geometry.rays import RayCaster
from pipeline.mesh.flatten import flatten
from pipeline.mesh.stage import build_mesh
from pipeline.mesh.tsdf import fuse
from tests.mesh.scenes import PARAMS, SMALL, VOXEL, box, built, cloud, grid_floor, maps, room, same, track
from tests.synthetic import depth_maps, walk

FRONTS = [(0.6, 0.0), (0.3, 0.17)]  # (x of the riser, z of its foot) of the room's two steps of 17 cm
ALONG = np.arange(1.06, 1.75, 0.01)  # their width, less where a wall or a corner is near


def step_points() -> np.ndarray:
    """Points every centimetre over risers and treads, their edges included."""
    points = []
    for x, foot in FRONTS:
        for y in ALONG:
            points += [(x, y, z) for z in np.linspace(foot, foot + 0.17, 18)]
            points += [(u, y, foot + 0.17) for u in np.linspace(x - 0.25, x, 26)]
    return np.array(points)


def edge_points() -> np.ndarray:
    """Points on the two front edges."""
    return np.array([(x, y, foot + 0.17) for x, foot in FRONTS for y in ALONG])


@cache
def unflattened() -> Mesh:
    """The noisy room as it was fused."""
    return build_mesh(maps(), cloud(), track(), PARAMS.changed(flatten=False)).mesh


def test_noisy_steps_stay_within_15_mm_everywhere():
    """Risers, treads and edges of 17 cm steps from depth with 5 mm noise, in voxels of 3.5 cm; edges to 3 mm."""
    caster = RayCaster(built().mesh)
    assert caster.distances(step_points()).max() < 0.015
    assert np.percentile(caster.distances(edge_points()), 95) < 0.003


def test_without_it_the_edges_are_rounded():
    """The same mesh before: 5 mm and more off the edges."""
    assert np.percentile(RayCaster(unflattened()).distances(edge_points()), 95) > 0.008


def test_exact_steps_stay_exact():
    """From exact depth: all of it within 5 mm, half within 1 mm."""
    exact = [m for m in depth_maps(room(), walk(24), SMALL) if not m.held_out]
    flat, _ = flatten(fuse(exact, VOXEL, PARAMS.truncation_voxels, PARAMS.min_views), VOXEL)
    errors = RayCaster(flat).distances(step_points())
    assert errors.max() < 0.005
    assert np.median(errors) < 0.001


def test_the_floor_gets_flat():
    """95 % within 1.5 mm of z = 0, three times nearer than before."""
    spots = np.random.default_rng(0).uniform((1.0, 0.2), (3.0, 1.7), (4000, 2))
    above = np.column_stack([spots, np.full(len(spots), 0.1)])
    before, after = (
        np.percentile(np.abs(0.1 - RayCaster(mesh).cast(above, np.array([0, 0, -1.0])).distance), 95)
        for mesh in (unflattened(), built().mesh)
    )
    assert after < 0.0015
    assert after < before / 3


def bumpy(mesh: Mesh, amount: float) -> Mesh:
    """The mesh with Gaussian noise on its vertices."""
    noise = np.random.default_rng(1).normal(0, amount, mesh.vertices.shape)
    return replace(mesh, vertices=(mesh.vertices + noise).astype(np.float32))


@pytest.mark.parametrize("height", [0.01, 0.02, 0.05])
def test_small_things_on_the_floor_stay(height):
    """A plate of 20 x 30 cm, 1 to 5 cm thick, keeps its height while the floor round it gets flat."""
    sheet = grid_floor((0, 0), (2, 2), step=0.02)
    x, y, _ = sheet.vertices.T
    on_plate = (np.abs(x - 1) < 0.1) & (np.abs(y - 1) < 0.15)
    raised = sheet.vertices + np.where(on_plate, height, 0)[:, None] * np.array([0, 0, 1], np.float32)
    flat, report = flatten(bumpy(replace(sheet, vertices=raised.astype(np.float32)), 0.001), 0.02)
    assert report.planes >= 1
    inner = (np.abs(x - 1) < 0.06) & (np.abs(y - 1) < 0.11)
    assert np.abs(flat.vertices[inner, 2] - height).max() < 0.004
    far = (np.abs(x - 1) > 0.2) | (np.abs(y - 1) > 0.25)
    assert np.percentile(np.abs(flat.vertices[far, 2]), 99.5) < 0.0005


def test_a_thing_in_a_corner_stays():
    """A block of 6 x 6 x 12 cm in the seam of floor and wall is not swallowed by the seam."""
    plain = swept(sampled([(0.0, 1.0), (0.0, 0.0), (1.0, 0.0)]), 1.5)
    block = swept(sampled([(0.0, 1.0), (0.0, 0.06), (0.06, 0.06), (0.06, 0.0), (1.0, 0.0)]), 1.5)
    inside = np.abs(plain.vertices[:, 1] - 0.75) < 0.061  # both profiles are 2 m long: equal numbers of vertices
    vertices = np.where(inside[:, None], block.vertices, plain.vertices)
    flat, _ = flatten(bumpy(replace(plain, vertices=vertices), 0.001), 0.02)
    top = np.array([(0.03, y, 0.06) for y in np.arange(0.72, 0.79, 0.01)])
    assert RayCaster(flat).distances(top).max() < 0.006


def sampled(corners: list[tuple[float, float]]) -> np.ndarray:
    """Points (N, 2) every 2 cm along a path."""
    pieces = [
        np.linspace(a, b, round(np.hypot(*np.subtract(b, a)) / 0.02), endpoint=False) for a, b in pairwise(corners)
    ]
    return np.concatenate(pieces)


def test_a_round_column_stays_round():
    """15 cm of radius: points move by less than 2 mm."""
    angle = np.linspace(0, 2 * np.pi, 60)
    path = 0.15 * np.stack([np.cos(angle), np.sin(angle)], 1)
    column = swept(path, 1.5)
    flat, _ = flatten(column, 0.02)
    assert np.linalg.norm(flat.vertices - column.vertices, axis=1).max() < 0.002


def swept(path: np.ndarray, length: float) -> Mesh:
    """A sheet over a path (N, 2) in x and z, drawn along y in steps of 2 cm; it faces the path's left."""
    y = np.arange(0, length + 1e-6, 0.02)
    vertices = np.array([(x, v, z) for x, z in path for v in y])
    number = np.arange(len(vertices)).reshape(len(path), len(y))
    a, b, c, d = (n.ravel() for n in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    return Mesh.from_arrays(vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]))


def test_narrow_planes_take_their_direction_from_wide_ones():
    """A strip of 10 cm beside a wide floor, tilted by half a voxel over its width, ends up level."""
    path = np.concatenate(
        [
            np.linspace((-2.0, 0.0), (0.0, 0.0), 100, endpoint=False),
            np.linspace((0, 0), (0, 0.3), 15, endpoint=False),
            np.linspace((0.0, 0.3), (0.16, 0.31), 9),
        ]
    )
    flat, _ = flatten(swept(path, 1.5), 0.02)
    strip = flat.vertices[flat.vertices[:, 2] > 0.295]
    assert np.ptp(strip[:, 2]) < 0.002


def test_a_ramp_stays_a_ramp():
    """8 degrees over 40 cm between two floors: heights within 6 mm, the slope in its middle within half a degree."""
    ramp = bumpy(swept(sampled([(-1.4, 0.056), (-0.4, 0.056), (0.0, 0.0), (1.0, 0.0)]), 1.5), 0.001)
    flat, _ = flatten(ramp, 0.02)
    exact = np.interp(flat.vertices[:, 0], [-0.4, 0.0], [0.056, 0.0])
    assert np.abs(flat.vertices[:, 2] - exact).max() < 0.006
    middle = np.abs(flat.vertices[:, 0] + 0.2) < 0.12
    slope = np.polyfit(flat.vertices[middle, 0], flat.vertices[middle, 2], 1)[0]
    assert np.rad2deg(np.arctan(slope)) == pytest.approx(-8, abs=0.5)


def test_a_mesh_without_planes_is_left_alone():
    """A ball of crumbs."""
    crumbs = box((0, 0, 0), (0.02, 0.02, 0.02)).joined(box((0.1, 0, 0), (0.12, 0.02, 0.02)))
    flat, report = flatten(crumbs, 0.02)
    assert flat is crumbs
    assert report.planes == 0


def test_it_repeats():
    """Equal bytes."""
    assert same(flatten(unflattened(), VOXEL)[0], flatten(unflattened(), VOXEL)[0])


def test_nothing_turns_over():
    """The cameras of the noisy room see front faces, whether flattened or not."""
    mesh = built().mesh
    caster, normals, front = RayCaster(mesh), mesh.face_normals(), list[bool]()
    for m in maps()[::3]:
        directions = m.world_from_camera.rotate(m.camera.rays()[::4, ::4].reshape(-1, 3))
        hits = caster.cast(np.broadcast_to(m.world_from_camera.translation, directions.shape), directions)
        front += (np.einsum("nc,nc->n", normals[hits.triangle[hits.hit]], directions[hits.hit]) < 0).tolist()
    assert np.mean(front) > 0.9995
