"""The reader of GrandTour missions."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from pipeline.capture.bags import grandtour, rosbag
from pipeline.capture.bags.zarr import open_array
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.source import open_source
from pipeline.errors import CaptureError
from pipeline.geometry import Pose, angle_deg
from tests.capture.conftest import POSES, SMALL, shaky
from tests.capture.writers.grandtour import BOX_FROM_CAMERA, write_array, write_camera, write_mission, write_track
from tests.capture.writers.reading import assert_poses
from tests.capture.writers.rosbag import START, around, bag_writer, jpeg
from tests.capture.writers.walking import walk_with_it
from tests.synthetic import Room

Shots = list[tuple[float, Pose, np.ndarray, np.ndarray]]
FRONT = "2024-11-18-16-59-23"


@pytest.fixture(scope="module")
def shots(room: Room) -> Shots:
    """Time, pose, image and depth of eight moments, 0.2 s apart."""
    return [(START + 0.2 * i, pose, *room.render(SMALL, pose, 1)) for i, pose in enumerate(POSES[:8])]


@pytest.fixture(scope="module")
def scans(room: Room, shots: Shots) -> list[np.ndarray]:
    """Points (N, 3) that a scanner next to the camera sees, in world axes; every scan has another number."""
    eye = SMALL.resized(96, 72)
    return [room.cast(eye, pose)[0].reshape(-1, 3)[: 6900 - 10 * i] for i, (_, pose, _, _) in enumerate(shots)]


@pytest.fixture(scope="module")
def made(shots: Shots, scans: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mission in the zarr form; never changed."""
    folder = tmp_path_factory.mktemp("grandtour") / "mission"
    write_mission(folder, shots, SMALL, scans)
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """A private copy of it."""
    return Path(shutil.copytree(made, tmp_path / "mission"))


def read(path: Path, out: Path, params: CaptureParams | None = None) -> Capture:
    """As the capture stage does; zarr's own files, whose names begin with a dot, are among those that are hashed."""
    with open_source(path) as source:
        seen = source if grandtour.READER.recognise(source) else source.below(source.folders()[0])
        assert grandtour.READER.recognise(seen)
        files = grandtour.READER.survey(seen).files
        assert all(len(seen.digest(name)) == 32 for name in files)
        traits = grandtour.READER.traits(grandtour.READER.survey(seen))
        capture = grandtour.READER.read(seen, out, params or CaptureParams())
    assert (capture.has_poses, capture.has_depth) == (traits.has_poses, traits.has_depth)
    return capture


def test_zarr_mission_comes_back(made: Path, room: Room, shots: Shots, tmp_path: Path) -> None:
    """Poses of the LiDAR over two transforms that take points to the child, scans cut to the valid points."""
    capture = read(made, tmp_path / "out")
    assert (capture.kind, capture.has_depth, capture.scale_sigma) == ("grandtour", True, 0.01)
    assert_poses(capture, [pose for _, pose, _, _ in shots])
    for frame, (time, pose, rgb, _) in zip(capture.frames, shots, strict=True):
        assert np.allclose([frame.camera.fx, frame.camera.cx, frame.camera.cy], [SMALL.fx, SMALL.cx, SMALL.cy])
        assert frame.source_time == pytest.approx(time, abs=1e-6)
        assert (capture.root / frame.image).read_bytes() == jpeg(rgb)
        assert frame.depth_camera is not None
        found = cv2.imread(str(capture.root / str(frame.depth)), cv2.IMREAD_UNCHANGED)
        assert found is not None
        truth = room.cast(frame.depth_camera, pose)[1]
        known = found > 0
        assert known.mean() > 0.3
        assert (np.abs(found / 1000 - truth)[known] < 0.03).mean() > 0.8


def test_gravity_of_a_walk(copied: Path, tmp_path: Path) -> None:
    """By ten poses a second of the robot's base and an IMU with its own axes, in the camera's."""
    motion = walk_with_it(12.0, np.random.default_rng(6))
    for group in ("dlio_map_odometry", "adis_imu", "hesai_undistorted"):
        shutil.rmtree(copied / "data" / group)
    map_from_room = Rotation.from_euler("xyz", [0.3, 0.4, -2.0])
    write_track(copied, motion, map_from_room, np.arange(-3.0, 9.0, 0.1), START)
    capture = read(copied, tmp_path / "out")
    for frame in capture.frames:
        assert frame.gravity is not None
        assert frame.world_from_camera is not None
        down = frame.world_from_camera.rotate(frame.gravity)
        assert np.rad2deg(np.arccos(np.clip(down @ map_from_room.apply([0, 0, -1.0]), -1, 1))) < 0.5
    assert capture.gravity_sigma_deg is not None
    assert any("windows of the IMU" in note for note in capture.notes)


def test_two_cameras_of_the_robot(
    room: Room, shots: Shots, scans: list[np.ndarray], copied: Path, tmp_path: Path
) -> None:
    """Each over its own transform; the scan is seen by both; the robot's mask holds for one camera."""
    lens = replace(SMALL, fx=104.0, fy=103.0, cy=57.0)
    side = Pose(Rotation.from_euler("xyz", [1.4, -0.2, 2.4]).as_matrix(), np.array([0.2, 0.31, -0.04]))
    places = [pose @ BOX_FROM_CAMERA.inverse() @ side for _, pose, _, _ in shots]
    images = [room.render(lens, place, 1)[0] for place in places]
    write_camera(copied, "hdr_left", side, lens, np.array([time for time, *_ in shots]), images)
    mask = np.full((120, 160), 255, np.uint8)
    mask[80:, :90] = 0
    (copied / "masks").mkdir()
    cv2.imwrite(str(copied / "masks/hdr_left.png"), mask)
    assert "other cameras, not read: hdr_left (capture.cameras)" in read(copied, tmp_path / "one").notes
    capture = read(copied, tmp_path / "out", CaptureParams(cameras="all"))
    assert [frame.sensor for frame in capture.frames] == ["hdr_front"] * 8 + ["hdr_left"] * 8
    assert_poses(capture, [*(pose for _, pose, _, _ in shots), *places])
    assert capture.frames[11].name == "hdr_left_000003.jpeg"
    assert [frame.camera.fx for frame in capture.frames] == pytest.approx([SMALL.fx] * 8 + [104.0] * 8)
    for frame in capture.frames[8:]:
        assert np.array_equal(np.asarray(Image.open(capture.root / str(frame.mask))), mask)
        assert frame.world_from_camera is not None
        assert frame.depth_camera is not None
        found = cv2.imread(str(capture.root / str(frame.depth)), cv2.IMREAD_UNCHANGED)
        assert found is not None
        truth = room.cast(frame.depth_camera, frame.world_from_camera)[1]
        assert (np.abs(found / 1000 - truth)[found > 0] < 0.03).mean() > 0.8


def test_camera_whose_clock_is_behind(shaken: Shots, room: Room, tmp_path: Path) -> None:
    """80 ms behind LiDAR and odometry: found by the motion; poses, scans and gravity of the corrected times."""
    shots = [(START + time, pose, rgb, depth) for time, pose, rgb, depth in shaken]
    scans = [room.cast(SMALL.resized(96, 72), pose)[0].reshape(-1, 3) for _, pose, _, _ in shaken]
    write_mission(tmp_path / "mission", shots, SMALL, scans, late=0.08)
    capture = read(tmp_path / "mission", tmp_path / "out")
    assert any("too early for the poses" in note for note in capture.notes)
    assert len(capture.frames) >= 40
    for frame in capture.frames:
        time = frame.source_time + 0.08 - START
        assert frame.world_from_camera is not None
        assert np.linalg.norm(frame.world_from_camera.translation - shaky(time).translation) < 0.004
        assert angle_deg(frame.world_from_camera.rotation, shaky(time).rotation) < 0.15
        assert frame.depth is not None


def test_what_is_read_is_hashed(made: Path) -> None:
    """Calibration and chunks of what is used, nothing of what isn't."""
    with open_source(made) as source:
        files = set(grandtour.READER.survey(source).files)
    assert {"data/tf/.zattrs", "data/hdr_front/.zattrs", "data/dlio_map_odometry/pose_pos/.zarray"} <= files
    assert {"data/dlio_map_odometry/pose_pos/1.0", "images/hdr_front/000007.jpeg"} <= files
    assert not any("sequence_id" in name for name in files)


def test_zip_gives_the_same(made: Path, shots: Shots, tmp_path: Path) -> None:
    """Chunks are read from the archive."""
    with zipfile.ZipFile(tmp_path / "mission.zip", "w") as archive:
        for file in made.rglob("*"):
            if file.is_file():
                archive.write(file, file.relative_to(made.parent))
    capture = read(tmp_path / "mission.zip", tmp_path / "out")
    assert_poses(capture, [pose for _, pose, _, _ in shots])


def test_fisheye_and_the_robot_s_mask(shots: Shots, scans: list[np.ndarray], tmp_path: Path) -> None:
    """HDR cameras are equidistant: images and masks are straightened together."""
    write_mission(tmp_path / "mission", shots, SMALL, scans, distortion=(-0.05, 0.01, 0.0, 0.0))
    mask = np.full((120, 160), 255, np.uint8)
    mask[90:] = 0
    (tmp_path / "mission/images/hdr_front/masks").mkdir()
    for i in range(8):
        cv2.imwrite(str(tmp_path / f"mission/images/hdr_front/masks/{i:06d}.jpeg.png"), mask)
    capture = read(tmp_path / "mission", tmp_path / "out")
    assert_poses(capture, [pose for _, pose, _, _ in shots])
    frame = capture.frames[0]
    assert frame.camera.is_pinhole
    assert frame.mask is not None
    kept = np.asarray(Image.open(capture.root / frame.mask)) > 0
    assert kept[:60].all()
    assert not kept[-5:].any()


def test_bags_are_read_together(shots: Shots, tmp_path: Path) -> None:
    """One topic group a file, as the mission's bags come."""
    base_from_hesai = Pose(Rotation.from_euler("xyz", [0.0, 0.0, 1.5]).as_matrix(), np.array([0.2, 0.0, 0.3]))
    base_from_front = Pose(Rotation.from_euler("xyz", [-1.6, 0.1, -1.5]).as_matrix(), np.array([0.4, 0.0, 0.1]))
    topic = "/boxi/hdr/front"
    with bag_writer(tmp_path / f"{FRONT}_hdr_front.bag", "ros1") as bag:
        for time, _, rgb, _ in shots:
            bag.compressed(f"{topic}/image_raw/compressed", time, "hdr_front", "rgb8; jpeg compressed bgr8", jpeg(rgb))
            bag.info(f"{topic}/camera_info", time, "hdr_front", SMALL, "equidistant", [0.0, 0.0, 0.0, 0.0])
    with bag_writer(tmp_path / f"{FRONT}_dlio.bag", "ros1") as bag:
        for time, pose, _, _ in shots:
            for at, hesai in around(time, pose @ base_from_front.inverse() @ base_from_hesai):
                bag.odometry("/dlio/lidar_map_odometry", at, "dlio_map", "hesai_lidar", hesai)
    with bag_writer(tmp_path / f"{FRONT}_tf_minimal.bag", "ros1") as bag:
        statics = [("base", "hesai_lidar", base_from_hesai), ("base", "hdr_front", base_from_front)]
        bag.transforms("/tf_static", START, statics)
    (tmp_path / "masks").mkdir()
    mask = np.full((120, 160), 255, np.uint8)
    mask[100:, :80] = 0
    cv2.imwrite(str(tmp_path / "masks" / "boxi-hdr-front-image_raw.png"), mask)
    capture = read(tmp_path, tmp_path.parent / "out")
    assert capture.kind == "grandtour"
    assert_poses(capture, [pose for _, pose, _, _ in shots])
    assert np.array_equal(np.asarray(Image.open(capture.root / str(capture.frames[3].mask))), mask)


def test_other_bags_are_none_of_it(tmp_path: Path) -> None:
    """A robot's own bag is read as any bag."""
    (tmp_path / "walk.bag").write_bytes(b"#ROSBAG V2.0\n")
    with open_source(tmp_path) as source:
        assert not grandtour.READER.recognise(source)
        assert rosbag.READER.recognise(source)


def test_camera_without_calibration_is_refused(copied: Path, tmp_path: Path) -> None:
    """The attributes' file is named."""
    file = copied / "data" / "hdr_front" / ".zattrs"
    about = json.loads(file.read_text())
    del about["camera_info"]["K"]
    file.write_text(json.dumps(about))
    with pytest.raises(CaptureError, match=r"hdr_front/\.zattrs.*camera_info"):
        read(copied, tmp_path / "out")


def test_quaternion_that_is_not_unit_is_refused(copied: Path, tmp_path: Path) -> None:
    """In the transform of a sensor."""
    file = copied / "data" / "hesai_undistorted" / ".zattrs"
    about = json.loads(file.read_text())
    about["transform"]["rotation"]["w"] += 0.5
    file.write_text(json.dumps(about))
    with pytest.raises(CaptureError, match=r"hesai_undistorted/\.zattrs.*unit quaternion"):
        read(copied, tmp_path / "out")


def test_images_of_another_release_are_refused(copied: Path, tmp_path: Path) -> None:
    """Named by sequence number, they would get the times of others."""
    images = copied / "images" / "hdr_front"
    (images / "000007.jpeg").rename(images / "000907.jpeg")
    with pytest.raises(CaptureError, match="index in the array") as error:
        read(copied, tmp_path / "out")
    assert "image 907, 8 times" in error.value.found


def test_missing_scans_leave_images_out(shots: Shots, scans: list[np.ndarray], tmp_path: Path) -> None:
    """No depth is invented for the moments between."""
    write_mission(tmp_path / "mission", shots, SMALL, scans)
    shutil.rmtree(tmp_path / "mission/data/hesai_undistorted/timestamp")
    times = np.array([time for time, _, _, _ in shots])
    times[[2, 5]] += 0.07
    write_array(tmp_path / "mission/data/hesai_undistorted/timestamp", times, (3,))
    capture = read(tmp_path / "mission", tmp_path / "out")
    assert [skipped.file[-11:] for skipped in capture.skipped] == ["000002.jpeg", "000005.jpeg"]


def test_damaged_chunk_is_named(copied: Path, tmp_path: Path) -> None:
    """A download that broke off."""
    chunk = copied / "data/dlio_map_odometry/pose_pos/1.0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(CaptureError, match=r"pose_pos/1\.0"):
        read(copied, tmp_path / "out")


def _array(folder: Path) -> CaptureError:
    with open_source(folder) as source, pytest.raises(CaptureError) as error:
        open_array(source, "a").all()
    return error.value


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    """Zarr knows arrays of objects: the type, the codec and the filters all keep them out."""
    write_array(tmp_path / "1" / "a", np.zeros(4), (4,), dtype="|O", filters=[{"id": "pickle"}])
    write_array(tmp_path / "2" / "a", np.zeros(4), (4,), compressor={"id": "pickle"})
    write_array(tmp_path / "3" / "a", np.zeros(4), (4,), filters=[{"id": "pickle"}])
    for name in "123":
        (tmp_path / name / "a" / "0").write_bytes(pickle.dumps(np.zeros(4)))
        assert "plain numbers" in _array(tmp_path / name).remedy


def test_array_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    """A few bytes of JSON may claim terabytes."""
    write_array(tmp_path / "1" / "a", np.ones(1), (10**6,), shape=[10**9])
    assert "MiB" in _array(tmp_path / "1").rule
    write_array(tmp_path / "2" / "a", np.ones(4), (1,), shape=[10**9])
    assert "chunks" in _array(tmp_path / "2").rule


def test_zip_without_hidden_files_is_refused(made: Path, tmp_path: Path) -> None:
    """Some packers leave out names that begin with a dot."""
    with zipfile.ZipFile(tmp_path / "mission.zip", "w") as archive:
        for file in made.rglob("[!.]*"):
            if file.is_file():
                archive.write(file, file.relative_to(made))
    with pytest.raises(CaptureError, match="begin with a dot"):
        read(tmp_path / "mission.zip", tmp_path / "out")


def test_rows_of_an_array(tmp_path: Path) -> None:
    """Over borders of chunks in all directions; chunks that are not there hold the fill value."""
    values = np.arange(7 * 5 * 2, dtype=np.int32).reshape(7, 5, 2) + 1
    values[3:6, :2] = 0
    write_array(tmp_path / "a", values, (3, 2, 2))
    with open_source(tmp_path) as source:
        array = open_array(source, "a")
        assert np.array_equal(array.all(), values)
        assert np.array_equal(array.rows(2, 5), values[2:5])
        assert array.rows(6, 99).shape == (1, 5, 2)
