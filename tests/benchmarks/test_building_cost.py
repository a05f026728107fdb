"""The table of buildings, and what is extrapolated from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.building import draw_building
from benchmarks.building_cost import CASES, Cost, floor_of, page

ONE = Cost(30.0, 140.0, 210, 200, 900.0, 2**31, 150_000_000, 30_000, 40_000, 33.1, 0.96, 0.99, 0.012, 2, 1)


def test_larger_buildings_are_on_a_line():
    """400 s and 20 s per m²: 400 m² take 8 400 s; disk is in proportion to the largest."""
    two = replace(ONE, floor=100.0, cpu_seconds=2400.0, disk=500_000_000)
    text = page([replace(ONE, cpu_seconds=1000.0), two], "command")
    assert (
        "| 30 | 140 | 200 of 210 | 1000 | 33.3 | 2.0 | 5.0 | 30,000 | 40,000 | 33.1 | 0.960 / 0.990 | 1.2 | 1 of 2 |"
        in text
    )
    assert "- 400 m²: 2.33 core-hours, 2 GB of results." in text
    assert "- 10,000 m²: 55.7 core-hours, 50 GB of results." in text
    assert "Extrapolated" not in page([ONE], "command"), "nothing comes of one alone"


@pytest.mark.parametrize("seed", [7, 8])
def test_cases_are_larger_and_larger(seed):
    """From a room and a corridor on."""
    floors = [floor_of(draw_building(seed, *case)) for case in CASES]
    assert floors == sorted(floors)
    assert 25 < floors[0] < 50 < 150 < floors[-1]
