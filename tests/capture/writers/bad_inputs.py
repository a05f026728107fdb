"""What no reader may take, as data: the small capture of every format, spoiled in every way that applies to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.geometry import Camera
from tests.capture.conftest import SMALL
from tests.capture.writers.every_format import FORMATS
from tests.capture.writers.spoiling import (
    PNG,
    Spoil,
    array,
    as_text,
    both,
    content,
    copied,
    halved,
    later,
    messages,
    missing,
    replaced,
    resized,
    rows,
    scaled,
    stuck,
    swapped,
    time_back,
    twice,
    values,
)

ARKIT, CAM0, SEQUENCE, TRUTH = "41000000", "mav0/cam0", "sequences/04", "mav0/state_groundtruth_estimate0/data.csv"
HDR, DLIO = "mission/data/hdr_front", "mission/data/dlio_map_odometry"
COLOR, ODOMETRY, INFO = "/camera/color/image_raw", "/dlio/odometry", "/camera/color/camera_info"
DOUBLE = SMALL.resized(2 * SMALL.width, 2 * SMALL.height)
MANY = "at most 20% of a capture's images may be unreadable"
JSON, CLOCK, QUATERNION, STILL = "must hold a JSON object", "one clock", "unit quaternion", "must move"
FOCAL = "fx, fy, cx, cy = 0.0, 0.0"


def cameras(change: Callable[[dict[str, Any], int], object]) -> Spoil:
    """Polycam's camera files."""
    return values("keyframes/cameras/*", change)


def metadata(change: Callable[[dict[str, Any], int], object]) -> Spoil:
    """Record3D's metadata."""
    return values("metadata", change)


def transforms(change: Callable[[dict[str, Any], int], object]) -> Spoil:
    """Nerfstudio's file."""
    return values("transforms.json", change)


def camera_line(line: str) -> Spoil:
    """A COLMAP camera with other numbers."""
    return both(as_text, replaced("sparse/0/cameras.txt", r"PINHOLE.*", f"PINHOLE {line}"))


def matrix(camera: Camera) -> Spoil:
    """Another camera-intrinsics.txt."""
    return lambda folder: np.savetxt(folder / "camera-intrinsics.txt", camera.matrix)


def other_phone(data: dict[str, Any], number: int) -> None:
    """Every second Polycam camera has a longer lens."""
    data.update({key: (1.2 if number % 2 else 1.0) * data[key] for key in ("fx", "fy")})


def other_lens(data: dict[str, Any], _: int) -> None:
    """The later half of a Record3D recording has a longer lens."""
    for row in data["perFrameIntrinsicCoeffs"][6:]:
        row[:2] = [1.2 * value for value in row[:2]]


def other_video(folder: Path) -> None:
    """ARKitScenes images of which half have another video's number."""
    for file in sorted((folder / ARKIT / "vga_wide").iterdir())[6:]:
        file.rename(file.with_name(file.name.replace("41069021", "41069022")))


def frames_stand(data: dict[str, Any], _: int) -> None:
    """All frames of a transforms.json have the first one's pose."""
    for frame in data["frames"]:
        frame["transform_matrix"] = data["frames"][0]["transform_matrix"]


def frame_scaled(data: dict[str, Any], _: int) -> None:
    """One frame's rotation is twice as large."""
    pose = data["frames"][3]["transform_matrix"]
    pose[:3] = [[2 * value for value in row] for row in pose[:3]]


def items_stand(table: list[list[str]]) -> None:
    """The four rows of every item of a .log are the first one's."""
    for i in range(5, len(table)):
        table[i] = table[i % 5] if i % 5 else table[i]


def image_early(which: int, seconds: int) -> Spoil:
    """One image of a bag is stamped too early."""

    def change(topic: str, message: Any, number: int) -> None:
        if topic == COLOR and number == which:
            message.header.stamp.sec -= seconds

    return messages(change)


def odometry_late(topic: str, message: Any, _: int) -> None:
    """The robot's computer has another time."""
    if topic == ODOMETRY:
        message.header.stamp.sec += 20


def odometry_long(topic: str, message: Any, number: int) -> None:
    """A quaternion of length 1.3."""
    if topic == ODOMETRY and number == 5:
        for axis in "xyzw":
            setattr(message.pose.pose.orientation, axis, 1.3 * getattr(message.pose.pose.orientation, axis))


def odometry_stands(topic: str, message: Any, _: int) -> None:
    """It says the same pose all the time."""
    if topic == ODOMETRY:
        pose = message.pose.pose
        for part, axes in ((pose.position, "xyz"), (pose.orientation, "xyz")):
            for axis in axes:
                setattr(part, axis, 0.0)
        pose.orientation.w = 1.0


def info_of(k: np.ndarray) -> Spoil:
    """Other intrinsics in the camera_info of a bag."""

    def change(topic: str, message: Any, _: int) -> None:
        if topic.endswith("camera_info"):
            message.k = k.ravel()
            message.p = np.concatenate([k, np.zeros((3, 1))], 1).ravel()

    return messages(change)


REFUSED: dict[str, dict[str, tuple[Spoil, str, str]]] = {
    "images are something else": {
        "photos": (content("*.jpg"), "0000.jpg", MANY),
        "polycam": (content("keyframes/images/*.jpg"), "keyframes/images/98", MANY),
        "rgbd": (content("*.color.jpg"), "frame-000000.color.jpg", MANY),
        "record3d": (content("rgbd/*.jpg"), "rgbd/0.jpg", MANY),
        "stray_scanner": (content("rgb.mp4"), "rgb.mp4", "MP4"),
        "arkitscenes": (content(f"{ARKIT}/vga_wide/*"), "vga_wide/", MANY),
        "tum": (content("rgb/*.png"), "rgb/", MANY),
        "redwood": (content("color/*.jpg"), "color/00000.jpg", MANY),
        "nerfstudio": (content("images/*.png"), "images/frame_00000.png", MANY),
        "colmap": (content("images/*.png"), "images/0000.png", MANY),
        "euroc": (content(f"{CAM0}/data/*.png"), "1403636579763555584.png", MANY),
        "kitti": (content(f"{SEQUENCE}/image_2/*.png"), "image_2/000000.png", "readable images"),
        "grandtour": (content("mission/images/hdr_front/*.jpeg"), "000000.jpeg", MANY),
        "lidar_slam": (content("images/*.jpg"), "1700000000.250000.jpg", MANY),
    },
    "depth is something else": {
        "polycam": (content("keyframes/depth/*.png"), "keyframes/depth/98", MANY),
        "rgbd": (content("*.depth.png"), "frame-000000.depth.png", MANY),
        "record3d": (content("rgbd/*.depth"), "rgbd/0.depth", MANY),
        "stray_scanner": (content("depth/*.png"), "depth/000001.png", MANY),
        "arkitscenes": (content(f"{ARKIT}/lowres_depth/*"), "lowres_depth/", MANY),
        "tum": (content("depth/*.png"), "depth/", MANY),
        "redwood": (content("depth/*.png"), "depth/00000.png", MANY),
        "kitti": (content(f"{SEQUENCE}/velodyne/*.bin"), "velodyne/000000.bin", MANY),
        "grandtour": (content("mission/data/hesai_undistorted/points/0.*"), "points/0.0.0", "chunk"),
        "lidar_slam": (content("scans.pcd"), "scans.pcd", "neither ply nor # .PCD"),
    },
    "containers and tables are something else": {
        "polycam": (content("keyframes/cameras/*.json"), "keyframes/cameras/", JSON),
        "rgbd": (content("frame-000003.pose.txt", PNG), "frame-000003.pose.txt", "must be text"),
        "record3d": (content("metadata"), "metadata", JSON),
        "stray_scanner": (content("odometry.csv", PNG), "odometry.csv", "must be text"),
        "arkitscenes": (content(f"{ARKIT}/lowres_wide.traj", PNG), "lowres_wide.traj", "must be text"),
        "tum": (content("groundtruth.txt"), "groundtruth.txt", "8 numbers"),
        "redwood": (content("trajectory.log"), "trajectory.log", "five lines for each pose"),
        "nerfstudio": (content("transforms.json", PNG), "transforms.json", JSON),
        "colmap": (content("sparse/0/images.bin"), "sparse/0/images.bin", "must be complete"),
        "euroc": (content(f"{CAM0}/sensor.yaml", PNG), "sensor.yaml", "YAML"),
        "kitti": (content("poses/04.txt", PNG), "poses/04.txt", "must be text"),
        "rosbag": (content("walk/walk.mcap"), "walk.mcap", "MCAP"),
        "grandtour": (content(f"{HDR}/.zattrs"), "hdr_front/.zattrs", JSON),
        "video": (content("walk.mp4"), "walk.mp4", "MP4"),
        "generated": (content("walk.mp4"), "walk.mp4", "MP4"),
        "lidar_slam": (content("trajectory.txt"), "trajectory.txt", "8 numbers"),
    },
    "containers are cut off": {
        "record3d": (halved("metadata"), "metadata", JSON),
        "stray_scanner": (halved("rgb.mp4"), "rgb.mp4", "must be complete"),
        "redwood": (halved("trajectory.log"), "trajectory.log", "five lines for each pose"),
        "nerfstudio": (halved("transforms.json"), "transforms.json", JSON),
        "colmap": (halved("sparse/0/images.bin"), "sparse/0/images.bin", "must be complete"),
        "rosbag": (halved("walk/*.mcap"), "walk", "must be complete"),
        "grandtour": (halved(f"{DLIO}/pose_pos/0.0"), "pose_pos/0.0", "chunk"),
        "video": (halved("walk.mp4"), "walk.mp4", "must be complete"),
        "generated": (halved("walk.mp4"), "walk.mp4", "must be complete"),
        "lidar_slam": (halved("scans.pcd"), "scans.pcd", "complete"),
    },
    "depth frames are missing": {
        "polycam": (missing("keyframes/depth/*.png", 5), "no depth for 98", "every frame needs"),
        "rgbd": (missing("*.depth.png", 5), "no depth for frame-000001", "every frame needs"),
        "record3d": (missing("rgbd/*.depth", 3), "no depth for it", MANY),
        "stray_scanner": (missing("depth/*.png", 3), "no depth for it", MANY),
        "tum": (missing("depth/*.png", 5), "depth.txt", "all files that are listed must exist"),
        "redwood": (missing("depth/*.png", 5), "no depth for 1", "every frame needs"),
    },
    "time runs backwards": {
        "record3d": (metadata(lambda data, _: data["frameTimestamps"].reverse()), "rgbd/1.jpg", "time must increase"),
        "stray_scanner": (rows("odometry.csv", time_back, ",", head=1), "odometry.csv", "time must increase"),
        "arkitscenes": (rows(f"{ARKIT}/*.traj", swapped), "lowres_wide.traj", "times must increase"),
        "tum": (rows("rgb.txt", swapped), "rgb.txt", "times must increase"),
        "euroc": (rows(f"{CAM0}/data.csv", swapped, ","), "1403636579963555584.png", "time must increase"),
        "kitti": (rows(f"{SEQUENCE}/times.txt", swapped), "000005.png", "time must increase"),
        "rosbag": (image_early(10, 1), COLOR[1:].replace("/", "-"), "time must increase"),
        "grandtour": (array(f"{HDR}/timestamp", lambda times: times[::-1]), "000001.jpeg", "time must increase"),
        "lidar_slam": (rows("trajectory.txt", swapped), "trajectory.txt", "times must increase"),
    },
    "clocks are seconds apart": {
        "arkitscenes": (rows(f"{ARKIT}/*.traj", later(7.0)), "lowres_wide.traj", CLOCK),
        "tum": (rows("groundtruth.txt", later(7.0)), "groundtruth.txt", CLOCK),
        "euroc": (rows(TRUTH, later(7.0, 1e9), ","), TRUTH, CLOCK),
        "rosbag": (messages(odometry_late), ODOMETRY, "clock"),
        "grandtour": (array(f"{DLIO}/timestamp", lambda at: at + 20), "dlio_map_odometry/timestamp", CLOCK),
        "lidar_slam": (rows("trajectory.txt", later(7.0)), "trajectory.txt", CLOCK),
    },
    "intrinsics of zero": {
        "polycam": (
            cameras(lambda data, _: data.update(fx=0, fy=0)),
            "keyframes/cameras/",
            "fx, fy, cx, cy = 0.0, 0.0",
        ),
        "rgbd": (content("camera-intrinsics.txt", b"0 0 0\n0 0 0\n0 0 1\n"), "camera-intrinsics.txt", FOCAL),
        "record3d": (
            metadata(lambda data, _: data.update(perFrameIntrinsicCoeffs=[[0] * 4] * len(data["poses"]))),
            "metadata",
            FOCAL,
        ),
        "stray_scanner": (content("camera_matrix.csv", b"0,0,0\n0,0,0\n0,0,1"), "camera_matrix.csv", FOCAL),
        "arkitscenes": (content(f"{ARKIT}/*_intrinsics/*", b"160 120 0 0 0 0"), ".pincam", FOCAL),
        "tum": (content("camera-intrinsics.txt", b"0 0 0\n0 0 0\n0 0 1\n"), "camera-intrinsics.txt", FOCAL),
        "redwood": (
            values("camera_intrinsic.json", lambda data, _: data.update(intrinsic_matrix=[0] * 8 + [1])),
            "camera_intrinsic.json",
            FOCAL,
        ),
        "nerfstudio": (transforms(lambda data, _: data.update(fl_x=0, fl_y=0)), "transforms.json", FOCAL),
        "colmap": (camera_line("160 120 0 0 80 60"), "cameras.txt", FOCAL),
        "euroc": (replaced(f"{CAM0}/sensor.yaml", "intrinsics: .*", "intrinsics: [0, 0, 0, 0]"), "sensor.yaml", FOCAL),
        "kitti": (replaced(f"{SEQUENCE}/calib.txt", "P2: .*", f"P2:{' 0' * 10} 1 0"), "calib.txt", FOCAL),
        "rosbag": (info_of(np.zeros((3, 3))), INFO, "not calibrated"),
        "grandtour": (
            values(f"{HDR}/.zattrs", lambda data, _: data["camera_info"].update(K=[0] * 9)),
            "hdr_front/.zattrs",
            "not calibrated",
        ),
        "lidar_slam": (replaced("camera.yaml", r"data: \[.*", f"data: [{'0, ' * 8}1]"), "camera.yaml", FOCAL),
    },
    "intrinsics of another size": {
        "polycam": (
            cameras(lambda data, _: data.update(fx=DOUBLE.fx, fy=DOUBLE.fy, cx=DOUBLE.cx, cy=DOUBLE.cy)),
            "keyframes/cameras/",
            "that fits 317 x 243",
        ),
        "rgbd": (matrix(DOUBLE), "camera-intrinsics.txt", "that fits 317 x 243"),
        "record3d": (metadata(lambda data, _: data.update(w=320, h=240)), "metadata", "that fits 158 x 12"),
        "stray_scanner": (content("camera_matrix.csv", b"61,0,39\n0,60,30\n0,0,1"), "camera_matrix.csv", "160 x 120"),
        "arkitscenes": (
            content(f"{ARKIT}/vga_wide_intrinsics/*", b"320 240 245 243 158 121"),
            "vga_wide/",
            "320 x 240",
        ),
        "tum": (matrix(DOUBLE), "camera-intrinsics.txt", "that fits 317 x 243"),
        "redwood": (
            values("camera_intrinsic.json", lambda data, _: data.update(width=320, height=240)),
            "camera_intrinsic.json",
            "320 x 240",
        ),
        "nerfstudio": (transforms(lambda data, _: data.update(w=320, h=240)), "transforms.json", "320 x 240"),
        "colmap": (camera_line("320 240 245 243 158 121"), "images/0000.png", "320 x 240"),
        "euroc": (replaced(f"{CAM0}/sensor.yaml", "(?<=resolution: ).*", "[320, 240]"), "sensor.yaml", "320 x 240"),
        "kitti": (
            replaced(f"{SEQUENCE}/calib.txt", "P2: .*", "P2: 245 0 158 0 0 243 121 0 0 0 1 0"),
            "calib.txt",
            "160 x 120",
        ),
        "rosbag": (info_of(DOUBLE.matrix), INFO, "160 x 120"),
        "grandtour": (
            values(f"{HDR}/.zattrs", lambda data, _: data["camera_info"].update(width=320, height=240)),
            "hdr_front/.zattrs",
            "320 x 240",
        ),
        "lidar_slam": (replaced("camera.yaml", "image_width: 160", "image_width: 320"), "camera.yaml", "320 x 120"),
    },
    "a rotation that is none": {
        "polycam": (cameras(lambda data, _: data.update(t_00=3.0)), "keyframes/cameras/", "rigid"),
        "rgbd": (rows("frame-000003.pose.txt", scaled(0, 2, row=1)), "frame-000003.pose.txt", "rigid"),
        "record3d": (
            metadata(lambda data, _: data["poses"].__setitem__(5, [0.7, 0.7, 0.7, 0.7, 0, 1, 2])),
            "metadata (poses, frame 5)",
            QUATERNION,
        ),
        "stray_scanner": (rows("odometry.csv", scaled(5, 8), ",", head=1), "odometry.csv (line 6)", QUATERNION),
        "tum": (rows("groundtruth.txt", scaled(4, 7)), "groundtruth.txt", QUATERNION),
        "redwood": (rows("trajectory.log", scaled(0, 2, row=6)), "trajectory.log", "rigid"),
        "nerfstudio": (transforms(frame_scaled), "transforms.json, frames[3]", "rigid"),
        "colmap": (both(as_text, rows("sparse/0/images.txt", scaled(1, 4))), "images.txt, image 3", QUATERNION),
        "euroc": (rows(TRUTH, scaled(4, 7), ","), TRUTH, QUATERNION),
        "kitti": (rows("poses/04.txt", scaled(0, 2)), "poses/04.txt", "rigid"),
        "rosbag": (messages(odometry_long), ODOMETRY, QUATERNION),
        "grandtour": (array(f"{DLIO}/pose_orien", lambda turns: 1.3 * turns), "dlio_map_odometry", QUATERNION),
        "lidar_slam": (rows("trajectory.txt", scaled(4, 7)), "trajectory.txt", QUATERNION),
    },
    "the trajectory stands still": {
        "polycam": (cameras(lambda data, _: data.update(t_03=1.5, t_13=0.25, t_23=-3.0)), "source", STILL),
        "rgbd": (content("*.pose.txt", b"1 0 0 2\n0 0 -1 1\n0 1 0 3\n0 0 0 1\n"), "source", STILL),
        "record3d": (
            metadata(lambda data, _: data.update(poses=data["poses"][:1] * len(data["poses"]))),
            "metadata",
            "must have poses",
        ),
        "stray_scanner": (rows("odometry.csv", stuck(2, 4), ",", head=1), "source", STILL),
        "arkitscenes": (rows(f"{ARKIT}/*.traj", stuck(1, 6)), "source", STILL),
        "tum": (rows("groundtruth.txt", stuck(1, 3)), "source", STILL),
        "redwood": (rows("trajectory.log", items_stand), "source", STILL),
        "nerfstudio": (transforms(frames_stand), "source", STILL),
        "colmap": (both(as_text, rows("sparse/0/images.txt", lambda table: stuck(1, 7)(table[::2]))), "source", STILL),
        "euroc": (rows(TRUTH, stuck(1, 7), ","), "source", STILL),
        "kitti": (rows("poses/04.txt", stuck(0, 11)), "source", STILL),
        "rosbag": (messages(odometry_stands), "source", STILL),
        "grandtour": (
            both(array(f"{DLIO}/pose_pos", np.zeros_like), array(f"{DLIO}/pose_orien", lambda q: 0 * q + [0, 0, 0, 1])),
            "source",
            STILL,
        ),
        "lidar_slam": (rows("trajectory.txt", stuck(1, 7)), "source", STILL),
    },
    "two devices are mixed": {
        "polycam": (cameras(other_phone), "(98", "two devices"),
        "rgbd": (resized("*.color.jpg", 200, 150), "(frame-0000", "two devices"),
        "record3d": (metadata(other_lens), "(11.jpg)", "two devices"),
        "arkitscenes": (other_video, ARKIT, "files of one video"),
        "tum": (resized("rgb/*.png", 200, 150), "(13050311", "two devices"),
        "redwood": (resized("color/*.jpg", 200, 150), "color/00006.jpg", "200 x 150"),
        "nerfstudio": (resized("images/*.png", 200, 150), "images/frame_00006.png", "200 x 150"),
        "colmap": (resized("images/*.png", 200, 150), "images/0006.png", "200 x 150"),
        "euroc": (resized(f"{CAM0}/data/*.png", 200, 150), "1403636580063555584.png", "200 x 150"),
        "kitti": (resized(f"{SEQUENCE}/image_2/*.png", 200, 150), "image_2/000006.png", "200 x 150"),
        "grandtour": (resized("mission/images/hdr_front/*.jpeg", 200, 150), "hdr_front", "200 x 150"),
        "lidar_slam": (resized("images/*.jpg", 200, 150), "images/17000000", "200 x 150"),
    },
    "two captures lie side by side": {
        **dict.fromkeys(FORMATS, (twice, "first/", "one capture at a time")),
        "rosbag": (copied("walk"), "walk", "one capture at a time"),
        "grandtour": (copied("mission"), "mission", "one capture at a time"),
    },
}
"""By case and format: what is done to the capture's folder, the file that must be named, and words of the message."""


LEFT_OUT: dict[str, tuple[Spoil, str]] = {
    "photos": (halved("*.jpg"), ".jpg: image file is truncated"),
    "polycam": (halved("keyframes/images/*.jpg"), ".jpg: image file is truncated"),
    "rgbd": (halved("*.depth.png"), ".depth.png: "),
    "record3d": (halved("rgbd/*.depth"), ".depth: truncated"),
    "stray_scanner": (missing("depth/*.png", 11), "depth/000001.png: no depth for it"),
    "arkitscenes": (missing(f"{ARKIT}/lowres_depth/*", 6), "left out: 2 without depth"),
    "tum": (halved("rgb/*.png"), ".png: "),
    "redwood": (halved("color/*.jpg"), ".jpg: image file is truncated"),
    "nerfstudio": (halved("images/*.png"), ".png: "),
    "colmap": (halved("images/*.png"), ".png: "),
    "euroc": (halved(f"{CAM0}/data/*.png"), ".png: "),
    "kitti": (missing(f"{SEQUENCE}/velodyne/*.bin", 6), "image_2/000001.png: no scan of its number"),
    "rosbag": (image_early(5, 2), "1 of 12 images left out: no pose near enough"),
    "grandtour": (halved("mission/images/hdr_front/*.jpeg"), ".jpeg: image file is truncated"),
    "lidar_slam": (halved("images/*.jpg"), ".jpg: image file is truncated"),
}
"""What costs its frame only."""
