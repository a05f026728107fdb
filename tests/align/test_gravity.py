"""Up from sensors, cameras and surfaces."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.align.gravity import (
    UpEstimate,
    dominant_wall_direction,
    fuse,
    log_up_contradictions,
    tilt_deg,
    up_from_cameras,
    up_from_capture_world,
    up_from_readings,
    up_from_surfaces,
    up_from_turntable,
)
from pipeline.align.surfaces import Surfaces
from pipeline.capture.model import Capture, Frame
from pipeline.geometry import Pose, matrix_from_rotvec
from pipeline.poses.scene import View
from tests.synthetic import CAMERA, look_at, walk

TURN = matrix_from_rotvec([0.5, -1.2, 0.4])
UP = TURN @ [0, 0, 1.0]
CAMERAS = UpEstimate(("cameras",), TURN @ matrix_from_rotvec([0.1, 0, 0]) @ [0, 0, 1.0], 4.0)


def views(gravity_noise_deg: float = 0.0, scene_from_room: np.ndarray = TURN) -> list[View]:
    rng = np.random.default_rng(0)
    result = []
    for i, pose in enumerate(walk(30)):
        turned = Pose(scene_from_room @ pose.rotation, scene_from_room @ pose.translation)
        down = pose.rotation.T @ [0, 0, -1.0]
        noise = matrix_from_rotvec(np.deg2rad(rng.normal(0, gravity_noise_deg, 3)))
        result.append(View(str(i), "", CAMERA, turned, held_out=False, gravity=noise @ down))
    return result


def room_surfaces(count: int = 4000, noise_deg: float = 2.0) -> Surfaces:
    """Floor, table and two walls of a room, turned; normals noisy."""
    rng = np.random.default_rng(1)
    normals = np.repeat(np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]), count, 0)
    points = rng.uniform(0, 3, normals.shape) * (1 - np.abs(normals))
    noisy = normals + np.deg2rad(noise_deg) * rng.normal(size=normals.shape)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    return Surfaces(points @ TURN.T, noisy @ TURN.T, np.ones(len(points)))


def test_accelerometer_averages_noise_away():
    """Thirty readings with 0.5 degrees of noise give up to 0.2, and the sigma says so."""
    estimate = up_from_readings(views(0.5))
    assert estimate is not None
    assert tilt_deg(estimate.up, UP) < 0.25
    assert tilt_deg(estimate.up, UP) < 3 * estimate.sigma_deg


def test_what_all_readings_share_is_not_averaged_away():
    """The capture's own sigma stays; so does what neighbours in time have in common."""
    estimate = up_from_readings(views(0.5), 0.7)
    assert estimate is not None
    assert 0.7 < estimate.sigma_deg < 0.8
    waves = 0.03 * np.sin(np.arange(30) / 5)
    sigmas = []
    for angles in (waves, np.random.default_rng(0).permutation(waves)):
        waved = [
            replace(view, gravity=matrix_from_rotvec([angle, 0, 0]) @ view.gravity)
            for view, angle in zip(views(), angles, strict=True)
        ]
        found = up_from_readings(waved, 0.0)
        assert found is not None
        sigmas.append(found.sigma_deg)
    assert sigmas[0] > 1.3 * sigmas[1]


def test_accelerometer_ignores_a_shaken_frame():
    """One reading that points elsewhere doesn't move the mean."""
    shaken = views(0.2)
    shaken[3] = replace(shaken[3], gravity=np.array([1.0, 0, 0]))
    estimate = up_from_readings(shaken)
    assert estimate is not None
    assert tilt_deg(estimate.up, UP) < 0.2


def test_no_accelerometer_no_estimate():
    """Frames without gravity give nothing."""
    assert up_from_readings([replace(view, gravity=None) for view in views()]) is None


def test_capture_world_is_carried_over_by_the_poses():
    """ARKit's +y comes out as up in the scene's own frame."""
    arkit_from_room = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    frames = tuple(
        Frame(str(i), "", CAMERA, "given", world_from_camera=Pose(arkit_from_room @ p.rotation, p.translation))
        for i, p in enumerate(walk(30))
    )
    capture = Capture(Path(), "polycam", frames, True, np.array([0, 1.0, 0]), 1.0)
    estimate = up_from_capture_world(capture, views())
    assert estimate is not None
    assert tilt_deg(estimate.up, UP) < 1e-6


def test_cameras_alone_give_a_rough_up():
    """A hand-held walk with 3 degrees of roll gives up within its sigma."""
    estimate = up_from_cameras(views())
    assert tilt_deg(estimate.up, UP) < estimate.sigma_deg


def test_surfaces_refine_a_rough_up():
    """From 8 degrees off, level and plumb surfaces lead back to 0.2."""
    rough = UpEstimate(("cameras",), matrix_from_rotvec([0.1, 0.1, 0]) @ UP, 6.0)
    estimate = up_from_surfaces(room_surfaces(), rough)
    assert estimate is not None
    assert tilt_deg(estimate.up, UP) < 0.2
    assert estimate.sigma_deg < 0.5


def test_a_single_wall_says_only_what_it_can():
    """Up is turned to lie in the wall and left alone along it; another opinion decides there."""
    rough = UpEstimate(("cameras",), TURN @ matrix_from_rotvec([0, 0.05, 0]) @ [0, 0, 1.0], 4.0)
    room = room_surfaces()
    one = np.abs(room.normals @ TURN[:, 0]) > 0.9
    wall = Surfaces(room.points[one], room.normals[one], room.area[one])
    estimate = up_from_surfaces(wall, rough)
    assert estimate is not None
    assert estimate.normal is not None
    assert abs(estimate.normal @ TURN[:, 0]) > np.cos(np.deg2rad(0.3))
    assert estimate.off_deg(UP) < 0.3
    fused = fuse([rough, estimate])
    assert tilt_deg(fused.up, UP) < tilt_deg(rough.up, UP) / 3
    assert fused.sigma_deg == pytest.approx(4.0, rel=0.05)


def test_surfaces_without_level_or_plumb_parts_say_nothing():
    """Random normals are no evidence."""
    rng = np.random.default_rng(2)
    normals = rng.normal(size=(5000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    surfaces = Surfaces(rng.normal(size=(5000, 3)), normals, np.ones(5000))
    estimate = up_from_surfaces(surfaces, UpEstimate(("cameras",), UP, 4.0))
    assert estimate is None or estimate.sigma_deg > 0.4


def test_disagreement_inflates_the_sigma():
    """Two confident opinions 3 degrees apart leave a doubt of more than a degree."""
    other = TURN @ matrix_from_rotvec(np.deg2rad([3.0, 0, 0])) @ [0, 0, 1.0]
    fused = fuse([UpEstimate(("a",), UP, 0.2), UpEstimate(("b",), other, 0.2)])
    assert fused.sigma_deg > 1.0
    assert tilt_deg(fused.up, UP) == pytest.approx(1.5, abs=0.01)


def test_contradictions_are_named(caplog):
    """An opinion two degrees off the surest one, in sigmas of both; what agrees is silent."""
    other = TURN @ matrix_from_rotvec(np.deg2rad([2.0, 0, 0])) @ [0, 0, 1.0]
    with caplog.at_level(logging.WARNING):
        log_up_contradictions([UpEstimate(("lines",), other, 0.4), UpEstimate(("floor",), UP, 0.3), CAMERAS])
    (record,) = caplog.records
    assert "lines is 2.00 degrees off that from floor: 4.0 sigma" in record.getMessage()


def test_weak_opinions_are_not_named():
    """The source names who counted."""
    fused = fuse([UpEstimate(("accelerometer",), UP, 0.2), UpEstimate(("cameras",), UP, 5.0)])
    assert fused.source == "accelerometer"


def test_walls_give_the_x_axis():
    """X lies along a wall, to a tenth of a degree, and is level."""
    x_axis = dominant_wall_direction(room_surfaces(), UP, views())
    room_x = TURN.T @ x_axis
    assert abs(room_x[2]) < 1e-9
    assert np.abs(room_x[:2]).max() > np.cos(np.deg2rad(0.2))


def test_the_axis_of_a_turntable_is_up():
    """Whatever the still camera's roll; known as well as turntables stand level, worse where it wobbles."""
    still = look_at(np.array([1.0, 0.2, 0.5]), np.zeros(3), roll_deg=25)
    turns = [matrix_from_rotvec([0, 0, angle]) for angle in np.linspace(0, 5.5, 20)]
    rng = np.random.default_rng(0)

    def up(wobble: float) -> UpEstimate:
        result = []
        for turn in turns:
            noise = matrix_from_rotvec(np.deg2rad(wobble) * rng.standard_normal(3))
            pose = Pose(TURN @ turn @ noise @ still.rotation, np.zeros(3))
            result.append(View("", "", CAMERA, pose, held_out=False))
        return up_from_turntable(result)

    exact, wobbling = up(0.0), up(2.0)
    np.testing.assert_allclose(exact.up, TURN @ [0, 0, 1.0], atol=1e-9)
    assert exact.sigma_deg == pytest.approx(0.5)
    assert tilt_deg(wobbling.up, TURN @ np.array([0, 0, 1.0])) < 3 * wobbling.sigma_deg
    assert wobbling.sigma_deg > 1.0


def test_readings_that_disagree_are_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    """Three of thirty gimbals say 20 to 70 degrees something else; up and its sigma are as without them."""
    good = views(0.5)
    bad = [
        replace(view, gravity=matrix_from_rotvec(np.deg2rad([20.0 + 25 * number, 5, -10])) @ view.gravity)
        if (number := [4, 11, 25].index(n) if n in (4, 11, 25) else None) is not None and view.gravity is not None
        else view
        for n, view in enumerate(good)
    ]
    estimate, alone = up_from_readings(bad, 1.0, ("gimbal",)), up_from_readings(good, 1.0, ("gimbal",))
    assert estimate is not None
    assert alone is not None
    assert estimate.source == "gimbal"
    assert tilt_deg(estimate.up, UP) < 0.3
    assert estimate.sigma_deg == pytest.approx(alone.sigma_deg, abs=0.05)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "gimbal of 3 of 30 images" in line
    assert "first 4" in line


def test_readings_that_agree_on_nothing_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    """As of files that state angles of another flight."""
    rng = np.random.default_rng(3)
    random = [replace(view, gravity=matrix_from_rotvec(rng.normal(0, 2, 3)) @ [0, 1.0, 0]) for view in views()]
    assert up_from_readings(random, 1.0, ("gimbal",)) is None
    assert "not used" in caplog.text
