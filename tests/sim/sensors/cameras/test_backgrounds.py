"""Cameras that stand still."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.capture.lens import Lens
from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from pipeline.types import F32, Floats
from sim.config import EnvConfig
from sim.controlled import find_robot
from sim.env import SceneEnv
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.scene.scene import SimScene
from sim.sensors.cameras.props import Props, Solids
from sim.sensors.cameras.renderer import CpuRenderer
from sim.sensors.cameras.rig import CameraRig
from sim.sensors.cameras.settings import CameraSettings, RobotCamera
from sim.tasks.driving.driving_tasks import NAVIGATE

PINHOLE = Camera(48, 36, 30.0, 31.0, 23.0, 18.5)
WIDE = Lens("OPENCV_FISHEYE", 40, 30, (14.0, 14.0, 20.0, 15.0, 0.02, 0.0, 0.0, 0.0), radius=19.0)
BACK = Pose(
    np.array([[0, 0, -1.0], [1, 0, 0], [0, -1, 0]]) @ matrix_from_rotvec([-0.4, 0, 0]), np.array([-0.1, 0, 0.4])
)
JITTER = CameraSettings(mount_translation=0.05, mount_rotation=0.1)
CUBE = np.array(np.meshgrid([-0.1, 0.1], [-0.05, 0.05], [-0.07, 0.07])).reshape(3, -1).T


class Counted(CpuRenderer):
    """Says of how many pinholes it rendered."""

    count = 0

    def render(self, camera: Camera, world_from_cameras: Floats, scene_of: NDArray[np.integer]) -> tuple[F32, F32]:
        """Render and count."""
        self.count += len(world_from_cameras)
        return super().render(camera, world_from_cameras, scene_of)


def rig_of(robot: Robot, renderer: CpuRenderer, lens: Camera | Lens, settings: CameraSettings = JITTER) -> CameraRig:
    """The cameras of three robots, before which a cube may be."""
    camera = RobotCamera(lens, link="base", link_from_camera=BACK, outputs=("rgb", "depth", "normals"))
    rig = CameraRig(camera, robot, renderer, 3, settings, 0.02, solids=((CUBE,),))
    rig.reset(np.arange(3), np.random.default_rng(7))
    return rig


def state_of(robot: Robot) -> RobotState:
    """Three robots, each elsewhere."""
    yaw = np.array([0.4, 2.0, -1.0]) / 2
    return RobotState.at_rest(
        np.array([[1.0, 1.2, 0.1], [2.1, 1.0, 0.12], [1.6, 0.9, 0.1]]),
        np.column_stack([np.cos(yaw), 0 * yaw, 0 * yaw, np.sin(yaw)]),
        np.zeros((3, len(robot.joint_names)), np.float32),
    )


def cubes(state: RobotState, away: float) -> Props:
    """A cube behind each robot, so far away."""
    poses = np.tile(np.eye(4), (3, 1, 1, 1))
    poses[:, 0, :3, 3] = state.position - away * state.world_from_base[:, :, 0] + [0, 0, 0.1]
    return replace(Props.none(3), solids=Solids(poses, np.tile([0.1, 0.9, 0.2], (3, 1, 1))))


@pytest.mark.parametrize(("lens", "faces"), [(PINHOLE, 1), (WIDE, 5)], ids=["pinhole", "wide"])
def test_image_before_a_kept_background_is_the_one_drawn_anew(
    room_scene: SimScene, rover: Robot, lens: Camera | Lens, faces: int
):
    """To the bit, as a cube moves, some robots begin again, and others look in another order; drawn once each."""
    renderer, other = Counted([room_scene.gaussians] * 2), CpuRenderer([room_scene.gaussians] * 2)
    robot = replace(rover, fixed_base=True)
    still, fresh = rig_of(robot, renderer, lens), rig_of(robot, other, lens)
    assert fresh._backgrounds
    fresh._backgrounds = None
    state, scene_of = state_of(rover), np.array([0, 1, 0])
    images = []

    def compare(robots: list[int], away: float, expected: int) -> None:
        rows = np.array(robots)
        seen, anew = (rig.shoot(rows, state[rows], scene_of[rows], cubes(state, away)[rows]) for rig in (still, fresh))
        for output, values in anew.items():
            np.testing.assert_array_equal(seen[output], values)
        images.append(seen["rgb"])
        assert renderer.count == expected * faces

    compare([0, 2], 0.6, 2)
    compare([0, 1, 2], 0.9, 3)
    compare([2, 0, 1], 0.7, 3)
    assert np.abs(images[1][0] - images[2][1]).max() > 0.1  # the cube moved
    for rig in (still, fresh):
        rig.reset(np.array([1]), np.random.default_rng(8))
    compare([0, 1, 2], 0.7, 4)
    scene_of[2] = 1
    compare([0, 1, 2], 0.7, 5)


def test_a_camera_that_stands_still_does_not_blur(room_scene: SimScene, rover: Robot):
    """The base doesn't move, so a long exposure changes nothing."""
    robot, state = replace(rover, fixed_base=True), state_of(rover)
    renderer = CpuRenderer([room_scene.gaussians])
    seen = [
        rig_of(robot, renderer, PINHOLE, settings).shoot(np.arange(3), state, np.zeros(3, int), cubes(state, 0.6))
        for settings in (JITTER, replace(JITTER, exposure=0.1))
    ]
    np.testing.assert_array_equal(seen[0]["rgb"], seen[1]["rgb"])


def seen_by(env: SceneEnv, steps: int) -> list[np.ndarray]:
    """Images of random actions; an episode ends now and then."""
    rng, found = np.random.default_rng(steps), []
    for step in range(steps):
        action = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
        if step % 4 == 2:
            action[step % 3] = np.nan
        found.append(env.step(action)[0]["rgb"])
    return found


def test_an_environment_that_was_restored_shows_the_same(room_scene: SimScene):
    """To the bit: the same one, and one that never had a background."""
    robot, drive = find_robot("rover")
    made = [
        SceneEnv(
            NAVIGATE, [room_scene] * 2, replace(robot, fixed_base=True), drive, 3, EnvConfig(camera_settings=JITTER)
        )
        for _ in range(2)
    ]
    env, other = made
    env.reset(seed=3)
    seen_by(env, 5)
    saved = env.save()
    first = seen_by(env, 9)
    seen_by(env, 6)
    for one in (env, other):
        one.restore(saved)
        np.testing.assert_array_equal(seen_by(one, 9), first)
    assert (first[0] != first[-1]).any((1, 2, 3)).sum() == 2, "two of them began again"
    for one in made:
        one.close()


def test_only_a_camera_that_stands_moves_with_its_stand(room_scene: SimScene, rover: Robot):
    """One that stands beside a fixed base was put up by hand; one that drives is bolted on."""
    settings = CameraSettings(stand_translation=0.05, stand_rotation=0.1)

    def shown(robot: Robot, by: CameraSettings) -> np.ndarray:
        state = state_of(robot)
        rig = rig_of(robot, CpuRenderer([room_scene.gaussians]), PINHOLE, by)
        return rig.shoot(np.arange(3), state, np.zeros(3, int), cubes(state, 0.8))["rgb"]

    fixed = replace(rover, fixed_base=True)
    np.testing.assert_array_equal(shown(rover, settings), shown(rover, CameraSettings()))
    assert (np.abs(shown(fixed, settings) - shown(fixed, CameraSettings())).mean((1, 2, 3)) > 0.01).all()
