"""Writes ROS bags of the synthetic room, as a robot's drivers and `rosbag record` or `ros2 bag record` do."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from scipy.spatial.transform import Rotation

from pipeline.geometry import Camera, Pose
from tests.capture.writers.walking import Motion

START = 1_732_000_000.0
"""Time of the first image [s since 1970]."""
TF = "tf2_msgs/msg/TFMessage"


class BagWriter:
    """Messages by hand: `form` is "ros1", "db3" or "mcap"."""

    def __init__(self, form: str, writer: Any, *, short_names: bool = False) -> None:
        self.ros1 = form == "ros1"
        self.short_names = short_names
        self.store = get_typestore(Stores.ROS1_NOETIC if self.ros1 else Stores.ROS2_HUMBLE)
        if self.ros1:  # not among rosbags' own types of ROS 1
            self.store.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", TF))
        self._writer = writer
        self._connections: dict[str, Any] = {}
        self._pending: list[tuple[int, str, str, Any]] = []

    def put(self, topic: str, kind: str, message: Any, received: float) -> None:
        """Record a message; all are written in the order of reception at the end."""
        self._pending.append((round(received * 1e9), topic, kind, message))

    def flush(self) -> None:
        """Write what was recorded."""
        for time, topic, kind, message in sorted(self._pending, key=lambda item: item[0]):
            if topic not in self._connections:
                self._connections[topic] = self._connect(topic, kind)
            serialize = self.store.serialize_ros1 if self.ros1 else self.store.serialize_cdr
            self._writer.write(self._connections[topic], time, serialize(message, kind))

    def _connect(self, topic: str, kind: str) -> Any:
        if not self.short_names:
            return self._writer.add_connection(topic, kind, typestore=self.store)
        definition, _ = self.store.generate_msgdef(kind, ros_version=2)
        digest = self.store.hash_rihs01(kind)
        return self._writer.add_connection(topic, kind.replace("/msg/", "/"), msgdef=definition, rihs01=digest)

    def type(self, name: str) -> Any:
        """A message type of this store."""
        return self.store.types[name]

    def header(self, time: float, frame: str) -> Any:
        """A header; ROS 1 counts, too."""
        nanoseconds = round(time * 1e9)
        stamp = self.type("builtin_interfaces/msg/Time")(*divmod(nanoseconds, 10**9))
        header = self.type("std_msgs/msg/Header")
        return header(0, stamp, frame) if self.ros1 else header(stamp, frame)

    def image(
        self, topic: str, time: float, frame: str, encoding: str, pixels: np.ndarray, delay: float = 0.01
    ) -> None:
        """An Image with padded rows."""
        rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
        rows = np.pad(rows, ((0, 0), (0, 8)))
        kind = "sensor_msgs/msg/Image"
        message = self.type(kind)(self.header(time, frame), *pixels.shape[:2], encoding, 0, rows.shape[1], rows.ravel())
        self.put(topic, kind, message, time + delay if time else delay)

    def compressed(self, topic: str, time: float, frame: str, form: str, data: bytes) -> None:
        """A CompressedImage."""
        kind = "sensor_msgs/msg/CompressedImage"
        message = self.type(kind)(self.header(time, frame), form, np.frombuffer(data, np.uint8))
        self.put(topic, kind, message, time + 0.012)

    def info(
        self, topic: str, time: float, frame: str, camera: Camera, model: str = "plumb_bob", d: Iterable[float] = ()
    ) -> None:
        """A CameraInfo; ROS counts pixels from the centre of the first."""
        k = camera.matrix.copy()
        k[:2, 2] -= 0.5
        p = np.concatenate([k, np.zeros((3, 1))], 1)
        roi = self.type("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False)
        values = (model, np.array([*d], float), k.ravel(), np.eye(3).ravel(), p.ravel(), 0, 0, roi)
        kind = "sensor_msgs/msg/CameraInfo"
        self.put(topic, kind, self.type(kind)(self.header(time, frame), camera.height, camera.width, *values), time)

    def transforms(
        self, topic: str, time: float, items: Iterable[tuple[str, str, Pose]], received: float | None = None
    ) -> None:
        """A TFMessage of (parent, child, parent from child)."""
        stamped = self.type("geometry_msgs/msg/TransformStamped")
        transform = self.type("geometry_msgs/msg/Transform")
        all_of_them = [
            stamped(self.header(time, parent), child, transform(self._vector(pose.translation), self._quaternion(pose)))
            for parent, child, pose in items
        ]
        self.put(topic, TF, self.type(TF)(all_of_them), time if received is None else received)

    def odometry(self, topic: str, time: float, frame: str, child: str, pose: Pose, delay: float = 0.03) -> None:
        """An Odometry: the pose of `child` in `frame`."""
        point = self.type("geometry_msgs/msg/Point")(*pose.translation)
        inner = self.type("geometry_msgs/msg/Pose")(point, self._quaternion(pose))
        with_covariance = self.type("geometry_msgs/msg/PoseWithCovariance")(inner, np.zeros(36))
        still = self.type("geometry_msgs/msg/Twist")(self._vector(np.zeros(3)), self._vector(np.zeros(3)))
        twist = self.type("geometry_msgs/msg/TwistWithCovariance")(still, np.zeros(36))
        kind = "nav_msgs/msg/Odometry"
        message = self.type(kind)(self.header(time, frame), child, with_covariance, twist)
        self.put(topic, kind, message, (time or START) + delay)

    def imu(self, topic: str, time: float, frame: str, force: np.ndarray, turn: np.ndarray) -> None:
        """An Imu without orientation: specific force [m/s^2], turn rate [rad/s]."""
        kind = "sensor_msgs/msg/Imu"
        unknown = self.type("geometry_msgs/msg/Quaternion")(0.0, 0.0, 0.0, 1.0)
        none = np.zeros(9)
        rates = (np.array([-1.0, *none[1:]]), self._vector(turn), none, self._vector(force), none)
        self.put(topic, kind, self.type(kind)(self.header(time, frame), unknown, *rates), time + 0.001)

    def cloud(self, topic: str, time: float, frame: str, points: np.ndarray) -> None:
        """A PointCloud2 of x, y, z, intensity and a time, as LiDAR drivers lay it out."""
        field = self.type("sensor_msgs/msg/PointField")
        fields = [field("x", 0, 7, 1), field("y", 4, 7, 1), field("z", 8, 7, 1), field("intensity", 16, 7, 1)]
        fields.append(field("timestamp", 24, 8, 1))
        kinds, offsets = ["<f4"] * 4 + ["<f8"], [0, 4, 8, 16, 24]
        names = ["x", "y", "z", "intensity", "timestamp"]
        layout = np.dtype({"names": names, "formats": kinds, "offsets": offsets, "itemsize": 32})
        data = np.zeros(len(points), layout)
        data["x"], data["y"], data["z"] = points.T
        data["timestamp"] = time
        kind = "sensor_msgs/msg/PointCloud2"
        raw = np.frombuffer(data.tobytes(), np.uint8)
        shape = (1, len(points), fields, False, 32, 32 * len(points), raw, False)
        self.put(topic, kind, self.type(kind)(self.header(time, frame), *shape), time + 0.05)

    def _vector(self, values: np.ndarray) -> Any:
        return self.type("geometry_msgs/msg/Vector3")(*(float(value) for value in values))

    def _quaternion(self, pose: Pose) -> Any:
        return self.type("geometry_msgs/msg/Quaternion")(*Rotation.from_matrix(pose.rotation).as_quat())


@contextmanager
def bag_writer(path: Path, form: str, *, compressed: str = "none", short_names: bool = False) -> Iterator[BagWriter]:
    """A new bag: a file for "ros1", a folder for "db3" and "mcap".

    Args:
        path: Where to write.
        form: Of the bag.
        compressed: What ROS 2 compresses by zstd: each message, the whole file, or (mcap only) each chunk ("storage").
        short_names: Whether types are named as ROS 1 does it, sensor_msgs/Image, in a bag of ROS 2.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "ros1":
        writer = Writer1(path)
    else:
        plugin = StoragePlugin.MCAP if form == "mcap" else StoragePlugin.SQLITE3
        writer = Writer2(path, version=9, storage_plugin=plugin)
        writer.set_compression(CompressionMode[compressed.upper()], CompressionFormat.ZSTD)
    with writer:
        bag = BagWriter(form, writer, short_names=short_names)
        yield bag
        bag.flush()


def write_sparse(path: Path, camera: Camera, poses: list[Pose], every: float) -> None:
    """A ROS 1 bag of black images of three cameras, whose pixels are holes in the file: it takes next to no disk.

    Odometry gives the first camera's own pose. The records are those of the ROS wiki's Bags/Format/2.0.
    """
    from rosbags.rosbag1.reader import RecordType
    from rosbags.rosbag1.writer import Header

    store = get_typestore(Stores.ROS1_NOETIC)
    small = bag_writer(path.with_suffix(".small.bag"), "ros1")
    with small as bag:
        for i, pose in enumerate(poses):
            for name in ("cam", "rear", "side"):
                frame = f"{name}_optical"
                bag.image(f"/{name}/image_raw", START + i * every, frame, "rgb8", np.zeros((1, 1, 3), np.uint8))
            bag.odometry("/odom", START + i * every, "odom", "cam_optical", pose)
        bag.info("/cam/camera_info", START, "cam_optical", camera)
        records = sorted(bag._pending, key=lambda item: item[0])
        bag.flush()
        connections = list(bag._connections.values())
    ids = {connection.topic: connection.id for connection in connections}
    chunks: list[tuple[int, int, int]] = []
    row = camera.width * 3
    with path.open("wb") as file:
        file.write(b"#ROSBAG V2.0\n" + bytes(4096))
        for time, topic, kind, message in records:
            hole = 0
            if kind.endswith("/Image"):
                hole = row * camera.height
                message.height, message.width, message.step = camera.height, camera.width, row
                message.data = message.data[:0]
            data = bytearray(store.serialize_ros1(message, kind))
            if hole:
                data[-4:] = hole.to_bytes(4, "little")
            header = Header()
            header.set_uint32("conn", ids[topic])
            header.set_time("time", time)
            content = io.BytesIO()
            header.write(content, RecordType.MSGDATA)
            content.write((len(data) + hole).to_bytes(4, "little") + data)
            start = file.tell()
            header = Header()
            header.set_string("compression", "none")
            header.set_uint32("size", len(content.getvalue()) + hole)
            header.write(file, RecordType.CHUNK)
            file.write((len(content.getvalue()) + hole).to_bytes(4, "little") + content.getvalue())
            file.seek(hole, io.SEEK_CUR)
            header = Header()
            header.set_uint32("ver", 1)
            header.set_uint32("conn", ids[topic])
            header.set_uint32("count", 1)
            header.write(file, RecordType.IDXDATA)
            file.write((12).to_bytes(4, "little") + struct.pack("<LLL", *divmod(time, 10**9), 0))
            chunks.append((start, time, ids[topic]))
        index = file.tell()
        for connection in connections:
            Writer1.write_connection(connection, file)
        for start, time, conn in chunks:
            header = Header()
            header.set_uint32("ver", 1)
            header.set_uint64("chunk_pos", start)
            header.set_time("start_time", time)
            header.set_time("end_time", time)
            header.set_uint32("count", 1)
            header.write(file, RecordType.CHUNK_INFO)
            file.write((8).to_bytes(4, "little") + struct.pack("<LL", conn, 1))
        file.seek(len(b"#ROSBAG V2.0\n"))
        header = Header()
        header.set_uint64("index_pos", index)
        header.set_uint32("conn_count", len(connections))
        header.set_uint32("chunk_count", len(chunks))
        size = header.write(file, RecordType.BAGHEADER)
        file.write((4096 - size - 4).to_bytes(4, "little"))
    path.with_suffix(".small.bag").unlink()


def jpeg(rgb: np.ndarray) -> bytes:
    """A JPEG of RGB."""
    return cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def png(values: np.ndarray) -> bytes:
    """A PNG, 8- or 16-bit."""
    return cv2.imencode(".png", values)[1].tobytes()


BASE_FROM_CAMERA = Pose(
    Rotation.from_euler("yxz", [0.2, -0.1, 0.05]).as_matrix() @ np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]),
    np.array([0.31, -0.07, 0.22]),
)
"""A camera that looks ahead on a robot whose base has x forward, y left, z up."""
BASE_FROM_IMU = Pose(Rotation.from_euler("xyz", [0.3, 0.1, -2.0]).as_matrix(), np.array([0.02, 0.05, 0.1]))
OPTICAL = "camera_color_optical_frame"


def write_robot(
    path: Path,
    form: str,
    shots: list[tuple[float, Pose, np.ndarray, np.ndarray]],
    camera: Camera,
    *,
    parts: Iterable[str] = ("image", "depth", "odometry", "static", "imu"),
    frame: str = OPTICAL,
    late: float = 0.0,
    **style: Any,
) -> None:
    """A robot's recording: /camera/... as RealSense's driver names it, /dlio/odometry, /tf_static (last), /imu/data.

    Args:
        path: File for "ros1", folder for the others.
        form: "ros1", "db3" or "mcap".
        shots: Time, world from camera, image and depth [m].
        camera: Of all images.
        parts: What is recorded; "tf" for odom -> base on /tf with a map above.
        frame: Of the images.
        late: How far the odometry's clock is behind [s].
        style: Further arguments of `bag_writer`.
    """
    with bag_writer(path, form, **style) as bag:
        for time, world_from_camera, rgb, depth in shots:
            base = world_from_camera @ BASE_FROM_CAMERA.inverse()
            if "image" in parts:
                bag.image("/camera/color/image_raw", time, frame, "rgb8", rgb)
                bag.info("/camera/color/camera_info", time, frame, camera)
            if "depth" in parts:
                name = "/camera/aligned_depth_to_color"
                bag.image(f"{name}/image_raw", time, frame, "16UC1", (1000 * depth).round().astype(np.uint16), 0.02)
                bag.info(f"{name}/camera_info", time, frame, camera)
            for at, pose in around(time, base):
                if "odometry" in parts:
                    bag.odometry("/dlio/odometry", at - late, "odom", "base", pose, 0.03 + late)
                if "tf" in parts:
                    bag.transforms("/tf", at, [("/odom", "/base", pose), ("/map", "/odom", MAP_FROM_ODOM)])
            if "imu" in parts:
                up = (base @ BASE_FROM_IMU).inverse().rotate([0, 0, 9.81])
                for k in range(-6, 7):
                    bag.imu("/imu/data", time + 0.01 * k, "imu", up, np.array([0.01, 0.0, -0.02]))
        if "static" in parts:
            statics = [
                ("base", "camera_link", Pose(np.eye(3), np.array([0.3, 0, 0.2]))),
                ("base", "imu", BASE_FROM_IMU),
            ]
            link = statics[0][2].inverse() @ BASE_FROM_CAMERA
            bag.transforms("/tf_static", shots[0][0], [*statics, ("camera_link", OPTICAL, link)], shots[-1][0] + 0.05)


def write_walk(path: Path, form: str, motion: Motion, seconds: float, camera: Camera, parts: Iterable[str]) -> Pose:
    """A head that somebody carries: two images (noise) and twenty poses a second, an IMU at 200 Hz; no depth.

    Args:
        path: As for `write_robot`.
        form: Likewise.
        motion: Of the camera.
        seconds: How long it is.
        camera: Of the images.
        parts: "odometry" and "imu".

    Returns:
        The tilted world of the odometry from the motion's upright one.
    """
    odom_from_room = Pose(Rotation.from_euler("xyz", [0.2, -0.5, 1.0]).as_matrix(), np.array([3.0, -1.0, 0.5]))
    rng = np.random.default_rng(0)
    with bag_writer(path, form) as bag:
        for i in range(int(2 * seconds)):
            pixels = rng.integers(0, 255, (camera.height, camera.width, 3), np.uint8)
            bag.image("/camera/color/image_raw", START + 0.5 * i, OPTICAL, "rgb8", pixels)
            bag.info("/camera/color/camera_info", START + 0.5 * i, OPTICAL, camera)
        times = np.arange(0, seconds, 0.05)
        for time, pose in zip(times if "odometry" in parts else (), motion.poses(times), strict=False):
            body = odom_from_room @ pose @ BASE_FROM_CAMERA.inverse()
            bag.odometry("/dlio/odometry", START + time, "odom", "base", body)
        times = np.arange(0, seconds, 0.005)
        force, rate = motion.imu(times, BASE_FROM_CAMERA.inverse() @ BASE_FROM_IMU)
        force += rng.normal([0.05, -0.08, 0.06], 0.1, force.shape)
        for i, time in enumerate(times if "imu" in parts else ()):
            bag.imu("/imu/data", START + time, "imu", force[i], rate[i])
        links = [("base", OPTICAL, BASE_FROM_CAMERA), ("base", "imu", BASE_FROM_IMU)]
        bag.transforms("/tf_static", START, links)
    return odom_from_room


MAP_FROM_ODOM = Pose(Rotation.from_euler("z", 0.4).as_matrix(), np.array([1.0, -2.0, 0.1]))


def around(time: float, pose: Pose) -> list[tuple[float, Pose]]:
    """A pose shortly before and one as long after a time, such that the one between them is `pose`."""
    turn, step = np.array([0.01, -0.02, 0.015]), np.array([0.004, 0.003, -0.002])
    return [
        (
            time + side * 0.01,
            Pose(pose.rotation @ Rotation.from_rotvec(side * turn).as_matrix(), pose.translation + side * step),
        )
        for side in (-1, 1)
    ]
