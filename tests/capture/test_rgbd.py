"""The reader of RGB-D frames with poses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capture.model import Capture
from pipeline.errors import CaptureError
from tests.capture.conftest import POSES, SMALL, truncate

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


def test_missing_intrinsics_say_how_to_write_them(copy_of: Copy, read: Read) -> None:
    """The remedy shows the file's content."""
    folder = copy_of("rgbd")
    (folder / "camera-intrinsics.txt").unlink()
    with pytest.raises(CaptureError, match=r"camera-intrinsics\.txt") as error:
        read(folder)
    assert "fx 0 cx" in error.value.remedy


@pytest.mark.parametrize("text", ["1 2 3\n4 5 6", "a b c\nd e f\ng h i", "", "1 2\n3 4 5\n6 7 8"])
def test_broken_intrinsics_are_refused(text: str, copy_of: Copy, read: Read) -> None:
    """Not nine numbers: the file is named."""
    folder = copy_of("rgbd")
    (folder / "camera-intrinsics.txt").write_text(text)
    with pytest.raises(CaptureError, match=r"camera-intrinsics\.txt.*3 x 3"):
        read(folder)


def test_intrinsics_of_another_resolution_are_refused(copy_of: Copy, read: Read) -> None:
    """The doubled matrix of a 320 x 240 picture does not fit 160 x 120."""
    folder = copy_of("rgbd")
    np.savetxt(folder / "camera-intrinsics.txt", SMALL.resized(320, 240).matrix)
    with pytest.raises(CaptureError, match="160 x 120"):
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


def test_camera_that_never_moves_is_refused(copy_of: Copy, read: Read) -> None:
    """Turning on the spot gives no depth."""
    folder = copy_of("rgbd")
    for file in folder.glob("*.pose.txt"):
        matrix = np.loadtxt(file)
        matrix[:3, 3] = [1, 2, 3]
        np.savetxt(file, matrix)
    with pytest.raises(CaptureError, match="must move"):
        read(folder)


def test_depth_in_metres_is_refused(copy_of: Copy, read: Read) -> None:
    """Metres written into 16 bit where millimetres are declared."""
    folder = copy_of("rgbd")
    for file in folder.glob("*.depth.png"):
        cv2.imwrite(str(file), (cv2.imread(str(file), cv2.IMREAD_UNCHANGED) / 1000).round().astype(np.uint16))
    with pytest.raises(CaptureError, match="look like metres"):
        read(folder)


def test_eight_bit_depth_is_refused(copy_of: Copy, read: Read) -> None:
    """A depth picture for the eye is named, not read."""
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
    """frame-5 beside frame-000005 is the same moment twice."""
    folder = copy_of("rgbd")
    for part in ("color.jpg", "depth.png", "pose.txt"):
        shutil.copy(folder / f"frame-000005.{part}", folder / f"frame-5.{part}")
    with pytest.raises(CaptureError, match="time must increase"):
        read(folder)


def test_one_frame_in_two_formats_is_refused(copy_of: Copy, read: Read) -> None:
    """A .png beside the .jpg of one frame: which one is meant?"""
    folder = copy_of("rgbd")
    cv2.imwrite(str(folder / "frame-000005.color.png"), np.zeros((120, 160, 3), np.uint8))
    with pytest.raises(CaptureError, match="exist once"):
        read(folder)
