"""Regions parameters."""

from __future__ import annotations

import pytest

from pipeline.regions.params import Area, RegionsParams


@pytest.mark.parametrize(
    "values",
    [{"cell": 0.0}, {"radius": -0.1}, {"max_step": 0.6}, {"max_drive_step": 0.3}, {"spawn_poses": 0}, {"goals": -1}],
)
def test_refuses_impossible_values(values):
    """With the field's name in the message."""
    with pytest.raises(ValueError, match=next(iter(values))):
        RegionsParams(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"name": ""},
        {"polygon": ((0, 0), (1, 0))},
        {"polygon": ((0, 0), (1, 0), (float("nan"), 1))},
        {"polygon": (), "color": None},
        {"color": "yellow"},
        {"friction": -0.1},
        {"friction": float("nan")},
        {"cost": float("inf")},
    ],
)
def test_refuses_impossible_areas(values):
    """Each says which area and what."""
    with pytest.raises(ValueError, match=r"(?s)Area.*(name|polygon|color|friction|cost|corners)"):
        Area(**{"name": "ice", "polygon": ((0, 0), (1, 0), (1, 1)), **values})


def test_areas_have_names_of_their_own():
    """Two of one name are a mistake."""
    area = Area(name="ice", color="#ffffff")
    with pytest.raises(ValueError, match="name of its own"):
        RegionsParams(areas=(area, area))


def test_color_in_numbers():
    """Red, green, blue."""
    assert Area(name="patch", color="#f2Cc1a").rgb == (242, 204, 26)
