"""The reader of KITTI odometry sequences."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.capture.detect import open_capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.slam.kitti import READER
from pipeline.capture.source import open_source
from pipeline.errors import CaptureError
from pipeline.geometry import Pose, angle_deg
from tests.capture.conftest import POSES, SMALL, truncate
from tests.capture.writers.reading import read_with
from tests.capture.writers.slam import CAMERA_FROM_SCAN, KITTI_BASELINE, KITTI_RIGHT, write_kitti
from tests.synthetic import Room

VIEWS = POSES[:10]
CAMERA = SMALL.resized(320, 240)
SEQUENCE = "sequences/04"


@pytest.fixture(scope="module")
def dataset(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with one sequence of 10 images and scans; never changed."""
    folder = tmp_path_factory.mktemp("kitti") / "dataset"
    write_kitti(folder, room, VIEWS, CAMERA)
    return folder


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    """A private copy."""
    return Path(shutil.copytree(dataset, tmp_path / "dataset"))


def _truth(pose: Pose) -> Pose:
    """Of the left colour camera, in the world of the first left grey one."""
    return (VIEWS[0] @ Pose(np.eye(3), KITTI_BASELINE)).inverse() @ pose


def test_exact_sequence_comes_back(dataset: Path, tmp_path: Path) -> None:
    """Poses of the colour camera next to the grey one, intrinsics with pixel centres at +0.5, times."""
    capture = read_with(READER, dataset, tmp_path)
    assert (capture.kind, capture.ordered, len(capture.frames), capture.up_in_world) == ("kitti", True, 10, None)
    for i, (frame, pose) in enumerate(zip(capture.frames, VIEWS, strict=True)):
        truth = _truth(pose)
        assert np.abs(frame.world_from_camera.translation - truth.translation).max() < 1e-4
        assert angle_deg(frame.world_from_camera.rotation, truth.rotation) < 0.01
        assert np.allclose(frame.camera.matrix, CAMERA.matrix, atol=1e-6)
        assert frame.time == pytest.approx(0.1037 * i, abs=1e-6)
    assert "images of image_2;" in capture.notes[0]


def test_both_colour_cameras(room: Room, tmp_path: Path) -> None:
    """Left, then right, each with its place from the fourth column of P, its depth and its mask."""
    write_kitti(tmp_path / "d", room, VIEWS[:6], CAMERA, right=True)
    mask = np.full((CAMERA.height, CAMERA.width), 255, np.uint8)
    mask[-20:, 15:] = 0
    (tmp_path / "d/masks").mkdir()
    cv2.imwrite(str(tmp_path / "d/masks/image_3.png"), mask)
    capture = read_with(READER, tmp_path / "d", tmp_path / "out", CaptureParams(cameras="image_2,image_3"))
    right = [pose @ Pose(np.eye(3), KITTI_BASELINE - KITTI_RIGHT) for pose in VIEWS[:6]]
    assert [frame.sensor for frame in capture.frames] == ["image_2"] * 6 + ["image_3"] * 6
    assert capture.frames[8].name == "image_3_000002.png"
    for i, (frame, pose) in enumerate(zip(capture.frames, [*VIEWS[:6], *right], strict=True)):
        truth = _truth(pose)
        assert np.abs(frame.world_from_camera.translation - truth.translation).max() < 1e-4
        assert angle_deg(frame.world_from_camera.rotation, truth.rotation) < 0.01
        assert frame.time == pytest.approx(0.1037 * (i % 6), abs=1e-6)
        assert (frame.mask is None) == (i < 6)
        seen = cv2.imread(str(tmp_path / "out" / frame.depth), cv2.IMREAD_UNCHANGED) / 1000
        exact = room.render(frame.depth_camera, pose, 1)[1]
        assert np.median(np.abs(seen - exact)[seen > 0]) < 0.02
    assert "other cameras, not read: image_0 (capture.cameras)" in capture.notes
    with pytest.raises(CaptureError, match=r"capture\.cameras"):
        read_with(READER, tmp_path / "d", tmp_path / "no", CaptureParams(cameras="image_7"))


def test_scans_become_depth(dataset: Path, room: Room, tmp_path: Path) -> None:
    """A quarter of the image's size, dense where the scanner looked, surfaces exact to the millimetre."""
    capture = read_with(READER, dataset, tmp_path)
    frame = capture.frames[3]
    depth = cv2.imread(str(tmp_path / frame.depth), cv2.IMREAD_UNCHANGED) / 1000
    assert depth.shape == (60, 80)
    assert np.allclose(frame.depth_camera.matrix, CAMERA.resized(80, 60).matrix)
    truth = room.cast(frame.depth_camera, VIEWS[3])[1]
    seen = depth > 0
    off = np.abs(depth - truth)[seen]
    scanner = (Pose(np.eye(3), KITTI_BASELINE) @ CAMERA_FROM_SCAN).inverse().rotate(frame.depth_camera.rays())
    elevation = np.rad2deg(np.arcsin(scanner[..., 2] / np.linalg.norm(scanner, axis=-1)))
    assert seen[(elevation > -23) & (elevation < 10)].mean() > 0.85
    assert np.median(off) < 0.001
    assert (off < 0.05).mean() > 0.97


def test_depth_and_images_are_found_to_fit(dataset: Path, tmp_path: Path) -> None:
    """Depth against depth, and depth against images, stand in the notes."""
    notes = read_with(READER, dataset, tmp_path).notes
    assert any("of the compared points" in note for note in notes)
    share = next(note for note in notes if note.startswith("depth fits the images"))
    assert float(share.split(": ")[1].split("%")[0]) > 80


def test_sequence_folder_with_poses_inside_and_zip_read_the_same(copy: Path, tmp_path: Path) -> None:
    """As SemanticKITTI keeps it, and packed."""
    sequence = copy / SEQUENCE
    shutil.move(copy / "poses/04.txt", sequence / "poses.txt")
    archive = shutil.make_archive(str(tmp_path / "04"), "zip", sequence)
    for i, path in enumerate((sequence, Path(archive))):
        capture = read_with(READER, path, tmp_path / str(i))
        assert np.allclose(capture.frames[7].world_from_camera.matrix, _truth(VIEWS[7]).matrix, atol=1e-6)
        assert capture.has_depth


def test_grey_images_have_the_grey_camera(copy: Path, tmp_path: Path) -> None:
    """Without colour, camera 0 is taken: the poses are its own."""
    shutil.rmtree(copy / SEQUENCE / "image_2")
    capture = read_with(READER, copy, tmp_path / "out")
    truth = VIEWS[0].inverse() @ VIEWS[6]
    shift = Pose(np.eye(3), KITTI_BASELINE)
    assert np.allclose(capture.frames[6].world_from_camera.matrix, (shift.inverse() @ truth @ shift).matrix, atol=1e-6)


def test_without_scans_there_is_no_depth(copy: Path, tmp_path: Path) -> None:
    """Images and poses alone are a capture; Tr is not needed then."""
    shutil.rmtree(copy / SEQUENCE / "velodyne")
    file = copy / SEQUENCE / "calib.txt"
    file.write_text("\n".join(file.read_text().splitlines()[:4]))
    assert not read_with(READER, copy, tmp_path / "out").has_depth


def test_time_range_and_stride(dataset: Path, tmp_path: Path) -> None:
    """In seconds, then every second frame."""
    capture = read_with(READER, dataset, tmp_path, CaptureParams(start=0.2, end=0.75, stride=2))
    assert [frame.name for frame in capture.frames] == ["000002.png", "000004.png", "000006.png"]


def test_missing_scan_leaves_its_image_out(copy: Path, tmp_path: Path) -> None:
    """Paired by number, never by place."""
    (copy / SEQUENCE / "velodyne/000004.bin").unlink()
    capture = read_with(READER, copy, tmp_path / "out")
    assert [item.file for item in capture.skipped] == [f"{SEQUENCE}/image_2/000004.png"]
    assert [frame.depth for frame in capture.frames][4] == "depth/000005.png"


def test_truncated_scan_is_skipped(copy: Path, tmp_path: Path) -> None:
    """Bytes that are no whole points."""
    file = copy / SEQUENCE / "velodyne/000002.bin"
    file.write_bytes(file.read_bytes()[:-7])
    truncate(copy / SEQUENCE / "image_2/000008.png")
    capture = read_with(READER, copy, tmp_path / "out")
    assert sorted(item.file for item in capture.skipped) == [
        f"{SEQUENCE}/image_2/000008.png",
        f"{SEQUENCE}/velodyne/000002.bin",
    ]


def test_poses_of_another_sequence_are_refused(copy: Path, tmp_path: Path) -> None:
    """Fewer lines than images."""
    file = copy / "poses/04.txt"
    file.write_text("\n".join(file.read_text().splitlines()[:-2]))
    with pytest.raises(CaptureError, match="a line for each image") as error:
        read_with(READER, copy, tmp_path / "out")
    assert "8 lines, images up to number 9" in error.value.found


@pytest.mark.parametrize("degrees", [4, 180])
def test_wrong_scan_calibration_is_noticed(degrees: float, copy: Path, tmp_path: Path) -> None:
    """Tr rotated a little: the note says by how much. Upside down: refused."""
    file = copy / SEQUENCE / "calib.txt"
    lines = file.read_text().splitlines()
    tr = np.array(lines[4].split()[1:], float).reshape(3, 4)
    wrong = Rotation.from_euler("y" if degrees < 90 else "z", degrees, degrees=True).as_matrix() @ tr
    file.write_text("\n".join([*lines[:4], "Tr: " + " ".join(map(str, wrong.ravel()))]))
    if degrees > 90:
        with pytest.raises(CaptureError, match=r"must fit together|agree with the poses"):
            read_with(READER, copy, tmp_path / "out")
        return
    note = next(note for note in read_with(READER, copy, tmp_path / "out").notes if "rotated by" in note)
    assert float(note.split("rotated by ")[1].split()[0]) == pytest.approx(degrees, abs=1.0)


def test_missing_tr_says_which_archive_has_it(copy: Path, tmp_path: Path) -> None:
    """The calibration inside the image archives lacks it."""
    file = copy / SEQUENCE / "calib.txt"
    file.write_text("\n".join(file.read_text().splitlines()[:4]))
    with pytest.raises(CaptureError, match=r"calib\.txt must hold P2 and Tr") as error:
        read_with(READER, copy, tmp_path / "out")
    assert "data_odometry_calib.zip" in error.value.remedy


def test_missing_poses_say_where_they_are(copy: Path, tmp_path: Path) -> None:
    """A sequence's folder alone has none."""
    with pytest.raises(CaptureError, match=r"no poses \(poses\.txt\)") as error:
        read_with(READER, copy / SEQUENCE, tmp_path / "out")
    assert "poses/NN.txt" in error.value.remedy


@pytest.mark.parametrize("fault", ["short", "nan", "not rigid"])
def test_bad_pose_names_its_line(fault: str, copy: Path, tmp_path: Path) -> None:
    """Which line of which file."""
    file = copy / "poses/04.txt"
    lines = file.read_text().splitlines()
    values = lines[4].split()
    lines[4] = {
        "short": " ".join(values[:11]),
        "nan": " ".join(["nan", *values[1:]]),
        "not rigid": " ".join(["1.9", *values[1:]]),
    }[fault]
    file.write_text("\n".join(lines))
    with pytest.raises(CaptureError) as error:
        read_with(READER, copy, tmp_path / "out")
    assert "line 5" in f"{error.value.file} {error.value.found}"
    assert "poses/04.txt" in str(error.value.file)


def test_calibration_of_another_size_is_refused(copy: Path, tmp_path: Path) -> None:
    """P2 of images twice as large."""
    file = copy / SEQUENCE / "calib.txt"
    lines = file.read_text().splitlines()
    p2 = np.array(lines[2].split()[1:], float).reshape(3, 4) * [[2.0], [2.0], [1.0]]
    file.write_text("\n".join([*lines[:2], "P2: " + " ".join(map(str, p2.ravel())), *lines[3:]]))
    with pytest.raises(CaptureError, match="intrinsics must belong to the image's size, 320 x 240"):
        read_with(READER, copy, tmp_path / "out")


def test_times_backwards_are_refused(copy: Path, tmp_path: Path) -> None:
    """Two lines swapped."""
    file = copy / SEQUENCE / "times.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(CaptureError, match="time must increase"):
        read_with(READER, copy, tmp_path / "out")


def test_two_sequences_are_refused(copy: Path, tmp_path: Path) -> None:
    """Which one is meant?"""
    shutil.copytree(copy / SEQUENCE, copy / "sequences/05")
    shutil.copy(copy / "poses/04.txt", copy / "poses/05.txt")
    with pytest.raises(CaptureError, match=r"one capture at a time") as error:
        read_with(READER, copy, tmp_path / "out")
    assert "sequences/05/" in error.value.found


def test_a_calibration_of_something_else_is_not_recognised(tmp_path: Path) -> None:
    """calib.txt and image_2/ alone don't make a sequence."""
    (tmp_path / "image_2").mkdir()
    (tmp_path / "image_2/000000.png").write_bytes(b"")
    (tmp_path / "calib.txt").write_text("fx=1\n")
    with open_source(tmp_path) as source:
        assert not READER.recognise(source)


def test_renamed_image_folders_are_refused_by_name(copy: Path, tmp_path: Path) -> None:
    """image_l and image_r, as other tools have them: neither photos nor guessed to be grey or colour."""
    folder = copy / SEQUENCE
    shutil.rmtree(folder / "image_0", ignore_errors=True)
    shutil.copytree(folder / "image_2", folder / "image_r")
    (folder / "image_2").rename(folder / "image_l")
    for source in (copy, Path(shutil.copytree(folder, tmp_path / "alone"))):
        with (
            pytest.raises(CaptureError, match="left folder to image_0") as error,
            open_capture(source) as (reader, opened),
        ):
            reader.traits(reader.survey(opened))
        assert "image_l, " in error.value.found
        assert "image_r" in error.value.found


def test_bare_calibration_lines_are_a_sequence_too(copy: Path, tmp_path: Path) -> None:
    """calib.txt without names, no times.txt: what tutorials pass round."""
    folder = Path(shutil.copytree(copy / SEQUENCE, tmp_path / "KITTI_sequence_1"))
    shutil.rmtree(folder / "image_0", ignore_errors=True)
    (folder / "image_2").rename(folder / "image_l")
    lines = [line.split(maxsplit=1)[1] for line in (folder / "calib.txt").read_text().splitlines()]
    (folder / "calib.txt").write_text("\n".join(lines[:2]))
    (folder / "times.txt").unlink()
    shutil.copy(copy / "poses/04.txt", folder / "poses.txt")
    with pytest.raises(CaptureError, match="left folder to image_0"), open_capture(folder) as (reader, opened):
        reader.traits(reader.survey(opened))


@pytest.mark.parametrize(("file", "found"), [("calib.txt", "no calibration"), ("times.txt", "no times")])
def test_a_sequence_with_a_file_missing_is_no_photos(file: str, found: str, copy: Path) -> None:
    """Named, with the archive that has it."""
    (copy / SEQUENCE / file).unlink()
    with pytest.raises(CaptureError, match=found), open_capture(copy) as (reader, opened):
        reader.traits(reader.survey(opened))
