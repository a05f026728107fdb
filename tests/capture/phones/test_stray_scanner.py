"""The reader of Stray Scanner recordings."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.phones import stray_scanner
from pipeline.capture.phones.stray_scanner import CAMERA_FROM_DEVICE, READER
from pipeline.capture.source import open_source
from pipeline.capture.videos.movie import images_of
from pipeline.errors import CaptureError
from tests.capture.conftest import SMALL, truncate
from tests.capture.writers.reading import assert_poses, read_with
from tests.capture.writers.stray_scanner import (
    ARKIT_FROM_WORLD,
    BOOT,
    confidence_of,
    time_of,
    write_stray_scanner,
    write_stray_walk,
    write_video,
)
from tests.capture.writers.walking import walk_with_it
from tests.synthetic import Room, walk

DEPTH = (64, 48)
POSES = walk(120)[:14]


@pytest.fixture(scope="module")
def written(room: Room, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """A recording, never changed, and its images."""
    folder = tmp_path_factory.mktemp("stray") / "71de12f9"
    return folder, write_stray_scanner(folder, room, POSES, SMALL, DEPTH)


@pytest.fixture
def recording(written: tuple[Path, list[np.ndarray]], tmp_path: Path) -> Path:
    """A private copy."""
    return Path(shutil.copytree(written[0], tmp_path / "recording"))


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Capture]:
    def run(path: Path, params: CaptureParams | None = None) -> Capture:
        return read_with(READER, path, tmp_path / "canonical", params)

    return run


def numbers(capture: Capture) -> list[int]:
    return [int(frame.name[:6]) for frame in capture.frames]


def edit(file: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Change the lines of a table."""
    file.write_text("\n".join(change(file.read_text().splitlines())) + "\n")


def replaced(line: int, column: int, value: str) -> Callable[[list[str]], list[str]]:
    """A change that puts another value into one field."""

    def change(lines: list[str]) -> list[str]:
        fields = lines[line].split(", ")
        fields[column] = value
        return [*lines[:line], ", ".join(fields), *lines[line + 1 :]]

    return change


def assert_true(capture: Capture, room: Room, images: list[np.ndarray]) -> None:
    """Every frame's pose, image and depth are the written ones of its number."""
    assert_poses(capture, [ARKIT_FROM_WORLD @ POSES[number] for number in numbers(capture)])
    for number, frame in zip(numbers(capture), capture.frames, strict=True):
        pixels = np.asarray(Image.open(capture.root / frame.image), np.float64)
        assert int(np.argmin([np.abs(pixels - image).mean() for image in images])) == number
        depth = cv2.imread(str(capture.root / str(frame.depth)), cv2.IMREAD_UNCHANGED)
        truth = room.cast(SMALL.resized(*DEPTH), POSES[number])[1]
        assert np.abs(depth / 1000 - truth).max() < 0.00051


def test_recording_is_read_as_it_was_written(written: tuple, room: Room, read: Callable[..., Capture]) -> None:
    """Poses are in OpenCV axes on disk; intrinsics at image and depth size; ARKit's up; metric."""
    folder, images = written
    capture = read(folder)
    assert (capture.kind, capture.ordered, capture.scale_sigma) == ("stray_scanner", True, 0.01)
    assert_true(capture, room, images)
    assert capture.up_in_world.tolist() == [0, 1, 0]
    assert capture.up_sigma_deg == 1.0
    assert all(frame.camera == SMALL and frame.depth_camera == SMALL.resized(*DEPTH) for frame in capture.frames)


def test_image_before_the_start_is_hidden_not_shifted(written: tuple, read: Callable[..., Capture]) -> None:
    """The app stamps the first image -1/60 s: what is shown first is frame 1."""
    folder, _ = written
    capture = read(folder)
    assert numbers(capture) == list(range(1, 14))
    assert [(s.file, s.reason) for s in capture.skipped] == [("rgb.mp4/000000.jpg", "the video does not show it")]


@pytest.mark.parametrize("divider", [1, 2, 12])
def test_every_frame_rate_pairs_by_number(
    recording: Path, written: tuple, room: Room, read: Callable[..., Capture], divider: int
) -> None:
    """60, 30 and 5 frames a second: stamps begin at -1 whatever the rate."""
    write_video(recording / "rgb.mp4", written[1], divider)
    capture = read(recording)
    assert numbers(capture) == list(range(1, 14))
    assert_true(capture, room, written[1])


def test_video_that_shows_all_is_not_shifted_either(
    recording: Path, written: tuple, room: Room, read: Callable[..., Capture]
) -> None:
    """Videos written again begin at 0."""
    write_video(recording / "rgb.mp4", written[1], 2, first=0)
    capture = read(recording)
    assert numbers(capture) == list(range(14))
    assert_true(capture, room, written[1])


def test_times_are_those_of_the_odometry(written: tuple, read: Callable[..., Capture]) -> None:
    """The video's own are made up: 60 a second, whatever it was."""
    capture = read(written[0])
    assert [frame.time for frame in capture.frames] == pytest.approx(
        [time_of(n, 60) - time_of(1, 60) for n in range(1, 14)]
    )
    assert capture.frames[0].source_time == pytest.approx(time_of(1, 60))


def test_range_and_stride(written: tuple, room: Room, read: Callable[..., Capture]) -> None:
    """Seconds count from the first line; images that are left out don't shift the others."""
    capture = read(written[0], CaptureParams(start=1.5, end=10.5, stride=3))
    assert numbers(capture) == [2, 5, 8]
    assert_true(capture, room, written[1])


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of a walk, never changed."""
    folder = tmp_path_factory.mktemp("stray") / "walk"
    write_stray_walk(folder, WALK, 10.0, np.random.default_rng(2))
    return folder


WALK = walk_with_it(10.0, np.random.default_rng(3))
EVERY_TENTH = CaptureParams(stride=10)


def test_gravity_of_a_walk(walked: Path, read: Callable[..., Capture]) -> None:
    """From the accelerometer's axes and sign into the camera's, by ARKit's poses and the gyroscope, on every frame."""
    capture = read(walked, EVERY_TENTH)
    assert len(capture.frames) > 50
    truths = WALK.poses(np.array([(frame.source_time or 0) - BOOT for frame in capture.frames]))
    for truth, frame in zip(truths, capture.frames, strict=True):
        assert np.degrees(np.linalg.norm(frame.gravity - truth.inverse().rotate([0, 0, -1]))) < 0.5
    assert capture.gravity_sigma_deg is not None
    assert capture.gravity_sigma_deg < 0.5
    assert any("ARKit agrees on up" in note for note in capture.notes)


def test_axes_of_a_phone_held_upright() -> None:
    """Gravity along -y of the phone is to the right of its stored images, the screen's back is ahead."""
    assert np.allclose(CAMERA_FROM_DEVICE @ [0, -1, 0], [1, 0, 0])
    assert np.allclose(CAMERA_FROM_DEVICE @ [0, 0, -1], [0, 0, 1])
    assert np.linalg.det(CAMERA_FROM_DEVICE) == pytest.approx(1)


def respelled(walked: Path, folder: Path, change: Callable[[np.ndarray], None]) -> Path:
    """A copy whose imu.csv `change` has changed."""
    shutil.copytree(walked, folder)
    header = (folder / "imu.csv").read_text().splitlines()[0]
    table = np.loadtxt(folder / "imu.csv", delimiter=",", skiprows=1)
    change(table)
    (folder / "imu.csv").write_text("\n".join([header, *(", ".join(map(str, row)) for row in table.tolist())]) + "\n")
    return folder


def test_acceleration_in_metres_reads_the_same(walked: Path, read: Callable[..., Capture], tmp_path: Path) -> None:
    """Versions before 2025 wrote m/s^2."""

    def to_metres(table: np.ndarray) -> None:
        table[:, 1:4] *= 9.80665

    in_metres = read(respelled(walked, tmp_path / "m", to_metres), EVERY_TENTH)
    in_g = read(walked, EVERY_TENTH)
    for one, other in zip(in_metres.frames, in_g.frames, strict=True):
        assert one.gravity is not None
        assert np.allclose(one.gravity, other.gravity)


@pytest.mark.parametrize("change", ["sign", "axes", "clock"])
def test_accelerometer_that_contradicts_arkit_is_left_out(
    walked: Path, read: Callable[..., Capture], tmp_path: Path, change: str
) -> None:
    """Specific force instead of Apple's sign, camera axes instead of the phone's, a clock minutes away."""

    def spoil(table: np.ndarray) -> None:
        if change == "sign":
            table[:, 1:4] *= -1
        elif change == "axes":
            table[:, 1:3] = table[:, [2, 1]]
        else:
            table[:, 0] += 500

    capture = read(respelled(walked, tmp_path / "spoiled", spoil), EVERY_TENTH)
    assert all(frame.gravity is None for frame in capture.frames)
    assert any("clock" in note for note in capture.notes)
    assert (capture.gravity_sigma_deg, capture.up_sigma_deg) == (None, 1.0)


def test_recording_without_imu_or_confidence(recording: Path, read: Callable[..., Capture]) -> None:
    """Old versions wrote neither; up is still ARKit's."""
    (recording / "imu.csv").unlink()
    shutil.rmtree(recording / "confidence")
    capture = read(recording)
    assert capture.up_in_world is not None
    assert all(frame.gravity is None and frame.confidence is None for frame in capture.frames)


def test_confidence_is_spread_over_the_range(written: tuple, read: Callable[..., Capture]) -> None:
    """0, 1, 2 become 0, 128, 255."""
    capture = read(written[0])
    stored = cv2.imread(str(capture.root / str(capture.frames[3].confidence)), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(stored, np.array([0, 128, 255])[confidence_of(4, (48, 64))])


def test_newer_columns_give_each_frame_its_intrinsics(room: Room, tmp_path: Path, read: Callable[..., Capture]) -> None:
    """With fx, fy, cx, cy in odometry.csv, empty distortion centres and no camera_matrix.csv."""
    folder = tmp_path / "new"
    write_stray_scanner(folder, room, POSES[:6], SMALL, DEPTH, per_frame=True)
    (folder / "camera_matrix.csv").unlink()
    frames = read(folder).frames
    assert [frame.camera for frame in frames] == [replace(SMALL, cx=SMALL.cx + 0.25 * n) for n in range(1, 6)]
    assert frames[2].depth_camera == frames[2].camera.resized(*DEPTH)


def test_oldest_recording_without_times_and_with_npy_depth(
    recording: Path, written: tuple, room: Room, read: Callable[..., Capture]
) -> None:
    """Before August 2021: a line a frame without its number, depth as NumPy files."""
    edit(recording / "odometry.csv", lambda lines: [", ".join(line.split(", ")[2:]) for line in lines])
    for file in (recording / "depth").iterdir():
        np.save(file.with_suffix(".npy"), cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
        file.unlink()
    capture = read(recording)
    assert_true(capture, room, written[1])
    assert capture.frames[2].time is None
    assert capture.frames[2].source_time == 3


@pytest.mark.parametrize(
    ("array", "error"),
    [(np.ones((48, 64)), "16-bit"), (np.ones((48, 64, 3), np.uint16), "16-bit")],
)
def test_other_npy_depth_is_refused(
    recording: Path, read: Callable[..., Capture], array: np.ndarray, error: str
) -> None:
    """Floats and colours."""
    content = io.BytesIO()
    np.save(content, array)
    (recording / "depth/000003.npy").write_bytes(content.getvalue())
    (recording / "depth/000003.png").unlink()
    with pytest.raises(CaptureError, match=error):
        read(recording)


def test_truncated_npy_depth_is_skipped(recording: Path, read: Callable[..., Capture]) -> None:
    """As truncated PNG files are."""
    np.save(recording / "depth/000003.npy", np.ones((48, 64), np.uint16))
    truncate(recording / "depth/000003.npy")
    (recording / "depth/000003.png").unlink()
    truncate(recording / "depth/000005.png")
    assert [s.file for s in read(recording).skipped[1:]] == ["depth/000003.npy", "depth/000005.png"]


def test_hole_in_the_depth_costs_its_frame_only(
    recording: Path, written: tuple, room: Room, read: Callable[..., Capture]
) -> None:
    """Depth pairs by number, not by order; many holes are refused."""
    (recording / "depth/000004.png").unlink()
    capture = read(recording)
    assert numbers(capture) == [1, 2, 3, *range(5, 14)]
    assert ("depth/000004.png", "no depth for it") in [(s.file, s.reason) for s in capture.skipped]
    assert_true(capture, room, written[1])
    for number in range(6, 10):
        (recording / f"depth/{number:06d}.png").unlink()
    with pytest.raises(CaptureError, match="5 of 13"):
        read(recording)


def test_eight_bit_depth_is_refused(recording: Path, read: Callable[..., Capture]) -> None:
    """An image of depth."""
    cv2.imwrite(str(recording / "depth/000004.png"), np.full((48, 64), 90, np.uint8))
    with pytest.raises(CaptureError, match="16-bit"):
        read(recording)


def test_row_more_or_less_than_images(recording: Path, written: tuple, read: Callable[..., Capture]) -> None:
    """One is how a recording may end; more means another video."""
    edit(recording / "odometry.csv", lambda lines: lines[:-1])
    assert numbers(read(recording)) == list(range(1, 13))
    edit(recording / "odometry.csv", lambda lines: lines[:-1])
    with pytest.raises(CaptureError, match="14 images, 12 poses"):
        read(recording)


def test_zip_reads_as_the_folder_does(written: tuple, room: Room, tmp_path: Path, read: Callable[..., Capture]) -> None:
    """With the recording's folder inside."""
    archive = tmp_path / "scan.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for file in sorted(written[0].rglob("*.*")):
            target.write(file, f"71de12f9/{file.relative_to(written[0]).as_posix()}")
    assert_true(read(archive), room, written[1])


def test_intrinsics_at_depth_size_are_refused(recording: Path, read: Callable[..., Capture]) -> None:
    """The matrix belongs to the video."""
    (recording / "camera_matrix.csv").write_text("48.8, 0, 31.2\n0, 48.6, 23.9\n0, 0, 1")
    with pytest.raises(CaptureError, match="160 x 120") as error:
        read(recording)
    assert str(error.value.file).endswith("camera_matrix.csv")


@pytest.mark.parametrize("matrix", ["122, 0, 0\n0, 121, 0\n79, 60, 1", "122, 0, 79\n0, 121, 60", "a, b, c"])
def test_broken_camera_matrix_is_refused(recording: Path, read: Callable[..., Capture], matrix: str) -> None:
    """Column by column, cut, no numbers."""
    (recording / "camera_matrix.csv").write_text(matrix)
    with pytest.raises(CaptureError) as error:
        read(recording)
    assert str(error.value.file).endswith("camera_matrix.csv")


def test_rotated_video_is_refused(recording: Path, written: tuple, read: Callable[..., Capture]) -> None:
    """Portrait images next to landscape depth: someone rotated the video."""
    write_video(recording / "rgb.mp4", [np.ascontiguousarray(np.rot90(p)) for p in written[1]], 60)
    with pytest.raises(CaptureError, match=r"must (show|belong)"):
        read(recording)


@pytest.mark.parametrize(
    ("line", "column", "value", "error"),
    [
        (6, 2, "nan", "finite"),
        (6, 3, "", "9 numbers"),
        (6, 1, "000004", "in order"),
        (0, 5, "rx", "names of its columns"),
    ],
)
def test_bad_odometry_is_named(
    recording: Path, read: Callable[..., Capture], line: int, column: int, value: str, error: str
) -> None:
    """The file, the line and what it should hold."""
    edit(recording / "odometry.csv", replaced(line, column, value))
    with open_source(recording) as source, pytest.raises(CaptureError, match=error) as raised:
        READER.read(source, recording.parent / "out", CaptureParams())
    assert "odometry.csv" in str(raised.value.file)


def test_axes_converted_twice_are_refused(room: Room, tmp_path: Path, read: Callable[..., Capture]) -> None:
    """Poses that someone converted to OpenGL axes contradict the depth."""
    folder = tmp_path / "rotated"
    write_stray_scanner(folder, room, walk(24), SMALL, DEPTH)

    def turn(lines: list[str]) -> list[str]:
        rows = [line.split(", ") for line in lines]
        for row in rows[1:]:  # q * (1, 0, 0, 0)
            x, y, z, w = (float(value) for value in row[5:])
            row[5:] = [str(w), str(z), str(-y), str(-x)]
        return [", ".join(row) for row in rows]

    edit(folder / "odometry.csv", turn)
    with pytest.raises(CaptureError, match="other camera axes"):
        read(folder)


def test_missing_video_is_named(recording: Path) -> None:
    """The recording is recognised by its tables."""
    (recording / "rgb.mp4").unlink()
    with open_source(recording) as source:
        assert READER.recognise(source)
        with pytest.raises(CaptureError, match=r"no rgb\.mp4"):
            READER.traits(READER.survey(source))


def test_damaged_image_shifts_nothing(
    recording: Path, written: tuple, room: Room, read: Callable[..., Capture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that passes over an image numbers the rest one less: times say which they are."""

    def damaged(file: Path, chosen: Callable[[int], bool]):
        frames = [frame for frame in images_of(file) if frame.index != 3]
        yield from (replace(frame, index=i) for i, frame in enumerate(frames) if chosen(i))

    monkeypatch.setattr(stray_scanner, "images_of", damaged)
    capture = read(recording)
    assert numbers(capture) == [1, 2, 3, *range(5, 14)]
    assert_true(capture, room, written[1])


def test_other_odometry_is_not_recognised(recording: Path) -> None:
    """Robots write files of this name, too."""
    (recording / "odometry.csv").write_text("time,left_wheel,right_wheel\n0,1,2\n")
    (recording / "camera_matrix.csv").unlink()
    with open_source(recording) as source:
        assert not READER.recognise(source)
