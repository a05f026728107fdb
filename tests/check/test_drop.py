"""The drop test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.check.drop import drop_bodies
from pipeline.regions.params import RegionsParams
from pipeline.regions.stage import find_regions
from tests.mesh.scenes import built, grid_floor, track, without
from tests.regions.test_stage import everywhere

FLOOR = grid_floor((0, 0), (3, 3))
TRACK = np.array([[0.6, 0.6, 1.2], [2.4, 0.6, 1.2]])


@pytest.fixture(scope="module")
def regions():
    return find_regions(FLOOR, TRACK, everywhere(), RegionsParams())


def test_bodies_rest_on_the_rebuilt_room():
    """On floor, steps and guessed patches; all within 2 cm."""
    result = drop_bodies(built().collision, find_regions(built().collision, track(), everywhere(), RegionsParams()))
    assert result.passed
    assert result.dropped == 1000
    assert result.median_error is not None and result.median_error < 0.003


def test_a_hole_lets_bodies_through(regions):
    """Whether the region was drawn before the hole was cut or after: then the hole itself gets bodies."""
    cut = without(FLOOR, (1.5, 1.5), 0.25)
    before, after = (
        drop_bodies(cut, regions),
        drop_bodies(cut, find_regions(cut, TRACK, everywhere(), RegionsParams())),
    )
    assert not before.passed and before.fell_through >= 1
    assert not after.passed and after.fell_through >= 1 and after.over_holes >= 1


def test_faces_that_look_down_carry_nothing(regions):
    """Triangles are one-sided: all bodies fall through a flipped floor."""
    result = drop_bodies(replace(FLOOR, triangles=FLOOR.triangles[:, ::-1].copy()), regions)
    assert not result.passed
    assert result.fell_through > 0.9 * result.dropped


def test_a_wrong_height_is_seen(regions):
    """A floor 5 cm lower than the regions say carries, but at the wrong height."""
    result = drop_bodies(grid_floor((0, 0), (3, 3), z=-0.05), regions)
    assert result.fell_through == 0
    assert result.off_height == result.dropped
    assert result.largest_error == pytest.approx(0.05, abs=0.005)


def test_it_repeats(regions):
    """Equal figures to the last bit."""
    assert drop_bodies(FLOOR, regions) == drop_bodies(FLOOR, regions)


def test_bodies_that_the_mesh_pushes_away_are_seen(regions):
    """A sheet that faces up and stands in the bodies' middle when they start shoots them off."""
    result = drop_bodies(FLOOR.joined(grid_floor((1.2, 1.2), (1.8, 1.8), z=0.38)), regions)
    assert result.thrown_out >= 10
    assert not result.passed
