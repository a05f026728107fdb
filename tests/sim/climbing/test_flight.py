"""Stairs in the ground around a robot: which way, where they begin, how far aside."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.types import F32, F64
from sim.climbing.flight import nearest_flight
from sim.climbing.surroundings import CELL, clearances, costs, slopes
from tests.sim.climbing.conftest import RISER, STEPS, TREAD, staircase


def seen(height: F32, place: tuple[float, float], sign: float, level: float) -> F64:
    """The stairs nearest to a place."""
    near, edge = clearances(height)
    cost, _ = costs(height, near, edge, int(place[0] / CELL), int(place[1] / CELL))
    return nearest_flight(height, cost, slopes(height, near), np.array(place), sign, level)


@pytest.mark.parametrize("angle", [0.0, 0.6, -2.0])
@pytest.mark.parametrize("aside", [0.0, 0.4])
def test_up(angle: float, aside: float):
    """The direction, the first edge and the middle, within a cell."""
    height = staircase(angle=angle)
    ahead, middle = np.array([np.cos(angle), np.sin(angle)]), 3.2
    place = middle + (-1.2) * ahead + aside * np.array([-ahead[1], ahead[0]])
    found = seen(height, (place[0], place[1]), 1, 0)
    assert found[0]
    assert found[1:3] @ ahead > np.cos(np.deg2rad(6))
    assert found[3] == pytest.approx(1.2, abs=0.13)
    assert found[4] == pytest.approx(-aside, abs=0.2)


def test_down_from_the_top():
    """The same stairs, the other way; and none up from there."""
    height = staircase(first=2.0)
    top = (2.0 + STEPS * TREAD + 0.8, 3.2)
    found = seen(height, top, -1, STEPS * RISER)
    assert found[0]
    assert found[1:3] @ [-1, 0] > 0.99
    assert found[3] == pytest.approx(0.8 + TREAD, abs=0.13)
    assert not seen(height, top, 1, STEPS * RISER)[0]


def test_on_the_way():
    """Half way up, the first edge is behind, and what is left leads on."""
    height = staircase(first=2.0)
    found = seen(height, (2.0 + 2 * TREAD, 3.2), 1, 2 * RISER)
    assert found[0]
    assert found[3] < 0


def test_a_platform_has_none():
    """Drops are no stairs."""
    height = np.zeros((80, 80), np.float32)
    height[30:50, 30:50] = 0.5
    assert not seen(height, (3.2, 3.2), -1, 0.5)[0]
    assert not seen(height, (1.0, 3.2), 1, 0)[0]


def turned(angle: float = 0.0) -> F32:
    """Two steps down along x to a landing, and three more down to its left; what is beside them isn't seen."""
    centres = (np.arange(80) + 0.5) * CELL - 3.2
    x, y = np.meshgrid(centres, centres, indexing="ij")
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    first = (np.abs(v) < 0.5) & (u > -1.4) & (u < 1.0)
    second = (u > 0) & (u < 1.0) & (v >= 0.5) & (v < 0.5 + 4 * TREAD)
    height = np.where(first, RISER * np.clip(np.ceil(-u / TREAD), 0, 2), np.nan)
    return np.where(second, -RISER * np.clip(np.ceil((v - 0.5) / TREAD), 1, 3), height).astype(np.float32)


@pytest.mark.parametrize("angle", [0.0, 0.5, -1.2])
@pytest.mark.parametrize("ahead", [0.05, 0.3])
def test_on_a_landing_the_next_flight_leads_on(angle: float, ahead: float):
    """Not the one that robots come from, though the steps beside its end lead down."""
    c, s = np.cos(angle), np.sin(angle)
    found = seen(turned(angle), (3.2 + ahead * c, 3.2 + ahead * s), -1, 0)
    assert found[0]
    assert found[1:3] @ [-s, c] > 0.85
