"""Depth of a ROS bag for its pictures: images or LiDAR scans, paired by time, as the picture's camera sees them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.bags.bag_files import Bag
from pipeline.capture.bags.bag_messages import depth_of, lens_of, points_of
from pipeline.capture.bags.bag_survey import MAX_GAP, CameraPoses, Survey, camera_frame, same_world
from pipeline.capture.bags.bag_topics import Topic, TopicChoice, is_registered
from pipeline.capture.bags.transforms_tree import Chain
from pipeline.capture.frames import Size, declared_camera
from pipeline.capture.lens import Lens, pinhole_of, straight_depth
from pipeline.capture.pictures import GUESSED_FOCAL
from pipeline.capture.slam.lidar_depth import Spacing, point_spacing, project_cloud
from pipeline.geometry import Camera, Pose

MAX_APART = 0.05
"""Between a picture and its depth [s]; and never more than half the time between two depth images."""
LOOK_AHEAD = 1.0
"""How long a picture waits for depth that is received later [s]."""
MOST_WAITING = 64
SAME_PLACE, SAME_DIRECTION = 0.002, 0.002
"""Depth whose camera is so near to the picture's [m, rad] counts as registered; other depth is projected into it."""
_FILLED = 0.8
"""Pixels of projected depth by samples in each direction: fewer pixels hold fewer gaps."""
_LEAST_SIDE = 64


class Moment(NamedTuple):
    """A message with an image or scan.

    Attributes:
        topic: Its topic's name.
        received: Time of reception [s].
        time: When it was measured [s].
        number: Of pictures: its place in the topic.
        message: As deserialised.
    """

    topic: str
    received: float
    time: float
    number: int
    message: Any


@dataclass(frozen=True, eq=False)
class DepthSource:
    """Depth images or scans, and where they are measured.

    Attributes:
        topic: Their topic.
        where: The bag, for messages.
        lens: Of depth images; None of scans, and of registered depth without a camera_info.
        camera: Of the pictures, None where their focal length is guessed.
        apart: Largest distance in time to a picture [s].
        frame_from_camera: The picture's frame from its camera's CV axes.
        frame_from_sensor: The picture's frame from the sensor's.
        sensor_from_points: The sensor's frame from the axes of its images (CV) or scans.
        poses: World from the picture's frame, or None.
        world_from_sensor: The same of the sensor.
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
    world_from_sensor: Chain | None

    def read(self, time: float, depth: Moment) -> tuple[Callable[[], NDArray[np.uint16]], Callable[[Size], Camera]]:
        """What gives the depth image for a picture of some time [s], and that image's camera by its size."""
        where = f"{self.where}: topic {self.topic.name} at {depth.time:.6f} s"
        camera_from_sensor = self._camera_from_sensor(time, depth.time)
        if self.topic.type == "PointCloud2":
            assert self.camera is not None
            return seen_by(self.camera, camera_from_sensor, lambda: points_of(depth.message, where))
        beside = np.linalg.norm(camera_from_sensor.translation)
        turned = np.linalg.norm(camera_from_sensor.rotation - np.eye(3))
        lens = self.lens
        if lens is None:
            return lambda: depth_of(depth.message, where), lambda size: (self.camera or guessed_camera(size)).resized(
                *size
            )
        straight = pinhole_of(lens, where)
        sees = declared_camera(straight, where)
        if self.camera is None or (beside < SAME_PLACE and turned < SAME_DIRECTION):
            return lambda: straight_depth(depth_of(depth.message, where), lens, straight), sees

        def points() -> NDArray[np.float32]:
            metres = straight_depth(depth_of(depth.message, where), lens, straight) / 1000.0
            rays = sees((metres.shape[1], metres.shape[0])).rays()
            return (rays * metres[..., None])[metres > 0].astype(np.float32)

        return seen_by(self.camera, camera_from_sensor, points, 1 / straight.fx)

    def _camera_from_sensor(self, time: float, depth_time: float) -> Pose:
        """Over the world, since picture and depth may be of different moments."""
        camera_from_frame = self.frame_from_camera.inverse()
        if self.poses is not None and self.world_from_sensor is not None:
            frame, sensor = self.poses.at(time), self.world_from_sensor.at(depth_time, MAX_GAP)
            if frame is not None and sensor is not None:
                return camera_from_frame @ frame.inverse() @ sensor @ self.sensor_from_points
        still = self.frame_from_sensor.at(depth_time, MAX_GAP)
        return camera_from_frame @ (still or Pose.identity()) @ self.sensor_from_points


def seen_by(
    camera: Camera,
    camera_from_sensor: Pose,
    points: Callable[[], NDArray[np.float32]],
    spacing: float | None = None,
) -> tuple[Callable[[], NDArray[np.uint16]], Callable[[Size], Camera]]:
    """What gives the depth image of a sensor's points for a pinhole camera, and that image's camera by its size.

    Args:
        camera: Of the picture; the depth image is at most as fine as the points lie apart.
        camera_from_sensor: Frame of the points to camera axes.
        points: Gives (N, 3) [m].
        spacing: Angle between neighbouring points [rad]; None where it has to be found.
    """

    def image() -> NDArray[np.uint16]:
        sensor = points().astype(np.float64)
        angle = _angle_between(sensor) if spacing is None else spacing
        sized = _sized(camera, _FILLED / angle)
        return project_cloud(sensor, camera_from_sensor, sized, Spacing(radians=angle))

    return image, lambda size: camera.resized(*size)


def find_depth(
    bag: Bag,
    choice: TopicChoice,
    found: Survey,
    camera: Camera | None,
    poses: CameraPoses | None,
    frame: str,
    frame_from_camera: Pose,
) -> DepthSource | None:
    """The depth for the pictures of a frame, or None where there is none or its place isn't known.

    Depth that is registered to the pictures needs nothing else; other depth needs intrinsics and tf.
    """
    topic = choice.depth or choice.cloud
    if topic is None:
        return None
    own = None
    if topic == choice.depth and choice.depth_info:
        file = f"{bag.where}: topic {choice.depth_info.name}"
        own = lens_of(found.infos[choice.depth_info.name], file, rectified="rect" in topic.base)
    registered = topic == choice.depth and is_registered(topic, choice.camera)
    if not registered and topic.frame == choice.camera.frame:  # frames without names tell nothing
        return None
    sensor, sensor_from_points = topic.frame, Pose.identity()
    if registered:
        sensor, sensor_from_points = frame, frame_from_camera
    elif topic == choice.depth:
        sensor, sensor_from_points, _ = camera_frame(found, topic.frame)
    frame_from_sensor = found.tree.chain(frame, sensor)
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
        same_world(found, poses, frame, sensor) if poses else None,
    )


def paired(moments: Iterable[Moment], depth: DepthSource) -> Iterator[tuple[Moment, Moment | None]]:
    """Pictures, each with the depth nearest in time, or None where none is near enough.

    A picture waits until depth later than itself came, or nothing for `LOOK_AHEAD`; so few messages are in memory.

    Args:
        moments: Pictures and depth in the order of reception.
        depth: Whose topic tells them apart.
    """
    pictures: deque[Moment] = deque()
    depths: deque[Moment] = deque(maxlen=MOST_WAITING)

    def nearest(time: float) -> Moment | None:
        best = min(depths, key=lambda one: abs(one.time - time), default=None)
        return best if best is not None and abs(best.time - time) <= depth.apart else None

    for moment in moments:
        (depths if moment.topic == depth.topic.name else pictures).append(moment)
        while pictures:
            first = pictures[0]
            settled = bool(depths) and depths[-1].time >= first.time
            if not settled and moment.received - first.received < LOOK_AHEAD and len(pictures) < MOST_WAITING:
                break
            yield pictures.popleft(), nearest(first.time)
        oldest = pictures[0].time if pictures else moment.time
        while depths and depths[0].time < oldest - LOOK_AHEAD:
            depths.popleft()
    for picture in pictures:
        yield picture, nearest(picture.time)


def guessed_camera(size: Size) -> Camera:
    """A camera of usual focal length for pictures of some size."""
    focal = GUESSED_FOCAL * max(size)
    return Camera(*size, focal, focal, size[0] / 2, size[1] / 2)


def without_distortion(camera: Camera) -> Camera:
    """The pinhole camera of the same intrinsics."""
    return Camera(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy)


def _angle_between(points: NDArray[np.float64]) -> float:
    """Between neighbouring rays of a scan [rad]."""
    distance = np.linalg.norm(points, axis=1)
    directions = points[distance > 0.1] / distance[distance > 0.1, None]
    return max(point_spacing(directions).metres, 1e-4) if len(directions) > 10 else 0.02


def _sized(camera: Camera, focal: float) -> Camera:
    """The camera with about that focal length [px], no larger than it is."""
    share = float(np.clip(focal / camera.fx, _LEAST_SIDE / max(camera.width, camera.height), 1.0))
    return camera.resized(max(1, round(camera.width * share)), max(1, round(camera.height * share)))
