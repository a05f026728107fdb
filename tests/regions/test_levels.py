"""Levels above each other, and stairs and ramps between their floors."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.geometry import Mesh
from pipeline.regions.levels import Levels, find_levels
from pipeline.regions.regions import Regions
from tests.paths import HALL_TRUTH
from tests.regions.houses import PARAMS, RISER, RISERS, floor, joined, quad, regions_of, two_rooms, two_storeys


def levels_of(mesh: Mesh, *eyes: tuple[float, float]) -> Levels:
    return find_levels(mesh, regions_of(mesh, *eyes), PARAMS)


def test_stairs_lead_to_a_floor_above_the_first():
    """Both floors whole, though one lies over the other; the stairs with all risers, and their ends."""
    found = levels_of(two_storeys(), (6, 1), (6, 2))
    ground, upper = found.levels
    assert [found.number(index) for index in range(2)] == [0, 1]
    assert (ground.height, upper.height) == pytest.approx((0, RISER * RISERS), abs=1e-3)
    sizes = [float(np.isfinite(level.surface).sum()) * found.cell**2 for level in found.levels]
    assert sizes == pytest.approx([40 - 15 * 0.26, 40 - 4.9 * 1.5], rel=0.05)
    assert upper.walkable.sum() * found.cell**2 == pytest.approx(7.5 * 3 + 2.6 * 1.5, rel=0.1)
    (way,) = found.ways
    assert (way.kind, way.risers, way.levels) == ("stairs", RISERS, (0, 1))
    assert way.treads == pytest.approx(RISER * np.arange(1, RISERS), abs=0.01)
    assert way.low == pytest.approx([1, 4.3, 0], abs=0.1)
    assert way.high == pytest.approx([4.9, 4.3, 2.88], abs=0.1)
    assert way.rise == pytest.approx(2.88, abs=0.01)


def test_the_floor_that_was_filmed_is_level_0():
    """Somebody stood upstairs: what lies below has a negative number."""
    mesh = two_storeys()
    moved = Mesh.from_arrays(mesh.vertices - [0, 0, RISER * RISERS], mesh.triangles)
    found = levels_of(moved, (6, 1), (6, 2))
    assert [found.number(index) for index in range(2)] == [-1, 0]


@pytest.mark.parametrize("slope", [0.08, 0.125, 0.2])
def test_a_ramp_is_no_stairs(slope: float):
    """It has no risers, and rises as far as its ends say."""
    long = 0.6 / slope
    mesh = joined(floor(0, 0, 3, 3), quad((3, 0, 0), (long, 0, 0.6), (0, 1.5, 0)), floor(3 + long, 0, 6 + long, 3, 0.6))
    (way,) = levels_of(mesh, (1, 1), (1, 2)).ways
    assert (way.kind, way.risers, way.treads) == ("ramp", 0, ())
    assert way.rise == pytest.approx(0.6, abs=0.1)


def test_a_step_between_two_floors():
    """15 cm, a platform's edge: one riser."""
    mesh = joined(floor(0, 0, 3, 3), floor(3, 0, 6, 3, 0.15), quad((3, 3, 0), (0, -3, 0), (0, 0, 0.15)))
    found = levels_of(mesh, (1, 1), (1, 2))
    assert [(way.kind, way.risers, way.levels) for way in found.ways] == [("step", 1, (0, 0))]
    assert found.ways[0].rise == pytest.approx(0.15, abs=1e-3)


def test_tables_are_no_floors():
    """Nobody steps up 75 cm."""
    found = levels_of(two_rooms(), (1, 3), (6, 2))
    assert [level.height for level in found.levels] == pytest.approx([0], abs=1e-6)
    assert found.ways == ()
    surface = found.levels[0].surface
    assert np.nanmax(np.abs(surface)) < 1e-3


def test_stairs_of_the_hall():
    """As its truth says: five risers, treads and platform at their heights."""
    data, truth = np.load(HALL_TRUTH / "mesh.npz"), json.loads((HALL_TRUTH / "regions.json").read_text())
    mesh = Mesh.from_arrays(data["vertices"], data["triangles"])
    (level,), (way,) = (found := levels_of(mesh, (1, 0), (1.5, -0.5))).levels, found.ways
    assert way.kind == "stairs"
    assert way.treads == pytest.approx([tread["z"] for tread in truth["stairs"]["treads"]], abs=2e-3)
    assert way.risers == len(way.treads) + 1
    assert way.high[2] == pytest.approx(truth["platform"]["z"], abs=2e-3)
    assert level.height == pytest.approx(0, abs=1e-3)


def test_nowhere_to_stand():
    """No level, and no error."""
    nowhere = Regions.without_floor(PARAMS.cell, "nobody can stand here")
    assert find_levels(two_rooms(), nowhere, PARAMS).levels == ()
