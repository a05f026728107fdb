"""Rules for poses, intrinsics and times, and numbers that are finite but that no capture has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.capture.checks import (
    check_increasing,
    check_plausible,
    checked_camera,
    checked_pose,
    chosen_cameras,
    unread_cameras,
)
from pipeline.capture.model import Capture, Frame
from pipeline.capture.params import CaptureParams
from pipeline.capture.stage import run
from pipeline.capture.texts import parse_object
from pipeline.errors import CaptureError
from pipeline.geometry import Pose, is_rotation, matrix_from_rotvec
from tests.synthetic import CAMERA, Room, walk, write_polycam


def matrix() -> np.ndarray:
    """An asymmetric rigid transform."""
    result = np.eye(4)
    result[:3, :3] = matrix_from_rotvec([0.3, -0.5, 0.9])
    result[:3, 3] = [1, -2, 3]
    return result


def test_good_pose_is_kept_and_made_orthonormal() -> None:
    """Rounding of recorded numbers (up to 1e-3) is removed, not refused."""
    rounded = matrix().round(4)
    pose = checked_pose(rounded, "p.txt")
    assert is_rotation(pose.rotation, 1e-12)
    assert np.abs(pose.matrix - matrix()).max() < 1e-4


def test_gl_axes_are_turned_on_the_camera_side() -> None:
    """The optical axis of an OpenGL camera is -z; the position stays."""
    pose = checked_pose(matrix()[:3], "p.json", axes="GL")
    assert np.allclose(pose.rotation[:, 2], -matrix()[:3, 2])
    assert np.allclose(pose.rotation[:, 0], matrix()[:3, 0])
    assert np.allclose(pose.translation, [1, -2, 3])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda m: m.__setitem__((0, 3), np.nan), "NaN"),
        (lambda m: m.__setitem__((1, 1), -np.inf), "NaN or infinity"),
        (lambda m: m.__setitem__((slice(0, 3), 0), -m[:3, 0]), "left-handed"),
        (lambda m: m.__setitem__((slice(0, 3), slice(0, 3)), 1.01 * m[:3, :3]), "scale or shear"),
        (lambda m: m.__setitem__((3, 0), 0.5), "last row"),
    ],
)
def test_bad_poses_are_refused_by_name(change: object, found: str) -> None:
    """NaN, mirrored, scaled and transposed-translation poses each say what they are, and where."""
    values = matrix()
    change(values)
    with pytest.raises(CaptureError, match=r"frame-7\.pose\.txt") as error:
        checked_pose(values, "frame-7.pose.txt")
    assert found in error.value.found


def test_intrinsics_of_another_resolution_name_the_one_that_fits() -> None:
    """A principal point far from the middle belongs to another image size."""
    assert checked_camera((585, 586, 320, 240), (640, 480), "k.txt").fy == 586
    with pytest.raises(CaptureError, match="1280 x 960"):
        checked_camera((1170, 1170, 640, 480), (640, 480), "k.txt")
    with pytest.raises(CaptureError, match="320 x 240"):
        checked_camera((292, 292, 160, 120), (640, 480), "k.txt")


@pytest.mark.parametrize(
    "values", [(0, 585, 320, 240), (585, -1, 320, 240), (np.nan, 585, 320, 240), (9e4, 9e4, 320, 240)]
)
def test_impossible_focal_lengths_are_refused(values: tuple[float, ...]) -> None:
    """Zero, negative, NaN and absurd ones."""
    with pytest.raises(CaptureError, match=r"k\.txt"):
        checked_camera(values, (640, 480), "k.txt")


def test_time_must_increase() -> None:
    """The first frame that is not later is named."""
    check_increasing([0, 1, 2.5], ["a", "b", "c"])
    for times in ([0, 2, 1], [0, 2, 2]):
        with pytest.raises(CaptureError, match="c: time must increase"):
            check_increasing(times, ["a", "b", "c"])


@pytest.mark.parametrize("data", [b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_json_is_an_error_of_the_file(data: bytes) -> None:
    """Cut, wrong type, wrong encoding and absurd nesting."""
    with pytest.raises(CaptureError, match=r"a\.json"):
        parse_object(data, "a.json")


def test_cameras_of_a_rig_are_chosen() -> None:
    """The best one, all, or some by name, in the order asked for; what is left out is noted."""
    present = ["front", "left", "right"]
    assert chosen_cameras(present, "first", "rig") == ["front"]
    assert chosen_cameras(present, "all", "rig") == present
    assert chosen_cameras(present, "right, front,right", "rig") == ["right", "front"]
    assert unread_cameras(present, ["left"]) == ["other cameras, not read: front, right (capture.cameras)"]
    assert unread_cameras(present, present) == []
    for wanted in ("rear", "", "front,"):
        with pytest.raises(CaptureError, match=r"rig: capture\.cameras") as error:
            chosen_cameras(present, wanted, "rig")
        assert "front, left, right" in error.value.found


UTM = np.array([456_000.0, 5_431_000.0, 120.0])
"""A place in a map's coordinates: far from their origin, and fine."""


def capture(shift: np.ndarray | None = None, **changed: object) -> Capture:
    """A walk through the room whose last frame is another."""
    poses = [Pose(pose.rotation, pose.translation + UTM) for pose in walk(6)]
    if shift is not None:
        poses[-1] = Pose(poses[-1].rotation, poses[-1].translation + shift)
    frames = [
        Frame(f"{i}.jpg", f"images/{i}.jpg", CAMERA, "given", time=0.2 * i, world_from_camera=pose)
        for i, pose in enumerate(poses)
    ]
    frames[-1] = replace(frames[-1], **changed)
    return Capture(Path(), "test", tuple(frames), ordered=True, scale_sigma=0.01)


def test_a_capture_in_a_maps_coordinates_is_fine():
    """What counts is how far its cameras lie from each other."""
    check_plausible(capture(), Path("x"))
    check_plausible(capture(np.array([3_000.0, 0, 0])), Path("x"))  # a sequence of a car
    check_plausible(replace(capture(np.array([3e5, 0, 0])), scale_sigma=None), Path("x"))  # in millimetres, who knows


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (capture(np.array([3e5, 0, 0])), "within 20 km"),
        (capture(np.array([0, 1e300, 0])), "world's origin"),
        (replace(capture(np.array([0, 5e7, 0])), scale_sigma=None), "10000000 units"),
        (capture(camera=replace(CAMERA, fx=1e300)), "focal lengths"),
        (capture(camera=replace(CAMERA, fy=1e-300)), "focal lengths"),
        (capture(depth_camera=replace(CAMERA, fx=1e9)), "focal lengths"),
        (capture(time=1e300), "three years"),
        (capture(time=float("nan")), "three years"),
        (capture(gravity=np.array([0, 0, np.nan])), "gravity"),
        (capture(gravity=np.array([0, 0, 1e200])), "gravity"),
        (replace(capture(), depth_range=float("inf")), "depth's range"),
        (replace(capture(), scale_sigma=1e308), "sigmas"),
    ],
)
def test_absurd_numbers_are_named(odd: Capture, said: str):
    """With the frame that has them, and no warning of arithmetic."""
    with np.errstate(all="raise"), pytest.raises(CaptureError, match=said):
        check_plausible(odd, Path("x"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("t_03", 1e308), ("t_03", 3e5), ("fx", 1e308), ("width", float("inf")), ("t_00", 1e200), ("width", 0)],
)
def test_a_file_with_absurd_numbers_is_refused(room: Room, tmp_path: Path, key: str, value: float):
    """By the stage, with an error that names the file or the frame."""
    write_polycam(tmp_path / "scan", room, walk(4), CAMERA)
    file = sorted((tmp_path / "scan").rglob("cameras/*.json"))[2]
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(CaptureError):
        run({"source": tmp_path / "scan"}, CaptureParams(), tmp_path / "out")
