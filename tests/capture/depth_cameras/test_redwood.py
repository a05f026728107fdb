"""The reader of Open3D's and Redwood's RGB-D sequences."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.capture.depth_cameras.redwood import READER
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.source import open_source
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose
from tests.capture.conftest import SMALL, truncate
from tests.capture.writers.reading import assert_poses, read_with
from tests.synthetic import Room, walk


@dataclass(frozen=True)
class Sequence:
    """Where it lies, each frame's true pose and depth."""

    folder: Path
    poses: list[Pose]
    depths: list[np.ndarray]


def log_of(poses: list[Pose], first: int = 0) -> str:
    """As Open3D writes it: frame, frame, frame + 1, then world from camera row by row."""
    text = ""
    for i, pose in enumerate(poses, first):
        rows = "\n".join(" ".join(f"{value:.8f}" for value in row) for row in pose.matrix)
        text += f"{i} {i} {i + 1}\n{rows}\n"
    return text


def intrinsics(camera: Camera = SMALL) -> dict[str, Any]:
    """Column by column, a pixel's centre at an integer."""
    matrix = [camera.fx, 0, 0, 0, camera.fy, 0, camera.cx - 0.5, camera.cy - 0.5, 1]
    return {"width": camera.width, "height": camera.height, "intrinsic_matrix": matrix}


def trajectory_json(poses: list[Pose], camera: dict[str, Any]) -> str:
    """A PinholeCameraTrajectory: camera from world, column by column."""
    parameters = [{"extrinsic": pose.inverse().matrix.T.ravel().tolist(), "intrinsic": camera} for pose in poses]
    content = {"class_name": "PinholeCameraTrajectory", "parameters": parameters, "version_major": 1}
    return json.dumps(content)


def write_redwood(folder: Path, room: Room, poses: list[Pose], camera: Camera = SMALL) -> Sequence:
    """As Open3D's sample: color/00000.jpg, depth/00000.png [mm], intrinsics and trajectory next to them."""
    for part in ("color", "depth"):
        (folder / part).mkdir(parents=True)
    depths = []
    for i, pose in enumerate(poses):
        color, depth = room.render(camera, pose, samples=1)
        depths.append(depth)
        cv2.imwrite(str(folder / f"color/{i:05d}.jpg"), color[..., ::-1])
        cv2.imwrite(str(folder / f"depth/{i:05d}.png"), (depth * 1000).round().astype(np.uint16))
    (folder / "camera_intrinsic.json").write_text(json.dumps(intrinsics(camera)))
    (folder / "trajectory.log").write_text(log_of(poses))
    return Sequence(folder, poses, depths)


@pytest.fixture(scope="session")
def recorded(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Sequence:
    """Twelve frames; never changed."""
    return write_redwood(tmp_path_factory.mktemp("redwood") / "room", room, walk(120)[:12])


@pytest.fixture
def sequence(recorded: Sequence, tmp_path: Path) -> Sequence:
    """A private copy."""
    return replace(recorded, folder=Path(shutil.copytree(recorded.folder, tmp_path / "source" / "room")))


def check_exact(capture: Capture, sequence: Sequence, kept: list[int]) -> None:
    """Poses within 0.1 mm and 0.01 degrees, depth to the millimetre, intrinsics as written."""
    assert_poses(capture, [sequence.poses[index] for index in kept])
    for frame, index in zip(capture.frames, kept, strict=True):
        for camera in (frame.camera, frame.depth_camera):
            assert camera is not None
            assert np.allclose(camera.matrix, SMALL.matrix, atol=1e-9)
            assert (camera.width, camera.height) == (160, 120)
        assert frame.name == f"{index:05d}.jpg"
        depth = cv2.imread(str(capture.root / str(frame.depth)), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(depth, (sequence.depths[index] * 1000).round())


def test_exact_sequence_comes_back(recorded: Sequence, tmp_path: Path) -> None:
    """Poses, intrinsics half a pixel over, depth."""
    capture = read_with(READER, recorded.folder, tmp_path)
    check_exact(capture, recorded, list(range(12)))
    assert (capture.kind, capture.ordered, capture.has_poses, capture.has_depth) == ("redwood", True, True, True)
    assert (capture.up_in_world, capture.scale_sigma) == (None, 0.015)


def test_zip_is_read_in_place(recorded: Sequence, tmp_path: Path) -> None:
    """With one folder around it."""
    archive = shutil.make_archive(str(tmp_path / "room"), "zip", recorded.folder.parent, "room")
    check_exact(read_with(READER, Path(archive), tmp_path / "out"), recorded, list(range(12)))


def test_stride(recorded: Sequence, tmp_path: Path) -> None:
    """Every third frame with its own pose and depth."""
    capture = read_with(READER, recorded.folder, tmp_path, CaptureParams(stride=3))
    check_exact(capture, recorded, [0, 3, 6, 9])


@pytest.mark.parametrize("folder", ["colors", "image", "rgb"])
def test_other_image_folders(folder: str, sequence: Sequence, tmp_path: Path) -> None:
    """Names that Redwood's archives have."""
    (sequence.folder / "color").rename(sequence.folder / folder)
    check_exact(read_with(READER, sequence.folder, tmp_path), sequence, list(range(12)))


def test_scans_with_times_in_their_names(sequence: Sequence, tmp_path: Path) -> None:
    """redwood-3dscan: the frame's number comes first, colour and depth have times of their own after it."""
    for part, late in (("color", 0), ("depth", 11_111)):
        for file in sorted((sequence.folder / part).iterdir()):
            number = int(file.stem)
            file.rename(file.with_stem(f"{number + 1:07d}-{33_333 * number + late:012d}"))
    capture = read_with(READER, sequence.folder, tmp_path)
    for frame, truth in zip(capture.frames, sequence.poses, strict=True):
        assert np.allclose(frame.world_from_camera.matrix, truth.matrix, atol=1e-6)  # type: ignore[union-attr]


def test_frames_sort_by_number(sequence: Sequence, tmp_path: Path) -> None:
    """10 comes after 9 without leading zeros."""
    for part in ("color", "depth"):
        for file in list((sequence.folder / part).iterdir()):
            file.rename(file.with_stem(str(int(file.stem))))
    names = [frame.name for frame in read_with(READER, sequence.folder, tmp_path).frames]
    assert names == [f"{i}.jpg" for i in range(12)]


def test_json_trajectory_is_inverted_and_transposed(sequence: Sequence, tmp_path: Path) -> None:
    """Its intrinsics serve where there is no file of their own."""
    (sequence.folder / "trajectory.log").unlink()
    (sequence.folder / "camera_intrinsic.json").unlink()
    (sequence.folder / "trajectory.json").write_text(trajectory_json(sequence.poses, intrinsics()))
    check_exact(read_with(READER, sequence.folder, tmp_path), sequence, list(range(12)))


def test_intrinsics_file_goes_before_the_trajectory(sequence: Sequence, tmp_path: Path) -> None:
    """Open3D fills in a PrimeSense's where it converts a .log."""
    primesense = {"width": 640, "height": 480, "intrinsic_matrix": [525, 0, 0, 0, 525, 0, 319.5, 239.5, 1]}
    (sequence.folder / "trajectory.log").unlink()
    (sequence.folder / "trajectory.json").write_text(trajectory_json(sequence.poses, primesense))
    check_exact(read_with(READER, sequence.folder, tmp_path), sequence, list(range(12)))


def test_reconstructed_trajectory_is_found(sequence: Sequence, tmp_path: Path) -> None:
    """Open3D's reconstruction writes scene/trajectory.log; a program's own log is none."""
    (sequence.folder / "scene").mkdir()
    (sequence.folder / "trajectory.log").rename(sequence.folder / "scene/trajectory.log")
    (sequence.folder / "odometry.log").write_text(log_of(sequence.poses[::-1]))
    (sequence.folder / "run.log").write_text("2024-01-01 12:00:00 started\n")
    check_exact(read_with(READER, sequence.folder, tmp_path), sequence, list(range(12)))


def test_two_unnamed_trajectories_are_refused(sequence: Sequence, tmp_path: Path) -> None:
    """Which one is meant?"""
    (sequence.folder / "trajectory.log").rename(sequence.folder / "a.log")
    (sequence.folder / "b.log").write_text(log_of(sequence.poses))
    with pytest.raises(CaptureError, match="one trajectory") as error:
        read_with(READER, sequence.folder, tmp_path)
    assert error.value.found == "a.log, b.log"


def test_poses_of_some_frames_are_placed_by_number(sequence: Sequence, tmp_path: Path) -> None:
    """The third number is the frame's, from 1; frames without are left out and named."""
    text = log_of(sequence.poses[2:6], 2) + log_of(sequence.poses[8:], 8)
    (sequence.folder / "trajectory.log").write_text("# comment\n" + text)
    capture = read_with(READER, sequence.folder, tmp_path)
    check_exact(capture, sequence, [2, 3, 4, 5, 8, 9, 10, 11])
    assert {item.file for item in capture.skipped} == {f"color/{i:05d}.jpg" for i in (0, 1, 6, 7)}


def test_items_without_numbers_are_in_step(sequence: Sequence, tmp_path: Path) -> None:
    """Some tools write the same three numbers everywhere."""
    lines = log_of(sequence.poses).splitlines()
    (sequence.folder / "trajectory.log").write_text(
        "\n".join("0 0 0" if i % 5 == 0 else v for i, v in enumerate(lines))
    )
    check_exact(read_with(READER, sequence.folder, tmp_path), sequence, list(range(12)))


@pytest.mark.parametrize("extra", [1, -1])
def test_other_counts_without_numbers_are_refused(extra: int, sequence: Sequence, tmp_path: Path) -> None:
    """One pose too many or too few, and no telling whose they are."""
    poses = [*sequence.poses, sequence.poses[0]][: 12 + extra]
    lines = log_of(poses).splitlines()
    (sequence.folder / "trajectory.log").write_text(
        "\n".join("0 0 0" if i % 5 == 0 else v for i, v in enumerate(lines))
    )
    with pytest.raises(CaptureError, match=rf"trajectory\.log.*12 images(?s:.*){12 + extra} poses"):
        read_with(READER, sequence.folder, tmp_path)


def test_without_trajectory_there_are_no_poses(sequence: Sequence, tmp_path: Path) -> None:
    """What the RealSense recorder leaves before reconstruction."""
    (sequence.folder / "trajectory.log").unlink()
    capture = read_with(READER, sequence.folder, tmp_path)
    assert (capture.has_poses, capture.has_depth, len(capture.frames)) == (False, True, 12)
    assert "there is no trajectory" in capture.notes


def test_without_intrinsics_the_remedy_shows_them(sequence: Sequence, tmp_path: Path) -> None:
    """What to write for a PrimeSense."""
    (sequence.folder / "camera_intrinsic.json").unlink()
    with pytest.raises(CaptureError, match="needs the camera's intrinsics") as error:
        read_with(READER, sequence.folder, tmp_path)
    assert "319.5, 239.5, 1]" in error.value.remedy


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"intrinsic_matrix": [122.5, 0, 78.75, 0, 121.5, 60.25, 0, 0, 1]}, "row by row"),
        ({"intrinsic_matrix": [122.5, 0, 0, 0, 121.5, 0, 78.75, 60.25]}, "78.75, 60.25"),
        ({"intrinsic_matrix": [0, 0, 0, 0, 0, 0, 78.75, 60.25, 1]}, "0.0, 0.0"),
        ({"intrinsic_matrix": ["f", 0, 0, 0, 1, 0, 1, 1, 1]}, "'f'"),
        ({"width": 320, "height": 240}, "principal point"),
        ({"width": 0}, "intrinsics.width must be greater than 0"),
        ({"width": 10**400}, "000"),
        ({"width": None}, "intrinsics.width"),
    ],
)
def test_wrong_intrinsics_are_refused(change: dict[str, Any], found: str, sequence: Sequence, tmp_path: Path) -> None:
    """Transposed, short, zero, words, of another size, without size."""
    (sequence.folder / "camera_intrinsic.json").write_text(json.dumps(intrinsics() | change))
    with pytest.raises(CaptureError, match=r"camera_intrinsic\.json") as error:
        read_with(READER, sequence.folder, tmp_path)
    assert found in str(error.value)


def test_depth_may_be_smaller_but_not_cropped(sequence: Sequence, tmp_path: Path) -> None:
    """Half the size has its intrinsics halved; another shape is refused."""
    for file in (sequence.folder / "depth").iterdir():
        cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[::2, ::2])
    camera = read_with(READER, sequence.folder, tmp_path).frames[0].depth_camera
    assert camera is not None
    assert np.allclose(camera.matrix, SMALL.resized(80, 60).matrix)
    file = sequence.folder / "depth/00004.png"
    cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[:50])
    with pytest.raises(CaptureError, match=r"00004\.png(?s:.*)80 x 50"):
        read_with(READER, sequence.folder, tmp_path / "cropped")


def test_missing_depth_frame_is_named(sequence: Sequence, tmp_path: Path) -> None:
    """Depth 4 and image 9: the same counts, yet out of step."""
    (sequence.folder / "depth/00004.png").unlink()
    (sequence.folder / "color/00009.jpg").unlink()
    with pytest.raises(CaptureError, match="every frame needs") as error:
        read_with(READER, sequence.folder, tmp_path)
    assert "no image for 9; no depth for 4" in error.value.found


def test_one_frame_twice_is_refused(sequence: Sequence, tmp_path: Path) -> None:
    """A .png next to the .jpg of one number."""
    shutil.copy(sequence.folder / "color/00004.jpg", sequence.folder / "color/4.png")
    with pytest.raises(CaptureError, match="exist once"):
        read_with(READER, sequence.folder, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: ["0 0 1", *lines[1:11], "nan " * 4, *lines[12:]], r"line 11.*(?s:.*)NaN"),
        (lambda lines: [*lines[:11], lines[12], lines[11], *lines[13:]], r"line 11.*(?s:.*)left-handed"),
        (lambda lines: [*lines[:11], "1 2 3", *lines[12:]], r"line 12"),
        (lambda lines: [v if i % 5 in (0, 4) else " ".join(f"{2 * float(x)}" for x in v.split())
                        for i, v in enumerate(lines)], "scale or shear"),
    ],
)  # fmt: skip
def test_broken_logs_are_refused(
    change: Callable[[list[str]], list[str]], message: str, sequence: Sequence, tmp_path: Path
) -> None:
    """Lost tracking, mirrored, a short row, scaled: the line is named."""
    file = sequence.folder / "trajectory.log"
    file.write_text("\n".join(change(file.read_text().splitlines())))
    with pytest.raises(CaptureError, match=message) as error:
        read_with(READER, sequence.folder, tmp_path)
    assert "trajectory.log" in str(error.value)


@pytest.mark.parametrize(("change", "message"), [
    ({"parameters": []}, "0 poses"), ({"parameters": {}}, "parameters"), ({"parameters": [7] * 12}, "12 poses"),
    ({"parameters": [{"extrinsic": [1, 2]}] * 12}, r"parameters\.0\.extrinsic"),
])  # fmt: skip
def test_broken_json_trajectories_are_refused(
    change: dict[str, Any], message: str, sequence: Sequence, tmp_path: Path
) -> None:
    """Empty, another form, no matrices."""
    (sequence.folder / "trajectory.log").unlink()
    content = json.loads(trajectory_json(sequence.poses, intrinsics())) | change
    (sequence.folder / "trajectory.json").write_text(json.dumps(content))
    with pytest.raises(CaptureError, match=f"(?s){message}"):
        read_with(READER, sequence.folder, tmp_path)


def test_world_to_camera_log_is_refused(sequence: Sequence, tmp_path: Path) -> None:
    """Contradicts depth, and the message says how."""
    (sequence.folder / "trajectory.log").write_text(log_of([pose.inverse() for pose in sequence.poses]))
    with pytest.raises(CaptureError, match="world-to-camera"):
        read_with(READER, sequence.folder, tmp_path)


def test_other_depth_units_are_refused(sequence: Sequence, tmp_path: Path) -> None:
    """Centimetres contradict the poses."""
    for file in (sequence.folder / "depth").glob("*.png"):
        cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_UNCHANGED) // 10)
    with pytest.raises(CaptureError, match=r"agree with the poses(?s:.*)centimetres"):
        read_with(READER, sequence.folder, tmp_path)


def test_truncated_files_are_skipped(sequence: Sequence, tmp_path: Path) -> None:
    """The others stay in step."""
    truncate(sequence.folder / "color/00003.jpg")
    truncate(sequence.folder / "depth/00009.png")
    check_exact(read_with(READER, sequence.folder, tmp_path), sequence, [0, 1, 2, 4, 5, 6, 7, 8, 10, 11])


def test_masks_are_taken(sequence: Sequence, tmp_path: Path) -> None:
    """masks/ next to color/."""
    (sequence.folder / "masks").mkdir()
    mask = np.full((120, 160), 255, np.uint8)
    mask[:, :30] = 0
    cv2.imwrite(str(sequence.folder / "masks/00002.jpg.png"), mask)
    frames = read_with(READER, sequence.folder, tmp_path).frames
    assert [frame.name for frame in frames if frame.mask] == ["00002.jpg"]


@pytest.mark.parametrize("gone", ["color", "depth", "both files"])
def test_what_lacks_a_part_is_not_recognised(gone: str, sequence: Sequence, tmp_path: Path) -> None:
    """Images and depth in folders without any file of Open3D's may be anything."""
    if gone == "both files":
        (sequence.folder / "camera_intrinsic.json").unlink()
        (sequence.folder / "trajectory.log").unlink()
        (sequence.folder / "notes.log").write_text("hello\n")
    else:
        shutil.rmtree(sequence.folder / gone)
    with open_source(sequence.folder) as source:
        assert not READER.recognise(source)
