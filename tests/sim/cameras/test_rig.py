"""Cameras on robots."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from pipeline.splat.raster import render
from sim.cameras.objects import Balls
from sim.cameras.rig import CameraRig
from sim.cameras.settings import CameraSettings
from sim.physics.state import RobotState
from sim.scene import SimScene
from tests.sim.conftest import room_gaussians
from tests.synthetic import Room

CAMERA = Camera(48, 36, 30.0, 31.0, 23.0, 18.5)
MOUNT = Pose(np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]]) @ matrix_from_rotvec([0.1, 0.2, -0.05]), [0.2, 0.03, 0.3])
BASES = [Pose(matrix_from_rotvec([0.02, -0.03, yaw]), np.array([x, 1.2, 0.05])) for x, yaw in ((1.0, 0.4), (2.1, 2.0))]
NOTHING = Balls(np.zeros((2, 3)), np.zeros(2), np.zeros((2, 3)))


def state_of(bases: list[Pose], linear: list[float], angular: list[float]) -> RobotState:
    """Robots without joints that all move alike."""
    count = len(bases)
    arrays = (
        [base.translation for base in bases],
        [base.quaternion for base in bases],
        [linear] * count,
        [angular] * count,
        np.zeros((count, 0)),
        np.zeros((count, 0)),
    )
    return RobotState(*(np.asarray(array, np.float32) for array in arrays))


def rig_of(scene: SimScene, settings: CameraSettings) -> CameraRig:
    rig = CameraRig(CAMERA, MOUNT, [scene.gaussians], 2, settings, 0.02)
    rig.begin(np.arange(2), np.random.default_rng(0))
    return rig


def test_picture_is_the_splats_from_the_mount(room_scene: SimScene, room: Room):
    """As the pipeline's own renderer shows it from world_from_base @ base_from_camera."""
    rig = rig_of(room_scene, CameraSettings())
    state = state_of(BASES, [0, 0, 0], [0, 0, 0])
    seen, age = rig.pictures(state, np.zeros(2, int), NOTHING, np.zeros(2), np.random.default_rng(0))
    for picture, base in zip(seen, BASES, strict=True):
        expected = render(room_gaussians(room), CAMERA, base @ MOUNT).rgb
        assert np.abs(picture / 255 - np.clip(expected, 0, 1)).mean() < 1 / 255
    assert (age == 0).all()


def test_blur_of_a_turn_is_that_of_the_analytic_turn(room_scene: SimScene, room: Room):
    """A robot whose camera stays in its place while it turns: the mean over pictures turned about the camera."""
    angular = np.array([0.1, 0.3, 2.5])
    settings = CameraSettings(exposure=0.08, blur_samples=9)
    arm = BASES[0].rotate(MOUNT.translation)
    linear = -np.cross(angular, arm)  # so that the camera itself does not move
    rgb, _ = rig_of(room_scene, settings).shoot(
        np.array([0]), state_of(BASES, linear.tolist(), angular.tolist()), np.zeros(2, int), NOTHING
    )
    middle = BASES[0] @ MOUNT
    turned = [
        Pose(matrix_from_rotvec(angular * share * 0.08) @ middle.rotation, middle.translation)
        for share in np.linspace(-0.5, 0.5, 9)
    ]
    expected = np.mean([render(room_gaussians(room), CAMERA, pose).rgb for pose in turned], axis=0)
    np.testing.assert_allclose(rgb[0], expected, atol=2e-3)
    sharp = rig_of(room_scene, CameraSettings()).shoot(
        np.array([0]), state_of(BASES, [0, 0, 0], [0, 0, 0]), np.zeros(2, int), NOTHING
    )[0]
    assert np.abs(rgb - sharp).mean() > 0.02


def test_blur_of_a_drive_follows_the_base(room_scene: SimScene, room: Room):
    """A base that turns about its origin carries its camera along an arc."""
    settings = CameraSettings(exposure=0.05, blur_samples=5)
    linear, angular = np.array([0.5, -0.2, 0.0]), np.array([0, 0, 1.5])
    rgb, _ = rig_of(room_scene, settings).shoot(
        np.array([1]), state_of(BASES, linear.tolist(), angular.tolist()), np.zeros(2, int), NOTHING
    )
    moved = []
    for at in np.linspace(-0.025, 0.025, 5):
        base = Pose(matrix_from_rotvec(angular * at) @ BASES[1].rotation, BASES[1].translation + linear * at)
        moved.append(render(room_gaussians(room), CAMERA, base @ MOUNT).rgb)
    np.testing.assert_allclose(rgb[0], np.mean(moved, axis=0), atol=5e-3)


@pytest.mark.parametrize(
    "settings",
    [
        CameraSettings(gain=(0.5, 0.6)),
        CameraSettings(white_balance=(0.8, 1.2)),
        CameraSettings(noise=0.05),
        CameraSettings(jpeg_quality=20),
        CameraSettings(mount_turn=0.1),
        CameraSettings(mount_shift=0.05),
    ],
    ids=["gain", "white_balance", "noise", "jpeg", "turn", "shift"],
)
def test_flaws_change_the_picture_and_are_repeatable(settings: CameraSettings, room_scene: SimScene):
    """Each does something, the same for the same seed."""
    state = state_of(BASES, [0, 0, 0], [0, 0, 0])

    def shown(of: CameraSettings) -> np.ndarray:
        rig = rig_of(room_scene, of)
        return rig.pictures(state, np.zeros(2, int), NOTHING, np.zeros(2), np.random.default_rng(5))[0]

    assert np.abs(shown(settings).astype(int) - shown(CameraSettings())).mean() > 0.5
    np.testing.assert_array_equal(shown(settings), shown(settings))
