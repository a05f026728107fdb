"""Depths of a scene's mesh under the colours of its splat."""

from __future__ import annotations

from typing import cast

import numpy as np

from pipeline.geometry import Mesh, Pose
from pipeline.geometry.rays import RayCaster
from sim.config import EnvConfig
from sim.controlled import find_robot
from sim.env import SceneEnv
from sim.scene.scene import SimScene
from sim.sensors.cameras.measured import MeasuredRenderer
from sim.sensors.cameras.props import Props
from sim.sensors.cameras.renderer import CpuRenderer, SceneRenderer
from sim.sensors.cameras.rig import CameraRig
from sim.sensors.cameras.settings import CameraSettings, RobotCamera
from sim.tasks.driving.driving_tasks import NAVIGATE
from tests.sim.sensors.cameras.test_rig import BASES, CAMERA, GHOST, MOUNT, NOTHING, ball_at, state_of

BOTH = ("rgb", "depth")
SCREEN = 0.6
"""How far before the first robot's camera a screen is, in the left half of the image [m]."""


def test_depths_are_the_meshs_and_colours_the_splats(room_scene: SimScene, hall_scene: SimScene) -> None:
    """Of a robot's two cameras at one place, in two scenes: both see the same, each measures something else."""
    cameras = RobotCamera(CAMERA, "seen", outputs=BOTH), RobotCamera(CAMERA, "met", outputs=BOTH, depth_of="mesh")
    robot, drive = find_robot("rover")
    env = SceneEnv(NAVIGATE, [room_scene, hall_scene], robot, drive, 6, EnvConfig(cameras=cameras))
    env.reset(seed=3)
    assert set(env.scene_of) == {0, 1}
    state = env.engine.read()
    seen, met = (rig.shoot(np.arange(6), state, env.scene_of, Props.none(6)) for rig in env.cameras)
    np.testing.assert_array_equal(met["rgb"], seen["rgb"])
    for number, (depth, splat) in enumerate(zip(met["depth"], seen["depth"], strict=True)):
        pose = Pose(state.world_from_base[number], state.position[number]) @ robot.base_from_camera
        expected = RayCaster(env.scenes[env.scene_of[number]].collision).depth(CAMERA, pose)
        known = expected > 0
        assert known.mean() > 0.5
        assert np.quantile(np.abs(depth - expected)[known], 0.99) < 1e-4
        assert np.abs(splat - expected)[known].max() > 0.02
        assert not depth[~known].any()
    env.close()


def test_nothing_is_measured_where_there_is_no_surface(room_scene: SimScene) -> None:
    """What a splat has there floats before cameras: to robots it was an obstacle that nothing collides with."""
    screen = Mesh.from_arrays(
        np.array([[-9, -9, 1], [0, -9, 1], [0, 9, 1.0], [-9, 9, 1]]), np.array([[0, 1, 2], [0, 2, 3]])
    )
    renderer, pose = CpuRenderer([room_scene.gaussians]), np.tile(np.eye(4), (1, 1, 1))
    colors, splat = renderer.render(CAMERA, pose, np.zeros(1, int))
    rgb, depth = MeasuredRenderer(renderer, [screen], colors=True).render(CAMERA, pose, np.zeros(1, int))
    half = int(np.ceil(CAMERA.cx - 0.5))
    assert (splat[..., half:] > 0).any()
    np.testing.assert_allclose(depth[..., :half], 1, atol=1e-5)
    assert not depth[..., half:].any()
    np.testing.assert_array_equal(rgb, colors)


def test_depth_alone_draws_no_splat() -> None:
    """The renderer isn't asked, and colours are black."""
    screen = Mesh.from_arrays(
        np.array([[-9, -9, 1], [9, -9, 1], [9, 9, 1.0], [-9, 9, 1]]), np.array([[0, 1, 2], [0, 2, 3]])
    )
    nobody = cast("SceneRenderer", None)
    rgb, depth = MeasuredRenderer(nobody, [screen], colors=False).render(CAMERA, np.eye(4)[None], np.zeros(1, int))
    np.testing.assert_allclose(depth, 1, atol=1e-5)
    assert not rgb.any()


def test_props_are_before_and_behind_what_is_measured(room_scene: SimScene) -> None:
    """A screen that only the mesh has hides a ball behind it, and none beside or before it."""
    eye = BASES[0] @ MOUNT
    corners = eye.apply(np.array([[-9, -9, SCREEN], [0, -9, SCREEN], [0, 9, SCREEN], [-9, 9, SCREEN]]))
    screen = Mesh.from_arrays(corners, np.array([[0, 1, 2], [0, 2, 3]]))
    plain = CpuRenderer([room_scene.gaussians])

    def red(renderer: SceneRenderer, x: float, z: float) -> np.ndarray:
        """Depths of the pixels that a red ball changes."""
        rig = CameraRig(RobotCamera(CAMERA, outputs=BOTH), GHOST, renderer, 2, CameraSettings(), 0.02)
        rig.reset(np.arange(2), np.random.default_rng(0))
        one, state = np.array([0]), state_of(BASES[:1], [0, 0, 0], [0, 0, 0])
        ball = ball_at(eye.apply(np.array([[x, 0, z]]))[0])[:1]
        with_ball, without = (rig.shoot(one, state, np.zeros(1, int), props) for props in (ball, NOTHING[:1]))
        changed = (with_ball["rgb"] != without["rgb"]).any(-1)
        np.testing.assert_array_equal(changed, with_ball["depth"] != without["depth"])
        return with_ball["depth"][changed]

    measured = MeasuredRenderer(plain, [screen], colors=True)
    for x, z, there in ((-0.1, 0.5, True), (-0.1, 0.8, False), (0.1, 0.8, True)):
        assert len(red(plain, x, z)) > 3
        found = red(measured, x, z)
        assert (len(found) > 3) == there
        assert len(found) == 0 or np.abs(found - z).max() < 0.031
