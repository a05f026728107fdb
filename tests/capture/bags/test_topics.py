"""Which topic is taken for what."""

from __future__ import annotations

import pytest

from pipeline.capture.bags.topics import Topic, cameras_of, choose_topics, is_registered
from pipeline.errors import CaptureError

REALSENSE = [
    Topic("/camera/color/image_raw", "Image", 900, "camera_color_optical_frame", "rgb8"),
    Topic("/camera/color/image_raw/compressed", "CompressedImage", 900, "camera_color_optical_frame", "rgb8; jpeg"),
    Topic("/camera/color/camera_info", "CameraInfo", 900, "camera_color_optical_frame"),
    Topic("/camera/infra1/image_rect_raw", "Image", 900, "camera_infra1_optical_frame", "mono8"),
    Topic("/camera/infra1/camera_info", "CameraInfo", 900, "camera_infra1_optical_frame"),
    Topic("/camera/depth/image_rect_raw", "Image", 900, "camera_depth_optical_frame", "16UC1"),
    Topic("/camera/depth/camera_info", "CameraInfo", 900, "camera_depth_optical_frame"),
    Topic("/camera/aligned_depth_to_color/image_raw", "Image", 900, "camera_color_optical_frame", "16UC1"),
    Topic("/camera/aligned_depth_to_color/camera_info", "CameraInfo", 900, "camera_color_optical_frame"),
    Topic("/camera/imu", "Imu", 6000, "camera_imu_optical_frame"),
    Topic("/wheel/odom", "Odometry", 3000, "odom", child="base_link"),
    Topic("/rtabmap/odom", "Odometry", 300, "odom", child="base_link"),
    Topic("/points", "PointCloud2", 300, "lidar"),
]
ANYMAL = [
    Topic("/boxi/hdr/left/image_raw/compressed", "CompressedImage", 500, "hdr_left", "rgb8; jpeg compressed bgr8"),
    Topic("/boxi/hdr/left/camera_info", "CameraInfo", 500, "hdr_left"),
    Topic("/boxi/hdr/front/image_raw/compressed", "CompressedImage", 500, "hdr_front", "rgb8; jpeg compressed bgr8"),
    Topic("/boxi/hdr/front/camera_info", "CameraInfo", 500, "hdr_front"),
    Topic("/anymal/depth_camera/front_upper/depth/image_rect_raw", "Image", 900, "df", "16UC1"),
    Topic("/anymal/depth_camera/front_upper/depth/camera_info", "CameraInfo", 900, "df"),
    Topic("/anymal/state_estimator/odometry", "Odometry", 9000, "odom", child="base"),
    Topic("/dlio/lidar_map_odometry", "Odometry", 900, "dlio_map", child="hesai_lidar"),
    Topic("/boxi/hesai/points_undistorted", "PointCloud2", 500, "hesai_lidar"),
    Topic("/boxi/hesai/points", "PointCloud2", 500, "hesai_lidar"),
]


def test_registered_depth_and_raw_colour_are_preferred() -> None:
    """A RealSense bag: aligned depth rather than the depth camera's own, no infrared, SLAM before wheels."""
    [choice] = choose_topics(REALSENSE, {}, "x")
    assert choice.camera.name == "/camera/color/image_raw"
    assert choice.camera_info == REALSENSE[2]
    assert choice.depth == REALSENSE[7]
    assert choice.depth_info == REALSENSE[8]
    assert choice.imu == REALSENSE[9]
    assert [topic.name for topic in choice.odometry] == ["/rtabmap/odom", "/wheel/odom"]
    assert choice.note.startswith("topics: camera /camera/color/image_raw")


def test_depth_of_another_device_is_not_taken() -> None:
    """The HDR camera in front has LiDAR, not the robot's own depth cameras; others are named."""
    [choice] = choose_topics(ANYMAL, {}, "x")
    assert choice.camera.name == "/boxi/hdr/front/image_raw/compressed"
    assert (choice.depth, choice.cloud) == (None, ANYMAL[8])
    assert choice.odometry[0].name == "/dlio/lidar_map_odometry"
    assert "/boxi/hdr/left/image_raw/compressed" in [topic.name for topic in cameras_of(ANYMAL, "x")]


def test_all_cameras_with_what_belongs_to_each() -> None:
    """Each in its best form once, with its own intrinsics and the LiDAR that all see."""
    choices = choose_topics(ANYMAL, {}, "x", "all")
    assert [choice.camera for choice in choices] == [ANYMAL[2], ANYMAL[0]]
    assert [choice.camera_info for choice in choices] == [ANYMAL[3], ANYMAL[1]]
    assert [choice.cloud for choice in choices] == [ANYMAL[8], ANYMAL[8]]
    [left] = choose_topics(ANYMAL, {}, "x", ANYMAL[0].name)
    assert (left.camera, left.camera_info) == (ANYMAL[0], ANYMAL[1])
    with pytest.raises(CaptureError, match=r"capture\.cameras") as error:
        choose_topics(ANYMAL, {}, "x", "rear")
    assert ANYMAL[2].name in error.value.found


def test_given_cameras_and_their_roles() -> None:
    """In the order given; a role of a camera needs a topic, or none, for each."""
    cameras = f"{REALSENSE[0].name}, {REALSENSE[3].name}"
    choices = choose_topics(REALSENSE, {"camera": cameras, "depth": f"none,{REALSENSE[5].name}"}, "x")
    assert [(choice.camera, choice.depth) for choice in choices] == [
        (REALSENSE[0], None),
        (REALSENSE[3], REALSENSE[5]),
    ]
    with pytest.raises(CaptureError, match="must be 2"):
        choose_topics(REALSENSE, {"camera": cameras, "depth": REALSENSE[5].name}, "x")


def test_frames_without_names_register_nothing() -> None:
    """Librealsense's own recordings call every frame "0": their depth is another camera's."""
    color = Topic("/device_0/sensor_1/Color_0/image/data", "Image", 9, "0", "rgb8")
    depth = Topic("/device_0/sensor_0/Depth_0/image/data", "Image", 9, "0", "mono16")
    infos = [
        Topic("/device_0/sensor_0/Depth_0/info/camera_info", "CameraInfo", 1, "0"),
        Topic("/device_0/sensor_1/Color_0/info/camera_info", "CameraInfo", 1, "0"),
    ]
    [choice] = choose_topics([color, depth, *infos], {}, "x")
    assert (choice.camera, choice.depth, choice.camera_info, choice.depth_info) == (color, depth, infos[1], infos[0])
    assert not is_registered(depth, color)
    assert is_registered(REALSENSE[7], REALSENSE[0])


def test_given_topics_win() -> None:
    """One camera of several, no depth, poses of tf."""
    given = {"camera": "/camera/infra1/image_rect_raw", "depth": "none", "odometry": "tf"}
    [choice] = choose_topics(REALSENSE, given, "x")
    assert choice.camera_info == REALSENSE[4]
    assert (choice.depth, choice.odometry, choice.use_tf) == (None, (), True)
    assert not choose_topics(REALSENSE, {"odometry": "/wheel/odom"}, "x")[0].use_tf


@pytest.mark.parametrize(
    "given", [{"camera": "/camera/depth"}, {"imu": "/points"}, {"lens": "/camera/color/camera_info"}]
)
def test_given_topic_that_is_not_there_is_refused(given: dict[str, str]) -> None:
    """A name that is not in the bag, a topic of another type, an unknown role."""
    with pytest.raises(CaptureError, match="topic"):
        choose_topics(REALSENSE, given, "x")


def test_azure_kinect_depth_by_frame() -> None:
    """Other namespaces, but the same frame: registered."""
    topics = [
        Topic("/rgb/image_raw", "Image", 9, "rgb_camera_link", "bgra8"),
        Topic("/rgb/camera_info", "CameraInfo", 9, "rgb_camera_link"),
        Topic("/ir/image_raw", "Image", 9, "depth_camera_link", "mono16"),
        Topic("/depth_to_rgb/image_raw", "Image", 9, "rgb_camera_link", "16UC1"),
        Topic("/depth_to_rgb/camera_info", "CameraInfo", 9, "rgb_camera_link"),
    ]
    [choice] = choose_topics(topics, {}, "x")
    assert (choice.camera, choice.depth) == (topics[0], topics[3])
