"""Stairs in the floor of a scan: found where they are, whichever way they lead; nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.regions.regions import Regions
from sim.climbing.stairs import HALF_WIDTH, find_stairs
from sim.scene.flights import OVER

CELL, RISER, TREAD, STEPS = 0.05, 0.17, 0.27, 5
ORIGIN = np.array([-3.0, -2.0])


def floor(angle: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Heights of a room (9 m, 8 m) with a flight that leads to a landing, and the line of its middle (2, 2)."""
    x, y = np.meshgrid(*((np.arange(n) + 0.5) * CELL for n in (180, 160)), indexing="ij")
    centre = np.array([4.5, 4.0])
    along = np.cos(angle) * (x - centre[0]) + np.sin(angle) * (y - centre[1])
    across = -np.sin(angle) * (x - centre[0]) + np.cos(angle) * (y - centre[1])
    step = np.clip(np.floor(along / TREAD) + 1, 0, STEPS)
    height = np.where(np.abs(across) < 0.9, RISER * step, np.where(along < 0, 0, np.nan))
    height += np.random.default_rng(seed).normal(0, 0.003, height.shape)
    ahead = np.array([np.cos(angle), np.sin(angle)])
    return height, ORIGIN + centre + np.array([[0], [(STEPS - 1) * TREAD]]) * ahead


def regions(height: np.ndarray) -> Regions:
    """A floor of these heights."""
    known = np.isfinite(height)
    return Regions((ORIGIN[0], ORIGIN[1]), CELL, height, known, known, ~known, 0.0, (), ())


@pytest.mark.parametrize("angle", [0.0, 0.5, 1.7, -2.6])
def test_found_where_it_is(angle: float):
    """Up and down, with the height and depth of its steps; ways begin and end on the right levels."""
    height, line = floor(angle)
    flights = find_stairs(regions(height))
    assert {flight.way for flight in flights} == {"up", "down"}
    for flight in flights:
        assert flight.risers == STEPS
        assert flight.riser == pytest.approx(RISER, abs=0.006)
        assert flight.tread == pytest.approx(TREAD, abs=0.035)  # cells are 5 cm
        ends = line if flight.way == "up" else line[::-1]
        assert np.abs(flight.path[2:4] - ends).max() < 0.16
        assert flight.level == pytest.approx(STEPS * RISER if flight.way == "up" else 0, abs=0.01)
        row, column = np.floor((flight.start[:2] - ORIGIN) / CELL).astype(int)
        assert height[row, column] == pytest.approx(STEPS * RISER - flight.level, abs=0.03)


def test_the_ends_need_room():
    """A landing that ends at the last edge isn't one."""
    height, line = floor(0.0)
    last = int((line[1, 0] - ORIGIN[0] + OVER - HALF_WIDTH) / CELL)
    height[last:] = np.nan
    assert not find_stairs(regions(height))


def test_level_floor_and_ramps_have_none():
    """Nor has one step."""
    flat = np.zeros((120, 120))
    assert not find_stairs(regions(flat))
    ramp = np.clip((np.arange(120) - 50) * CELL * 0.4, 0, 1.0)[:, None] + flat
    assert not find_stairs(regions(ramp))
    flat[60:] = RISER
    assert not find_stairs(regions(flat))
