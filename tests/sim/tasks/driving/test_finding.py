"""Balls anywhere on the floor."""

from __future__ import annotations

from colorsys import rgb_to_hsv

import numpy as np
import pytest

import sim
from pipeline.errors import SimError
from sim.robots.model import Robot
from sim.scene.floors import Floors
from sim.scene.navigation import distances
from sim.scene.scene import SimScene
from sim.tasks.driving.finding import FindScenario
from tests.sim.floors import CELL, centre, floor_scene, sized, standing
from tests.sim.scene.test_sight import blocked


def place(length: int = 34) -> SimScene:
    """A floor with a wall that has a door, and an island."""
    free = np.ones((length, 20), bool)
    free[12, :14] = False
    free[-4:, :5] = False
    free[-2:, :2] = True
    return floor_scene(free)


def scattered(
    rover: Robot, count: int, min_length: float = 0.9, seed: int = 0
) -> tuple[FindScenario, np.ndarray, np.ndarray]:
    """Episodes in two scenes, their scenes and starts (N, 3): x, y, heading."""
    scenario = FindScenario(Floors([place(), place(46)], sized(rover, 0.2)), count, 0.2, min_length=min_length)
    scenes = np.arange(count) % 2
    starts = scenario.reset(np.arange(count), scenes, np.zeros(count, int), np.random.default_rng(seed))
    np.testing.assert_allclose(starts.position[:, 2], 0.2 + rover.base_height, atol=1e-6)
    return scenario, scenes, np.column_stack([starts.position[:, :2], starts.yaw])


def test_starts_and_goals_are_floor_far_enough_apart(rover: Robot):
    """By ways that were found anew; anywhere on it, with headings all round."""
    scenario, scenes, starts = scattered(rover, 300)
    goals, floors = scenario.state().goal, scenario.floors
    for ends in (starts[:, :2], goals):
        assert floors.drivable[(scenes, *floors.cells(scenes, ends))].all()
        assert len(np.unique(np.column_stack([scenes, ends]), axis=0)) > 200
    for env in range(40):
        price = floors.price[scenes[env]]
        source = np.zeros((1, *price.shape), bool)
        source[0][floors.cells(scenes[env], goals[env])] = True
        length = distances(price[None], source, np.array([CELL]))[0]
        expected = length[floors.cells(scenes[env], starts[env, :2])]
        assert scenario.state().length[env] == pytest.approx(expected, abs=1e-4)
    assert (scenario.state().length >= 0.9 - 1e-5).all()
    assert scenario.state().length.min() < 1.1
    far = centre(36, 0)[0]
    assert goals[scenes == 0, 0].max() < far < goals[scenes == 1, 0].max()
    assert np.ptp(starts[:, 2]) > 6


def test_an_episode_begins_in_one_environment_only(rover: Robot):
    """The others keep their balls and their ways."""
    scenario, scenes, starts = scattered(rover, 4)
    before, props = scenario.state(), scenario.props()
    scenario.reset(np.array([2]), scenes[[2]], np.zeros(1, int), np.random.default_rng(9))
    after, others = scenario.state(), [0, 1, 3]
    assert not np.array_equal(after.goal[2], before.goal[2])
    np.testing.assert_array_equal(after.goal[others], before.goal[others])
    np.testing.assert_array_equal(scenario.props().balls.color[others], props.balls.color[others])
    np.testing.assert_array_equal(scenario.path_length(starts[others, :2], np.array(others)), before.length[others])


def test_balls_are_as_they_should_be(rover: Robot):
    """Of all sizes and of some yellow; a third or so lies on a thin post, the others on the floor."""
    scenario, _, _ = scattered(rover, 600)
    balls, posts, goals = scenario.props().balls, scenario.props().posts, scenario.state().goal
    radius = balls.radius[:, 0]
    assert 0.1 <= radius.min() < 0.11 < 0.19 < radius.max() <= 0.2
    np.testing.assert_allclose(balls.center[:, 0, :2], goals[:, :2], atol=1e-6)
    raised = balls.center[:, 0, 2] - radius - 0.2
    on_post = raised > 1e-6
    assert np.abs(raised[~on_post]).max() < 1e-6
    assert 0.22 < on_post.mean() < 0.38
    assert 0.05 <= raised[on_post].min() < 0.08 < 0.27 < raised[on_post].max() <= 0.3 + 1e-6
    np.testing.assert_allclose(posts.height[:, 0], np.where(on_post, raised, 0), atol=1e-6)
    np.testing.assert_array_equal(posts.radius[:, 0] > 0, on_post)
    assert posts.radius.max() < 0.5 * radius.min()
    hue, saturation, value = np.array([rgb_to_hsv(*color) for color in balls.color[:, 0]]).T
    for found, low, high in ((hue, 0.09, 0.17), (saturation, 0.75, 1.0), (value, 0.7, 1.0)):
        assert low - 1e-6 <= found.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < found.max() <= high + 1e-6
    assert abs(np.corrcoef(hue, radius)[0, 1]) < 0.15


def test_the_motion_is_the_difference_of_poses(rover: Robot):
    """Along the axes of before, over the angle where headings wrap; 0 when an episode begins."""
    scenario, scenes, pose = scattered(rover, 3)
    rng = np.random.default_rng(4)
    pose[:, 2] = [3.0, -3.1, 0.4]
    scenario.update(standing(pose[:, :2], pose[:, 2]), rng)
    for _ in range(6):
        motion = rng.uniform([-0.05, -0.03, -0.5], [0.2, 0.03, 0.9], (3, 3))
        for robot in range(3):
            along = np.exp(1j * pose[robot, 2]) * complex(*motion[robot, :2])
            pose[robot] += [along.real, along.imag, motion[robot, 2]]
        scenario.update(standing(pose[:, :2], pose[:, 2]), rng)
        np.testing.assert_allclose(scenario.state().motion, motion, atol=2e-6)
    held = scenario.state().motion
    copy = held.copy()
    scenario.reset(np.array([1]), scenes[[1]], np.zeros(1, int), rng)
    np.testing.assert_array_equal(held, copy)
    assert scenario.state().motion.any(1).tolist() == [True, False, True]


def test_the_first_motion_is_from_the_start(rover: Robot):
    """Of each robot to where it was after a step."""
    scenario, _, starts = scattered(rover, 2)
    turned = starts[:, 2] + [0.3, -0.2]
    ahead = np.column_stack([np.cos(starts[:, 2]), np.sin(starts[:, 2])])
    scenario.update(standing(starts[:, :2] + ahead * [[0.1], [-0.05]], turned), np.random.default_rng(0))
    np.testing.assert_allclose(scenario.state().motion, [[0.1, 0, 0.3], [-0.05, 0, -0.2]], atol=1e-6)


def test_who_has_the_ball_in_sight_is_told(rover: Robot, room_scene: SimScene):
    """As triangles say that are crossed one by one."""
    scenario = FindScenario(Floors([room_scene], rover), 60, 0.2, min_length=0.8)
    nothing = np.zeros(60, int)
    starts = scenario.reset(np.arange(60), nothing, nothing, np.random.default_rng(3))
    eyes = starts.position + np.array([0, 0, rover.base_from_camera.translation[2]])
    centers = scenario.props().balls.center[:, 0]
    expected = [not blocked(room_scene.collision, *ends) for ends in zip(eyes, centers, strict=True)]
    np.testing.assert_array_equal(scenario.state().in_sight, expected)
    assert 0 < np.mean(expected) < 1


def test_odometry_is_seen(room_scene: SimScene):
    """Beside images with depths; by it a robot that turns as it drives is where the simulator has it."""
    env = sim.make("find", [room_scene], 2, seed=4)
    seen, _ = env.reset(seed=4)
    assert not seen["odometry"].any()
    assert seen["depth"].shape == (2, 48, 96)
    assert env.now
    place, heading = env.now.state.planar[:, 0] + 1j * env.now.state.planar[:, 1], env.now.state.planar[:, 2].copy()
    action = env.controller.velocities.actions(np.array([0.06, -0.04]), np.array([1.2, -0.7]))  # type: ignore[union-attr]
    for _ in range(4):
        seen, _, ended, _, _ = env.step(action)
        assert not ended.any()
        place = place + np.exp(1j * heading) * (seen["odometry"][:, 0] + 1j * seen["odometry"][:, 1])
        heading = heading + seen["odometry"][:, 2]
    planar = env.now.state.planar
    np.testing.assert_allclose(place, planar[:, 0] + 1j * planar[:, 1], atol=1e-4)
    np.testing.assert_allclose(np.exp(1j * heading), np.exp(1j * planar[:, 2]), atol=1e-4)
    assert np.ptp(heading) > 0.3
    env.close()


def test_a_scene_that_is_too_small_is_refused(rover: Robot):
    """With its name, when an episode would begin there."""
    scenario = FindScenario(Floors([floor_scene(np.ones((5, 6), bool))], sized(rover, 0.2)), 2, 0.2, min_length=2.5)
    with pytest.raises(SimError, match=r"no start 2\.5 m from .* goals of floor@1\.0\.0") as error:
        scenario.reset(np.arange(2), np.zeros(2, int), np.zeros(2, int), np.random.default_rng(0))
    assert "min_length" in error.value.remedy


def test_a_large_scene_leaves_the_others_small(rover: Robot):
    """Of sixteen and one ten times as long and wide, each has its own size, also where episodes are saved."""
    large = floor_scene(np.ones((340, 200), bool))
    floors = Floors([*[place()] * 16, large], sized(rover, 0.2))
    assert len(floors.height.values) == len(floors.price.values) == 16 * 34 * 20 + 340 * 200
    scenario, everyone = FindScenario(floors, 8, 0.2, min_length=0.9), np.arange(8)
    rng = np.random.default_rng(0)
    scenario.reset(everyone, everyone, np.zeros(8, int), rng)
    assert scenario.arrays()["_fields.distance"].size == 8 * 34 * 20
    scenario.reset(everyone[:1], np.array([16]), np.zeros(1, int), rng)
    assert scenario.arrays()["_fields.distance"].size == 7 * 34 * 20 + 340 * 200
    goal, kept = scenario.state().goal[0], scenario.state().length[1:]
    assert np.linalg.norm(goal - centre(170, 100)) < 20
    scenario.reset(everyone[:1], np.array([0]), np.zeros(1, int), rng)
    assert scenario.arrays()["_fields.distance"].size == 8 * 34 * 20
    np.testing.assert_array_equal(scenario.state().length[1:], kept)
