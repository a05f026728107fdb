"""Closing the floor."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.mesh.floor import close_floor
from pipeline.mesh.rays import RayCaster
from tests.mesh.scenes import box, built, grid_floor, same, track, without

FLOOR = grid_floor((0, 0), (3, 2.4))
TRACK = np.array([[x, 1.2, 1.4] for x in np.linspace(0.4, 2.6, 12)])


def closed(mesh, gap=0.5, path=TRACK):
    return close_floor(mesh, path, gap, np.random.default_rng(0))


def holes_at(mesh, points):
    start = np.concatenate([points, np.full((len(points), 1), 0.05)], 1)
    hits = RayCaster(mesh).cast(start, np.array([0, 0, -1.0]))
    return ~(hits.hit & (hits.distance < 0.1))


def test_a_hole_is_closed_and_marked():
    """At floor height, facing up, with its neighbours' colour, guessed; measured vertices stay as they were."""
    mesh, report = closed(without(FLOOR, (1.5, 1.0), 0.35))
    probes = np.stack(np.meshgrid(np.arange(1.1, 1.9, 0.007), np.arange(0.6, 1.4, 0.007)), -1).reshape(-1, 2)
    assert not holes_at(mesh, probes).any()
    added = mesh.guessed[mesh.triangles].all(1)
    assert (mesh.face_normals()[added, 2] > 0.99).all()
    assert np.abs(mesh.vertices[mesh.guessed, 2]).max() < 0.005
    assert np.hypot(*(mesh.vertices[mesh.guessed, :2] - [1.5, 1.0]).T).max() < 0.5
    assert report.closed_area == pytest.approx(np.pi * 0.35**2, rel=0.2)
    assert report.holes == 1


def test_a_whole_floor_stays_as_it_is():
    """Nothing to close, same mesh."""
    mesh, report = closed(FLOOR)
    assert same(mesh, FLOOR)
    assert report.closed_area == 0


def test_a_thin_crack_is_closed():
    """1.5 cm wide, between the probes' nodes."""
    crack = grid_floor((0, 0), (1.5, 2.4)).joined(grid_floor((1.515, 0), (3, 2.4)))
    mesh, _ = closed(crack)
    assert not holes_at(mesh, np.stack([np.full(200, 1.508), np.linspace(0.2, 2.2, 200)], 1)).any()


def test_an_uneven_floor_is_continued():
    """A floor that rises by 2 cm over 3 m: the patch meets it within 3 mm."""
    vertices = FLOOR.vertices.copy()
    vertices[:, 2] = 0.02 * (vertices[:, 0] / 3) ** 2
    bent = type(FLOOR)(vertices, FLOOR.triangles, FLOOR.colors, FLOOR.guessed)
    mesh, _ = closed(without(bent, (2.2, 1.0), 0.3))
    added = mesh.vertices[mesh.guessed]
    assert np.abs(added[:, 2] - 0.02 * (added[:, 0] / 3) ** 2).max() < 0.004


def test_nothing_grows_up_or_out():
    """A box stands in the hole: the patch stays at the floor; outside of floor and track nothing is added."""
    mesh, _ = closed(without(FLOOR, (1.5, 1.0), 0.35).joined(box((1.3, 0.8, 0.0), (1.7, 1.2, 0.6))))
    added = mesh.vertices[mesh.guessed]
    assert added[:, 2].max() < 0.005
    assert (added[:, :2] > -0.05).all() and (added[:, :2] < [3.05, 2.45]).all()


def test_floor_under_the_walker_is_guessed():
    """The track goes on where no floor was seen: the ground under it is there, no farther than a stride beside it."""
    path = np.array([[x, 1.2, 1.4] for x in np.linspace(0.4, 4.4, 20)])
    mesh, _ = closed(FLOOR, path=path)
    assert not holes_at(mesh, np.array([[3.5, 1.2], [4.3, 1.2]])).any()
    assert mesh.vertices[:, 0].max() < 4.9


def test_stairs_down_stay_open():
    """A lower landing that was seen is a place, not a hole."""
    mesh = without(FLOOR, (1.5, 1.0), 0.5).joined(grid_floor((0.9, 0.4), (2.1, 1.6), z=-0.5))
    assert holes_at(closed(mesh)[0], np.array([[1.5, 1.0]])).all()


def test_no_floor_is_left_alone():
    """A table top alone at z = 0.7."""
    table = grid_floor((0, 0), (1, 1), z=0.7)
    mesh, report = closed(table)
    assert same(mesh, table)
    assert report.measured_area == 0


def test_the_room_gets_a_floor_behind_its_crate():
    """Between crate and wall nobody looked; the closed area is guessed and below everything."""
    mesh = built().mesh
    assert not holes_at(mesh, np.array([[3.85, 0.6], [2.0, 1.4]])).any()
    assert 0 < mesh.face_areas()[mesh.guessed[mesh.triangles].all(1)].sum() < 3
    assert len(track())
