"""Cameras on robots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.capture.lens import Lens
from pipeline.errors import SimError
from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from pipeline.raster import render
from sim.robots.model import Joint, Link, Robot, Shape
from sim.robots.state import RobotState
from sim.scene.scene import SimScene
from sim.sensors.cameras.props import Balls, Patches, Posts, Props
from sim.sensors.cameras.renderer import CpuRenderer
from sim.sensors.cameras.rig import CameraRig, normals_of
from sim.sensors.cameras.settings import CameraSettings, RobotCamera
from sim.sensors.sensor import Moment
from tests.sim.conftest import room_gaussians
from tests.synthetic import Room

CAMERA = Camera(48, 36, 30.0, 31.0, 23.0, 18.5)
MOUNT = Pose(np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]]) @ matrix_from_rotvec([0.1, 0.2, -0.05]), [0.2, 0.03, 0.3])
BASES = [Pose(matrix_from_rotvec([0.02, -0.03, yaw]), np.array([x, 1.2, 0.05])) for x, yaw in ((1.0, 0.4), (2.1, 2.0))]
NOTHING = Props.none(2)
GHOST = Robot(
    name="ghost",
    file=Path("ghost.xml"),
    links=(Link("base", -1, Pose.identity(), 1.0, Pose.identity(), np.ones(3), None, ()),),
    actuators=(),
    default_position=np.zeros(0),
    base_height=0.0,
    radius=0.1,
    height=0.1,
    base_from_camera=MOUNT,
)
"""A robot that is not seen."""


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


def moment(state: RobotState) -> Moment:
    """Two robots in the first scene as their episodes begin."""
    return Moment(state, np.zeros(2, int), NOTHING, np.zeros(2), None)


def rig_of(
    scene: SimScene, settings: CameraSettings, camera: RobotCamera | None = None, robot: Robot = GHOST
) -> CameraRig:
    rig = CameraRig(camera or RobotCamera(CAMERA), robot, CpuRenderer([scene.gaussians]), 2, settings, 0.02)
    rig.reset(np.arange(2), np.random.default_rng(0))
    return rig


def test_image_is_the_splats_from_the_mount(room_scene: SimScene, room: Room):
    """As the pipeline's own renderer shows it from world_from_base @ base_from_camera."""
    rig = rig_of(room_scene, CameraSettings())
    state = state_of(BASES, [0, 0, 0], [0, 0, 0])
    seen = rig.read(moment(state), np.random.default_rng(0))
    for image, base in zip(seen["rgb"], BASES, strict=True):
        expected = render(room_gaussians(room), CAMERA, base @ MOUNT).rgb
        assert np.abs(image / 255 - np.clip(expected, 0, 1)).mean() < 1 / 255


def test_blur_of_a_turn_is_that_of_the_analytic_turn(room_scene: SimScene, room: Room):
    """A robot whose camera stays in its place while it turns: the mean over images turned about the camera."""
    angular = np.array([0.1, 0.3, 2.5])
    settings = CameraSettings(exposure=0.08, blur_samples=9)
    arm = BASES[0].rotate(MOUNT.translation)
    linear = -np.cross(angular, arm)  # so that the camera itself does not move
    rgb = rig_of(room_scene, settings).shoot(
        np.array([0]), state_of(BASES[:1], linear.tolist(), angular.tolist()), np.zeros(1, int), NOTHING[:1]
    )["rgb"]
    middle = BASES[0] @ MOUNT
    turned = [
        Pose(matrix_from_rotvec(angular * share * 0.08) @ middle.rotation, middle.translation)
        for share in np.linspace(-0.5, 0.5, 9)
    ]
    expected = np.mean([render(room_gaussians(room), CAMERA, pose).rgb for pose in turned], axis=0)
    np.testing.assert_allclose(rgb[0], expected, atol=2e-3)
    sharp = rig_of(room_scene, CameraSettings()).shoot(
        np.array([0]), state_of(BASES[:1], [0, 0, 0], [0, 0, 0]), np.zeros(1, int), NOTHING[:1]
    )["rgb"]
    assert np.abs(rgb - sharp).mean() > 0.02


@pytest.mark.parametrize(("samples", "drawn"), [(3, 3), (2, 3)])
def test_an_image_that_is_there_is_not_drawn_again(
    samples: int, drawn: int, room_scene: SimScene, monkeypatch: pytest.MonkeyPatch
):
    """That of the middle of the exposure, whose depth is that of the image, is one of an odd number."""
    rig = rig_of(room_scene, CameraSettings(exposure=0.08, blur_samples=samples))
    draw, calls = rig._draw, list[np.ndarray]()

    def counted(robots: np.ndarray, poses: np.ndarray, *others: Any) -> Any:
        calls.append(poses)
        return draw(robots, poses, *others)

    monkeypatch.setattr(rig, "_draw", counted)
    state = state_of(BASES[:1], [0.5, 0, 0], [0, 0, 1.0])
    rig.shoot(np.array([0]), state, np.zeros(1, int), NOTHING[:1])
    assert len(calls) == drawn


def test_blur_of_a_drive_follows_the_base(room_scene: SimScene, room: Room):
    """A base that turns about its origin carries its camera along an arc."""
    settings = CameraSettings(exposure=0.05, blur_samples=5)
    linear, angular = np.array([0.5, -0.2, 0.0]), np.array([0, 0, 1.5])
    rgb = rig_of(room_scene, settings).shoot(
        np.array([1]), state_of(BASES[1:], linear.tolist(), angular.tolist()), np.zeros(1, int), NOTHING[:1]
    )["rgb"]
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
        CameraSettings(mount_rotation=0.1),
        CameraSettings(mount_translation=0.05),
    ],
    ids=["gain", "white_balance", "noise", "jpeg", "turn", "shift"],
)
def test_flaws_change_the_image_and_are_repeatable(settings: CameraSettings, room_scene: SimScene):
    """Each does something, the same for the same seed."""
    state = state_of(BASES, [0, 0, 0], [0, 0, 0])

    def shown(of: CameraSettings) -> np.ndarray:
        rig = rig_of(room_scene, of)
        return rig.read(moment(state), np.random.default_rng(5))["rgb"]

    assert np.abs(shown(settings).astype(int) - shown(CameraSettings())).mean() > 0.5
    np.testing.assert_array_equal(shown(settings), shown(settings))


def ball_at(place: np.ndarray, radius: float = 0.03) -> Props:
    """A red ball for both robots."""
    balls = Balls(np.tile(place, (2, 1, 1)), np.full((2, 1), radius), np.tile([1.0, 0, 0], (2, 1, 1)))
    return Props(balls, Posts.none(2), Patches.none(2))


@pytest.mark.parametrize("kind", ["radial-tangential", "fisheye"])
def test_bent_lens_shows_a_ball_where_opencv_puts_it(kind: str, room_scene: SimScene):
    """Well off the axis, where the same pinhole would show it elsewhere; colour and depth at the same pixel."""
    matrix = np.array([[50, 0, 46.0], [0, 52, 35.5], [0, 0, 1]])
    fisheye = kind == "fisheye"
    bend = np.array([0.05, -0.01, 0.004, 0.0] if fisheye else [-0.2, 0.03, 0.002, -0.003])
    model = "OPENCV_FISHEYE" if fisheye else "OPENCV"
    lens = Lens(model, 96, 72, (50.0, 52.0, 46.0, 35.5, *bend.tolist()))
    rig = rig_of(room_scene, CameraSettings(), RobotCamera(lens, outputs=("rgb", "depth")))
    in_camera = np.array([[-0.36, 0.26, 0.5]])
    props = ball_at((BASES[0] @ MOUNT).apply(in_camera)[0])
    state = state_of(BASES, [0, 0, 0], [0, 0, 0])
    with_ball = rig.shoot(np.arange(2), state, np.zeros(2, int), props)
    without = rig.shoot(np.arange(2), state, np.zeros(2, int), NOTHING)
    changed = np.argwhere(with_ball["depth"][0] != without["depth"][0])
    still = np.zeros(3), np.zeros(3)
    if fisheye:
        expected = cv2.fisheye.projectPoints(in_camera[None], *still, matrix, bend)[0].reshape(2)
    else:
        expected = cv2.projectPoints(in_camera, *still, matrix, bend)[0].reshape(2)
    straight = in_camera[0, :2] / 0.5 * [50, 52] + [46, 35.5]
    assert len(changed) > 5
    middle = changed.mean(0)[::-1] + 0.5
    assert np.linalg.norm(middle - expected) < 0.5
    assert np.linalg.norm(straight - expected) > 4
    assert abs(with_ball["depth"][0][tuple(changed[0])] - 0.5) < 0.04
    row, column = changed.mean(0).round().astype(int)
    assert with_ball["rgb"][0, row, column, 0] > 0.4 > with_ball["rgb"][0, row, column, 1]


def test_lens_without_distortion_is_the_pinhole(room_scene: SimScene):
    """The same image by way of the lookup, except for how pixels are mixed, and at the border, which is further out."""
    state = state_of(BASES, [0, 0, 0], [0, 0, 0])
    lens = Lens("PINHOLE", CAMERA.width, CAMERA.height, (CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy))
    bent, straight = (
        rig_of(room_scene, CameraSettings(), RobotCamera(of, outputs=("rgb", "depth"))).shoot(
            np.arange(2), state, np.zeros(2, int), NOTHING
        )
        for of in (lens, CAMERA)
    )
    apart = np.abs(bent["rgb"] - straight["rgb"])
    assert apart[:, 8:-8, 8:-8].max() < 4e-3
    assert apart.max() < 0.015
    assert (np.abs(bent["depth"] - straight["depth"]) < 2e-3).mean() > 0.99  # the median may be another Gaussian's


def test_lens_that_sees_to_the_side_is_refused(room_scene: SimScene):
    """No ray of a depth image may point backwards."""
    with pytest.raises(SimError, match="85 degrees"):
        rig_of(room_scene, CameraSettings(), RobotCamera(Lens("OPENCV_FISHEYE", 96, 72, (28, 28, 48, 36, 0, 0, 0, 0))))


def test_depth_and_normals_are_of_the_floor(room_scene: SimScene, room: Room):
    """A camera that looks down, askew: the floor's plane in its axes."""
    down = Pose(matrix_from_rotvec([0.2, 0.1, 0.5]) @ np.diag([1.0, -1, -1]), np.array([0.1, 0.05, 1.4]))
    camera = RobotCamera(CAMERA, "below", "base", down, ("depth", "normals"))
    rig = rig_of(replace(room_scene, splat=lambda: room_gaussians(room, 40_000)), CameraSettings(), camera)
    assert list(rig.spaces()) == ["below_depth", "below_normals"]
    state = state_of(BASES, [0, 0, 0], [0, 0, 0])
    seen = rig.read(moment(state), np.random.default_rng(0))
    pose = BASES[1] @ down
    up = pose.rotation.T @ np.array([0, 0, 1.0])
    expected = -pose.translation[2] / (CAMERA.rays() @ pose.rotation[2])
    depth, normals = seen["below_depth"][1], seen["below_normals"][1]
    known = np.linalg.norm(normals, axis=-1) > 0
    assert known.mean() > 0.5
    assert np.median(np.abs(depth - expected)[known]) < 0.03
    assert np.median(normals[known] @ up) > 0.9
    assert (depth.dtype, normals.dtype) == (np.float32, np.float32)


def test_robot_sees_its_own_arm_but_not_the_shape_it_sits_in(room_scene: SimScene):
    """A box ahead and below the camera is drawn where it projects; a ball around the camera hides nothing."""
    box_at = MOUNT @ Pose(matrix_from_rotvec([0.4, 0.1, 0.2]), np.array([0.1, 0.15, 0.5]))
    box = Shape("box", np.array([0.08, 0.03, 0.05]), box_at, 1.0, np.zeros((0, 3)))
    around = Shape("sphere", np.array([0.2]), MOUNT, 1.0, np.zeros((0, 3)))
    robot = replace(GHOST, links=(replace(GHOST.links[0], shapes=(box, around)),))
    state = state_of(BASES, [0, 0, 0], [0, 0, 0])
    camera = RobotCamera(CAMERA, outputs=("rgb", "depth"))
    seen, plain = (
        rig_of(room_scene, CameraSettings(), camera, of).shoot(np.arange(2), state, np.zeros(2, int), NOTHING)
        for of in (robot, GHOST)
    )
    changed = seen["depth"][0] != plain["depth"][0]
    corners = np.array(np.meshgrid(*[[-1, 1.0]] * 3)).reshape(3, -1).T * box.size
    pixels = CAMERA.project(Pose(matrix_from_rotvec([0.4, 0.1, 0.2]), np.array([0.1, 0.15, 0.5])).apply(corners))
    hull = cv2.convexHull(pixels.astype(np.float32))
    inside = np.array(
        [
            [cv2.pointPolygonTest(hull, (x + 0.5, y + 0.5), True) for x in range(CAMERA.width)]
            for y in range(CAMERA.height)
        ]
    )
    assert changed[inside > 0.7].all()
    assert not changed[inside < -0.7].any()
    assert np.abs(seen["depth"][0][changed] - 0.5).max() < 0.1


def test_camera_on_a_link_goes_along_with_its_joint(room_scene: SimScene, room: Room):
    """A mast that turns: the image is from where the joint has it, and blurs as the joint goes on turning."""
    base_from_mast, mast_from_camera = Pose(matrix_from_rotvec([0, 0, 0.3]), np.array([0.1, 0.05, 0.3])), MOUNT
    joint = Joint("turn", "hinge", np.array([0, 0, 1.0]), np.array([0.05, 0, 0]), None, 0.0, 0.0)
    mast = replace(GHOST.links[0], name="mast", parent=0, parent_from_link=base_from_mast, joint=joint)
    robot = replace(GHOST, links=(GHOST.links[0], mast))
    still = state_of(BASES[:1], [0, 0, 0], [0, 0, 0])
    state = replace(still, joint_position=np.array([[0.7]], np.float32), joint_velocity=np.array([[2.0]], np.float32))
    camera = RobotCamera(CAMERA, link="mast", link_from_camera=mast_from_camera)

    def expected(angle: float) -> np.ndarray:
        turn = matrix_from_rotvec([0, 0, angle])
        moved = Pose(turn, joint.anchor - turn @ joint.anchor)
        return render(room_gaussians(room), CAMERA, BASES[0] @ base_from_mast @ moved @ mast_from_camera).rgb

    one = np.array([0])
    sharp = rig_of(room_scene, CameraSettings(), camera, robot).shoot(one, state, np.zeros(1, int), NOTHING[:1])["rgb"]
    np.testing.assert_allclose(sharp[0], expected(0.7), atol=2e-3)
    settings = CameraSettings(exposure=0.05, blur_samples=5)
    blurred = rig_of(room_scene, settings, camera, robot).shoot(one, state, np.zeros(1, int), NOTHING[:1])["rgb"]
    during = np.mean([expected(0.7 + 2.0 * at) for at in np.linspace(-0.025, 0.025, 5)], axis=0)
    np.testing.assert_allclose(blurred[0], during, atol=5e-3)
    assert np.abs(blurred - sharp).mean() > 0.01


def test_unknown_link_is_an_error(room_scene: SimScene):
    """That says which there are."""
    with pytest.raises(SimError, match="base"):
        rig_of(room_scene, CameraSettings(), RobotCamera(CAMERA, link="head", link_from_camera=MOUNT))


LENS = Camera(40, 30, 35.0, 37.0, 18.5, 16.0)


def plane(normal: np.ndarray, distance: float) -> np.ndarray:
    """Depth (H, W) of the plane of points with normal . point = -distance."""
    return (-distance / (LENS.rays() @ normal)).astype(np.float32)


def test_normal_of_a_slanted_plane_looks_at_the_camera():
    """Everywhere but at the border."""
    normal = np.array([0.3, -0.5, -0.8])
    normal /= np.linalg.norm(normal)
    found = normals_of(plane(normal, 1.7)[None], LENS)[0]
    np.testing.assert_allclose(found[2:-2, 2:-2].reshape(-1, 3) @ normal, 1, atol=1e-4)
    assert not found[:2].any()
    assert not found[:, -2:].any()


def test_edges_and_the_unknown_have_none():
    """A step in depth, and a pixel without."""
    depth = plane(np.array([0, 0, -1.0]), 1.0)
    depth[:, 20:] = 2.0
    depth[10, 5] = 0
    known = np.linalg.norm(normals_of(depth[None], LENS)[0], axis=-1) > 0
    assert not known[:, 18:22].any()
    assert not known[8:13, 3:8].any()
    assert known[7, 5]
    assert known[10, 8]
    assert known[15, [17, 22]].all()


def test_a_floor_seen_at_a_flat_angle_has_no_edges():
    """Though its depth doubles from row to row near the horizon."""
    floor = plane(np.array([0.0, -1.0, 0.0]), 0.3)[None]
    floor[floor < 0] = 0
    assert (floor[0, 17, 5], floor[0, 18, 5]) == (np.float32(0.3 * 37 / 1.5), np.float32(0.3 * 37 / 2.5))
    found = normals_of(floor, LENS)[0, 20:-2, 2:-2]
    np.testing.assert_allclose(found, np.tile([0, -1, 0], (*found.shape[:2], 1)), atol=1e-3)
