"""Staircases by seed: their steps, where they begin and where they are over."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sim.scene.flights import DISTANCE, OVER, RISER, RISERS, SPARE, UNEVEN, WAYS, make_flights
from sim.scene.opening import open_scene
from sim.scene.terrain import RASTER, TILE, Terrain


@pytest.fixture(scope="module")
def terrain() -> Terrain:
    """Twenty to go up, and twenty to go down."""
    return make_flights(3, count=20)


def levels(terrain: Terrain, number: int) -> np.ndarray:
    """Heights (K,) along the way of a staircase, every centimetre."""
    path = terrain.flights[number].path
    parts = [np.linspace(a, b, int(np.linalg.norm(b - a) / 0.01) + 2) for a, b in pairwise(path)]
    return terrain.heights(np.concatenate(parts))


def test_steps_are_those_that_were_drawn(terrain: Terrain):
    """Along the way it goes up, or down, by as many steps, each of its height; from level to level."""
    for number, flight in enumerate(terrain.flights):
        height = levels(terrain, number)
        steps = np.diff(height)[np.abs(np.diff(height)) > 1e-4] * (1 if flight.way == "up" else -1)
        assert len(steps) == flight.risers
        assert np.abs(steps - flight.riser).max() < UNEVEN + 1e-4
        assert height[-1] == pytest.approx(flight.level, abs=1e-5)
        assert RISERS[0] <= flight.risers <= RISERS[1]
        assert RISER[0] <= flight.riser <= RISER[1]


def test_there_is_all_of_it(terrain: Terrain):
    """Up and down, all kinds; distances to the first edge; nothing leaves its tile."""
    assert [flight.way for flight in terrain.flights] == [way for way in WAYS for _ in range(20)]
    assert {flight.kind for flight in terrain.flights} == {"walled", "open", "turned"}
    for number, flight in enumerate(terrain.flights):
        first = np.flatnonzero(np.abs(np.diff(levels(terrain, number))) > 1e-4)[0] * 0.01
        assert DISTANCE[0] - 0.05 < first < DISTANCE[1] + 0.15
        centre = terrain.centre(*np.divmod([number], terrain.levels))[0, :2]
        assert np.abs(flight.path - centre).max() < TILE / 2 - 2 * RASTER
    boxes = np.concatenate([np.concatenate(row) for row in terrain.boxes])
    assert (np.abs(boxes[:, :2]) + boxes[:, 3:5]).max() < TILE / 2


def test_ways_lead_beyond_the_last_edge(terrain: Terrain):
    """On level ground; those that turn have a second flight across the first."""
    for flight in terrain.flights:
        assert np.linalg.norm(flight.path[-1] - flight.path[-2]) == pytest.approx(OVER + SPARE)
        first, last = flight.path[2] - flight.path[1], flight.path[-2] - flight.path[-3]
        assert (abs(first @ last) < 1e-6) == (flight.kind == "turned")


def test_they_are_scenes():
    """By a seed, and by the height of their steps [cm]."""
    scene = open_scene("terrain:4:flights:16")
    assert scene.terrain
    assert {flight.riser for flight in scene.terrain.flights} == {0.16}
    assert scene.lock.sha256 != open_scene("terrain:5:flights:16").lock.sha256
