"""What cameras of arms see: all that lies on the table, and what the fingers hold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pipeline.geometry import Camera
from pipeline.types import F64
from sim.controlled import find_robot
from sim.robots.catalog import PACKAGE
from sim.tasks.handling.arm_tasks import ARM_TASKS, THIRD, wrist_camera

if not PACKAGE.is_dir():
    pytest.skip("example-robot-data is not installed", allow_module_level=True)


def pixels(lens: object, points: F64) -> F64:
    """Pixels (P, 2) of points (P, 3) in a camera's axes; all are before it."""
    assert isinstance(lens, Camera)
    assert (points[:, 2] > 0.02).all()
    return points[:, :2] / points[:, 2:] * [lens.fx, lens.fy] + [lens.cx, lens.cy]


def test_the_third_camera_sees_where_everything_begins():
    """Corners of all areas are in its image, and none is at its edge."""
    areas = [item.area for task in ARM_TASKS for item in task.items]
    points = [(x, y, z) for area in areas for x, y in itertools.product(*area) for z in (0.0, 0.04)]
    assert THIRD.link_from_camera
    seen = pixels(THIRD.lens, THIRD.link_from_camera.inverse().apply(np.array(points)))
    assert seen.min() > 4
    assert seen.max() < 60


def test_the_wrist_camera_sees_between_the_fingers():
    """The place between the tips is in its image, at the middle from left to right, and so are the open tips."""
    robot, _ = find_robot("panda")
    camera, gripper = wrist_camera(robot), robot.gripper
    assert gripper
    assert camera.link == gripper.link
    assert camera.link_from_camera
    wide = gripper.widths[-1] / 2
    tips = gripper.link_from_hand.apply(np.array([[0, 0, 0], [0, wide, 0], [0, -wide, 0.0]]))
    middle, *both = pixels(camera.lens, camera.link_from_camera.inverse().apply(tips))
    assert middle[0] == pytest.approx(32)
    for place in (middle, *both):
        assert place.min() > 4
        assert place.max() < 60
