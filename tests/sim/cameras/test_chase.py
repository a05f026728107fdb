"""Pictures of a robot from behind and above."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry import Camera, Gaussians, Mesh
from sim.cameras.body import COLOR
from sim.cameras.chase import AHEAD, ARM, CLEAR, ELEVATIONS, ChaseCamera, between
from sim.cameras.things import Balls, Patches, Posts, Things
from sim.physics.state import RobotState
from sim.robots.model import Robot
from sim.scene import SimScene
from tests.sim.floors import floor_scene, standing

LENS = Camera(80, 60, 50.0, 50.0, 40.0, 30.0)
PLACE, YAW = np.array([[0.7, 2.1]]), np.array([0.6])
BACK = -np.array([np.cos(0.6), np.sin(0.6), 0.0])
NOW = 0.04  # [s]


def wall_behind(distance: float, top: float) -> Mesh:
    """A wall 4 m wide across the way behind the robot, up to that height."""
    side = np.array([-BACK[1], BACK[0], 0.0])
    foot = np.array([*PLACE[0], 0.0]) + distance * BACK
    corners = [foot + 2 * side, foot - 2 * side, foot - 2 * side + [0, 0, top], foot + 2 * side + [0, 0, top]]
    return Mesh.from_arrays(np.array(corners), np.array([[0, 1, 2], [0, 2, 3]]))


def blobs(places: np.ndarray, size: float, harmonics: np.ndarray) -> Gaussians:
    """Opaque round ones at places (N, 3) [m], with spherical harmonics (N, 3)."""
    count = len(places)
    return Gaussians(
        places.astype(np.float32),
        np.full((count, 3), np.log(size), np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.full(count, 9.0, np.float32),
        harmonics[:, None].astype(np.float32),
    )


def scene(mesh: Mesh | None = None) -> SimScene:
    """A floor; all that would be seen of it lies far behind the camera."""
    unseen = blobs(np.array([[0, 0, 0.2]]) + 30 * BACK, 0.1, np.zeros((1, 3)))
    return replace(floor_scene(np.ones((30, 40), bool), mesh=mesh), gaussians=unseen)


def middle(robot: Robot) -> np.ndarray:
    """Of the robot that stands at the place."""
    return np.array([*PLACE[0], 0.2 - robot.base_height + robot.height / 2])


def test_it_looks_on_from_behind_and_above(rover: Robot):
    """Level, an arm away, at what is just before the robot, which is drawn below the middle of the picture."""
    camera = ChaseCamera(rover, [scene()], lens=LENS)
    state = standing(PLACE, YAW)
    pose = camera.follow(state, 0, NOW)
    away = pose[:3, 3] - middle(rover)
    np.testing.assert_allclose(np.linalg.norm(away), ARM + rover.radius, atol=1e-6)
    np.testing.assert_allclose(away[:2] / np.linalg.norm(away[:2]), BACK[:2], atol=1e-6)
    np.testing.assert_allclose(np.arcsin(away[2] / np.linalg.norm(away)), ELEVATIONS[0], atol=1e-6)
    np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-9)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    assert pose[2, 0] == pytest.approx(0)  # the picture's x axis is level,
    assert pose[2, 1] < -0.8  # and its y axis points down
    seen = pose[:3, :3].T @ (middle(rover) - AHEAD * BACK - pose[:3, 3])
    np.testing.assert_allclose(seen[:2], 0, atol=1e-6)
    picture = camera.shoot(state, 0, Things.none(1), NOW)[0]
    rows, columns = np.nonzero(picture.any(-1))
    assert picture.shape == (60, 80, 3)
    assert abs(columns.mean() + 0.5 - LENS.cx) < 1
    assert LENS.cy < rows.mean() < 45
    assert (picture[rows, columns, 0] > picture[rows, columns, 2] + 30).all()
    assert COLOR[0] > COLOR[2]


def test_it_stays_on_the_robots_side_of_walls(rover: Robot):
    """Before a high wall the arm is short, at the elevation that leaves most of it."""
    camera = ChaseCamera(rover, [scene(wall_behind(0.5, 3.0))], lens=LENS)
    pose = camera.follow(standing(PLACE, YAW), 0, NOW)
    away = pose[:3, 3] - middle(rover)
    assert away[:2] @ BACK[:2] < 0.5
    assert np.arcsin(away[2] / np.linalg.norm(away)) == pytest.approx(ELEVATIONS[-1])
    np.testing.assert_allclose(
        np.linalg.norm(away), min(ARM + rover.radius, 0.5 / np.cos(ELEVATIONS[-1]) - CLEAR), atol=1e-4
    )


def test_it_looks_over_low_walls(rover: Robot):
    """No higher than it takes, with the whole arm."""
    camera = ChaseCamera(rover, [scene(wall_behind(0.5, 0.9))], lens=LENS)
    away = camera.follow(standing(PLACE, YAW), 0, NOW)[:3, 3] - middle(rover)
    assert np.arcsin(away[2] / np.linalg.norm(away)) == pytest.approx(ELEVATIONS[2])
    assert np.linalg.norm(away) == pytest.approx(ARM + rover.radius)


def test_it_follows_turns_slowly(rover: Robot):
    """The short way round; after a cut it is straight behind at once."""
    camera = ChaseCamera(rover, [scene()], lens=LENS)

    def heading(yaw: float) -> float:
        axis = camera.follow(standing(PLACE, np.array([yaw])), 0, 0.2)[:3, 2]
        return float(np.arctan2(axis[1], axis[0]))

    assert heading(3.0) == pytest.approx(3.0)
    turned = heading(-3.0)
    assert 3.0 < turned < np.pi or turned < -3.0
    for _ in range(20):
        turned = heading(-3.0)
    assert turned == pytest.approx(-3.0, abs=0.01)
    camera.cut()
    assert heading(1.0) == pytest.approx(1.0)


def test_a_wall_shortens_the_arm_at_once_and_it_grows_slowly(rover: Robot):
    """Nothing of the wall comes between; behind it the view doesn't jump."""
    free, walled = scene(), scene(wall_behind(0.5, 3.0))
    camera = ChaseCamera(rover, [free, walled], lens=LENS)
    state = standing(PLACE, YAW)
    lengths = [np.linalg.norm(camera.follow(state, number, NOW)[:3, 3] - middle(rover)) for number in (0, 1, 0, 0)]
    assert lengths[0] == pytest.approx(ARM + rover.radius)
    assert lengths[1] < 0.5
    assert lengths[1] < lengths[2] < lengths[3] < lengths[0]


def test_haze_near_the_camera_is_not_drawn(rover: Robot):
    """Gaussians between the camera and the robot don't hide it, those behind it are seen."""
    eye = ChaseCamera(rover, [scene()], lens=LENS).follow(standing(PLACE, YAW), 0, NOW)[:3, 3]
    places = np.array([0.7 * eye + 0.3 * middle(rover), middle(rover) - 1.5 * BACK])
    splat = blobs(places, 0.2, np.array([[-1.5, -1.5, 1.5], [-1.5, 1.5, -1.5]]))
    picture = ChaseCamera(rover, [scene()], [splat], LENS).shoot(standing(PLACE, YAW), 0, Things.none(1), NOW)[0]
    red, green, blue = picture.astype(int).transpose(2, 0, 1)
    assert not ((blue > red + 20) & (blue > green + 20)).any()
    assert (green > red + 60).sum() > 50
    assert (red > blue + 60).sum() > 50


def test_a_tasks_things_are_there(rover: Robot):
    """A red ball ahead of the robot and to its left is above it and to the left of it in the picture."""
    left = np.array([BACK[1], -BACK[0], 0.0])
    center = middle(rover) - 1.2 * BACK + 0.6 * left
    ball = Balls(center[None, None], np.array([[0.15]]), np.array([[[1.0, 0.0, 0.9]]]))
    things = Things(ball, Posts.none(1), Patches.none(1))
    picture = ChaseCamera(rover, [scene()], lens=LENS).shoot(standing(PLACE, YAW), 0, things, NOW)[0]
    rows, columns = np.nonzero(picture[..., 2] > picture[..., 1].astype(int) + 60)
    assert len(rows) > 10
    assert rows.max() < LENS.cy + 5
    assert columns.max() < LENS.cx


def test_a_robot_is_shown_on_its_way_between_two_steps():
    """Halfway in place, heading and joints, also where the quaternions of one rotation have other signs."""
    before = standing(np.array([[1.0, 2.0]]), np.array([0.2]))
    after = standing(np.array([[1.4, 1.8]]), np.array([0.6]))
    flipped = replace(after, quaternion=-after.quaternion, joint_position=np.array([[0.5, -1.0]], np.float32))
    moments: RobotState = between(before, flipped, np.array([0.5, 1.0]))
    np.testing.assert_allclose(moments.position[:, :2], [[1.2, 1.9], [1.4, 1.8]], atol=1e-6)
    np.testing.assert_allclose(moments.joint_position, [[0.25, -0.5], [0.5, -1.0]], atol=1e-6)
    np.testing.assert_allclose(
        2 * np.arctan2(moments.quaternion[:, 3], moments.quaternion[:, 0]), [0.4, 0.6], atol=1e-6
    )
