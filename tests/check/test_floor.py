"""Holes in the floor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.check.floor import measure_floor_holes
from pipeline.regions.params import RegionsParams
from pipeline.regions.stage import find_regions
from tests.mesh.scenes import box, built, grid_floor, track, without
from tests.regions.test_stage import everywhere

FLOOR = grid_floor((0, 0), (3, 3))
TRACK = np.array([[0.6, 0.6, 1.2], [2.4, 0.6, 1.2]])


def measured(mesh, path=TRACK):
    return measure_floor_holes(mesh, find_regions(mesh, path, everywhere(), RegionsParams()))


def test_a_whole_floor_has_none():
    """And the area is the floor's."""
    holes = measured(FLOOR)
    assert holes.hole_area == 0 and holes.largest_diameter == 0
    assert holes.expected_area == pytest.approx(9, rel=0.05)


def test_a_hole_is_measured():
    """Area and diameter of a round hole of 0.3 m radius, though the region itself keeps off it."""
    holes = measured(without(FLOOR, (1.5, 1.5), 0.3))
    assert holes.hole_area == pytest.approx(np.pi * 0.3**2, rel=0.15)
    assert 0.5 < holes.largest_diameter < 0.62  # ragged: whole triangles were cut


def test_objects_on_the_floor_are_no_holes():
    """A box that stands in a hole, and a table over whole floor."""
    cut = without(FLOOR, (1.5, 1.5), 0.25)
    assert measured(cut.joined(box((1.2, 1.2, 0), (1.8, 1.8, 0.9)))).hole_area == 0
    assert measured(FLOOR.joined(box((1.2, 1.2, 0.6), (1.8, 1.8, 0.65)))).hole_area == 0


def test_a_table_does_not_hide_a_hole():
    """Its top is no floor."""
    cut = without(FLOOR, (1.5, 1.5), 0.25).joined(box((1.0, 1.0, 0.6), (2.0, 2.0, 0.65)))
    assert measured(cut).hole_area > 0.15


def test_a_floor_that_faces_down_does_not_carry():
    """One-sided, as in physics."""
    regions = find_regions(FLOOR, TRACK, everywhere(), RegionsParams())
    flipped = replace(FLOOR, triangles=FLOOR.triangles[:, ::-1].copy())
    assert (
        measure_floor_holes(without(FLOOR, (1.5, 1.5), 1.0).joined(without(flipped, (9, 9), 0)), regions).hole_area > 2
    )


def test_guessed_floor_is_counted():
    """Its area, not as a hole."""
    guessed = np.hypot(*(FLOOR.vertices[:, :2] - [1.5, 1.5]).T) < 0.4
    holes = measured(replace(FLOOR, guessed=guessed))
    assert holes.guessed_area == pytest.approx(np.pi * 0.4**2, rel=0.2)
    assert holes.hole_area == 0


def test_the_rebuilt_room_is_whole():
    """What the mesh stage closed is closed."""
    holes = measured(built().collision, track())
    assert holes.hole_area < 0.002
    assert holes.largest_diameter <= 0.04
