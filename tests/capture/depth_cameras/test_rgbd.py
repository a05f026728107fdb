"""The reader of RGB-D frames with poses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capture.depth_cameras.rgbd import SEVEN_SCENES
from pipeline.capture.model import Capture
from pipeline.errors import CaptureError
from pipeline.geometry import Camera
from tests.capture.conftest import POSES, SMALL, truncate
from tests.synthetic import Room

Read = Callable[[Path], Capture]
Copy = Callable[[str], Path]


def test_exact_capture_comes_back(made: Path, read: Read) -> None:
    """Poses, intrinsics, depth and order are what was written."""
    capture = read(made / "rgbd")
    assert (capture.kind, capture.ordered, capture.has_depth, len(capture.frames)) == ("rgbd", True, True, 16)
    for frame, pose in zip(capture.frames, POSES, strict=True):
        assert frame.world_from_camera is not None
        assert np.allclose(frame.world_from_camera.matrix, pose.matrix, atol=1e-6)
        assert (frame.camera, frame.depth_camera) == (SMALL, SMALL)
    first = capture.frames[0]
    assert first.name == "frame-000000.color.jpg"
    assert first.gravity is None
    written = cv2.imread(str(capture.root / str(first.depth)), cv2.IMREAD_UNCHANGED)
    stored = cv2.imread(str(made / "rgbd" / "frame-000000.depth.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(written, stored)


def test_unpaired_files_are_named(copy_of: Copy, read: Read) -> None:
    """Counts of all three kinds and the ids without a partner."""
    folder = copy_of("rgbd")
    (folder / "frame-000004.depth.png").unlink()
    (folder / "frame-000007.pose.txt").unlink()
    with pytest.raises(CaptureError, match="every frame needs") as error:
        read(folder)
    assert "16 colour, 15 depth, 15 pose" in error.value.found
    assert "no depth for frame-000004" in error.value.found
    assert "no pose for frame-000007" in error.value.found


def write_seven_scenes(folder: Path, room: Room, camera: Camera) -> list[np.ndarray]:
    """A sequence as Microsoft's archive has it, 65535 where the Kinect measured nothing; gives depth [mm]."""
    folder.mkdir(parents=True)
    depths = []
    for i, pose in enumerate(POSES[:4]):
        color, metres = room.render(camera, pose, samples=1)
        depth = (1000 * metres).round().astype(np.uint16)
        depth[:9, :30] = 65535
        depths.append(depth)
        cv2.imwrite(str(folder / f"frame-{i:06d}.color.png"), color[..., ::-1])
        cv2.imwrite(str(folder / f"frame-{i:06d}.depth.png"), depth)
        rows = ["\t ".join(f"{value: .7e}" for value in row) + "\t " for row in pose.matrix]
        (folder / f"frame-{i:06d}.pose.txt").write_text("\n".join(rows) + "\n")
    return depths


def test_seven_scenes_is_read_as_published(room: Room, tmp_path: Path, read: Read) -> None:
    """The scene's folder with one sequence in it, without a file of intrinsics: those of the readme are taken."""
    depths = write_seven_scenes(tmp_path / "chess/seq-01", room, SEVEN_SCENES)
    (tmp_path / "chess/TrainSplit.txt").write_text("sequence1 \n")
    capture = read(tmp_path / "chess")
    assert (capture.kind, len(capture.frames)) == ("rgbd", 4)
    for frame, pose, depth in zip(capture.frames, POSES, depths, strict=False):
        assert frame.world_from_camera is not None
        assert np.allclose(frame.world_from_camera.matrix, pose.matrix, atol=1e-6)
        assert (frame.camera, frame.depth_camera) == (SEVEN_SCENES, SEVEN_SCENES)
        stored = cv2.imread(str(capture.root / str(frame.depth)), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(stored, np.where(depth == 65535, 0, depth))
    assert "7-Scenes" in capture.assumed[0]


def test_missing_intrinsics_say_how_to_write_them(room: Room, copy_of: Copy, tmp_path: Path, read: Read) -> None:
    """The remedy shows the file's content; images that 7-Scenes does not have need it, too."""
    folder = copy_of("rgbd")
    (folder / "camera-intrinsics.txt").unlink()
    with pytest.raises(CaptureError, match=r"camera-intrinsics\.txt") as error:
        read(folder)
    assert "fx 0 cx" in error.value.remedy
    write_seven_scenes(tmp_path / "small", room, SMALL)
    with pytest.raises(CaptureError, match=r"camera-intrinsics\.txt") as error:
        read(tmp_path / "small")
    assert "fx 0 cx" in error.value.remedy


@pytest.mark.parametrize("text", ["1 2 3\n4 5 6", "a b c\nd e f\ng h i", "", "1 2\n3 4 5\n6 7 8"])
def test_broken_intrinsics_are_refused(text: str, copy_of: Copy, read: Read) -> None:
    """Not nine numbers: the file is named."""
    folder = copy_of("rgbd")
    (folder / "camera-intrinsics.txt").write_text(text)
    with pytest.raises(CaptureError, match=r"camera-intrinsics\.txt.*3 x 3"):
        read(folder)


@pytest.mark.parametrize("fault", ["nan", "mirrored", "scaled"])
def test_bad_pose_names_its_file(fault: str, copy_of: Copy, read: Read) -> None:
    """The capture is refused because of one pose, and which one is said."""
    file = copy_of("rgbd") / "frame-000005.pose.txt"
    matrix = np.loadtxt(file)
    if fault == "nan":
        matrix[:] = np.nan
    elif fault == "mirrored":
        matrix[:3, 1] *= -1
    else:
        matrix[:3, :3] *= 2
    np.savetxt(file, matrix)
    with pytest.raises(CaptureError, match=r"frame-000005\.pose\.txt"):
        read(file.parent)


def test_depth_in_metres_is_refused(copy_of: Copy, read: Read) -> None:
    """Metres written into 16 bit where millimetres are declared."""
    folder = copy_of("rgbd")
    for file in folder.glob("*.depth.png"):
        cv2.imwrite(str(file), (cv2.imread(str(file), cv2.IMREAD_UNCHANGED) / 1000).round().astype(np.uint16))
    with pytest.raises(CaptureError, match="look like metres"):
        read(folder)


def test_eight_bit_depth_is_refused(copy_of: Copy, read: Read) -> None:
    """A depth image for the eye is named, not read."""
    file = copy_of("rgbd") / "frame-000002.depth.png"
    cv2.imwrite(str(file), np.full((120, 160), 99, np.uint8))
    with pytest.raises(CaptureError, match=r"frame-000002\.depth\.png.*16-bit"):
        read(file.parent)


def test_truncated_colour_or_depth_skips_the_frame(copy_of: Copy, read: Read) -> None:
    """Colour and depth of the others stay paired."""
    folder = copy_of("rgbd")
    truncate(folder / "frame-000003.color.jpg")
    truncate(folder / "frame-000009.depth.png")
    capture = read(folder)
    assert [skipped.file for skipped in capture.skipped] == ["frame-000003.color.jpg", "frame-000009.depth.png"]
    assert len(capture.frames) == 14
    assert all(str(f.depth)[6:18] == f.image[7:19] == f.name[:12] for f in capture.frames)


def test_repeated_frames_are_refused(copy_of: Copy, read: Read) -> None:
    """frame-5 next to frame-000005 is the same moment twice."""
    folder = copy_of("rgbd")
    for part in ("color.jpg", "depth.png", "pose.txt"):
        shutil.copy(folder / f"frame-000005.{part}", folder / f"frame-5.{part}")
    with pytest.raises(CaptureError, match="time must increase"):
        read(folder)


def test_one_frame_in_two_formats_is_refused(copy_of: Copy, read: Read) -> None:
    """A .png next to the .jpg of one frame: which one is meant?"""
    folder = copy_of("rgbd")
    cv2.imwrite(str(folder / "frame-000005.color.png"), np.zeros((120, 160, 3), np.uint8))
    with pytest.raises(CaptureError, match="exist once"):
        read(folder)
