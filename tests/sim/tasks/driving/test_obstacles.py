"""Ways among posts and over costly floor."""

from __future__ import annotations

import numpy as np

from pipeline.regions.params import Area
from sim.robots.model import Robot
from sim.scene.floors import Floors
from sim.scene.scene import SimScene
from sim.tasks.driving.obstacles import FREE, GAP, PATCH_COST, ObstacleScenario
from tests.sim.floors import CELL, centre, floor_scene, sized, standing

RADIUS = 0.2


def laid(rover: Robot, scene: SimScene, count: int, posts: int, patches: int, seed: int = 0) -> tuple:
    """A scenario with all episodes begun, and their starts (N, 2)."""
    scenario = ObstacleScenario(
        Floors([scene], sized(rover, RADIUS)),
        count,
        0.2,
        min_length=1.2,
        ball_color=(0.1, 0.7, 0.2),
        posts=posts,
        patches=patches,
    )
    nothing = np.zeros(count, int)
    starts = scenario.reset(np.arange(count), nothing, nothing, np.random.default_rng(seed))
    return scenario, starts.position[:, :2]


def hall() -> SimScene:
    """3.6 x 2.4 m with a wall that leaves a door of 0.9 m, in which a post stands in the way."""
    free = np.ones((36, 24), bool)
    free[17, :15] = False
    return floor_scene(free, goals=(tuple(centre(30, 5)), tuple(centre(4, 18))))


def test_posts_stand_off_start_and_goal(rover: Robot):
    """With the room that is promised, and on the floor."""
    scenario, starts = laid(rover, hall(), 300, 6, 0)
    posts = scenario.props().posts
    there = posts.radius > 0
    for ends in (starts, scenario.state().goal):
        room = np.linalg.norm(posts.foot[..., :2] - ends[:, None], axis=-1) - posts.radius - RADIUS
        assert room[there].min() >= FREE
        assert room[there].min() < FREE + 0.1  # no further off than needed
    assert there.sum(1).max() == 6
    assert there.sum(1).mean() > 3
    np.testing.assert_allclose(posts.foot[..., 2], 0.2, atol=1e-6)


def test_posts_leave_a_way_that_is_wide_enough(rover: Robot):
    """In a hall where most draws would close the door: brute force on the free cells leads from start to goal."""
    scenario, starts = laid(rover, hall(), 100, 6, 0)
    posts, goals = scenario.props().posts, scenario.state().goal
    free = hall().regions.drivable
    centres = hall().regions.centres()
    detours = 0
    for env in range(100):
        gap = np.linalg.norm(centres[:, :, None] - posts.foot[env, :, :2], axis=-1) - posts.radius[env] - RADIUS
        open_ = free & (np.where(posts.radius[env] > 0, gap, np.inf).min(-1) >= GAP)
        reached = np.zeros(free.shape, bool)
        cell = tuple(np.floor((goals[env] - hall().regions.origin) / CELL).astype(int))
        reached[cell] = True
        while True:
            padded = np.pad(reached, 1)
            around = [padded[1 + i : 37 + i, 1 + j : 25 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)]
            wider = open_ & np.any(around, axis=0)
            if (wider == reached).all():
                break
            reached = wider
        start = tuple(np.floor((starts[env] - hall().regions.origin) / CELL).astype(int))
        assert reached[start]
        assert np.isfinite(scenario.state().length[env])
        detours += int((~open_ & free).any())
    assert detours > 90


def test_where_no_posts_leave_a_way_there_are_none(rover: Robot):
    """A corridor in which every post closes the way, but for those beyond its ends."""
    free = np.zeros((60, 3), bool)
    free[:, 1] = True
    scenario, starts = laid(rover, floor_scene(free), 200, 8, 0)
    posts, goal = scenario.props().posts, scenario.state().goal
    low, high = np.minimum(starts[:, :1], goal[:, :1]), np.maximum(starts[:, :1], goal[:, :1])
    between = (posts.foot[..., 0] > low) & (posts.foot[..., 0] < high) & (posts.radius > 0)
    assert not between.any()
    assert np.isfinite(scenario.state().length).all()


def test_the_ball_lies_anywhere(rover: Robot):
    """Not where the scene has its goals: knowing the place is not knowing where to drive. As far away as it says."""
    scenario, starts = laid(rover, floor_scene(np.ones((36, 24), bool), goals=(tuple(centre(30, 5)),)), 300, 0, 0)
    goals = scenario.state().goal
    assert len(np.unique(goals.round(3), axis=0)) > 150
    assert np.ptp(goals, axis=0).min() > 2
    straight = np.linalg.norm(starts - goals, axis=1)
    assert straight.min() > 1.2 / 1.09  # a path along eight neighbours is longer by 8 % at most
    assert straight.min() < 1.3
    np.testing.assert_allclose(scenario.props().balls.center[:, 0, :2], goals, atol=1e-6)


def test_clearance_is_measured_from_the_robots_rim(rover: Robot):
    """Beside a post at a known distance; with no post it is without end."""
    scenario, _ = laid(rover, hall(), 3, 1, 0, seed=4)
    posts, rng = scenario.props().posts, np.random.default_rng(0)
    assert (posts.radius[:2] > 0).all()
    xy = posts.foot[:, 0, :2] + np.array([[0.3, 0.4], [0.03, -0.04], [1, 1]])
    scenario._post_radius[2] = 0
    scenario.update(standing(xy, np.zeros(3)), rng)
    found = scenario.state().clearance
    expected = np.array([0.5, 0.05]) - posts.radius[:2, 0] - RADIUS
    np.testing.assert_allclose(found[:2], expected, atol=1e-6)
    assert found[1] < 0 < found[0]
    assert np.isinf(found[2])


def test_patches_and_the_bundles_areas_cost(rover: Robot):
    """By the second, where the robot's middle is; both together where they lie on each other."""
    free = np.ones((36, 24), bool)
    number = np.full(free.shape, -1)
    number[:20] = 0
    area = Area(name="oil", polygon=((0, 0), (1, 0), (0, 1)), cost=2.5)
    scene = floor_scene(free, goals=(tuple(centre(30, 5)),), areas=(area,), area=number)
    scenario, _ = laid(rover, scene, 3, 0, 1)
    scenario._patch[:, 0, :2], scenario._patch_radius[:] = centre(10, 10), 0.3
    xy = np.array([centre(10, 10), centre(10, 10), centre(25, 20)]) + np.array([[0.2, 0.2], [0.25, 0.2], [0, 0]])
    scenario.update(standing(xy, np.zeros(3)), np.random.default_rng(0))
    np.testing.assert_allclose(scenario.state().cost, [2.5 + PATCH_COST, 2.5, 0], atol=1e-6)


def test_the_way_leads_round_a_patch(rover: Robot):
    """Where that is shorter than thrice the way across; so driving round is progress."""
    free = np.ones((36, 24), bool)
    scene = floor_scene(free)
    scenario, starts = laid(rover, scene, 200, 0, 3)
    straight, _ = laid(rover, scene, 200, 0, 0)
    assert (starts == laid(rover, scene, 200, 0, 0)[1]).all()
    longer = scenario.state().length - straight.state().length
    assert longer.min() > -1e-5
    assert 0.2 < (longer > 0.05).mean() < 0.9
    patch, radius = scenario.props().patches.center[..., :2], scenario.props().patches.radius
    across = (np.linalg.norm(patch - starts[:, None], axis=-1) < radius).any(1)
    env = int(np.flatnonzero(across)[0])
    inside = scenario.path_length(starts[env : env + 1], np.array([env]))[0]
    assert inside > straight.state().length[env]


def test_same_seed_same_posts(rover: Robot):
    """And others for another."""
    one, two, other = (laid(rover, hall(), 20, 4, 2, seed)[0].props() for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.posts.foot, two.posts.foot)
    np.testing.assert_array_equal(one.patches.radius, two.patches.radius)
    assert (one.posts.foot != other.posts.foot).any()
