"""Cleaning meshes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.mesh.clean import clean, facing_cameras, in_free_space, observe, small_islands
from tests.mesh.scenes import PARAMS, VOXEL, box, built, grid_floor, maps, same, track

BLOB = box((1.9, 1.2, 0.5), (2.15, 1.5, 0.7))  # 0.37 m^2 in the middle of the room


def evidence_of(mesh):
    return observe(mesh.corners().mean(1), mesh.face_normals(), maps(), PARAMS.carve_margin)


def test_a_floating_blob_is_carved_and_nothing_else():
    """The cameras look through a box planted in the air."""
    mesh = built().mesh
    votes = evidence_of(mesh.joined(BLOB))
    carved = in_free_space(votes)
    assert carved[len(mesh.triangles) :].all()
    assert carved[: len(mesh.triangles)].mean() < 0.001


def test_islands_go_by_their_volume_and_not_their_area():
    """A flake of 4 x 60 cm goes though it has more surface than a block of 9 cm, which stays."""
    flake, block = grid_floor((0, 0), (0.04, 0.6), z=1.0), box((0.2, 0.2, 0.4), (0.29, 0.29, 0.49))
    assert flake.face_areas().sum() < block.face_areas().sum()
    mesh = grid_floor((0, 0), (1, 1)).joined(flake).joined(block)
    small, count = small_islands(mesh, 0.0006, 0.02)
    assert count == 1
    assert mesh.corners()[small].min() == 0 and (mesh.corners()[small][..., 2] == 1).all()


def test_a_slanted_flake_is_measured_along_itself():
    """Turned by 45 degrees its box along the axes would be large."""
    flake = grid_floor((0, 0), (0.09, 0.3), step=0.03)
    turn = np.array([[1, 0, 0], [0, 0.7071, -0.7071], [0, 0.7071, 0.7071]])
    slanted = replace(flake, vertices=(flake.vertices @ turn.T).astype(np.float32))
    assert small_islands(slanted, 0.0006, 0.02)[1] == 1


def test_nothing_stays_where_a_camera_was():
    """A block on the track goes even when no map sees through it; off the track it stays."""
    block = box((1.0, 1.0, 1.0), (1.2, 1.2, 1.2))
    nothing = observe(block.corners().mean(1), block.face_normals(), [], 0.08)
    for place, left in (((1.1, 1.1, 1.1), 0), ((1.1, 1.1, 2.1), len(block.triangles))):
        assert len(clean(block, nothing, np.array([place]), 0.05, 0.0)[0].triangles) == left


def test_a_mesh_inside_out_is_turned_back():
    """All of it, so that the cleaned meshes are equal."""
    mesh = grid_floor((1, 0.6), (3, 1.6))
    flipped = replace(mesh, triangles=np.ascontiguousarray(mesh.triangles[:, ::-1]))
    upright, report = clean(flipped, evidence_of(flipped), track(), VOXEL, 0.0005)
    assert (upright.face_normals()[:, 2] > 0.99).all()
    assert report.flipped_triangles == len(mesh.triangles)
    assert same(upright, clean(mesh, evidence_of(mesh), track(), VOXEL, 0.0005)[0])


def test_single_wrong_triangles_are_turned(rng):
    """Every twentieth triangle of a floor."""
    mesh = grid_floor((1, 0.6), (3, 1.6))
    wrong = rng.random(len(mesh.triangles)) < 0.05
    mixed = replace(mesh, triangles=np.where(wrong[:, None], mesh.triangles[:, ::-1], mesh.triangles))
    votes = evidence_of(mixed)
    turned, count = facing_cameras(mixed, votes.facing)
    seen = votes.seen > 0
    assert seen.mean() > 0.95
    assert (turned.face_normals()[seen, 2] > 0.99).all()
    assert (wrong & seen).sum() <= count <= wrong.sum()


def test_evidence_counts_supporters():
    """A point of the floor in the middle is seen by several maps and seen through by none."""
    votes = observe(np.array([[2.0, 1.0, 0.0]]), np.array([[0, 0, 1.0]]), maps(), 0.08)
    assert votes.seen[0] >= 5
    assert votes.seen_through[0] == 0
    assert votes.facing[0] == votes.seen[0]


def test_guessed_depth_is_no_evidence():
    """The same maps, all guessed, say nothing."""
    guessed = [replace(m, guessed=np.ones(m.depth.shape, bool)) for m in maps()]
    votes = observe(np.array([[2.0, 1.0, 0.0]]), np.array([[0, 0, 1.0]]), guessed, 0.08)
    assert (votes.seen[0], votes.seen_through[0]) == (0, 0)
