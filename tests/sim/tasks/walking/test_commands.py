"""Velocity commands on stairs."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import SimError
from sim.controlled import find_robot
from sim.robots.legs import highest_step
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.scene.floors import Floors
from sim.tasks.catalog import find_task
from sim.tasks.walking.commands import HEADINGS, HOLD, RISES, CommandScenario, arc, tracking
from tests.sim.floors import centre, floor_scene, sized, standing

RADIUS, AHEAD = 0.25, 1.2


def stairs() -> np.ndarray:
    """Heights (50, 30): level up to x = 25 cells, then steps of 0.17 m every 4 cells along +x, over y of 8..22 only."""
    height = np.full((50, 30), 0.2)
    steps = 0.17 * np.clip((np.arange(50) - 21) // 4, 0, None)
    height[:, 8:22] += steps[:, None]
    height[25:, :8], height[25:, 22:] = np.nan, np.nan
    return height


def scenario_on(rover: Robot, height: np.ndarray, count: int) -> CommandScenario:
    """All that is floor is walkable."""
    scene = floor_scene(np.isfinite(height) & (height < 0.3), height=height, walkable=np.isfinite(height))
    return CommandScenario(Floors([scene], sized(rover, RADIUS)), count, 0.02, ahead=AHEAD)


def test_levels_start_before_more_and_more_steps(rover: Robot):
    """On level floor, heading up: straight ahead the floor rises by what the level asks for."""
    scenario = scenario_on(rover, stairs(), 400)
    levels = np.arange(400) % len(RISES)
    starts = scenario.reset(np.arange(400), np.zeros(400, int), levels, np.random.default_rng(1))
    way = np.linspace(0, AHEAD, 40)[:, None] * np.stack([np.cos(starts.yaw), np.sin(starts.yaw)], -1)[:, None]
    i, j = scenario.floors.cells(np.zeros(400, int)[:, None], starts.position[:, None, :2] + way)
    along = scenario.floors.height[0, i, j]
    rise = np.nanmax(along, axis=1) - along[:, 0]
    assert np.isfinite(along).mean() > 0.985  # but for corners of cells: starts are not at the centres of theirs
    assert (np.nanmin(along, axis=1) > along[:, 0] - 0.05).all()
    for level, expected in enumerate((0, 0.17, 0.34, 0.51)):
        off = np.abs(rise[levels == level] - expected)
        assert (off < 1e-3).mean() > 0.9  # others begin at the edge of their cell, or a little turned
    np.testing.assert_allclose(starts.position[:, 2], along[:, 0] + rover.base_height, atol=1e-5)


def test_a_level_that_a_scene_lacks_is_as_the_next_easier(rover: Robot):
    """On level floor all are."""
    scenario = scenario_on(rover, np.full((30, 30), 0.2), 60)
    scenario.reset(np.arange(60), np.zeros(60, int), np.arange(60) % len(RISES), np.random.default_rng(1))
    one, *others = scenario._starts[0]
    assert all(other is one for other in others)


def test_starts_stand_on_level_floor(rover: Robot):
    """No step within the robot's radius along its heading."""
    scenario = scenario_on(rover, stairs(), 300)
    starts = scenario.reset(np.arange(300), np.zeros(300, int), np.full(300, 3), np.random.default_rng(2))
    near = np.linspace(-RADIUS, RADIUS, 21)[:, None] * np.stack([np.cos(starts.yaw), np.sin(starts.yaw)], -1)[:, None]
    i, j = scenario.floors.cells(np.zeros(300, int)[:, None], starts.position[:, None, :2] + near * 0.8)
    assert np.ptp(scenario.floors.height[0, i, j], axis=1).max() < 0.05


def test_the_first_command_leads_over_the_way_ahead(rover: Robot):
    """Straight on, as long as that takes; then another comes, whose arc keeps to the floor."""
    scenario, rng = scenario_on(rover, stairs(), 60), np.random.default_rng(3)
    starts = scenario.reset(np.arange(60), np.zeros(60, int), np.zeros(60, int), rng)
    first = scenario.state().command
    assert (first[:, 1:] == 0).all()
    assert 0.3 <= first[:, 0].min() <= first[:, 0].max() <= 0.6
    ends = starts.position[:, :2] + AHEAD * np.stack([np.cos(starts.yaw), np.sin(starts.yaw)], -1)
    state, changed = standing(ends, starts.yaw), np.zeros(60)
    for step in range(1, 220):
        scenario.update(state, rng)
        now = scenario._command  # without the correction of the heading, for nobody turns here
        changed = np.where((changed == 0) & (now[:, 0] != first[:, 0]), step, changed)
    np.testing.assert_allclose(changed * 0.02, AHEAD / first[:, 0], atol=0.021)
    arcs = ends[:, None] + arc(now[:, 0], now[:, 1], starts.yaw, HOLD * np.linspace(0, 1, 50))
    i, j = scenario.floors.cells(np.zeros(60, int)[:, None], arcs)
    moving = now[:, 0] > 0
    assert scenario.floors.walkable[0, i, j][moving].mean() > 0.99
    assert moving.sum() > 30
    assert (np.abs(now[~moving, 1]) > 0.5).all()  # where no arc was free they turn


def test_of_several_commands_one_is_taken_that_keeps_to_the_floor(rover: Robot):
    """Along an edge to the right: nobody is to turn over it, and hardly anybody must turn on the spot."""
    height = np.full((60, 40), 0.2)
    height[:, :6] = np.nan
    scenario, rng, yaw = scenario_on(rover, height, 80), np.random.default_rng(3), np.full(80, 0.05)
    xy = np.tile(centre(12, 8), (80, 1))
    command = scenario._next_commands(np.arange(80), xy, yaw, rng)
    assert (command[:, 0] > 0).mean() > 0.9
    arcs = xy[:, None] + arc(command[:, 0], command[:, 1], yaw, HOLD * np.linspace(0, 1, 50))
    assert arcs[..., 1].min() > centre(0, 6)[1] - 0.06


def test_who_was_at_the_end_of_the_way_ahead_has_arrived(rover: Robot):
    """Within the robot's radius of it, once and for good; new episodes forget it."""
    scenario = scenario_on(rover, stairs(), 3)
    everyone, none = np.arange(3), np.zeros(3, int)
    rng = np.random.default_rng(2)
    starts = scenario.reset(everyone, none, none, rng)
    ahead = np.column_stack([np.cos(starts.yaw), np.sin(starts.yaw)])
    aside = np.column_stack([-ahead[:, 1], ahead[:, 0]])
    far = np.array([AHEAD + 0.9 * RADIUS, AHEAD - 1.1 * RADIUS, AHEAD])[:, None]
    left = np.array([0, 0, 1.1 * RADIUS])[:, None]
    scenario.update(standing(starts.position[:, :2] + far * ahead + left * aside, starts.yaw), rng)
    assert scenario.state().arrived.tolist() == [True, False, False]
    scenario.update(standing(starts.position[:, :2], starts.yaw), rng)
    assert scenario.state().arrived.tolist() == [True, False, False]
    scenario.reset(everyone[:1], none[:1], none[:1], rng)
    assert not scenario.state().arrived.any()


def test_arcs_are_those_of_a_robot_that_drives_and_turns():
    """Against small steps."""
    speed, turn, yaw = np.array([0.5, 0.3]), np.array([0.6, 0.0]), np.array([0.7, -2.0])
    times = np.linspace(0, 3, 3001)
    heading = yaw[:, None] + turn[:, None] * (times[:-1] + times[1:]) / 2
    steps = speed[:, None, None] * np.diff(times)[:, None] * np.stack([np.cos(heading), np.sin(heading)], -1)
    np.testing.assert_allclose(arc(speed, turn, yaw, times)[:, 1:], steps.cumsum(1), atol=1e-5)


def test_velocity_is_that_along_the_heading(rover: Robot):
    """Whatever the height and the world's axes; who drives as told tracks with 1."""
    scenario, rng = scenario_on(rover, stairs(), 2), np.random.default_rng(4)
    scenario.reset(np.arange(2), np.zeros(2, int), np.zeros(2, int), rng)
    command = scenario.state().command
    yaw = np.array([2.0, -0.5])
    still = standing(np.array([centre(10, 10), centre(30, 12)]), yaw, z=0.2 + 0.3)
    along, across = np.stack([np.cos(yaw), np.sin(yaw)], -1), np.stack([-np.sin(yaw), np.cos(yaw)], -1)
    linear = np.zeros((2, 3), np.float32)
    linear[:, :2] = along * command[:, :1] * [[1], [0.5]] + 0.3 * across
    turning = np.array([[0.2, 0.1, 0.0], [0, 0, 0.4]], np.float32)
    state = RobotState(still.position, still.quaternion, linear, turning, still.joint_position, still.joint_velocity)
    scenario.update(state, rng)
    now = scenario.state()
    np.testing.assert_allclose(now.velocity, [[command[0, 0], 0], [command[1, 0] / 2, 0.4]], atol=1e-6)
    assert now.tracked[0] == pytest.approx(1, abs=1e-5)
    expected = np.exp(-((command[1, 0] / 2 / 0.25) ** 2)) * np.exp(-((0.4 / 0.25) ** 2))
    assert now.tracked[1] == pytest.approx(expected, abs=1e-5)
    assert tracking(np.array([[0.5, 0.1]], np.float32), np.array([[0.25, 0.1]], np.float32))[0, 0] == pytest.approx(
        np.exp(-1), rel=1e-5
    )
    np.testing.assert_allclose(now.height, [0.3, 0.3 - 0.17 * ((30 - 21) // 4)], atol=1e-5)


def test_who_needs_steps_refuses_scenes_that_have_none(rover: Robot):
    """Saying how many there are; one scene with steps is enough for all."""
    flat, stepped = (
        floor_scene(np.isfinite(height), height=height, walkable=np.isfinite(height))
        for height in (np.full((30, 30), 0.2), stairs())
    )
    robot = sized(rover, RADIUS)
    with pytest.raises(
        SimError, match=r"0 starts in front of a rise of 0\.05 m.*floor@1\.0\.0, [1-9]\d+ on horizontal floor"
    ):
        CommandScenario(Floors([flat, flat], robot), 1, 0.02, ahead=AHEAD, steps=True)
    CommandScenario(Floors([flat, stepped], robot), 1, 0.02, ahead=AHEAD, steps=True)
    assert find_task("climb").scenario.keywords["steps"]  # type: ignore[attr-defined]


def test_steps_too_high_for_the_legs_are_no_steps():
    """Told before training: those of a go2 are 0.3 m long."""
    go2 = sized(find_robot("go2")[0], RADIUS)
    assert 0.2 < highest_step(go2) < 0.25
    for scale, fits in ((1.0, True), (1.6, False)):
        height = scale * stairs()
        floors = Floors([floor_scene(height < 0.4, height=height, walkable=np.isfinite(height))], go2)
        if fits:
            CommandScenario(floors, 1, 0.02, ahead=AHEAD, steps=True)
            continue
        with pytest.raises(SimError, match=r"by steps of at most 0\.2\d m"):
            CommandScenario(floors, 1, 0.02, ahead=AHEAD, steps=True)


def test_floor_without_a_straight_way_is_refused(rover: Robot):
    """Naming the scene."""
    with pytest.raises(SimError, match=r"floor@1\.0\.0"):
        scenario_on(rover, np.full((6, 6), 0.2), 1)
    assert HEADINGS == 16


def test_who_drifts_is_turned_back(rover: Robot):
    """The yaw rate is corrected by the error of the heading, on the straight path ahead and on arcs."""
    scenario, rng = scenario_on(rover, stairs(), 2), np.random.default_rng(4)
    poses = scenario.reset(np.arange(2), np.zeros(2, int), np.zeros(2, int), rng)
    scenario.update(standing(poses.position[:, :2], poses.yaw + np.array([0.2, -0.4])), rng)
    np.testing.assert_allclose(scenario.state().command[:, 2], [-0.3, 0.6], atol=1e-5)
    assert (scenario.state().command[:, 1] == 0).all()
