"""Seeing as much of a floor as one can."""

from __future__ import annotations

import numpy as np
import pytest

from sim.robots.model import Robot
from sim.scene.floors import Floors
from sim.tasks.driving.exploration import MAP_SIDE, ExplorationScenario
from tests.sim.floors import CELL, centre, floor_scene, sized, standing

REACH, HALF = 1.5, np.deg2rad(45)


def exploring(rover: Robot, drivable: np.ndarray, count: int, **grids: np.ndarray) -> ExplorationScenario:
    """A scenario whose environments have seen nothing but what lay before their starts."""
    scene = floor_scene(drivable, **grids)  # type: ignore[arg-type]
    scenario = ExplorationScenario(Floors([scene], sized(rover, 0.2)), count, 0.2, sight=REACH, half_angle=HALF)
    nothing = np.zeros(count, int)
    scenario.reset(np.arange(count), nothing, nothing, np.random.default_rng(0))
    return scenario


def look(scenario: ExplorationScenario, xy: np.ndarray, yaw: np.ndarray) -> None:
    """From places (N, 2) with headings (N,)."""
    scenario.update(standing(xy, yaw), np.random.default_rng(0))


def test_what_lies_ahead_and_near_is_seen(rover: Robot):
    """On open floor exactly the cells of a sector, but for its rim; then nothing more."""
    scenario = exploring(rover, np.ones((60, 60), bool), 2)
    scenario._seen.values[:] = False
    scenario._share[:] = 0
    xy, yaw = np.tile(centre(28, 31), (2, 1)), np.array([0.4, -2.2])
    look(scenario, xy, yaw)
    offset = scenario.floors.scenes[0].regions.centres() - centre(28, 31)
    distance = np.linalg.norm(offset, axis=-1)
    for env in range(2):
        bearing = np.arctan2(offset[..., 1], offset[..., 0]) - yaw[env]
        bearing = np.abs((bearing + np.pi) % (2 * np.pi) - np.pi)
        rim = CELL * 0.75
        side = distance * np.sin(np.clip(bearing - HALF, -np.pi / 2, np.pi / 2))
        surely = (distance < REACH - rim) & (bearing < HALF) & (side < -rim)
        never = (distance > REACH + rim) | (side > rim)
        assert scenario._seen[env][surely].all()
        assert not scenario._seen[env][never].any()
        assert surely.sum() > 120
    np.testing.assert_allclose(scenario.state().new, [seen.sum() * CELL**2 for seen in scenario._seen], rtol=1e-5)
    np.testing.assert_allclose(scenario.state().share, scenario.state().new / 36, rtol=1e-5)
    look(scenario, xy, yaw)
    assert (scenario.state().new == 0).all()


def test_walls_hide_what_is_behind(rover: Robot):
    """Floor that isn't drivable can be seen over but doesn't count; what is no floor blocks the view."""
    drivable = np.ones((60, 60), bool)
    drivable[35] = False
    height = np.where(drivable, 0.2, np.nan)
    height[35, 31:] = 0.2  # the upper half is floor too narrow to drive on
    scenario = exploring(rover, drivable, 1, height=height)
    scenario._seen.values[:] = False
    look(scenario, centre(28, 30)[None], np.zeros(1))
    seen = scenario._seen[0]
    assert not seen[36:, :31].any()
    assert seen[38, 33:38].all()
    assert not seen[35].any()


def test_a_walk_round_shows_it_all(rover: Robot):
    """Looking in all directions from a grid of places: share 1, and the areas add up to the floor's."""
    scenario = exploring(rover, np.ones((30, 24), bool), 1)
    total = float(scenario.state().share[0]) * 7.2
    for x in range(4, 30, 7):
        for y in range(4, 24, 7):
            for yaw in np.linspace(0, 2 * np.pi, 5):
                look(scenario, centre(x, y)[None], np.array([yaw]))
                total += float(scenario.state().new[0])
    assert scenario.state().share[0] == pytest.approx(1, abs=1e-5)
    assert total == pytest.approx(7.2, rel=1e-4)


def test_the_map_turns_with_the_robot(rover: Robot):
    """Ahead is seen, behind is not, and what is no floor is marked, in the robot's own axes."""
    drivable = np.ones((60, 60), bool)
    drivable[40:] = False  # a metre to the east of the robot
    scenario = exploring(rover, drivable, 1)
    scenario._seen.values[:] = False
    look(scenario, centre(30, 30)[None], np.array([np.pi / 2]))  # facing north: east is to its right
    around = scenario.state().around[0].reshape(MAP_SIDE, MAP_SIDE)
    middle = MAP_SIDE // 2
    assert around[middle + 2, middle] == 1
    assert around[middle - 2, middle] == 0
    assert (around[:, : middle - 2] == -1).all()
    assert (around[: middle + 1, middle + 1 :] == 0).all()


def test_the_way_leads_to_the_unseen(rover: Robot):
    """Of each environment's own."""
    scenario = exploring(rover, np.ones((30, 24), bool), 2)
    scenario._seen.values[:] = True
    scenario._seen[0][3, 5], scenario._seen[1][20, 22] = False, False
    left = scenario.path_length(np.tile(centre(3, 22), (2, 1)), np.arange(2))
    np.testing.assert_allclose(left, [17 * CELL, 17 * CELL], atol=1e-5)
    left = scenario.path_length(np.tile(centre(3, 8), (2, 1)), np.array([1, 0]))
    np.testing.assert_allclose(left, [(3 + 14 * np.sqrt(2)) * CELL, 3 * CELL], atol=1e-5)


def test_a_new_episode_knows_nothing_of_the_old(rover: Robot):
    """In its environment only; starts are on the floor."""
    scenario = exploring(rover, np.ones((30, 24), bool), 3)
    scenario._seen.values[:] = True
    scenario._share[:] = 1
    starts = scenario.reset(np.array([1]), np.zeros(1, int), np.zeros(1, int), np.random.default_rng(5))
    share = scenario.state().share
    assert share[0] == share[2] == 1
    assert 0 < share[1] < 0.4
    assert scenario.state().new[1] == 0
    i, j = scenario.floors.cells(np.zeros(1, int), starts.position[:, :2])
    assert scenario.floors.drivable[0, i, j].all()
