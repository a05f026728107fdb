"""Paths to goals."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import SimError
from sim.robots.model import Robot
from sim.scene.floors import Floors
from sim.tasks.driving.goals import GoalScenario
from tests.sim.floors import CELL, centre, floor_scene, sized, standing

GREEN = (0.1, 0.7, 0.2)


def test_starts_are_far_from_goals_that_can_be_reached(rover: Robot):
    """In two scenes; a goal on an island of its own is never chosen, nor is one beyond the wall."""
    free = np.ones((30, 20), bool)
    free[12] = False  # a wall; left of it is no goal
    free[20:23, :4] = False
    island = np.zeros((16, 16), bool)
    island[1, 1], island[4:, :] = True, True
    scenes = [
        floor_scene(free, goals=(tuple(centre(25, 3)),)),
        floor_scene(island, goals=(tuple(centre(1, 1)), tuple(centre(8, 8)))),
    ]
    scenario = GoalScenario(Floors(scenes, sized(rover, 0.2)), 400, 0.2, min_length=0.6, ball_color=GREEN)
    scene_of = np.arange(400) % 2
    starts = scenario.reset(np.arange(400), scene_of, np.zeros(400, int), np.random.default_rng(1))
    first, second = starts.position[::2], starts.position[1::2]
    np.testing.assert_allclose(scenario.state().goal[::2], np.tile(centre(25, 3), (200, 1)), atol=1e-6)
    np.testing.assert_allclose(scenario.state().goal[1::2], np.tile(centre(8, 8), (200, 1)), atol=1e-6)
    assert first[:, 0].min() > centre(12, 0)[0]
    assert np.linalg.norm(second[:, :2] - centre(8, 8), axis=1).min() > 0.6 * np.cos(np.pi / 8) - 1e-6
    assert (scenario.state().length >= 0.6 - 1e-6).all()
    np.testing.assert_allclose(starts.position[:, 2], 0.2 + rover.base_height, atol=1e-6)
    assert np.ptp(starts.yaw) > 6


def test_what_is_left_of_the_way(rover: Robot):
    """Gets less by what was driven; far off the floor it is what it was."""
    scene = floor_scene(np.ones((30, 20), bool), goals=(tuple(centre(25, 3)),))
    scenario = GoalScenario(Floors([scene], sized(rover, 0.2)), 2, 0.2, min_length=0.6, ball_color=GREEN)
    rng, envs = np.random.default_rng(2), np.arange(2)
    scenario.reset(envs, np.zeros(2, int), np.zeros(2, int), rng)
    scenario.update(standing(np.array([centre(5, 3), centre(25, 13)]), np.zeros(2)), rng)
    scenario.update(standing(np.array([centre(9, 3), centre(60, 60)]), np.zeros(2)), rng)
    way = scenario.state()
    np.testing.assert_allclose(way.previous_length, [20 * CELL, 10 * CELL], atol=1e-5)
    np.testing.assert_allclose(way.length, [16 * CELL, 10 * CELL], atol=1e-5)
    np.testing.assert_allclose(scenario.props().balls.center[:, 0], np.tile([*centre(25, 3), 0.35], (2, 1)), atol=1e-6)


def test_beside_the_floor_paths_begin_on_it(rover: Robot):
    """One stands before the goal, but off the floor, and its path is no longer the one it had; another is far off."""
    free = np.ones((30, 20), bool)
    goal = centre(25, 19)
    scenario = GoalScenario(
        Floors([floor_scene(free, goals=(tuple(goal),))], sized(rover, 0.2)), 2, 0.2, min_length=0.6, ball_color=GREEN
    )
    rng, envs = np.random.default_rng(2), np.arange(2)
    scenario.reset(envs, np.zeros(2, int), np.zeros(2, int), rng)
    scenario.update(standing(np.array([centre(5, 19), centre(5, 19)]), np.zeros(2)), rng)
    beside = goal + np.array([[0, 0.25], [0, 0.6]])
    scenario.update(standing(beside, np.full(2, -np.pi / 2)), rng)
    near, far = scenario.state().length
    assert 0.25 <= near <= 1.2
    np.testing.assert_allclose(far, scenario.state().previous_length[1])


def test_what_is_round_the_robot_turns_with_it(rover: Robot):
    """One that looks along +y with the goal in +x has it on its right, and the edge near in -x on its left."""
    scene = floor_scene(np.ones((60, 60), bool), goals=(tuple(centre(50, 30)),))
    scenario = GoalScenario(Floors([scene], sized(rover, 0.2)), 1, 0.2, min_length=0.6, ball_color=GREEN)
    rng, one = np.random.default_rng(2), np.arange(1)
    scenario.reset(one, np.zeros(1, int), np.zeros(1, int), rng)
    scenario.update(standing(centre(13, 30)[None], np.array([np.pi / 2])), rng)
    way = scenario.state()
    left, right = 2, 6
    np.testing.assert_allclose(way.detours[0, [right, left]], [-0.35, 0.35], atol=0.01)
    assert way.detours[0].argmin() == right
    np.testing.assert_allclose(way.detours[0, 0], way.detours[0, 4], atol=0.01)  # ahead and behind
    here, outer = 13 * CELL, 17
    np.testing.assert_allclose(way.edges[0, 0], here, atol=CELL)
    np.testing.assert_allclose(way.edges[0, [outer + left, outer + right]], [here - 0.6, here + 0.6], atol=1.5 * CELL)


def test_goals_move_to_where_a_wider_robot_gets(rover: Robot):
    """A goal at the rim of the floor is replaced by the nearest place with room."""
    scene = floor_scene(np.ones((30, 20), bool), goals=(tuple(centre(29, 9)),))
    scenario = GoalScenario(Floors([scene], sized(rover, 0.25 + 0.24)), 3, 0.2, min_length=0.6, ball_color=GREEN)
    scenario.reset(np.arange(3), np.zeros(3, int), np.zeros(3, int), np.random.default_rng(0))
    np.testing.assert_allclose(scenario.state().goal, np.tile(centre(27, 9), (3, 1)), atol=1e-6)


def test_a_scene_without_long_ways_is_refused(rover: Robot):
    """Naming it."""
    scene = floor_scene(np.ones((5, 5), bool), goals=(tuple(centre(2, 2)),))
    with pytest.raises(SimError, match=r"floor@1\.0\.0"):
        GoalScenario(Floors([scene], sized(rover, 0.2)), 3, 0.2, min_length=2.0, ball_color=GREEN)


def test_a_goal_upstairs(rover: Robot):
    """In the middle of the landing, not of the wider middle step; starts are on the floor below, paths up the steps."""
    height = np.full((40, 24), 0.2)
    height[20:28, 4:20], height[28:33, 6:16] = 0.45, 0.7
    height[20:28, :4], height[20:28, 20:], height[28:, :6], height[28:, 16:], height[33:] = [np.nan] * 5
    below = height < 0.3
    scene = floor_scene(below, height=height, walkable=np.isfinite(height))
    floors = Floors([scene], sized(rover, 0.2))
    scenario = GoalScenario(floors, 50, 0.2, min_length=0.6, ball_color=GREEN, upstairs=0.3)
    everyone, nothing = np.arange(50), np.zeros(50, int)
    starts = scenario.reset(everyone, nothing, nothing, np.random.default_rng(1))
    goal = scenario.state().goal
    assert (floors.height[(nothing, *floors.cells(nothing, goal))] == np.float32(0.7)).all()
    np.testing.assert_allclose(goal, np.tile(goal[:1], (50, 1)))
    assert (np.abs(goal[0] - (centre(30, 10) + centre(30, 11)) / 2) < [0.1 * CELL, 3 * CELL]).all()
    np.testing.assert_allclose(starts.position[:, 2], 0.2 + rover.base_height, atol=1e-6)
    assert np.isfinite(scenario.state().length).all()
    assert scenario.props().balls.center[0, 0, 2] == pytest.approx(0.7 + 0.15)


def test_without_floor_upstairs(rover: Robot):
    """The scene is named, and what it lacks."""
    scene = floor_scene(np.ones((30, 20), bool))
    with pytest.raises(SimError, match=r"none 0\.3 m above most of the floor of floor@1\.0\.0"):
        GoalScenario(Floors([scene], rover), 1, 0.2, min_length=0.6, ball_color=GREEN, upstairs=0.3)
