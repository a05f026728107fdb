"""Floors that end: the surface is where the field is positive, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry.rays import RayCaster
from pipeline.rooms.floors import Field, Rectangle, both, everywhere, hole, lay, ragged_side
from pipeline.rooms.surfaces import Builder, Paint, Surfaces

AREA = Rectangle(1.0, -2.0, 5.0, 1.0)
PAINT = Paint((0.5, 0.5, 0.5))


def surfaces_of(field: Field | None, *, down: bool = False) -> Surfaces:
    """A floor, or a ceiling, over the area at a height of 0.5 m."""
    b = Builder()
    lay(b, AREA, 0.5, PAINT, field, down=down)
    return Surfaces.of(b.faces)


@pytest.mark.parametrize("side", range(4))
def test_a_ragged_floor_ends_before_its_side(side: int):
    """Within a cell of where the field is zero; its faces look up and their area is that of the field."""
    field = ragged_side(AREA, side, 0.8, np.random.default_rng(side))
    surfaces = surfaces_of(field)
    assert (surfaces.normals()[:, 2] > 0.999).all()
    places = AREA.grown(-0.003).grid(0.02).reshape(-1, 2)
    value = field(places)
    start = np.column_stack([places, np.full(len(places), 2.0)])
    hit = RayCaster(surfaces.mesh()).cast(start, np.array([0, 0, -1.0])).hit
    assert hit[value > 0.1].all()
    assert not hit[value < -0.1].any()
    assert 0.5 * 12 < surfaces.areas().sum() < 0.95 * 12
    edge = np.abs(places - np.array(AREA.side(side)[0]))[:, (side + 1) % 2]
    assert not hit[edge < 0.04].any()


def test_holes_are_holes():
    """Of about the radius, and two fields together end where either does."""
    rng = np.random.default_rng(0)
    field = both(hole(np.array([2.0, -1.0]), 0.3, rng), hole(np.array([4.0, 0.0]), 0.2, rng))
    missing = 12 - surfaces_of(field).areas().sum()
    assert 0.6 * np.pi * 0.13 < missing < 1.6 * np.pi * 0.13


def test_a_whole_floor_is_one_face():
    """And a ceiling looks down."""
    assert len(surfaces_of(None).corners) == 1
    assert surfaces_of(None, down=True).normals()[0, 2] == -1
    np.testing.assert_allclose(surfaces_of(everywhere).areas().sum(), 12)


def test_rectangles():
    """Sides run counter-clockwise, and rectangles that only touch don't meet."""
    assert [AREA.side(number)[0] for number in range(4)] == [(1, -2), (5, -2), (5, 1), (1, 1)]
    assert not AREA.meets(Rectangle(5, -2, 6, 1))
    assert AREA.meets(Rectangle(4.9, -2, 6, 1))
    assert AREA.grown(-0.5) == Rectangle(1.5, -1.5, 4.5, 0.5)
