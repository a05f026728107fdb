"""Decimation and its error."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry.rays import RayCaster
from pipeline.mesh.decimate import decimate, surface_error
from tests.mesh.scenes import built, grid_floor, same
from tests.mesh.test_flatten import edge_points


def test_the_number_of_triangles_is_kept():
    """Never more than asked for, and not pointlessly fewer."""
    mesh = built().mesh
    for wanted in (4000, 9000):
        assert 0.95 * wanted < len(decimate(mesh, wanted).triangles) <= wanted


def test_small_meshes_are_left_alone():
    """Nothing to remove."""
    mesh = grid_floor((0, 0), (1, 1))
    assert decimate(mesh, 100_000) is mesh


def test_orientation_is_kept():
    """The floor still looks up, everywhere."""
    reduced = decimate(built().mesh, 5000)
    floor = np.abs(reduced.corners()[:, :, 2]).max(1) < 0.01
    areas = reduced.face_areas()[floor]
    up = reduced.face_normals()[floor, 2] > 0.9
    assert areas[up].sum() / areas.sum() > 0.999


def test_two_runs_give_equal_bytes():
    """Open3D's queue is deterministic."""
    assert same(decimate(built().mesh, 5000), decimate(built().mesh, 5000))


def test_marks_survive():
    """Guessed area stays about the same."""
    mesh = built().mesh
    areas = [m.face_areas()[m.guessed[m.triangles].sum(1) >= 2].sum() for m in (mesh, decimate(mesh, 8000))]
    assert areas[1] == pytest.approx(areas[0], rel=0.25)


def test_the_error_sees_a_shift_and_each_way_what_the_other_lacks(rng):
    """A sheet 3 cm above another is 3 cm off; one that lacks a half is not off itself, the other one from it is."""
    sheet, half = grid_floor((0, 0), (1, 1)), grid_floor((0, 0), (0.52, 1))
    raised = surface_error(sheet, grid_floor((0, 0), (1, 1), z=0.03), rng)
    assert raised.median == pytest.approx(0.03) and raised.largest == pytest.approx(0.03)
    assert surface_error(half, sheet, rng).largest == pytest.approx(0, abs=1e-6)
    assert surface_error(sheet, half, rng).largest == pytest.approx(0.48, abs=0.01)


def test_the_stage_keeps_its_error():
    """The room's collision mesh lies within 1 cm of the full one, all of it, both ways."""
    collision = built().report["collision"]
    assert collision["triangles"] <= 12_000
    assert collision["error_within_wanted"]
    for way in ("of_collision", "of_mesh"):
        error = collision["error"][way]
        assert 0 <= error["median"] <= error["p99"] <= error["largest"] <= 0.01


def test_stairs_survive():
    """Edges of 17 cm steps stay within 5 mm."""
    assert RayCaster(built().collision).distances(edge_points()).max() < 0.005
