"""Legs on staircases that were drawn: led, and told up or down only."""

from __future__ import annotations

import numpy as np
import pytest

import sim
from sim.policies.catalog import open_driver
from sim.scene.terrain import Flight
from sim.sensors.ground.settings import MapSettings
from train.legs.flights import FlightResult, walk_flights

pytest.importorskip("mujoco")


def flight(way: str, riser: float) -> Flight:
    """A staircase; nobody looks where it is."""
    return Flight(way, "open", riser, 0.3, 4, np.zeros(3), np.zeros((4, 2)), 0.0)


def test_results_are_split():
    """By anything that is known of staircases."""
    result = FlightResult(
        (flight("up", 0.1), flight("down", 0.2), flight("up", 0.2)),
        np.array([True, False, False]),
        np.array([False, False, True]),
    )
    high = result.of(lambda one: one.riser > 0.15)
    assert [one.way for one in high.flights] == ["down", "up"]
    assert high.over.tolist() == [False, False]
    assert high.fell.tolist() == [False, True]
    assert len(result.of(lambda one: one.tread > 1).over) == 0


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["auto", "stairs"])
def test_the_gait_that_comes_along_climbs(driver: str):
    """Steps of 16 cm, up and down, by a map: led along the middle, and by who is only told the way."""
    env = sim.make(
        "flights",
        ["terrain:3:flights:16"],
        20,
        robot="go2",
        engine="mujoco-worlds",
        cameras=(),
        ground=MapSettings(),
        seed=0,
    )
    with open_driver(driver, env, 0) as policy:
        found = walk_flights(env, policy)
    env.close()
    assert found.of(lambda flight: flight.way == "up").over.mean() > 0.7
    assert found.of(lambda flight: flight.way == "down").over.mean() > 0.7
