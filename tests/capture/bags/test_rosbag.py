"""The reader of ROS bags."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from pipeline.capture.bags import files, rosbag
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.source import open_source
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose, angle_deg
from tests.capture.conftest import POSES, SMALL, shaky, truncate
from tests.capture.writers.between import between
from tests.capture.writers.reading import assert_poses
from tests.capture.writers.rosbag import (
    BASE_FROM_CAMERA,
    MAP_FROM_ODOM,
    OPTICAL,
    START,
    around,
    bag_writer,
    jpeg,
    png,
    write_robot,
    write_sparse,
    write_walk,
)
from tests.capture.writers.walking import walk_with_it
from tests.synthetic import Room, walk

Shots = list[tuple[float, Pose, np.ndarray, np.ndarray]]
Read = Callable[..., Capture]
FRONT = "/camera/color/image_raw"
FORMS = {"ros1": "walk.bag", "db3": "walk", "mcap": "walk"}


@pytest.fixture(scope="module")
def shots(room: Room) -> Shots:
    """Time, pose, image and depth of ten moments, 0.2 s apart."""
    return [(START + 0.2 * i, pose, *room.render(SMALL, pose, 1)) for i, pose in enumerate(POSES[:10])]


@pytest.fixture(scope="module")
def robot(shots: Shots, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the robot's recording in each form; never changed."""
    folder = tmp_path_factory.mktemp("bags")
    for form, name in FORMS.items():
        write_robot(folder / form / name, form, shots, SMALL)
    return folder


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """A function that reads a bag and gives the capture."""

    def run(path: Path, **params: float) -> Capture:
        with open_source(path) as source:
            assert rosbag.READER.recognise(source)
            rosbag.READER.survey(source)
            return rosbag.READER.read(source, tmp_path / "canonical", CaptureParams(**params))  # type: ignore[arg-type]

    return run


def depth_of(capture: Capture, index: int) -> np.ndarray:
    stored = cv2.imread(str(capture.root / str(capture.frames[index].depth)), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    return stored


@pytest.mark.parametrize("form", FORMS)
def test_exact_capture_comes_back(form: str, robot: Path, read: Read, shots: Shots) -> None:
    """Poses between odometry's, over tf_static at the bag's end; intrinsics, depth and times."""
    path = robot / form / FORMS[form]
    capture = read(path)
    assert (capture.kind, capture.ordered, capture.has_depth) == ("rosbag", True, True)
    assert_poses(capture, [pose for _, pose, _, _ in shots])
    for i, (frame, (time, _, rgb, depth)) in enumerate(zip(capture.frames, shots, strict=True)):
        assert np.allclose([frame.camera.fx, frame.camera.cx, frame.camera.cy], [SMALL.fx, SMALL.cx, SMALL.cy])
        assert frame.depth_camera == frame.camera
        assert frame.time == pytest.approx(time - START, abs=1e-6)
        assert frame.source_time == pytest.approx(time, abs=1e-6)
        assert np.array_equal(depth_of(capture, i), (depth * 1000).round())
        stored = np.asarray(Image.open(capture.root / frame.image), float)
        assert np.abs(stored - rgb).mean() < 4
    with open_source(path) as source:
        traits = rosbag.READER.traits(rosbag.READER.survey(source))
    assert (traits.frames, traits.has_poses, traits.has_depth, traits.has_gravity) == (10, True, True, True)
    assert any("camera /camera/color/image_raw" in note for note in capture.notes)
    assert any("/dlio/odometry (odom from base)" in note for note in capture.notes)


@pytest.mark.parametrize("form", ["ros1", "mcap"])
def test_zip_gives_the_same(form: str, robot: Path, read: Read, shots: Shots, tmp_path: Path) -> None:
    """A file or a rosbag2 folder, packed."""
    packed = tmp_path / "walk.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        folder = robot / form if form == "ros1" else robot / form / "walk"
        for file in folder.iterdir():
            archive.write(file, file.name)
    assert_poses(read(packed), [pose for _, pose, _, _ in shots])


def write_rear(path: Path, room: Room, shots: Shots, camera: Camera, *, connected: bool = True) -> list[Pose]:
    """A second camera on the robot, looking back, half a frame later; gives where it was."""
    rears = []
    with bag_writer(path, "ros1") as bag:
        for (time, one, _, _), (_, other, _, _) in pairwise(shots):
            rears.append(between(one @ BASE_FROM_CAMERA.inverse(), other @ BASE_FROM_CAMERA.inverse(), 0.5) @ REAR)
            bag.image("/rear/image_raw", time + 0.1, "rear_optical", "rgb8", room.render(camera, rears[-1], 1)[0])
            bag.info("/rear/camera_info", time + 0.1, "rear_optical", camera)
        if connected:
            bag.transforms("/tf_static", shots[0][0], [("base", "rear_optical", REAR)])
    return rears


REAR = Pose(Rotation.from_euler("xyz", [100, -4, 75], degrees=True).as_matrix(), np.array([-0.25, 0.11, 0.3]))
"""The second camera on the robot's base."""


def write_dense(path: Path, shots: Shots) -> None:
    """The robot's base at all images of both cameras."""
    with bag_writer(path, "ros1") as bag:
        bases = [pose @ BASE_FROM_CAMERA.inverse() for _, pose, _, _ in shots]
        for (time, *_), one, other in zip(shots, bases, [*bases[1:], bases[-1]], strict=True):
            bag.odometry("/slam/odometry", time, "map", "base", one)
            bag.odometry("/slam/odometry", time + 0.1, "map", "base", between(one, other, 0.5))
        bag.transforms("/tf_static", shots[0][0], [("base", OPTICAL, BASE_FROM_CAMERA)])


@pytest.mark.parametrize("chosen", [{"cameras": "all"}, {"topics": {"camera": f"{FRONT},/rear/image_raw"}}])
def test_two_cameras_of_a_rig(chosen: dict, read: Read, room: Room, shots: Shots, tmp_path: Path) -> None:
    """Each with its own intrinsics, extrinsics, times and mask; camera by camera, names unique."""
    lens = replace(SMALL, fx=100.0, fy=101.0, cx=77.0)
    write_robot(tmp_path / "bag/a.bag", "ros1", shots, SMALL, parts=("image",))
    write_dense(tmp_path / "bag/b.bag", shots)
    rears = write_rear(tmp_path / "bag/c.bag", room, shots, lens)
    mask = np.full((120, 160), 255, np.uint8)
    mask[90:, 30:] = 0
    (tmp_path / "bag/masks").mkdir()
    cv2.imwrite(str(tmp_path / "bag/masks/rear-image_raw.png"), mask)
    capture = read(tmp_path / "bag", **chosen)
    assert_poses(capture, [*(pose for _, pose, _, _ in shots), *rears])
    sensors = ["camera-color-image_raw"] * 10 + ["rear-image_raw"] * 9
    assert [frame.sensor for frame in capture.frames] == sensors
    assert len({frame.name for frame in capture.frames} | {frame.image for frame in capture.frames}) == 38
    assert [frame.time for frame in capture.frames] == pytest.approx([0.2 * i for i in range(10)] + REAR_TIMES)
    assert {(frame.sensor, round(frame.camera.fx, 3)) for frame in capture.frames} == {
        (sensors[0], SMALL.fx),
        (sensors[-1], 100.0),
    }
    assert [frame.mask is not None for frame in capture.frames] == [False] * 10 + [True] * 9
    assert Capture.load(_saved(capture)).frames[12].sensor == "rear-image_raw"


REAR_TIMES = [0.1 + 0.2 * i for i in range(9)]


def _saved(capture: Capture) -> Path:
    capture.save()
    return capture.root


def test_one_camera_is_read_unless_asked(read: Read, room: Room, shots: Shots, tmp_path: Path) -> None:
    """The others are named; each is thinned by itself where all are read."""
    write_robot(tmp_path / "a.bag", "ros1", shots, SMALL, parts=("image",))
    write_dense(tmp_path / "b.bag", shots)
    write_rear(tmp_path / "c.bag", room, shots, SMALL)
    capture = read(tmp_path)
    assert len(capture.frames) == 10
    assert {frame.sensor for frame in capture.frames} == {None}
    assert "other cameras, not read: /rear/image_raw (capture.cameras)" in capture.notes
    both = read(tmp_path, cameras="all", stride=3)
    assert [frame.sensor for frame in both.frames].count("rear-image_raw") == 3
    assert len(both.frames) == 7


def test_a_scan_is_the_depth_of_all_cameras(room: Room, read: Read, shots: Shots, tmp_path: Path) -> None:
    """Seen from each; depth images that only one camera has are left out."""
    base_from_lidar = Pose(np.eye(3), np.array([0.1, 0.0, 0.4]))
    write_robot(tmp_path / "bag/a.bag", "ros1", shots, SMALL, parts=("image",))
    write_dense(tmp_path / "bag/b.bag", shots)
    rears = write_rear(tmp_path / "bag/c.bag", room, shots, SMALL)
    with bag_writer(tmp_path / "bag/d.bag", "ros1") as bag:
        bag.transforms("/tf_static", START, [("base", "lidar", base_from_lidar)])
        for (time, one, _, _), rear in zip(shots, [*rears, None], strict=True):
            bases = {0.0: one @ BASE_FROM_CAMERA.inverse(), 0.1: rear and rear @ REAR.inverse()}
            for later, base in bases.items():
                if base is not None:
                    bag.cloud("/lidar/points", time + later, "lidar", _scan(room, base @ base_from_lidar))
    capture = read(tmp_path / "bag", cameras="all")
    assert (len(capture.frames), capture.has_depth, capture.depth_range) == (19, True, 30.0)
    for index in (2, 13):
        frame = capture.frames[index]
        assert frame.depth_camera is not None
        assert frame.world_from_camera is not None
        found = depth_of(capture, index) / 1000
        truth = room.cast(frame.depth_camera, frame.world_from_camera)[1]
        assert (found > 0).mean() > 0.3
        assert np.median(np.abs(found - truth)[found > 0]) < 0.03
    write_robot(tmp_path / "bag/e.bag", "ros1", shots, SMALL, parts=("depth",))
    without = read(tmp_path / "bag", cameras="all", topics={"cloud": "none"})
    assert {frame.depth for frame in without.frames} == {None}
    assert "depth left out: not all cameras have it" in without.notes


def test_camera_that_no_pose_reaches_is_left_out(read: Read, room: Room, shots: Shots, tmp_path: Path) -> None:
    """Frames without poses would cost all others theirs."""
    write_robot(tmp_path / "a.bag", "ros1", shots, SMALL, parts=("image",))
    write_dense(tmp_path / "b.bag", shots)
    write_rear(tmp_path / "c.bag", room, shots, SMALL, connected=False)
    capture = read(tmp_path, cameras="all")
    assert_poses(capture, [pose for _, pose, _, _ in shots])
    assert "left out, since no poses reach their frames: /rear/image_raw" in capture.notes


@pytest.mark.parametrize("ahead", [0.08, 0.0])
def test_odometry_whose_clock_is_ahead(ahead: float, read: Read, shaken: Shots, tmp_path: Path) -> None:
    """The motion that images and odometry both show gives the offset, and a note says so; depth stays paired."""
    with bag_writer(tmp_path / "a.bag", "ros1") as bag:
        for time, _, rgb, depth in shaken:
            bag.image("/cam/image_raw", START + time, OPTICAL, "rgb8", rgb)
            bag.info("/cam/camera_info", START + time, OPTICAL, SMALL)
            stored = (1000 * depth).round().astype(np.uint16)
            bag.image("/cam/depth_registered/image_raw", START + time, OPTICAL, "16UC1", stored)
        for time in np.arange(-1, 5.5, 0.05):
            base = shaky(float(time)) @ BASE_FROM_CAMERA.inverse()
            bag.odometry("/odom", START + float(time) + ahead, "odom", "base", base, delay=0.15)
        bag.transforms("/tf_static", START, [("base", OPTICAL, BASE_FROM_CAMERA)])
    capture = read(tmp_path / "a.bag")
    assert len(capture.frames) == 41
    noted = [note for note in capture.notes if "too early for the poses" in note]
    assert len(noted) == (ahead > 0)
    for i, (frame, (time, pose, _, depth)) in enumerate(zip(capture.frames, shaken, strict=True)):
        assert frame.source_time == pytest.approx(START + time, abs=1e-5)
        assert np.array_equal(depth_of(capture, i), (1000 * depth).round())
        assert frame.world_from_camera is not None
        assert np.linalg.norm(frame.world_from_camera.translation - pose.translation) < 0.003
        assert angle_deg(frame.world_from_camera.rotation, pose.rotation) < 0.15


def test_tf_replaces_odometry(read: Read, shots: Shots, tmp_path: Path) -> None:
    """The outermost frame is the world, and names may begin with a slash."""
    write_robot(tmp_path / "tf.bag", "ros1", shots, SMALL, parts=("image", "tf", "static"))
    capture = read(tmp_path / "tf.bag")
    assert_poses(capture, [MAP_FROM_ODOM @ pose for _, pose, _, _ in shots])
    assert any("map from camera_color_optical_frame" in note for note in capture.notes)


def test_old_db3_without_message_definitions(robot: Path, read: Read, shots: Shots, tmp_path: Path) -> None:
    """Before Iron, ROS 2 recorded no definitions: those of Humble are taken."""
    shutil.copytree(robot / "db3" / "walk", tmp_path / "old")
    with sqlite3.connect(tmp_path / "old" / "walk.db3") as database:
        database.execute("DROP TABLE message_definitions")
        database.execute("DROP TABLE schema")
    assert_poses(read(tmp_path / "old"), [pose for _, pose, _, _ in shots])


def test_compressed_images_and_depth(read: Read, shots: Shots, tmp_path: Path) -> None:
    """JPEG is kept byte for byte; compressedDepth has 12 bytes before its PNG."""
    write_robot(tmp_path / "odometry.bag", "ros1", shots, SMALL, parts=("odometry", "static"))
    with bag_writer(tmp_path / "images.bag", "ros1") as bag:
        for time, _, rgb, depth in shots:
            bag.compressed("/camera/color/image_raw/compressed", time, OPTICAL, "rgb8; jpeg compressed bgr8", jpeg(rgb))
            bag.info("/camera/color/camera_info", time, OPTICAL, SMALL)
            data = bytes(12) + png((1000 * depth).round().astype(np.uint16))
            bag.compressed("/camera/depth/image_raw/compressedDepth", time, OPTICAL, "16UC1; compressedDepth", data)
    capture = read(tmp_path)
    assert_poses(capture, [pose for _, pose, _, _ in shots])
    assert (capture.root / capture.frames[3].image).read_bytes() == jpeg(shots[3][2])
    assert np.array_equal(depth_of(capture, 3), (1000 * shots[3][3]).round())


def test_depth_of_another_frame_and_moment_is_projected(room: Room, read: Read, shots: Shots, tmp_path: Path) -> None:
    """A depth camera 5 cm beside, 12 ms later: what the image's camera would see, within a few mm."""
    camera_from_depth = Pose(np.eye(3), np.array([0.05, 0.0, 0.0]))
    sensor = SMALL.resized(240, 180)
    sensor = replace(sensor, fx=160.0, fy=161.0)
    write_robot(tmp_path / "bag" / "a.bag", "ros1", shots, SMALL, parts=("image", "odometry", "static"))
    with bag_writer(tmp_path / "bag" / "b.bag", "ros1") as bag:
        bag.transforms("/tf_static", START, [(OPTICAL, "depth_optical", camera_from_depth)])
        for time, pose, _, _ in shots:
            between = around(time, pose)[1][1]  # the pose at time + 10 ms, where odometry has a sample
            _, depth = room.cast(sensor, between @ camera_from_depth)
            bag.image("/camera/depth/image_rect_raw", time + 0.01, "depth_optical", "32FC1", depth.astype(np.float32))
            bag.info("/camera/depth/camera_info", time + 0.01, "depth_optical", sensor)
    capture = read(tmp_path / "bag")
    frame = capture.frames[4]
    assert frame.depth_camera is not None
    found = depth_of(capture, 4) / 1000
    truth = room.cast(replace(frame.depth_camera, distortion=(0, 0, 0, 0)), shots[4][1])[1]
    known = found > 0
    assert known.mean() > 0.8
    assert np.median(np.abs(found - truth)[known]) < 0.02


def test_depth_whose_place_is_unknown_is_left_out(read: Read, shots: Shots, tmp_path: Path) -> None:
    """Nothing connects its frame with the camera's: better none than shifted."""
    write_robot(tmp_path / "a.bag", "ros1", shots, SMALL, parts=("image", "odometry", "static"))
    with bag_writer(tmp_path / "b.bag", "ros1") as bag:
        for time, _, _, depth in shots:
            bag.image("/camera/depth/image_rect_raw", time, "somewhere", "32FC1", depth)
            bag.info("/camera/depth/camera_info", time, "somewhere", SMALL)
    capture = read(tmp_path)
    assert capture.frames[0].depth is None
    assert any(note.startswith("depth left out") for note in capture.notes)


def test_lidar_scans_become_depth(room: Room, read: Read, shots: Shots, tmp_path: Path) -> None:
    """A scan all round, seen from the camera; the LiDAR's frame is a body's."""
    base_from_lidar = Pose(np.eye(3), np.array([0.1, 0.0, 0.4]))
    write_robot(tmp_path / "bag" / "a.bag", "ros1", shots, SMALL, parts=("image", "odometry", "static"))
    with bag_writer(tmp_path / "bag" / "b.bag", "ros1") as bag:
        bag.transforms("/tf_static", START, [("base", "lidar", base_from_lidar)])
        for time, pose, _, _ in shots:
            base = pose @ BASE_FROM_CAMERA.inverse()
            bag.cloud("/lidar/points", time, "lidar", _scan(room, base @ base_from_lidar))
    capture = read(tmp_path / "bag")
    frame = capture.frames[2]
    assert frame.depth_camera is not None
    found = depth_of(capture, 2) / 1000
    truth = room.cast(frame.depth_camera, shots[2][1])[1]
    known = found > 0
    assert known.mean() > 0.3
    assert np.median(np.abs(found - truth)[known]) < 0.03


def test_zero_stamps_take_the_time_of_reception(read: Read, shots: Shots, tmp_path: Path) -> None:
    """Said in a note."""
    write_robot(tmp_path / "a.bag", "ros1", shots, SMALL, parts=("odometry", "static"))
    with bag_writer(tmp_path / "b.bag", "ros1") as bag:
        for time, _, rgb, _ in shots:
            bag.image("/cam/image_raw", 0, OPTICAL, "bgr8", rgb[..., ::-1], delay=time)
            bag.info("/cam/camera_info", time, OPTICAL, SMALL)
    capture = read(tmp_path)
    assert_poses(capture, [pose for _, pose, _, _ in shots])
    assert any("/cam/image_raw" in note and "time of reception" in note for note in capture.notes)


@pytest.mark.parametrize("posed", [True, False])
def test_gravity_of_a_walk(posed: bool, read: Read, tmp_path: Path) -> None:
    """Half a degree by odometry and IMU together; some degrees a frame by the IMU alone, and both say so."""
    motion = walk_with_it(16.0, np.random.default_rng(3))
    parts = ("odometry", "imu") if posed else ("imu",)
    world = write_walk(tmp_path / "a.bag", "ros1", motion, 16.0, SMALL.resized(32, 24), parts)
    capture = read(tmp_path / "a.bag")
    truths = motion.poses(np.array([(frame.source_time or 0) - START for frame in capture.frames]))
    found = [(truth, frame) for truth, frame in zip(truths, capture.frames, strict=True) if frame.gravity is not None]
    off = [np.rad2deg(np.arccos(np.clip(truth.rotate(f.gravity) @ [0, 0, -1.0], -1, 1))) for truth, f in found]
    assert capture.gravity_sigma_deg is not None
    if posed:
        assert len(found) == len(capture.frames)
        assert max(off) < 0.5
        assert max(off) < 3 * capture.gravity_sigma_deg < 1.5
        for truth, frame in found:
            assert frame.world_from_camera is not None
            assert angle_deg(frame.world_from_camera.rotation, (world @ truth).rotation) < 2
    else:
        assert len(found) > len(capture.frames) / 2
        assert np.median(off) < 3
        assert capture.gravity_sigma_deg > 0.5
    assert any(note.startswith("/imu/data: gravity from") for note in capture.notes)


def test_link_frame_has_a_body_s_axes(read: Read, shots: Shots, tmp_path: Path) -> None:
    """Images in camera_link: the optical frame below it is meant."""
    write_robot(tmp_path / "a.bag", "ros1", shots, SMALL, frame="camera_link")
    assert_poses(read(tmp_path / "a.bag"), [pose for _, pose, _, _ in shots])


def test_link_frame_without_optical_frame_is_turned(read: Read, shots: Shots, tmp_path: Path) -> None:
    """X forward, y left, z up; registered depth keeps the camera's axes."""
    write_robot(
        tmp_path / "bag" / "a.bag", "ros1", shots, SMALL, parts=("image", "depth", "odometry"), frame="cam_link"
    )
    turned = Pose(np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), np.zeros(3))
    with bag_writer(tmp_path / "bag" / "b.bag", "ros1") as bag:
        bag.transforms("/tf_static", START, [("base", "cam_link", BASE_FROM_CAMERA @ turned)])
    capture = read(tmp_path / "bag")
    assert_poses(capture, [pose for _, pose, _, _ in shots])
    assert np.array_equal(depth_of(capture, 1), (1000 * shots[1][3]).round())
    assert any("cam_link" in note and "REP 103" in note for note in capture.notes)


def test_time_range_and_stride(robot: Path, read: Read, shots: Shots) -> None:
    """Seconds after the first image, every second one of them."""
    capture = read(robot / "mcap" / "walk", start=0.35, end=1.5, stride=2)
    assert_poses(capture, [shots[i][1] for i in (2, 4, 6)])


def test_missing_depth_leaves_images_out(read: Read, shots: Shots, tmp_path: Path) -> None:
    """How many is said."""
    dark = [shot for i, shot in enumerate(shots) if i not in (2, 5)]
    write_robot(tmp_path / "a.bag", "ros1", shots, SMALL, parts=("image", "odometry", "static"))
    write_robot(tmp_path / "b.bag", "ros1", dark, SMALL, parts=("depth",))
    capture = read(tmp_path)
    assert_poses(capture, [pose for _, pose, _, _ in dark])
    assert "2 of 10 images left out: no depth near enough in time" in capture.notes


def test_clocks_seconds_apart_are_refused(read: Read, shots: Shots, tmp_path: Path) -> None:
    """Odometry stamped 3 s before images that were received with it."""
    write_robot(tmp_path / "a.bag", "ros1", shots, SMALL, late=3.0)
    with pytest.raises(CaptureError, match="one clock") as error:
        read(tmp_path / "a.bag")
    assert "/dlio/odometry is stamped 3.0" in error.value.found
    assert "chrony" in error.value.remedy


def test_poses_of_another_day_are_refused(read: Read, shots: Shots, tmp_path: Path) -> None:
    """Poses from another file need only overlap in time; these don't."""
    write_robot(tmp_path / "a.bag", "ros1", shots, SMALL, parts=("image",))
    early = [(time - 40, pose, rgb, depth) for time, pose, rgb, depth in shots]
    write_robot(tmp_path / "b.bag", "ros1", early, SMALL, parts=("odometry", "static"))
    with pytest.raises(CaptureError, match="one clock"):
        read(tmp_path)


def test_poses_computed_later_are_taken(read: Read, shots: Shots, tmp_path: Path) -> None:
    """A bag of odometry whose reception is hours after its stamps."""
    write_robot(tmp_path / "a.bag", "ros1", shots, SMALL, parts=("image", "static"))
    with bag_writer(tmp_path / "b.bag", "ros1") as bag:
        for time, pose, _, _ in shots:
            for at, base in around(time, pose @ BASE_FROM_CAMERA.inverse()):
                bag.odometry("/slam/odometry", at, "map", "base", base, delay=60.0)
    assert_poses(read(tmp_path), [pose for _, pose, _, _ in shots])


@pytest.mark.parametrize(("topic", "rule"), [("image", "time must increase"), ("odometry", "times must increase")])
def test_time_that_runs_backwards_is_refused(topic: str, rule: str, read: Read, shots: Shots, tmp_path: Path) -> None:
    """A clock that was set back while recording."""
    parts = ("image", "odometry", "static")
    write_robot(tmp_path / "a.bag", "ros1", shots, SMALL, parts=[part for part in parts if part != topic])
    with bag_writer(tmp_path / "b.bag", "ros1") as bag:
        for i, (time, pose, rgb, _) in enumerate(shots):
            stamp = time - (0.5 if i == 6 else 0)
            if topic == "image":
                bag.image("/cam/image_raw", stamp, OPTICAL, "rgb8", rgb, delay=0.01 + time - stamp)
            else:
                bag.odometry("/odom", stamp, "odom", "base", pose, delay=0.01 + time - stamp)
    with pytest.raises(CaptureError, match=rule):
        read(tmp_path)


def test_uncalibrated_camera_is_refused(read: Read, shots: Shots, tmp_path: Path) -> None:
    """Drivers publish zeros until somebody calibrates."""
    with bag_writer(tmp_path / "a.bag", "ros1") as bag:
        for time, _, rgb, _ in shots:
            bag.image("/cam/image_raw", time, OPTICAL, "rgb8", rgb)
            bag.info("/cam/camera_info", time, OPTICAL, SMALL)
        for _, _, kind, message in bag._pending:
            if kind.endswith("CameraInfo"):
                message.K[:] = 0
    with pytest.raises(CaptureError, match=r"/cam/camera_info.*calibration"):
        read(tmp_path / "a.bag")


def test_intrinsics_of_another_size_are_refused(read: Read, shots: Shots, tmp_path: Path) -> None:
    """CameraInfo of the full resolution next to smaller images."""
    with bag_writer(tmp_path / "a.bag", "ros1") as bag:
        for time, _, rgb, _ in shots:
            bag.image("/cam/image_raw", time, OPTICAL, "rgb8", rgb)
            bag.info("/cam/camera_info", time, OPTICAL, SMALL.resized(320, 240))
    with pytest.raises(CaptureError, match="/cam/image_raw, message 0") as error:
        read(tmp_path / "a.bag")
    assert "160 x 120, declared 320 x 240" in error.value.found


def test_quaternion_that_is_not_unit_is_refused(read: Read, shots: Shots, tmp_path: Path) -> None:
    """The topic and the moment are named."""
    write_robot(tmp_path / "a.bag", "ros1", shots, SMALL, parts=("image", "static"))
    with bag_writer(tmp_path / "b.bag", "ros1") as bag:
        for time, pose, _, _ in shots:
            bag.odometry("/odom", time, "odom", "base", pose)
        bag._pending[3][3].pose.pose.orientation.x += 0.5
    with pytest.raises(CaptureError, match=r"topic /odom.*unit quaternion"):
        read(tmp_path)


def test_camera_that_does_not_move_is_refused(read: Read, shots: Shots, tmp_path: Path) -> None:
    """A robot that stands."""
    still = [(time, shots[0][1], rgb, depth) for time, _, rgb, depth in shots]
    with bag_writer(tmp_path / "a.bag", "ros1") as bag:
        for time, pose, rgb, _ in still:
            bag.image("/cam/image_raw", time, "cam_optical", "rgb8", rgb)
            bag.odometry("/odom", time, "odom", "cam_optical", pose)
    with pytest.raises(CaptureError, match="camera must move"):
        read(tmp_path / "a.bag")


def test_images_without_poses_or_intrinsics_are_read(read: Read, shots: Shots, tmp_path: Path) -> None:
    """Nothing is invented: no pose, no scale, a guessed focal length, said in notes."""
    with bag_writer(tmp_path / "a.bag", "ros1") as bag:
        for time, _, rgb, _ in shots:
            bag.image("/cam/image_raw", time, "", "rgb8", rgb)
    capture = read(tmp_path / "a.bag")
    first = capture.frames[0]
    assert (first.world_from_camera, first.depth, capture.scale_sigma) == (None, None, None)
    assert first.focal_source == "guessed"
    assert any("no poses" in note for note in capture.notes)
    assert any("guessed" in note for note in capture.notes)


def test_bag_without_images_lists_its_topics(read: Read, shots: Shots, tmp_path: Path) -> None:
    """So that one sees what was recorded."""
    write_robot(tmp_path / "a.bag", "ros1", shots, SMALL, parts=("odometry", "depth", "imu"))
    with pytest.raises(CaptureError, match="topic with images") as error:
        read(tmp_path / "a.bag")
    assert "/dlio/odometry (Odometry)" in error.value.found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", ["truncated", "other", "empty"])
def test_broken_files_are_refused(form: str, fault: str, robot: Path, read: Read, tmp_path: Path) -> None:
    """Cut off, something else under a bag's name, or nothing: the message names the file."""
    shutil.copytree(robot / form, tmp_path / "bag")
    [file] = [p for p in (tmp_path / "bag").rglob("*") if p.suffix in (".bag", ".db3", ".mcap")]
    if fault == "truncated":
        truncate(file)
    else:
        file.write_bytes(b"" if fault == "empty" else b"\xff\xd8\xff\xe0" * 1000)
    with pytest.raises(CaptureError, match="walk"):
        read(tmp_path / "bag" if form == "ros1" else tmp_path / "bag" / "walk")


def test_bag_that_was_not_closed_says_reindex(robot: Path, read: Read, tmp_path: Path) -> None:
    """The index lies where the recorder writes it last."""
    file = tmp_path / "walk.bag"
    data = bytearray((robot / "ros1" / "walk.bag").read_bytes())
    at = data.index(b"index_pos=") + len(b"index_pos=")
    data[at : at + 8] = bytes(8)
    file.write_bytes(data)
    with pytest.raises(CaptureError, match="not indexed") as error:
        read(file)
    assert "reindex" in error.value.remedy


def test_two_recordings_in_a_folder_are_refused(read: Read, shots: Shots, tmp_path: Path) -> None:
    """Ten minutes apart: not a split recording."""
    write_robot(tmp_path / "a.bag", "ros1", shots, SMALL)
    write_robot(tmp_path / "b.bag", "ros1", [(time + 600, pose, rgb, depth) for time, pose, rgb, depth in shots], SMALL)
    with pytest.raises(CaptureError, match="one recording"):
        read(tmp_path)


def test_split_recording_is_one(read: Read, shots: Shots, tmp_path: Path) -> None:
    """Each file holds its share of all topics."""
    write_robot(tmp_path / "a_0.bag", "ros1", shots[:5], SMALL)
    write_robot(tmp_path / "a_1.bag", "ros1", shots[5:], SMALL)
    assert_poses(read(tmp_path), [pose for _, pose, _, _ in shots])


def test_chunk_that_unpacks_to_too_much_is_refused(
    read: Read, shots: Shots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file may claim gigabytes."""
    from rosbags.rosbag1 import Writer

    original = Writer.__init__

    def compressed(self: Writer, path: Path) -> None:
        original(self, path)
        self.set_compression(Writer.CompressionFormat.LZ4)

    monkeypatch.setattr(Writer, "__init__", compressed)
    write_robot(tmp_path / "a.bag", "ros1", shots, SMALL)
    assert len(read(tmp_path / "a.bag").frames) == 10
    monkeypatch.setattr(files, "MAX_UNPACKED", 10_000)
    with pytest.raises(CaptureError, match="unpacks to at most"):
        read(tmp_path / "a.bag")


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize(
    ("form", "compressed"),
    [("db3", "message"), ("db3", "file"), ("mcap", "message"), ("mcap", "file"), ("mcap", "storage")],
)
def test_compressed_recordings(
    form: str, compressed: str, metadata: bool, read: Read, shots: Shots, tmp_path: Path
) -> None:
    """Messages, chunks or whole files by zstd; metadata.yaml, which says so, is often not copied."""
    write_robot(tmp_path / "walk", form, shots, SMALL, compressed=compressed)
    if not metadata:
        (tmp_path / "walk/metadata.yaml").unlink()
    assert_poses(read(tmp_path / "walk"), [pose for _, pose, _, _ in shots])


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("form", ["db3", "mcap"])
def test_types_named_as_ros_1_names_them(form: str, metadata: bool, read: Read, shots: Shots, tmp_path: Path) -> None:
    """sensor_msgs/Image in a bag of ROS 2, as some converters and loggers write it."""
    write_robot(tmp_path / "walk", form, shots, SMALL, short_names=True)
    assert b"sensor_msgs/Image" in next((tmp_path / "walk").glob(f"*.{form}")).read_bytes()
    if not metadata:
        (tmp_path / "walk/metadata.yaml").unlink()
    assert_poses(read(tmp_path / "walk"), [pose for _, pose, _, _ in shots])


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("compressed", ["message", "file", "storage"])
def test_what_unpacks_to_too_much_is_refused(
    compressed: str, metadata: bool, read: Read, shots: Shots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the file says of its sizes; the file is named."""
    write_robot(tmp_path / "walk", "mcap", shots, SMALL, compressed=compressed)
    if not metadata:
        (tmp_path / "walk/metadata.yaml").unlink()
    monkeypatch.setattr(files, "MAX_UNPACKED", 10_000)
    monkeypatch.setattr(files, "MAX_ARCHIVE_BYTES", 10_000)
    with pytest.raises(CaptureError, match=r"walk.*unpacks to at most"):
        read(tmp_path / "walk")


@pytest.mark.parametrize("fault", ["profile", "definition", "listed", "other"])
def test_each_fault_of_a_bag_has_its_own_words(
    fault: str, read: Read, shots: Shots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a bag that is cut off is called so."""
    write_robot(tmp_path / "walk", "mcap", shots, SMALL)
    file = tmp_path / "walk/walk.mcap"
    data = file.read_bytes()
    if fault == "profile":
        file.write_bytes(data.replace(b"ros2", b"ros9", 1))
    elif fault == "definition":
        file.write_bytes(data.replace(b"uint32 height", b"uint3? height"))
    elif fault == "listed":
        file.rename(tmp_path / "walk/other.mcap")
    else:
        monkeypatch.setattr("rosbags.rosbag2.storage_mcap.McapReader.messages", _fails)
    rule, found, remedy = {
        "profile": ("of ROS 1", "Profile is not ros2", "mcap convert"),
        "definition": ("definitions of their types", "uint3[?]", "packages of its messages"),
        "listed": ("metadata.yaml lists", "walk.mcap", "remove metadata.yaml"),
        "other": ("readable by the package rosbags", "KeyError: 'what'", "find nothing wrong"),
    }[fault]
    with pytest.raises(CaptureError, match=rule) as error:
        read(tmp_path / "walk")
    assert re.search(found, error.value.found)
    assert remedy in error.value.remedy


def _fails(*_: object) -> None:
    raise KeyError("what")


def test_other_packages_images_are_left_alone(read: Read, shots: Shots, tmp_path: Path) -> None:
    """A type that is only named like one that is read."""
    write_robot(tmp_path / "walk", "db3", shots, SMALL)
    with sqlite3.connect(tmp_path / "walk/walk.db3") as database:
        database.execute("UPDATE topics SET type = 'my_msgs/msg/Image' WHERE name LIKE '%color/image_raw'")
    (tmp_path / "walk/metadata.yaml").unlink()
    with pytest.raises(CaptureError, match="topic with images"):
        read(tmp_path / "walk", topics={"depth": "none"})


@pytest.mark.slow
def test_five_gigabytes_are_read_in_constant_memory(tmp_path: Path) -> None:
    """Images are decoded as they come: the peak memory of a process of its own stays far below the bag's size."""
    camera = Camera(1600, 1200, 1200.0, 1200.0, 800.0, 600.0)
    poses = [Pose(pose.rotation, pose.translation) for pose in walk(330)]
    bag = tmp_path / "long.bag"
    write_sparse(bag, camera, poses, 0.1)
    assert bag.stat().st_size > 5 * 2**30
    assert bag.stat().st_blocks * 512 < 2**28
    script = (
        "import sys; from pathlib import Path\n"
        "from pipeline.capture.bags import rosbag; from pipeline.capture.source import open_source\n"
        "from pipeline.capture.params import CaptureParams\n"
        "with open_source(Path(sys.argv[1])) as source:\n"
        "    capture = rosbag.READER.read(source, Path(sys.argv[2]), CaptureParams(stride=20))\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(len(capture.frames), peak.split()[1])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(bag), str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    frames, peak = map(int, ran.stdout.split())
    assert frames == 17
    assert peak < 2**20, f"{peak / 2**20:.1f} GiB"


def _scan(room: Room, world_from_lidar: Pose) -> np.ndarray:
    """Points (N, 3) [m] all round, in the LiDAR's axes: four views of 90 degrees side by side."""
    eye = Camera(128, 96, 64.0, 64.0, 64.0, 48.0)
    points = []
    for yaw in (0, 90, 180, 270):
        forward = Rotation.from_euler("z", yaw, degrees=True).as_matrix() @ np.array(
            [[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]
        )
        lidar_from_eye = Pose(forward, np.zeros(3))
        _, depth = room.cast(eye, world_from_lidar @ lidar_from_eye)
        points.append(lidar_from_eye.rotate(eye.rays() * depth[..., None]).reshape(-1, 3))
    return np.concatenate(points).astype(np.float32)
