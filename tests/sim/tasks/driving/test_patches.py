"""Ways round yellow patches."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from pipeline.errors import SimError
from pipeline.regions.params import Area
from sim.robots.model import Robot
from sim.scene.floors import Floors, Split, held_out
from sim.scene.navigation import distances
from sim.scene.scene import SimScene
from sim.tasks.driving import patches
from sim.tasks.driving.patches import (
    CROSSING,
    FREE,
    GAP,
    MAX_DISTANCE,
    PRICE,
    RADIUS,
    ROOM,
    DeadReckoning,
    PatchScenario,
)
from tests.sim.floors import CELL, centre, floor_scene, sized, standing

ROBOT = 0.2
OIL = Area(name="oil", polygon=((0, 0), (1, 0), (0, 1)), cost=2.5)


def place(own: bool = False) -> SimScene:
    """5.6 x 4 m with a wall that has a door of 1 m, and a patch of its own on either side of the wall."""
    free = np.ones((56, 40), bool)
    free[27, :22], free[27, 32:] = False, False
    number = np.full(free.shape, -1)
    number[36:44, 12:20], number[8:14, 20:30] = 0, 0
    height = np.where(free, 0.2, np.nan)
    height[30:] += 0.03
    return floor_scene(free, height=height, areas=(OIL,) if own else (), area=number if own else None)


def laid(
    rover: Robot, scene: SimScene, count: int, crossing: float = 1.0, seed: int = 0, starts: Split = "all"
) -> tuple[PatchScenario, np.ndarray]:
    """A scenario with all episodes begun, and their starts (N, 2)."""
    robot = sized(rover, ROBOT)
    scenario = PatchScenario(
        Floors([scene], robot, starts), count, 0.2, min_length=1.2, max_length=5.0, crossing=crossing
    )
    nothing = np.zeros(count, int)
    starts = scenario.reset(np.arange(count), nothing, nothing, np.random.default_rng(seed))
    return scenario, starts.position[:, :2]


def over_patch(scenario: PatchScenario, scene: SimScene, env: int, xy: np.ndarray) -> np.ndarray:
    """Which places (K, 2) are on a patch of an environment (K,)."""
    (cells, inside), regions = scene.regions.cells_of(xy), scene.regions
    assert inside.all()
    own = regions.area[tuple(cells.T)] >= 0 if regions.areas else np.zeros(len(xy), bool)
    return own | near_paint(scenario, env, xy, 0)


def near_paint(scenario: PatchScenario, env: int, xy: np.ndarray, gap: float) -> np.ndarray:
    """Which places (..., 2) are nearer than that to the painted patch of an environment (...), or on it."""
    paint = scenario.props().patches
    center, radius = paint.center[env, 0, :2], paint.radius[env, 0]
    return (radius > 0) & (np.linalg.norm(xy - center, axis=-1) < radius + gap)


def near_patch(scenario: PatchScenario, scene: SimScene, env: int, gap: float) -> np.ndarray:
    """Which cells (X, Y) have their middle near a patch; of the scene's own patches, near a cell's middle."""
    regions = scene.regions
    centres = regions.centres()
    to_own = (
        cKDTree(centres[regions.area >= 0]).query(centres)[0] if regions.areas else np.full(centres.shape[:2], np.inf)
    )
    return near_paint(scenario, env, centres, gap) | (to_own < gap + 1e-6)


def crossed(scenario: PatchScenario, scene: SimScene, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far the straight ways lead over patches (N,) [m], and which of them lie on drivable floor (N,)."""
    length, free = np.zeros(len(starts)), np.zeros(len(starts), bool)
    for env, (start, goal) in enumerate(zip(starts, scenario.state().goal, strict=True)):
        way = start + np.linspace(0, 1, 400)[:, None] * (goal - start)
        cells, inside = scene.regions.cells_of(way)
        free[env] = inside.all() and scene.regions.drivable[tuple(cells.T)].mean() > 0.98  # but for corners of cells
        length[env] = over_patch(scenario, scene, env, way).mean() * np.linalg.norm(goal - start)
    return length, free


@pytest.mark.parametrize("own", [False, True])
def test_the_straight_way_crosses_a_patch(rover: Robot, own: bool):
    """And is free but for it: one of the scene's own, or one that is painted where there are none."""
    scene = place(own)
    scenario, starts = laid(rover, scene, 120)
    length, free = crossed(scenario, scene, starts)
    assert length.min() > CROSSING - 2 * CELL
    assert free.all()
    assert (np.linalg.norm(scenario.state().goal - starts, axis=1) > 1.2 - 1e-6).all()
    assert 4 < scenario.state().length.max() < 5 + 1e-4  # the room is large enough for longer ones
    radius = scenario.props().patches.radius[:, 0]
    assert (radius == 0).all() == own
    if not own:
        assert RADIUS[0] <= radius.min() < radius.max() <= RADIUS[1]
    assert len(np.unique(starts, axis=0)) > 90


def test_how_many_cross_can_be_told(rover: Robot):
    """Of the others some do by chance; all do from held-out starts, whatever was told."""
    scene = place()
    shares = []
    for crossing in (0.0, 0.6, 1.0):
        length, free = crossed(*_with(rover, scene, crossing))
        shares.append(((length > CROSSING - 2 * CELL) & free).mean())
    by_chance, some, every = shares
    assert by_chance < 0.2
    assert some == pytest.approx(0.6 + 0.4 * by_chance, abs=0.12)
    assert every == 1
    scenario, starts = laid(rover, scene, 100, crossing=0.0, starts="held_out")
    assert held_out(starts).all()
    assert crossed(scenario, scene, starts)[0].min() > CROSSING - 2 * CELL


def _with(rover: Robot, scene: SimScene, crossing: float) -> tuple[PatchScenario, SimScene, np.ndarray]:
    scenario, starts = laid(rover, scene, 200, crossing)
    return scenario, scene, starts


@pytest.mark.parametrize("crossing", [0.0, 1.0])
def test_a_way_without_a_patch_is_left(rover: Robot, crossing: float):
    """By flooding the floor that keeps off them: patches would often fill the door. Ends are further off."""
    scene = place(own=True)
    scenario, starts = laid(rover, scene, 100, crossing)
    for env, ends in enumerate(np.stack([starts, scenario.state().goal], 1)):
        start, goal = scene.regions.cells_of(ends)[0]
        parts, _ = ndimage.label(scene.regions.drivable & ~near_patch(scenario, scene, env, GAP), np.ones((3, 3)))
        assert parts[tuple(start)] == parts[tuple(goal)] > 0
        near_ends = near_patch(scenario, scene, env, ROBOT + FREE)
        assert not near_ends[tuple(start)]
        assert not near_ends[tuple(goal)]
        assert ndimage.distance_transform_edt(scene.regions.drivable)[tuple(goal)] * CELL - CELL / 2 > ROOM - 1e-6


def test_patches_make_the_way_longer(rover: Robot):
    """Against ways over floor with a price that was painted here."""
    scene = place(own=True)
    scenario, _ = laid(rover, scene, 12)
    centres, goals = scene.regions.centres(), scenario.state().goal
    for env in range(12):
        near = near_patch(scenario, scene, env, GAP)
        price = np.where(near, np.maximum(scenario.floors.price[0], PRICE), scenario.floors.price[0])
        source = np.linalg.norm(centres - goals[env], axis=-1) < CELL / 4
        expected = distances(price[None], source[None], np.array([CELL]))[0]
        np.testing.assert_allclose(scenario._fields.distance[env], expected, atol=1e-4)
        off_walls = ndimage.binary_erosion(scene.regions.drivable, np.ones((3, 3)))
        found = scenario.path_length(centres[off_walls], np.full(off_walls.sum(), env))
        np.testing.assert_allclose(found, expected[off_walls], atol=1e-4)


def test_who_enters_is_told_once(rover: Robot):
    """Painted or the scene's own; it counts for the episode, and the next one begins without."""
    scenario, _ = laid(rover, place(own=True), 3)
    scenario._patch[:, :2], scenario._radius[:] = centre(44, 30), 0.3
    rng, off = np.random.default_rng(0), centre(50, 5)
    painted, own = centre(46, 29), centre(43, 12)
    told = []
    for places in ([off, off, off], [painted, off, own], [painted, off, off], [painted, off, own]):
        scenario.update(standing(np.array(places), np.zeros(3)), rng)
        now = scenario.state()
        told.append([now.inside.tolist(), now.entering.tolist(), now.entered.tolist()])
    nobody, both = [False, False, False], [True, False, True]
    assert told[0] == [nobody, nobody, nobody]
    assert told[1] == [both, both, both]
    assert told[2] == [[True, False, False], nobody, both]
    assert told[3] == [both, nobody, both]
    scenario.reset(np.array([2]), np.zeros(1, int), np.zeros(1, int), rng)
    assert scenario.state().entered.tolist() == [True, False, False]


def test_the_nearest_place_on_a_patch(rover: Robot):
    """Of the painted one its rim, of an own one a cell's middle; 0 on them, and not what isn't painted."""
    scenario, _ = laid(rover, place(own=True), 4)
    scenario._patch[:, :2], scenario._radius[:] = centre(50, 34), 0.3
    scenario._radius[3] = 0
    xy = np.array([centre(50, 24), centre(41, 25), centre(51, 33), centre(50, 24)])
    scenario.update(standing(xy, np.zeros(4)), np.random.default_rng(0))
    to_own = centre(43, 19) - centre(50, 24)
    np.testing.assert_allclose(scenario.state().to_patch, [[0, 0.7], [0, -0.6], [0, 0], to_own], atol=1e-5)


def test_only_the_paint_is_seen(rover: Robot):
    """On the floor, as high as it is there; no ball tells where the goal is."""
    scenario, _ = laid(rover, place(), 60)
    props = scenario.props()
    assert props.balls.radius.shape == props.posts.radius.shape == (60, 0)
    beyond = props.patches.center[:, 0, 0] > centre(30, 0)[0] - CELL / 2
    np.testing.assert_allclose(props.patches.center[:, 0, 2], np.where(beyond, 0.23, 0.2), atol=1e-6)
    assert 0 < beyond.sum() < 60


def test_the_goal_is_known_by_odometry(rover: Robot):
    """Exactly at the start, and by what the robot believes to have driven later."""
    scenario, starts = laid(rover, place(), 40)
    now = scenario.state()
    away = np.linalg.norm(now.goal - starts, axis=1)
    np.testing.assert_allclose(now.believed[:, 0], np.minimum(away, MAX_DISTANCE), atol=1e-5)
    state, rng = standing(now.goal, np.zeros(40)), np.random.default_rng(2)
    scenario.update(state, rng)
    off = scenario.state().believed[:, 0]
    assert 0.01 < off.mean() < 0.3


def test_where_hardly_any_draw_does_one_that_is_known_does(rover: Robot, monkeypatch: pytest.MonkeyPatch):
    """With a single try, most episodes are of those; they all cross a patch."""
    scenario, _ = laid(rover, place(), 50)
    monkeypatch.setattr(patches, "TRIES", 1)
    starts = scenario.reset(np.arange(50), np.zeros(50, int), np.zeros(50, int), np.random.default_rng(3)).position
    assert crossed(scenario, place(), starts[:, :2])[0].min() > CROSSING - 2 * CELL
    ends = np.c_[starts[:, :2], scenario.state().goal]
    known = np.tile(centre(0, 0), 2) + (scenario._reserve[0][:, :4] - 0.5) * CELL
    of_those = (np.abs(ends[:, None] - known).max(-1) < 1e-6).any(1)
    assert 0.5 < of_those.mean() < 1


def test_scenes_without_room_are_refused(rover: Robot):
    """A corridor: any patch fills it. Naming the scene."""
    with pytest.raises(SimError, match=r"floor@1\.0\.0"):
        laid(rover, floor_scene(np.ones((60, 3), bool)), 1)


def test_same_seed_same_patches(rover: Robot):
    """And others for another."""
    one, two, other = (laid(rover, place(), 20, seed=seed)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.props().patches.center, two.props().patches.center)
    np.testing.assert_array_equal(one.state().goal, two.state().goal)
    assert (one.state().goal != other.state().goal).any()


PERIOD = 0.1


SCALE, TURN = 0.03, 0.02


def drive(reckoning: DeadReckoning, count: int, steps: int, step: float, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Robots that all go along the same arc from (1, -2), 0.4 rad; where they get, and with which heading."""
    rng = np.random.default_rng(5)
    xy, yaw = np.tile([1.0, -2.0], (count, 1)), np.full(count, 0.4)
    reckoning.reset(np.arange(count), xy, yaw, rng)
    for _ in range(steps):
        middle = yaw + turn / 2
        xy = xy + step * np.stack([np.cos(middle), np.sin(middle)], 1)
        yaw = (yaw + turn + np.pi) % (2 * np.pi) - np.pi
        reckoning.update(xy, yaw, rng)
    return xy, yaw


def test_without_errors_it_is_the_truth():
    """Along an arc that turns more than once, so that headings wrap."""
    reckoning = DeadReckoning(2, PERIOD, 0.0, 0.0)
    xy, yaw = drive(reckoning, 2, 90, 0.05, 0.11)
    np.testing.assert_allclose(reckoning.xy, xy, atol=1e-9)
    np.testing.assert_allclose(np.exp(1j * reckoning.yaw), np.exp(1j * yaw), atol=1e-9)


def test_it_drifts_as_much_as_it_says():
    """Straight on for 2 m the distance by its scale, turning on the spot the heading by scale and noise; mean right."""
    reckoning = DeadReckoning(4000, PERIOD, SCALE, TURN)
    xy, _ = drive(reckoning, 4000, 1, 2.0, 0.0)
    gone = np.linalg.norm(reckoning.xy - [1, -2], axis=1)
    assert gone.mean() == pytest.approx(2, abs=0.005)
    assert gone.std() == pytest.approx(2 * SCALE, rel=0.05)
    drive(reckoning, 4000, 50, 0.0, 0.06)
    assert reckoning.yaw.mean() == pytest.approx(0.4 + 3, abs=0.01)
    assert reckoning.yaw.std() == pytest.approx(np.hypot(3 * SCALE, TURN * np.sqrt(50 * PERIOD)), rel=0.05)
    drive(reckoning, 4000, 1, 2.0, 3.0)
    gone = np.linalg.norm(reckoning.xy - [1, -2], axis=1)
    assert abs(np.corrcoef(gone, reckoning.yaw)[0, 1]) < 0.1  # two errors, not one
    drive(reckoning, 4000, 1, 0.0, 0.0)
    assert np.abs(reckoning.xy - xy[0]).max() > 1  # an episode begins where the robot is, exactly
    np.testing.assert_allclose(reckoning.xy, np.tile([1, -2], (4000, 1)), atol=1e-12)


def test_errors_of_the_heading_bend_the_way():
    """Who believes to have turned by 0.2 rad goes 1 m on at that angle."""
    reckoning, rng = DeadReckoning(1, PERIOD, 0.0, 0.0), np.random.default_rng(0)
    reckoning.reset(np.zeros(1, int), np.array([[3.0, 1.0]]), np.array([2.0]), rng)
    reckoning.yaw = reckoning.yaw + 0.2
    reckoning.update(np.array([[3.0 + np.cos(2.0), 1.0 + np.sin(2.0)]]), np.array([2.0]), rng)
    np.testing.assert_allclose(reckoning.xy, [[3 + np.cos(2.2), 1 + np.sin(2.2)]], atol=1e-9)


def test_goals_as_they_seem():
    """To the left of one that looks along -x, behind another; far ones at most so far."""
    reckoning = DeadReckoning(3, PERIOD, SCALE, TURN)
    xy, yaw = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]), np.array([np.pi, 0.5, -3.0])
    reckoning.reset(np.arange(3), xy, yaw, np.random.default_rng(0))
    behind, far = -3 * np.array([np.cos(0.5), np.sin(0.5)]), 9 * np.array([np.cos(-2.6), np.sin(-2.6)])
    found = reckoning.towards(np.array([[1.0, -1.0], behind, far]))
    expected = [[2, 0, 1], [3, -1, 0], [MAX_DISTANCE, np.cos(0.4), np.sin(0.4)]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_episode_begins_for_one_robot_only():
    """The other's belief stays, with its errors."""
    reckoning = DeadReckoning(2, PERIOD, SCALE, TURN)
    drive(reckoning, 2, 20, 0.1, 0.05)
    believed = reckoning.xy.copy()
    reckoning.reset(np.array([1]), np.array([[7.0, 8.0]]), np.array([1.0]), np.random.default_rng(1))
    np.testing.assert_array_equal(reckoning.xy[0], believed[0])
    assert reckoning.xy[1].tolist() == [7, 8]
