"""Cleaning meshes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.mesh.clean import clean, facing_cameras, in_free_space, small_islands
from pipeline.mesh.visibility import observe
from tests.mesh.scenes import PARAMS, box, built, grid_floor, maps, same

BLOB = box((1.9, 1.2, 0.5), (2.15, 1.5, 0.7))  # 0.37 m^2 in the middle of the room


def evidence_of(mesh):
    return observe(mesh.corners().mean(1), mesh.face_normals(), maps(), PARAMS.carve_margin)


def test_a_floating_blob_is_carved_and_nothing_else():
    """The cameras look through a box planted in the air."""
    mesh = built().mesh
    evidence = evidence_of(mesh.joined(BLOB))
    carved = in_free_space(evidence)
    assert carved[len(mesh.triangles) :].all()
    assert carved[: len(mesh.triangles)].mean() < 0.001


def test_small_islands_go_and_large_ones_stay():
    """By area."""
    mesh = grid_floor((0, 0), (1, 1)).joined(box((0.2, 0.2, 0.4), (0.25, 0.25, 0.45)))
    small, count = small_islands(mesh, 0.02)
    assert count == 1
    assert small.sum() == 12 and small[-12:].all()


def test_a_mesh_inside_out_is_turned_back():
    """All of it, so that the cleaned meshes are equal."""
    mesh = grid_floor((1, 0.6), (3, 1.6))
    flipped = replace(mesh, triangles=np.ascontiguousarray(mesh.triangles[:, ::-1]))
    upright, report = clean(flipped, evidence_of(flipped), 0.02)
    assert (upright.face_normals()[:, 2] > 0.99).all()
    assert report.flipped_triangles == len(mesh.triangles)
    assert same(upright, clean(mesh, evidence_of(mesh), 0.02)[0])


def test_single_wrong_triangles_are_turned(rng):
    """Every twentieth triangle of a floor."""
    mesh = grid_floor((1, 0.6), (3, 1.6))
    wrong = rng.random(len(mesh.triangles)) < 0.05
    mixed = replace(mesh, triangles=np.where(wrong[:, None], mesh.triangles[:, ::-1], mesh.triangles))
    evidence = evidence_of(mixed)
    turned, count = facing_cameras(mixed, evidence.facing)
    seen = evidence.seen > 0
    assert seen.mean() > 0.95
    assert (turned.face_normals()[seen, 2] > 0.99).all()
    assert (wrong & seen).sum() <= count <= wrong.sum()


def test_evidence_counts_supporters():
    """A point of the floor in the middle is seen by several maps and seen through by none."""
    evidence = observe(np.array([[2.0, 1.0, 0.0]]), np.array([[0, 0, 1.0]]), maps(), 0.08)
    assert evidence.seen[0] >= 5
    assert evidence.seen_through[0] == 0
    assert evidence.facing[0] == evidence.seen[0]


def test_guessed_depth_is_no_evidence():
    """The same maps, all guessed, say nothing."""
    guessed = [replace(m, guessed=np.ones(m.depth.shape, bool)) for m in maps()]
    evidence = observe(np.array([[2.0, 1.0, 0.0]]), np.array([[0, 0, 1.0]]), guessed, 0.08)
    assert (evidence.seen[0], evidence.seen_through[0]) == (0, 0)
