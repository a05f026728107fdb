"""RGB-D frames as ScanNet, Replica and scripts lay them out: colour and depth by name or by folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.capture.depth_cameras.intrinsics import INTRINSICS
from pipeline.capture.detect import probe
from pipeline.capture.model import Capture
from pipeline.errors import CaptureError
from tests.capture.conftest import POSES, SMALL
from tests.synthetic import Room

Read = Callable[[Path], Capture]
EYE = replace(SMALL, cx=SMALL.cx + 5.25, cy=SMALL.cy - 3.5, fy=SMALL.fy * 1.02)
"""Nothing about it is in the middle or the same in both directions."""
DEPTH_EYE = EYE.resized(80, 60)
MATRIX = f"{EYE.fx} 0 {EYE.cx}\n0 {EYE.fy} {EYE.cy}\n0 0 1\n"
FLAT = ("{:04d}_color.jpg", "{:04d}_depth.png", "{:04d}_pose.txt")
SCANNET = ("color/{}.jpg", "depth/{}.png", "pose/{}.txt")


@pytest.fixture(scope="module")
def shots(room: Room) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Image, depth [m] and camera-to-world of eleven frames."""
    return [(room.render(EYE, pose, 1)[0], room.cast(DEPTH_EYE, pose)[1], pose.matrix) for pose in POSES[:11]]


@pytest.fixture
def write(shots: list[tuple[np.ndarray, np.ndarray, np.ndarray]], tmp_path: Path):
    """A function that writes the frames under names of some form; a pose that has no name isn't written."""

    def to(color: str, depth: str, pose: str = "", units: float = 1000.0) -> Path:
        for number, (rgb, metres, matrix) in enumerate(shots):
            files = [tmp_path / "in" / form.format(number) for form in (color, depth, pose) if form]
            for file in files:
                file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(files[0]), rgb[..., ::-1])
            cv2.imwrite(str(files[1]), (units * metres).round().astype(np.uint16))
            if pose:
                np.savetxt(files[2], matrix)
        return tmp_path / "in"

    return to


def check(capture: Capture, shots: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    """Poses, intrinsics and depth are what was written, and frame 10 is the last."""
    assert (capture.kind, len(capture.frames), capture.has_depth) == ("rgbd", 11, True)
    for frame, (_, metres, matrix) in zip(capture.frames, shots, strict=True):
        assert frame.world_from_camera is not None
        assert np.allclose(frame.world_from_camera.matrix, matrix, atol=1e-6)
        np.testing.assert_allclose(frame.camera.matrix, EYE.matrix, atol=1e-6)
        stored = cv2.imread(str(capture.root / str(frame.depth)), cv2.IMREAD_UNCHANGED)
        assert np.abs(stored - 1000 * metres).max() <= 0.6


@pytest.mark.parametrize(
    "names",
    [
        FLAT,
        ("color_{:02d}.png", "depth_{:02d}.png", "pose_{:02d}.txt"),
        ("IMG{:02d}.jpg", "IMG{:02d}-depth.png", "IMG{:02d}.txt"),
        ("rgb/frame{:03d}.png", "depth/depth{:03d}.png", "poses/{:03d}.txt"),
        SCANNET,
    ],
)
def test_pairs_are_read(names: tuple[str, str, str], write, shots, read: Read):
    """By name or by folder, with intrinsics as people write them; nothing is left over."""
    folder = write(*names)
    (folder / INTRINSICS).write_text(MATRIX)
    assert probe(folder).unused == ()
    check(read(folder), shots)


def test_scannet_is_read_as_its_exporter_writes_it(write, shots, read: Read):
    """4x4 matrices for colour and depth; poses of lost frames are infinite, and those frames are left out."""
    folder = write(*SCANNET)
    (folder / "intrinsic").mkdir()
    for part, eye in (("color", EYE), ("depth", DEPTH_EYE)):
        matrix = np.eye(4)
        matrix[:3, :3] = eye.matrix
        np.savetxt(folder / f"intrinsic/intrinsic_{part}.txt", matrix)
        np.savetxt(folder / f"intrinsic/extrinsic_{part}.txt", np.eye(4))
    capture = read(folder)
    check(capture, shots)
    eye = capture.frames[0].depth_camera
    assert eye is not None
    np.testing.assert_allclose(eye.matrix, DEPTH_EYE.matrix, atol=1e-6)
    np.savetxt(folder / "pose/4.txt", np.full((4, 4), -np.inf))
    capture = read(folder)
    assert len(capture.frames) == 10
    assert [(item.file, item.reason) for item in capture.skipped] == [
        ("color/4.jpg", "its pose is infinite: tracking was lost")
    ]


def test_replica_is_read_as_nice_slam_writes_it(write, shots, read: Read):
    """One file of poses, depth in 1/6553.5 m, integer pixel centres; cam_params.json lies there or one folder up."""
    folder = write("results/frame{:06d}.jpg", "results/depth{:06d}.png", units=6553.5)
    np.savetxt(folder / "traj.txt", [matrix.ravel() for *_, matrix in shots])
    camera = {"w": 160, "h": 120, "fx": EYE.fx, "fy": EYE.fy, "cx": EYE.cx - 0.5, "cy": EYE.cy - 0.5}
    text = json.dumps({"camera": {**camera, "scale": 6553.5}})
    (folder / "cam_params.json").write_text(text)
    check(read(folder), shots)
    shutil.move(folder, folder.with_name("room0"))
    replica = folder.with_name("Replica")
    replica.mkdir()
    shutil.move(folder.with_name("room0"), replica / "room0")
    shutil.move(replica / "room0/cam_params.json", replica / "cam_params.json")
    check(read(replica), shots)
    table = replica / "room0/traj.txt"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]))
    with pytest.raises(CaptureError, match="10 lines for 11 images"):
        read(replica)


def test_pairs_without_poses_are_read_without(write, read: Read):
    """The poses stage computes them; depth gives the scale."""
    folder = write(*FLAT[:2])
    (folder / INTRINSICS).write_text(MATRIX)
    traits = probe(folder)
    assert (traits.kind, traits.has_poses, traits.has_depth, traits.has_scale) == ("rgbd", False, True, True)
    capture = read(folder)
    assert not capture.has_poses and "there are no poses" in capture.notes


@pytest.mark.parametrize("names", [FLAT, SCANNET, ("rgb/{}.png", "depth/{}.png", "")])
def test_pairs_without_intrinsics_say_what_is_missing(names: tuple[str, str, str], write, tmp_path: Path, read: Read):
    """Both remedies work: the file, and the images in a folder of their own."""
    folder = write(*names)
    with pytest.raises(CaptureError, match="11 images with depth, and no such file") as error:
        probe(folder)
    assert "camera-intrinsics.txt as three lines: fx 0 cx" in error.value.remedy
    assert "copy them into a folder of their own" in error.value.remedy
    (tmp_path / "own").mkdir()
    for number in range(11):
        shutil.copy(folder / names[0].format(number), tmp_path / "own")
    assert (probe(tmp_path / "own").kind, probe(tmp_path / "own").frames) == ("photos", 11)
    (folder / INTRINSICS).write_text(MATRIX)
    assert read(folder).has_depth


def test_pictures_of_depth_are_no_depth(write, tmp_path: Path):
    """8 bits for the eye: the images are photos, the pictures are named."""
    folder = write("rgb/{}.jpg", "depth/{}.png")
    for file in (folder / "depth").iterdir():
        Image.open(folder / "rgb" / f"{file.stem}.jpg").save(file)
    traits = probe(folder)
    assert (traits.kind, traits.frames) == ("photos", 11)
    assert traits.unused == ("not used: 11 depth images (depth/0.png ...)",)
