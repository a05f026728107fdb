"""Numbers that are finite and that no capture has: one clear error, wherever they stand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.capture.model import Capture, Frame
from pipeline.capture.params import CaptureParams
from pipeline.capture.plausible import check_plausible
from pipeline.capture.stage import run
from pipeline.errors import CaptureError
from pipeline.geometry import Pose
from tests.synthetic import CAMERA, Room, walk, write_polycam

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
