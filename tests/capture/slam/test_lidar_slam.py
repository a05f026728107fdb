"""The reader of LiDAR SLAM exports: a map cloud, a trajectory, images with times."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.capture.params import CaptureParams
from pipeline.capture.slam.lidar_slam import READER
from pipeline.capture.source import open_source
from pipeline.errors import CaptureError
from pipeline.geometry import Pose, angle_deg
from tests.capture.conftest import POSES, SMALL, truncate
from tests.capture.writers.reading import read_with
from tests.capture.writers.slam import (
    BODY_FROM_CAMERA,
    WORLD,
    ros_calibration,
    write_cloud,
    write_map,
    write_pcd,
)
from tests.synthetic import Room

VIEWS = POSES[:10]
CAMERA = SMALL.resized(320, 240)
LENS = replace(CAMERA, distortion=(-0.12, 0.03, 0.001, -0.0005))
START = 1_700_000_000.25


@pytest.fixture(scope="module")
def export(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FAST-LIO run of 10 images; never changed."""
    folder = tmp_path_factory.mktemp("slam") / "run"
    write_map(folder, room, VIEWS, CAMERA)
    return folder


@pytest.fixture
def copy(export: Path, tmp_path: Path) -> Path:
    """A private copy."""
    return Path(shutil.copytree(export, tmp_path / "run"))


def _poses_match(capture, views: list[Pose], metres: float = 1e-4, degrees: float = 0.01) -> None:
    for frame, pose in zip(capture.frames, views, strict=True):
        truth = WORLD @ pose
        assert np.abs(frame.world_from_camera.translation - truth.translation).max() < metres
        assert angle_deg(frame.world_from_camera.rotation, truth.rotation) < degrees


def test_exact_export_comes_back(export: Path, tmp_path: Path) -> None:
    """Poses of the camera on its body, intrinsics with pixel centres at +0.5, times; no up direction is made up."""
    capture = read_with(READER, export, tmp_path)
    assert (capture.kind, capture.ordered, len(capture.frames), capture.up_in_world) == ("lidar_slam", True, 10, None)
    _poses_match(capture, VIEWS)
    for i, frame in enumerate(capture.frames):
        assert np.allclose(frame.camera.matrix, CAMERA.matrix, atol=1e-9)
        assert frame.time == pytest.approx(0.1 * i, abs=1e-6)
        assert frame.source_time == pytest.approx(START + 0.1 * i, abs=1e-6)


def test_map_becomes_depth(export: Path, room: Room, tmp_path: Path) -> None:
    """Of a size that fits the map's density: mostly filled, exact to the millimetre, nothing shines through."""
    capture = read_with(READER, export, tmp_path)
    for k in (0, 4, 9):
        frame = capture.frames[k]
        depth = cv2.imread(str(tmp_path / frame.depth), cv2.IMREAD_UNCHANGED) / 1000
        truth = room.cast(frame.depth_camera, VIEWS[k])[1]
        seen = depth > 0
        assert seen.mean() > 0.85
        assert np.median(np.abs(depth - truth)[seen]) < 0.001
        assert (np.abs(depth - truth) < 0.05)[seen].mean() > 0.97


def test_registration_is_reported(export: Path, tmp_path: Path) -> None:
    """Most corners fit, within a pixel and 3 % of the distance."""
    note = next(note for note in read_with(READER, export, tmp_path).notes if "fits the images" in note)
    share, pixels, depth = (
        note.split(": ")[1].split("%")[0],
        note.split(" px")[0].split()[-1],
        note.split("%")[1].split()[-1],
    )
    assert float(share) > 80
    assert float(pixels) < 1
    assert float(depth) < 3
    assert "fit better" not in note


def test_mount_off_by_some_degrees_is_reported(copy: Path, tmp_path: Path) -> None:
    """The map fits the images better rotated by an angle of that order: the note says so."""
    turn = Pose(Rotation.from_euler("y", 5, degrees=True).as_matrix(), np.zeros(3))
    (copy / "camera.yaml").write_text(ros_calibration(CAMERA, body_from_camera=BODY_FROM_CAMERA @ turn))
    notes = read_with(READER, copy, tmp_path / "out").notes
    note = next(note for note in notes if "fits the images" in note)
    assert "rotated by" in note
    assert 2 < float(note.split("rotated by ")[1].split()[0]) < 8


def test_mount_without_the_optical_turn_is_refused(copy: Path, tmp_path: Path) -> None:
    """The classic slip: the camera's place given for a frame with x forward instead of the optical one."""
    wrong = Pose(np.eye(3), BODY_FROM_CAMERA.translation)
    (copy / "camera.yaml").write_text(ros_calibration(CAMERA, body_from_camera=wrong))
    with pytest.raises(CaptureError, match="must fit together") as error:
        read_with(READER, copy, tmp_path / "out")
    assert "optical axes" in error.value.remedy


def test_distorted_images_have_plain_depth(room: Room, tmp_path: Path) -> None:
    """The camera keeps its distortion; the depth image, rendered, has none."""
    write_map(tmp_path / "run", room, VIEWS[:5], LENS, points=20_000)
    capture = read_with(READER, tmp_path / "run", tmp_path / "out")
    frame = capture.frames[2]
    assert frame.camera.distortion == LENS.distortion
    assert frame.depth_camera.is_pinhole
    depth = cv2.imread(str(tmp_path / "out" / frame.depth), cv2.IMREAD_UNCHANGED) / 1000
    truth = room.cast(frame.depth_camera, VIEWS[2])[1]
    assert np.median(np.abs(depth - truth)[depth > 0]) < 0.03


def test_poses_between_images_are_interpolated(copy: Path, tmp_path: Path) -> None:
    """Without the line of an image's own time, the neighbours' pose: near the truth, not a neighbour's."""
    lines = (copy / "trajectory.txt").read_text().splitlines()
    (copy / "trajectory.txt").write_text("\n".join(lines[:5] + lines[6:]))
    capture = read_with(READER, copy, tmp_path / "out")
    _poses_match(capture, VIEWS, 0.02, 3.0)
    middle = [capture.frames[i].world_from_camera.translation for i in (3, 4, 5)]
    assert np.allclose(middle[1], (middle[0] + middle[2]) / 2, atol=1e-3)


def test_images_outside_the_trajectory_are_left_out(copy: Path, tmp_path: Path) -> None:
    """Nothing is extrapolated."""
    lines = (copy / "trajectory.txt").read_text().splitlines()
    (copy / "trajectory.txt").write_text("\n".join(lines[:-2]))
    capture = read_with(READER, copy, tmp_path / "out")
    assert [item.file for item in capture.skipped] == [f"images/{START + 0.1 * i:.6f}.jpg" for i in (8, 9)]
    _poses_match(capture, VIEWS[:8])


def test_rtabmap_export_needs_nothing_else(copy: Path, tmp_path: Path) -> None:
    """Poses of the camera with ids, rectified images named by their time, a calibration for each of them."""
    folder = copy
    with open_source(folder) as source:
        from pipeline.capture.slam.clouds import read_points

        write_cloud(folder / "binary.ply", read_points(source, "scans.pcd"))
    (folder / "binary.ply").rename(folder / "rtabmap_cloud.ply")
    for name in ("scans.pcd", "camera.yaml", "trajectory.txt"):
        (folder / name).unlink()
    (folder / "images").rename(folder / "rtabmap_rgb")
    (folder / "rtabmap_calib").mkdir()
    lines = []
    for i, pose in enumerate(VIEWS):
        camera = replace(CAMERA, cx=CAMERA.cx + 0.02 * i)
        k = f"[{camera.fx}, 0., {camera.cx - 0.5}, 0., 0., {camera.fy}, {camera.cy - 0.5}, 0., 0., 0., 1., 0.]"
        (folder / f"rtabmap_calib/{START + 0.1 * i:.6f}.yaml").write_text(
            f"%YAML:1.0\n---\nimage_width: 320\nimage_height: 240\ncamera_matrix:\n   rows: 3\n   cols: 3\n"
            f"   data: [ 300., 0., 150., 0., 300., 110., 0., 0., 1. ]\ndistortion_coefficients:\n   rows: 1\n"
            f"   cols: 5\n   data: [ 0.1, -0.2, 0., 0., 0. ]\ndistortion_model: plumb_bob\nprojection_matrix:\n"
            f"   rows: 3\n   cols: 4\n   data: {k}\nlocal_transform:\n   rows: 3\n   cols: 4\n"
            f"   data: [ 0., 0., 1., 0., -1., 0., 0., 0., 0., -1., 0., 0. ]\n"
        )
        at = WORLD @ pose
        w, x, y, z = at.quaternion
        lines.append(f"{START + 0.1 * i:.6f} {' '.join(f'{v:.9f}' for v in (*at.translation, x, y, z, w))} {i + 1}")
    (folder / "rtabmap_camera_poses.txt").write_text("#timestamp x y z qx qy qz qw id\n" + "\n".join(lines))
    capture = read_with(READER, folder, tmp_path / "out")
    _poses_match(capture, VIEWS)
    for i, frame in enumerate(capture.frames):
        assert frame.camera.is_pinhole
        assert (frame.camera.fx, frame.camera.cx) == pytest.approx((CAMERA.fx, CAMERA.cx + 0.02 * i))


def test_lio_sam_keyframes_serve_as_trajectory(copy: Path, tmp_path: Path) -> None:
    """transformations.pcd: roll, pitch, yaw about fixed axes, times as doubles; its partial maps don't count."""
    (copy / "trajectory.txt").unlink()
    (copy / "scans.pcd").rename(copy / "GlobalMap.pcd")
    shutil.copy(copy / "GlobalMap.pcd", copy / "SurfMap.pcd")
    bodies = [WORLD @ pose @ BODY_FROM_CAMERA.inverse() for pose in VIEWS]
    angles = Rotation.from_matrix([body.rotation for body in bodies]).as_euler("xyz").astype(np.float32)
    columns = {axis: np.array([body.translation[i] for body in bodies], np.float32) for i, axis in enumerate("xyz")}
    columns |= {"intensity": np.arange(10, dtype=np.float32)}
    columns |= {name: angles[:, i] for i, name in enumerate(("roll", "pitch", "yaw"))}
    columns |= {"time": START + 0.1 * np.arange(10)}
    write_pcd(copy / "transformations.pcd", columns)
    _poses_match(read_with(READER, copy, tmp_path / "out"), VIEWS)


def test_list_of_times_and_nanosecond_names(copy: Path, tmp_path: Path) -> None:
    """images.txt gives any names their times; 19 digits are nanoseconds."""
    for i in range(10):
        (copy / f"images/{START + 0.1 * i:.6f}.jpg").rename(
            copy / f"images/{1_700_000_000_250_000_000 + i * 10**8}.jpg"
        )
    _poses_match(read_with(READER, copy, tmp_path / "out"), VIEWS)
    lines = []
    for i in range(10):
        (copy / f"images/{1_700_000_000_250_000_000 + i * 10**8}.jpg").rename(copy / f"images/left{9 - i}.jpg")
        lines.append(f"{START + 0.1 * i:.4f} images/left{9 - i}.jpg")
    (copy / "images.txt").write_text("\n".join(lines))
    _poses_match(read_with(READER, copy, tmp_path / "out2"), VIEWS)


def numbered(folder: Path) -> list[str]:
    """Rename the images to 1.jpg ... 10.jpg; gives their times in that order."""
    images = sorted((folder / "images").iterdir())
    for number, image in enumerate(images, 1):
        image.rename(folder / f"images/{number}.jpg")
    return [image.stem for image in images]


@pytest.mark.parametrize("form", ["time", "time name", "name time", "time,images/name", "nanoseconds"])
def test_timestamps_beside_numbered_images(form: str, copy: Path, tmp_path: Path) -> None:
    """timestamps.txt as people write it: a time for each image, with or without its name, in either order."""
    times = numbered(copy)
    named = [(time, f"{number}.jpg") for number, time in enumerate(times, 1)]
    lines = {
        "time": times,
        "time name": [f"{time} {name}" for time, name in reversed(named)],
        "name time": [f"{name} {time}" for time, name in named],
        "time,images/name": ["timestamp,filename", *(f"{time},images/{name}" for time, name in named)],
        "nanoseconds": [f"{time.replace('.', '')}000" for time in times],
    }[form]
    (copy / "timestamps.txt").write_text("\n".join(lines))
    capture = read_with(READER, copy, tmp_path / "out")
    assert [frame.name for frame in capture.frames] == [f"{number}.jpg" for number in range(1, 11)]
    _poses_match(capture, VIEWS, metres=1e-3, degrees=0.05)


def test_too_few_timestamps_are_refused(copy: Path, tmp_path: Path) -> None:
    """Nobody knows which image has none; where the images' names are times the list is another sensor's."""
    (copy / "timestamps.txt").write_text("1700000000.25\n1700000000.35\n")
    _poses_match(read_with(READER, copy, tmp_path / "named"), VIEWS)
    numbered(copy)
    with pytest.raises(CaptureError, match="one for each image") as error:
        read_with(READER, copy, tmp_path / "out")
    assert error.value.found == "2 times, 10 images"
    assert str(error.value.file).endswith("timestamps.txt")


@pytest.mark.parametrize(
    ("key", "inverse"),
    [
        ("T_lidar_camera", False),
        ("imu_from_cam0", False),
        ("body_T_cam0", False),
        ("T_cam_imu", True),
        ("camera_from_lidar", True),
    ],
)
def test_extrinsics_beside_the_calibration(key: str, inverse: bool, copy: Path, tmp_path: Path) -> None:
    """extrinsics.yaml with a matrix whose key says which way it goes."""
    (copy / "camera.yaml").write_text(ros_calibration(CAMERA))
    matrix = (BODY_FROM_CAMERA.inverse() if inverse else BODY_FROM_CAMERA).matrix.tolist()
    (copy / "extrinsics.yaml").write_text(f"{key}: {matrix}\nup_in_world: [0, 0, 1]\n")
    capture = read_with(READER, copy, tmp_path / "out")
    _poses_match(capture, VIEWS)
    assert capture.up_in_world is not None


@pytest.mark.parametrize("text", ["extrinsic: {}", "T_lidar_camera: {}\nT_cam_imu: {}"])
def test_extrinsics_that_do_not_say_which_way_are_refused(text: str, copy: Path, tmp_path: Path) -> None:
    """A matrix of no direction, or two: the file and its keys are named."""
    (copy / "camera.yaml").write_text(ros_calibration(CAMERA))
    matrix = BODY_FROM_CAMERA.matrix.tolist()
    (copy / "extrinsics.yaml").write_text(text.format(matrix, matrix))
    with pytest.raises(CaptureError, match="one matrix must hold") as error:
        read_with(READER, copy, tmp_path / "out")
    assert str(error.value.file).endswith("extrinsics.yaml")
    assert text.partition(":")[0] in error.value.found


def test_up_direction_is_taken_where_it_is_stated(copy: Path, tmp_path: Path) -> None:
    """Only the user knows whether the map is level."""
    up = WORLD.rotate([0, 0, 1.0])
    text = ros_calibration(CAMERA, body_from_camera=BODY_FROM_CAMERA)
    (copy / "camera.yaml").write_text(text + f"up_in_world: {up.tolist()}\n")
    capture = read_with(READER, copy, tmp_path / "out")
    assert np.allclose(capture.up_in_world, up)
    assert capture.up_sigma_deg is not None


def test_zip_time_range_and_stride(export: Path, tmp_path: Path) -> None:
    """Packed, from 0.2 to 0.75 s, every second image."""
    archive = Path(shutil.make_archive(str(tmp_path / "run"), "zip", export))
    capture = read_with(READER, archive, tmp_path / "out", CaptureParams(start=0.15, end=0.75, stride=2))
    _poses_match(capture, VIEWS[2:8:2])


def test_clocks_apart_are_refused(copy: Path, tmp_path: Path) -> None:
    """Both ranges stand in the message."""
    file = copy / "trajectory.txt"
    file.write_text(file.read_text().replace("17000000", "17000009"))
    with pytest.raises(CaptureError, match="one clock") as error:
        read_with(READER, copy, tmp_path / "out")
    assert "1700000000.250" in error.value.found


def test_another_map_is_refused(copy: Path, room: Room, tmp_path: Path) -> None:
    """A cloud in another frame: rotated by 90 degrees about up."""
    from pipeline.capture.slam.clouds import read_points

    with open_source(copy) as source:
        points = read_points(source, "scans.pcd")
    turned = points @ Rotation.from_euler("z", 90, degrees=True).as_matrix().T
    write_pcd(copy / "scans.pcd", {axis: turned[:, i].astype(np.float32) for i, axis in enumerate("xyz")})
    with pytest.raises(CaptureError, match="in view of the images"):
        read_with(READER, copy, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("camera.yaml", "body_from_camera", "other", "the camera.s pose on it"),
        ("camera.yaml", "image_width: 320", "image_width: 0", "image_width"),
        ("camera.yaml", "image_width: 320", "image_width: 640", "intrinsics must belong"),
        ("camera.yaml", "camera_matrix", "matrix", "camera_matrix must hold 3 x 3"),
        ("camera.yaml", f"[{CAMERA.fx}", "[0.0", "intrinsics must belong"),
        ("camera.yaml", "plumb_bob", "omni", "distortion must be"),
        ("camera.yaml", "image_width", "image_width: [", "YAML mapping"),
        ("trajectory.txt", f"{START + 0.3:.6f}", f"{START + 0.05:.6f}", "times must increase"),
        ("trajectory.txt", f"{START + 0.3:.6f} ", f"{START + 0.3:.6f} nan ", "finite numbers of a position on earth"),
    ],
)
def test_broken_files_are_named(name: str, old: str, new: str, message: str, copy: Path, tmp_path: Path) -> None:
    """Which file, which key, what was expected."""
    file = copy / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(CaptureError, match=message) as error:
        read_with(READER, copy, tmp_path / "out")
    assert str(error.value.file).endswith(name)


def test_images_without_times_are_refused(copy: Path, tmp_path: Path) -> None:
    """The remedy shows both ways to give them."""
    next((copy / "images").iterdir()).rename(copy / "images/first.jpg")
    with pytest.raises(CaptureError, match=r"named by their time") as error:
        read_with(READER, copy, tmp_path / "out")
    assert "images.txt" in error.value.remedy


def test_images_of_another_size_are_refused(copy: Path, tmp_path: Path) -> None:
    """camera.yaml declares 320 x 240."""
    file = sorted((copy / "images").iterdir())[3]
    cv2.imwrite(str(file), np.zeros((120, 160, 3), np.uint8))
    with pytest.raises(CaptureError, match="size that its camera file declares"):
        read_with(READER, copy, tmp_path / "out")


def test_missing_calibration_and_two_maps_are_refused(copy: Path, tmp_path: Path) -> None:
    """What lies there is still this format; the message names what is missing or too much."""
    shutil.copy(copy / "scans.pcd", copy / "other.pcd")
    with pytest.raises(CaptureError, match="one map cloud"):
        read_with(READER, copy, tmp_path / "out")
    (copy / "other.pcd").unlink()
    (copy / "camera.yaml").unlink()
    with pytest.raises(CaptureError, match=r"no camera\.yaml"):
        read_with(READER, copy, tmp_path / "out")


def test_truncated_cloud_is_refused_and_image_skipped(copy: Path, tmp_path: Path) -> None:
    """A map must be whole; of images some may be lost."""
    truncate(sorted((copy / "images").iterdir())[4])
    capture = read_with(READER, copy, tmp_path / "out")
    assert len(capture.frames) == 9
    truncate(copy / "scans.pcd")
    with pytest.raises(CaptureError, match="60000 points declared"):
        read_with(READER, copy, tmp_path / "out2")


def test_camera_that_does_not_move_is_refused(copy: Path, tmp_path: Path) -> None:
    """All poses the same."""
    file = copy / "trajectory.txt"
    lines = file.read_text().splitlines()[1:]
    tail = lines[0].split(" ", 1)[1]
    file.write_text("\n".join(f"{line.split()[0]} {tail}" for line in lines))
    with pytest.raises(CaptureError, match="must move"):
        read_with(READER, copy, tmp_path / "out")


def test_other_captures_with_a_cloud_are_not_recognised(tmp_path: Path) -> None:
    """A mesh next to a list of something else."""
    (tmp_path / "mesh.ply").write_bytes(b"ply\n")
    (tmp_path / "trajectory.txt").write_text("0 1\n1 0\n")
    with open_source(tmp_path) as source:
        assert not READER.recognise(source)


def test_two_cameras_in_one_list_are_refused(copy: Path, tmp_path: Path) -> None:
    """Left and right images of one name would be taken for each other."""
    (copy / "right").mkdir()
    lines = []
    for i, file in enumerate(sorted((copy / "images").iterdir())):
        shutil.copy(file, copy / "right" / file.name)
        lines += [f"{START + 0.1 * i:.4f} images/{file.name}", f"{START + 0.1 * i + 0.01:.4f} right/{file.name}"]
    (copy / "images.txt").write_text("\n".join(lines))
    with pytest.raises(CaptureError, match="different names"):
        read_with(READER, copy, tmp_path / "out")


@pytest.mark.parametrize("model", ["plumb_bob", "equidistant"])
def test_masks_count(model: str, copy: Path, tmp_path: Path) -> None:
    """The robot's own arm, black in a mask next to the images; made straight with a fisheye image."""
    text = (copy / "camera.yaml").read_text().replace("plumb_bob", model)
    if model == "equidistant":
        text = text.replace("cols: 5\n  data: [0.0, 0.0, 0.0, 0.0, 0.0]", "cols: 4\n  data: [0.05, -0.01, 0.0, 0.0]")
    (copy / "camera.yaml").write_text(text)
    mask = np.full((240, 320), 255, np.uint8)
    mask[180:, :160] = 0
    (copy / "masks").mkdir()
    cv2.imwrite(str(copy / f"masks/{START + 0.2:.6f}.jpg.png"), mask)
    capture = read_with(READER, copy, tmp_path / "out")
    assert [frame.mask is not None for frame in capture.frames] == [i == 2 for i in range(10)]
    written = cv2.imread(str(tmp_path / "out" / capture.frames[2].mask), cv2.IMREAD_UNCHANGED)
    assert written[235, 20] == 0
    assert written[100, 300] == 255
    assert np.array_equal(written, mask) == (model == "plumb_bob")
