"""The reader of EuRoC (ASL) recordings."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capture.params import CaptureParams
from pipeline.capture.slam.euroc import READER
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose, angle_deg
from tests.capture.conftest import POSES, SMALL, truncate
from tests.capture.writers.reading import read_with
from tests.capture.writers.slam import (
    BODY_FROM_CAMERA,
    WORLD,
    add_euroc_camera,
    write_euroc,
    write_euroc_sensor,
)
from tests.synthetic import Room

LENS = replace(SMALL, distortion=(-0.28, 0.07, 0.0002, -0.0004))
GROUND_TRUTH, IMU = "mav0/state_groundtruth_estimate0", "mav0/imu0"


@pytest.fixture(scope="module")
def recording(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 16 images; never changed."""
    folder = tmp_path_factory.mktemp("euroc")
    write_euroc(folder / "V1", room, POSES, LENS)
    return folder / "V1"


@pytest.fixture
def copy(recording: Path, tmp_path: Path) -> Path:
    """A private copy."""
    return Path(shutil.copytree(recording, tmp_path / "V1"))


def _up_error(capture) -> float:
    return float(np.rad2deg(np.arccos(np.clip(capture.up_in_world @ WORLD.rotate([0, 0, 1.0]), -1, 1))))


def test_exact_recording_comes_back(recording: Path, tmp_path: Path) -> None:
    """Poses of the camera (not the body), the distorted lens, times and the metric scale."""
    capture = read_with(READER, recording, tmp_path)
    assert (capture.kind, capture.ordered, len(capture.frames)) == ("euroc", True, 16)
    assert capture.scale_sigma is not None
    for i, (frame, pose) in enumerate(zip(capture.frames, POSES, strict=True)):
        truth = WORLD @ pose
        assert np.abs(frame.world_from_camera.translation - truth.translation).max() < 1e-4
        assert angle_deg(frame.world_from_camera.rotation, truth.rotation) < 0.01
        assert frame.time == pytest.approx(0.05 * i, abs=1e-7)
        assert frame.camera.distortion == LENS.distortion
        assert np.allclose(frame.camera.matrix, LENS.matrix, atol=1e-9)
        assert frame.source_time == float(1_403_636_579_763_555_584 + i * 50_000_000)


def test_stereo(copy: Path, room: Room, tmp_path: Path) -> None:
    """Both cameras of one moment, each over its own T_BS with its own lens and mask; cam0's frames come first."""
    lens = replace(SMALL, fx=130.0, cx=76.0, distortion=(-0.1, 0.02, 0.0003, -0.0002))
    right = add_euroc_camera(copy, room, POSES, lens)
    mask = np.full((SMALL.height, SMALL.width), 255, np.uint8)
    mask[100:, :40] = 0
    (copy / "masks").mkdir()
    cv2.imwrite(str(copy / "masks/cam1.png"), mask)
    capture = read_with(READER, copy, tmp_path / "out", CaptureParams(cameras="all"))
    assert [frame.sensor for frame in capture.frames] == ["cam0"] * 16 + ["cam1"] * 16
    assert len({frame.name for frame in capture.frames}) == 32
    for i, (frame, pose) in enumerate(zip(capture.frames, [*POSES, *right], strict=True)):
        truth = WORLD @ pose
        assert np.abs(frame.world_from_camera.translation - truth.translation).max() < 1e-4
        assert angle_deg(frame.world_from_camera.rotation, truth.rotation) < 0.01
        assert frame.time == pytest.approx(0.05 * (i % 16), abs=1e-7)
        assert frame.camera.distortion == (LENS if i < 16 else lens).distortion
        assert (frame.mask is None) == (i < 16)
    assert capture.notes[0] == "images of cam0, cam1"
    (copy / "mav0/cam2").mkdir()
    (copy / "mav0/cam2/data.csv").write_text("1,gone.png\n")  # its images were removed to save space
    one = read_with(READER, copy, tmp_path / "one", CaptureParams(cameras="cam1"))
    assert [frame.sensor for frame in one.frames] == [None] * 16
    assert np.allclose(one.frames[3].world_from_camera.matrix, capture.frames[19].world_from_camera.matrix)


def test_images_are_those_listed(recording: Path, tmp_path: Path) -> None:
    """Grey images become colour ones of the same content, in the order of time."""
    capture = read_with(READER, recording, tmp_path)
    frame = capture.frames[5]
    written = cv2.imread(str(tmp_path / frame.image))
    stored = cv2.imread(str(recording / "mav0/cam0/data" / frame.name))
    assert np.array_equal(written, stored)


def test_up_is_measured_while_moving(recording: Path, tmp_path: Path) -> None:
    """Accelerations of the motion and the accelerometer's bias are taken out: within 0.3 degrees of the truth."""
    capture = read_with(READER, recording, tmp_path)
    assert _up_error(capture) < 0.3
    assert capture.up_sigma_deg >= 0.1
    assert capture.gravity_sigma_deg is None
    assert all(frame.gravity is None for frame in capture.frames)


def test_sensor_to_body_turns_of_the_imu_count(copy: Path, tmp_path: Path) -> None:
    """An IMU mounted rotated gives the same up direction."""
    turn = Pose(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.zeros(3))
    rows = np.loadtxt(copy / IMU / "data.csv", str, delimiter=",", skiprows=1)
    values = rows[:, 1:].astype(float).reshape(-1, 2, 3) @ turn.rotation
    lines = [",".join([row[0], *map(str, v.ravel())]) for row, v in zip(rows, values, strict=True)]
    (copy / IMU / "data.csv").write_text("\n".join(["#t", *lines]))
    write_euroc_sensor(copy / IMU / "sensor.yaml", turn)
    capture = read_with(READER, copy, tmp_path / "out")
    assert _up_error(capture) < 0.3


def test_without_ground_truth_gravity_comes_from_rest(copy: Path, tmp_path: Path) -> None:
    """A resting IMU gives each image its gravity in the camera's axes; no poses, no scale."""
    shutil.rmtree(copy / GROUND_TRUTH)
    still = WORLD @ POSES[0] @ BODY_FROM_CAMERA.inverse()
    force = still.inverse().rotate(9.80665 * WORLD.rotate([0, 0, 1.0]))
    start = int((copy / IMU / "data.csv").read_text().splitlines()[1].split(",")[0])
    rows = range(start - 3 * 10**9, start + 4 * 10**9, 5_000_000)
    text = "\n".join(f"{stamp},0.001,0.002,-0.001,{','.join(f'{v:.6f}' for v in force)}" for stamp in rows)
    (copy / IMU / "data.csv").write_text("#timestamp\n" + text + "\n")
    capture = read_with(READER, copy, tmp_path / "out")
    assert (capture.has_poses, capture.scale_sigma) == (False, None)
    truth = POSES[0].inverse().rotate([0, 0, -1.0])
    assert all(np.rad2deg(np.arccos(np.clip(frame.gravity @ truth, -1, 1))) < 0.3 for frame in capture.frames)
    assert capture.gravity_sigma_deg is not None
    assert capture.gravity_sigma_deg > 0.5


def test_images_outside_the_ground_truth_are_left_out(copy: Path, tmp_path: Path) -> None:
    """Nothing is extrapolated: the images before its first row are named."""
    file = copy / GROUND_TRUTH / "data.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], *lines[24:]]))
    capture = read_with(READER, copy, tmp_path / "out")
    assert len(capture.frames) == 13
    assert [s.file for s in capture.skipped] == [
        f"mav0/cam0/data/{1403636579763555584 + i * 50000000}.png" for i in range(3)
    ]
    assert "no pose" in capture.skipped[0].reason


def test_time_range_and_stride(recording: Path, tmp_path: Path) -> None:
    """Seconds after the first image, and every second of those."""
    capture = read_with(READER, recording, tmp_path, CaptureParams(start=0.08, end=0.62, stride=2))
    assert [round(f.source_time - 1_403_636_579_763_555_584, -3) / 1e9 for f in capture.frames] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], abs=1e-6
    )


def test_zip_and_mav0_itself_read_the_same(recording: Path, tmp_path: Path) -> None:
    """The archive as it is downloaded, and its inner folder."""
    archive = shutil.make_archive(str(tmp_path / "V1"), "zip", recording)
    for i, path in enumerate((Path(archive), recording / "mav0")):
        capture = read_with(READER, path, tmp_path / str(i))
        assert len(capture.frames) == 16
        assert _up_error(capture) < 0.3


def test_fisheye_images_are_made_straight(copy: Path, tmp_path: Path) -> None:
    """Equidistant lenses (TUM-VI's) can't be held: the images come straight, with a pinhole camera of their size."""
    file = copy / "mav0/cam0/sensor.yaml"
    text = file.read_text().replace("radial-tangential", "equidistant")
    file.write_text(text.replace(str(list(LENS.distortion)), "[0.02, -0.01, 0.004, -0.001]"))
    capture = read_with(READER, copy, tmp_path / "out")
    camera = capture.frames[0].camera
    assert camera.is_pinhole
    assert (camera.width, camera.height) == (160, 120)
    written = cv2.imread(str(tmp_path / "out" / capture.frames[0].image))
    assert not np.array_equal(written, cv2.imread(str(copy / "mav0/cam0/data" / capture.frames[0].name)))


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_clocks_apart_are_refused(copy: Path, tmp_path: Path) -> None:
    """Ground truth of another hour."""
    file = copy / GROUND_TRUTH / "data.csv"
    file.write_text(file.read_text().replace("\n14036", "\n14039"))
    with pytest.raises(CaptureError, match=r"one clock") as error:
        read_with(READER, copy, tmp_path / "out")
    assert "data.csv" in str(error.value.file)


def test_times_that_run_backwards_are_refused(copy: Path, tmp_path: Path) -> None:
    """Of the poses, and of the images."""
    file = copy / GROUND_TRUTH / "data.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], *lines[2:40], lines[1], *lines[40:]]))
    with pytest.raises(CaptureError, match="times must increase"):
        read_with(READER, copy, tmp_path / "out")


def test_images_out_of_order_are_refused(copy: Path, tmp_path: Path) -> None:
    """The list of images is in the order of time."""
    file = copy / "mav0/cam0/data.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[3], lines[1], lines[2], *lines[4:]]))
    with pytest.raises(CaptureError, match="time must increase"):
        read_with(READER, copy, tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (f"intrinsics: [{SMALL.fx}", "intrinsics: [0.0", "intrinsics must belong"),
        ("resolution: [160, 120]", "resolution: [752, 480]", "intrinsics must belong"),
        ("T_BS:", "T_SB:", "T_BS must hold 4 x 4"),
        ("0.0, 0.0, 0.0, 1.0]", "0.0]", "T_BS must hold 4 x 4"),
        ("radial-tangential", "omni", "distortion must be"),
        ("T_BS:", "T_BS: [", "YAML mapping"),
    ],
)
def test_broken_calibration_is_refused(old: str, new: str, message: str, copy: Path, tmp_path: Path) -> None:
    """The file is named with what it should hold."""
    file = copy / "mav0/cam0/sensor.yaml"
    text = file.read_text().replace("0, 0, 0, 1]", "0.0, 0.0, 0.0, 1.0]")
    file.write_text(text)
    _edit(file, old, new)
    with pytest.raises(CaptureError, match=message) as error:
        read_with(READER, copy, tmp_path / "out")
    assert str(error.value.file).endswith("cam0/sensor.yaml")


def test_quaternion_that_is_not_unit_is_refused(copy: Path, tmp_path: Path) -> None:
    """Columns of another order can't be taken for a rotation."""
    file = copy / GROUND_TRUTH / "data.csv"
    lines = [line.split(",") for line in file.read_text().splitlines()]
    for row in lines[1:]:
        row[4] = str(float(row[4]) * 1.3 + 0.2)
    file.write_text("\n".join(",".join(row) for row in lines))
    with pytest.raises(CaptureError, match="unit quaternion"):
        read_with(READER, copy, tmp_path / "out")


def test_accelerometer_in_g_is_refused(copy: Path, tmp_path: Path) -> None:
    """The format is in m/s^2."""
    file = copy / IMU / "data.csv"
    lines = [line.split(",") for line in file.read_text().splitlines()]
    scaled = [",".join([*row[:4], *(str(float(v) / 9.81) for v in row[4:])]) for row in lines[1:]]
    file.write_text("\n".join(["#t", *scaled]))
    with pytest.raises(CaptureError, match=r"m/s\^2"):
        read_with(READER, copy, tmp_path / "out")


def test_missing_images_are_named(copy: Path, tmp_path: Path) -> None:
    """How many, and the first."""
    sorted((copy / "mav0/cam0/data").iterdir())[7].unlink()
    with pytest.raises(CaptureError, match=r"1 of 16 missing, first mav0/cam0/data/14036\d+\.png"):
        read_with(READER, copy, tmp_path / "out")


def test_truncated_image_is_skipped(copy: Path, tmp_path: Path) -> None:
    """The others keep their poses."""
    truncate(sorted((copy / "mav0/cam0/data").iterdir())[2])
    capture = read_with(READER, copy, tmp_path / "out")
    assert len(capture.frames) == 15
    truth = (WORLD @ POSES[3]).translation
    assert np.allclose(capture.frames[2].world_from_camera.translation, truth, atol=1e-4)


def test_missing_calibration_is_named(copy: Path, tmp_path: Path) -> None:
    """An incomplete archive is still this format."""
    (copy / "mav0/cam0/sensor.yaml").unlink()
    with pytest.raises(CaptureError, match=r"no cam0/sensor\.yaml"):
        read_with(READER, copy, tmp_path / "out")


def test_lens_of_the_test_is_not_a_pinhole() -> None:
    """Otherwise the round trip would not see lost distortion."""
    assert not LENS.is_pinhole
    assert isinstance(LENS, Camera)
