"""Decimation and its error."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.mesh.decimate import decimate, decimation_error
from tests.mesh.scenes import built, grid_floor, same


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


def test_the_error_sees_a_shift_both_ways(rng):
    """A sheet 3 cm above another is 3 cm off; one that lacks a half is off by its missing width."""
    sheet = grid_floor((0, 0), (1, 1))
    raised = decimation_error(sheet, grid_floor((0, 0), (1, 1), z=0.03), rng)
    assert raised.median == pytest.approx(0.03) and raised.largest == pytest.approx(0.03)
    halved = decimation_error(sheet, grid_floor((0, 0), (0.52, 1)), rng)
    assert halved.largest == pytest.approx(0.48, abs=0.01)
    assert decimation_error(grid_floor((0, 0), (0.52, 1)), sheet, rng).largest == pytest.approx(0.48, abs=0.01)


def test_the_stage_keeps_its_error():
    """1 % of the room's collision mesh is at most 1 cm off."""
    collision = built().report["collision"]
    assert collision["triangles"] <= 12_000
    assert 0 < collision["error_p99"] <= 0.01
    assert collision["error_within_wanted"]
