"""Things on a table that have nothing to do with the task."""

from __future__ import annotations

import colorsys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry import Camera, Pose
from pipeline.types import F64
from sim.config import EnvConfig
from sim.controlled import find_robot
from sim.env import SceneEnv
from sim.randomisation import Randomisation
from sim.robots.catalog import PACKAGE
from sim.robots.model import Link, Robot
from sim.scene.floors import Floors
from sim.scene.scene import SimScene
from sim.sensors.cameras.body import body_of, draw_body
from sim.sensors.cameras.props import Solids
from sim.tasks.driving.driving_tasks import NAVIGATE
from sim.tasks.handling.arm_tasks import ARM_TASKS, BLUE, PUSH_TO_MARK, RED, THIRD
from sim.tasks.handling.distractors import HEIGHT, KINDS, distractors
from sim.tasks.handling.stations import work_of
from sim.tasks.handling.table import TableScenario
from sim.tasks.task import Task
from tests.sim.tasks.handling.test_table import PANDA, in_base

if not PACKAGE.is_dir():
    pytest.skip("example-robot-data is not installed", allow_module_level=True)

COUNT = 200


def begun(scene: SimScene, task: Task, number: int, seed: int = 0) -> tuple[TableScenario, Any]:
    """A scenario with distractors and its first episodes."""
    scenario = task.scenario(Floors([scene], PANDA), COUNT, 0.05)
    assert isinstance(scenario, TableScenario)
    scenario.vary(Randomisation(distractors=number, base_height=0.03), light=True)
    zeros = np.zeros(COUNT, int)
    return scenario, scenario.reset(np.arange(COUNT), zeros, zeros, np.random.default_rng(seed))


def radii() -> F64:
    """Of the circles around them (K,) [m]."""
    return np.array([np.linalg.norm(body.hulls[0][:, :2], axis=1).max() for body in distractors()])


KNOWN = [task for task in ARM_TASKS if not task.picks]
"""Those whose things are known."""


@pytest.mark.parametrize("task", KNOWN, ids=[task.name for task in KNOWN])
def test_they_lie_on_the_table_apart_from_everything(room_scene: SimScene, task: Task) -> None:
    """On the surface, the number that was asked for, nowhere near things, marks, and what is between those."""
    scenario, poses = begun(room_scene, task, 3)
    bodies, surface = poses.bodies, scenario.state().surface
    assert bodies.position.shape == (COUNT, KINDS + len(task.items), 3)
    lies = ~bodies.absent[:, :KINDS]
    assert not bodies.absent[:, KINDS:].any()
    assert lies.sum(1).max() == 3
    assert (lies.sum(1) == 3).mean() > 0.9
    assert lies.any(0).all()
    local = in_base(poses, bodies.position.astype(np.float64))
    own, things = local[:, :KINDS], local[:, KINDS:]
    np.testing.assert_allclose(own[..., 2][lies], np.tile(surface[:, None], (1, KINDS))[lies], atol=0.02)
    for axis in range(2):
        low, high = work_of(1.0)[axis]
        outer = own[..., axis][lies]
        assert low < outer.min()
        assert outer.max() < high
    edges = np.linalg.norm(own[:, :, None, :2] - things[:, None, :, :2], axis=3) - radii()[:, None]
    widths = np.array([item.grasp.width / 2 for item in task.items])
    assert (edges - widths)[lies].min() > 0.069
    between = np.linalg.norm(own[:, :, None, :2] - own[:, None, :, :2], axis=3) - radii() - radii()[:, None]
    pairs = lies[:, :, None] & lies[:, None] & ~np.eye(KINDS, dtype=bool)
    assert between[pairs].min() >= 0.0099
    if task is PUSH_TO_MARK:
        marks = scenario.state().mark[:, None, :2]
        for share in np.linspace(0, 1, 9):
            way = things[:, :1, :2] + share * (marks - things[:, :1, :2])
            assert (np.linalg.norm(own[..., :2] - way, axis=2) - radii())[lies].min() > 0.05


def test_equal_seeds_give_equal_distractors(room_scene: SimScene) -> None:
    """Places, turns and colours; other seeds give others, and without any there are no bodies."""
    (one, first), (two, again), (_, other) = (begun(room_scene, PUSH_TO_MARK, 2, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.bodies.position, again.bodies.position)
    np.testing.assert_array_equal(first.bodies.quaternion, again.bodies.quaternion)
    np.testing.assert_array_equal(one.props().solids.color, two.props().solids.color)
    assert (first.bodies.position[:, :KINDS] != other.bodies.position[:, :KINDS]).any((1, 2)).all()
    none, poses = begun(room_scene, PUSH_TO_MARK, 0)
    assert none.bodies == ()
    assert poses.bodies.position.shape == (COUNT, 1, 3)


def test_sizes_differ_and_colours_are_no_tasks(room_scene: SimScene) -> None:
    """Low things; hues between those of what tasks are about."""
    heights = [body.hulls[0][:, 2].max() for body in distractors()]
    assert HEIGHT[0] <= min(heights) < max(heights) - 0.015
    assert max(heights) <= HEIGHT[1]
    assert np.ptp(radii()) > 0.01
    colors = begun(room_scene, PUSH_TO_MARK, 4)[0].props().solids.color[:, :KINDS].reshape(-1, 3)
    assert colors.min() >= 0
    assert colors.max() <= 1
    own = np.array([colorsys.rgb_to_hsv(*color) for color in colors])
    assert own[:, 1].min() > 0.39
    for color in (RED, BLUE, (0.95, 0.8, 0.1)):
        apart = np.abs(own[:, 0] - colorsys.rgb_to_hsv(*color)[0])
        assert np.minimum(apart, 1 - apart).min() > 0.08


@pytest.mark.parametrize("task", KNOWN, ids=[task.name for task in KNOWN])
def test_they_hide_nothing_from_the_third_camera(room_scene: SimScene, task: Task) -> None:
    """Of each thing at least 90 % of the pixels are seen as without them."""
    base = Link("base", -1, Pose.identity(), 1.0, Pose.identity(), np.ones(3), None, ())
    robot = Robot("r", Path("r.xml"), (base,), (), np.zeros(0), 0.0, 1.0, 1.0, Pose.identity())
    assert THIRD.link_from_camera
    lens, bodies = Camera(320, 320, 310.0, 310.0, 160.0, 160.0), (*distractors(), *(item.body for item in task.items))
    _, poses = begun(room_scene, task, 4)
    turn = np.tile(np.eye(4), (COUNT, 1, 1))
    turn[:, :2, :2] = np.moveaxis(
        np.array([[np.cos(poses.yaw), -np.sin(poses.yaw)], [np.sin(poses.yaw), np.cos(poses.yaw)]]), 2, 0
    )
    turn[:, :3, 3] = poses.position
    cameras = turn @ THIRD.link_from_camera.matrix
    colors = np.zeros((COUNT, len(bodies), 3))
    colors[:, KINDS:] = np.eye(3)[: len(task.items)]
    links = np.tile(Pose(np.eye(3), np.array([0, 0, -50.0])).matrix, (COUNT, 1, 1, 1))
    seen = []
    for first in (0, KINDS):
        rgb, depth = np.zeros((COUNT, 320, 320, 3), np.float32), np.zeros((COUNT, 320, 320), np.float32)
        solids = Solids(poses.bodies.world_from_bodies[:, first:], colors[:, first:])
        draw_body(rgb, depth, body_of(robot, [body.hulls for body in bodies[first:]]), links, cameras, lens, solids)
        seen.append((rgb > 0).sum((1, 2))[:, : len(task.items)])
    assert seen[1].min() > 200
    assert (seen[0] / seen[1]).min() > 0.9


def test_other_tasks_have_no_tables(room_scene: SimScene) -> None:
    """It is said, not ignored."""
    make = partial(SceneEnv, NAVIGATE, [room_scene], *find_robot("rover"), 2)
    for settings in (Randomisation(distractors=1), Randomisation(base_height=0.02)):
        with pytest.raises(SimError, match=r"(?s)arms at tables.*without tables"):
            make(EnvConfig(cameras=(), randomisation=settings))
