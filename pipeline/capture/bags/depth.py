"""Depth of a ROS bag for its images: images or LiDAR scans, paired by time, as the image's camera sees them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from pipeline.capture.bags.files import Bag
from pipeline.capture.bags.index import MAX_GAP, BagIndex, CameraPoses, camera_frame
from pipeline.capture.bags.messages import depth_of, lens_of, points_of
from pipeline.capture.bags.topics import Topic, TopicChoice, is_registered
from pipeline.capture.bags.transforms import Chain
from pipeline.capture.frames import declared_camera
from pipeline.capture.images import guessed_camera
from pipeline.capture.lens import Lens, pinhole_of, undistorted_depth
from pipeline.capture.model import Size
from pipeline.capture.slam.lidar_depth import Spacing, point_spacing, project_cloud, without_distortion
from pipeline.geometry import Camera, Pose
from pipeline.types import F32, U16

MAX_APART = 0.05
"""Largest difference of an image and its depth [s]; never more than half the time between two depth images."""
LOOK_AHEAD = 1.0
"""How long an image waits for depth that is received later [s]."""
MAX_WAITING = 64
SAME_POSITION, SAME_DIRECTION = 0.002, 0.002
"""Depth whose camera is this near to the image's [m, rad] counts as registered; other depth is projected into it."""
_FILLED = 0.8  # pixels of projected depth by samples in each direction: fewer pixels hold fewer gaps
_MIN_SIDE = 64


class Stamped(NamedTuple):
    """A message with an image or scan: times of reception and measurement [s], and an image's index in its topic."""

    topic: str
    received: float
    time: float
    number: int
    message: Any


@dataclass(frozen=True, eq=False)
class DepthSource:
    """Depth images or scans of a topic, and where they are measured.

    Attributes:
        where: Name of the bag, for messages.
        lens: Lens of depth images; None for scans, and for registered depth without a camera_info.
        camera: Camera of the images, None where their focal length is guessed.
        apart: Largest difference in time to an image [s].
        frame_from_camera: From its camera's CV axes, as `frame_from_sensor` the frame that the images name.
        sensor_from_points: The sensor's frame from the axes of its images (CV) or scans.
    """

    topic: Topic
    where: str
    lens: Lens | None
    camera: Camera | None
    apart: float
    frame_from_camera: Pose
    frame_from_sensor: Chain
    sensor_from_points: Pose
    poses: CameraPoses | None

    def read(self, time: float, depth: Stamped) -> tuple[Callable[[], U16], Callable[[Size], Camera]]:
        """Decoder of the depth image for an image of some time [s], and the depth image's camera by its size."""
        where = f"{self.where}: topic {self.topic.name} at {depth.time:.6f} s"
        camera_from_sensor = self._camera_from_sensor(time, depth.time)
        if self.topic.type == "PointCloud2":
            assert self.camera is not None
            return seen_by(self.camera, camera_from_sensor, lambda: points_of(depth.message, where))
        distance = np.linalg.norm(camera_from_sensor.translation)
        angle = np.linalg.norm(camera_from_sensor.rotation - np.eye(3))
        lens = self.lens
        if lens is None:
            camera = self.camera
            sized = guessed_camera if camera is None else lambda size: camera.resized(*size)
            return partial(depth_of, depth.message, where), sized
        pinhole = pinhole_of(lens, where)
        pinhole_for = declared_camera(pinhole, where)

        def undistorted() -> U16:
            return undistorted_depth(depth_of(depth.message, where), lens, pinhole)

        if self.camera is None or (distance < SAME_POSITION and angle < SAME_DIRECTION):
            return undistorted, pinhole_for

        def points() -> F32:
            metres = undistorted() / 1000.0
            rays = pinhole_for((metres.shape[1], metres.shape[0])).rays()
            return (rays * metres[..., None])[metres > 0].astype(np.float32)

        return seen_by(self.camera, camera_from_sensor, points, 1 / pinhole.fx)

    def _camera_from_sensor(self, time: float, depth_time: float) -> Pose:
        """Pose through the world, since image and depth may be of different times."""
        camera_from_frame = self.frame_from_camera.inverse()
        if self.poses is not None:
            frame = self.poses.at(time)
            sensor = self.poses.chain.then(self.frame_from_sensor).at(depth_time, MAX_GAP)
            if frame is not None and sensor is not None:
                return camera_from_frame @ frame.inverse() @ sensor @ self.sensor_from_points
        still = self.frame_from_sensor.at(depth_time, MAX_GAP)
        return camera_from_frame @ (still or Pose.identity()) @ self.sensor_from_points


def seen_by(
    camera: Camera, camera_from_sensor: Pose, points: Callable[[], F32], spacing: float | None = None
) -> tuple[Callable[[], U16], Callable[[Size], Camera]]:
    """What gives the depth image of a sensor's points (N, 3) [m] for a pinhole camera, and its camera by its size.

    The depth image is at most as fine as the points lie apart: by `spacing` [rad], None where it has to be estimated.
    """

    def image() -> U16:
        sensor = points().astype(np.float64)
        angle = spacing
        if angle is None:
            distance = np.linalg.norm(sensor, axis=1)
            directions = sensor[distance > 0.1] / distance[distance > 0.1, None]
            angle = max(point_spacing(directions).metres, 1e-4) if len(directions) > 10 else 0.02
        least = _MIN_SIDE / max(camera.width, camera.height)
        share = float(np.clip(_FILLED / angle / camera.fx, least, 1.0))
        sized = camera.resized(max(1, round(camera.width * share)), max(1, round(camera.height * share)))
        return project_cloud(sensor, camera_from_sensor, sized, Spacing(radians=angle))

    return image, lambda size: camera.resized(*size)


def find_depth(
    bag: Bag,
    choice: TopicChoice,
    index: BagIndex,
    camera: Camera | None,
    poses: CameraPoses | None,
    frame: str,
    frame_from_camera: Pose,
) -> DepthSource | None:
    """The depth for the images of a frame, or None where there is none or its pose isn't known.

    Depth that is registered to the images needs nothing else; other depth needs intrinsics and tf.
    """
    topic = choice.depth or choice.cloud
    if topic is None:
        return None
    own = None
    if topic == choice.depth and choice.depth_info:
        file = f"{bag.where}: topic {choice.depth_info.name}"
        own = lens_of(index.infos[choice.depth_info.name], file, rectified="rect" in topic.base)
    registered = topic == choice.depth and is_registered(topic, choice.camera)
    if not registered and topic.frame == choice.camera.frame:  # frames without names tell nothing
        return None
    sensor, sensor_from_points = topic.frame, Pose.identity()
    if registered:
        sensor, sensor_from_points = frame, frame_from_camera
    elif topic == choice.depth:
        sensor, sensor_from_points, _ = camera_frame(index, topic.frame)
    frame_from_sensor = index.tree.chain(frame, sensor)
    known = camera is not None and (own is not None or topic == choice.cloud)
    if frame_from_sensor is None or not (registered or known):
        return None
    start, end = bag.span(topic.name)
    return DepthSource(
        topic,
        bag.where,
        own,
        None if camera is None else without_distortion(camera),
        min(MAX_APART, 0.5 * (end - start) / max(topic.count - 1, 1)),
        frame_from_camera,
        frame_from_sensor,
        sensor_from_points,
        poses,
    )


def paired(messages: Iterable[Stamped], depth: DepthSource) -> Iterator[tuple[Stamped, Stamped | None]]:
    """Images, each with the depth nearest in time, or None where none is near enough.

    An image waits until depth later than itself came, or nothing for `LOOK_AHEAD`; so few messages are in memory.
    `messages` are images and depth in the order of reception.
    """
    images: deque[Stamped] = deque()
    depths: deque[Stamped] = deque(maxlen=MAX_WAITING)

    def nearest(time: float) -> Stamped | None:
        best = min(depths, key=lambda one: abs(one.time - time), default=None)
        return best if best is not None and abs(best.time - time) <= depth.apart else None

    for stamped in messages:
        (depths if stamped.topic == depth.topic.name else images).append(stamped)
        while images:
            first = images[0]
            settled = bool(depths) and depths[-1].time >= first.time
            if not settled and stamped.received - first.received < LOOK_AHEAD and len(images) < MAX_WAITING:
                break
            yield images.popleft(), nearest(first.time)
        oldest = images[0].time if images else stamped.time
        while depths and depths[0].time < oldest - LOOK_AHEAD:
            depths.popleft()
    for image in images:
        yield image, nearest(image.time)
