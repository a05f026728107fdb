"""The first pass over a ROS bag, which reads all its small topics, and the camera's poses by odometry or tf."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pipeline.capture.bags.files import Bag
from pipeline.capture.bags.messages import WithHeader, stamp_of
from pipeline.capture.bags.topics import TRANSFORMS, Topic, TopicChoice, odometry_rank, tf_rank
from pipeline.capture.bags.transforms import Chain, PoseSamples, TransformTree
from pipeline.capture.imu_gravity import ImuReadings, imu_readings
from pipeline.errors import CaptureError
from pipeline.geometry import Pose

if TYPE_CHECKING:
    from rosbags.typesys.stores.ros2_humble import sensor_msgs__msg__CameraInfo as CameraInfo

MAX_GAP = 0.5
"""Largest distance of the two poses that an image's is interpolated from [s]."""
MAX_CLOCKS = 1.0
"""Largest offset of the clocks of images and poses [s]: more is a wrong clock, less an estimator's latency."""
CV_FROM_FLU = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
"""Camera axes from a body's (x forward, y left, z up; REP 103)."""
_CV_LINKS = ("rgb_camera_link", "depth_camera_link", "ir_camera_link")
"""Frames of the Azure Kinect's driver, which have a camera's axes despite their names."""


@dataclass(eq=False)
class BagIndex:
    """Content of the small topics of a bag, by topic.

    Attributes:
        tree: tf and tf_static of the whole bag.
        infos: The first CameraInfo of each topic.
        imu: Times, specific force and rotation rate, 7 numbers a reading.
        delays: Times of reception minus stamps [s].
        unstamped: Topics whose stamps are zero: the time of reception counts.
    """

    tree: TransformTree = field(default_factory=TransformTree)
    poses: dict[str, PoseSamples] = field(default_factory=dict)
    infos: dict[str, CameraInfo] = field(default_factory=dict)
    imu: array[float] = field(default_factory=lambda: array("d"))
    delays: dict[str, array[float]] = field(default_factory=dict)
    unstamped: set[str] = field(default_factory=set)

    def time_of(self, topic: str, received: float, message: WithHeader) -> float:
        """Time at which a message's content was measured [s]."""
        stamp = stamp_of(message)
        if stamp is None:
            self.unstamped.add(topic)
            return received
        self.delays.setdefault(topic, array("d")).append(received - stamp)
        return stamp

    def delay(self, topic: str) -> float:
        """Median delay of a topic [s], 0 where it has no stamps."""
        return float(np.median(self.delays[topic])) if self.delays.get(topic) else 0.0

    def readings(self) -> ImuReadings:
        """The IMU's readings, in its own axes."""
        rows = np.array(self.imu).reshape(-1, 7)
        return imu_readings(rows[:, 0], rows[:, 1:4], rows[:, 4:])


def index_bag(bag: Bag, topics: list[Topic], choices: list[TopicChoice]) -> BagIndex:
    """Read transforms, odometry, camera infos and the IMU of the whole bag."""
    index, choice = BagIndex(), choices[0]
    transforms = {topic.name for topic in topics if topic.type in TRANSFORMS}
    candidates = {topic.name for topic in choice.odometry}
    index.poses = {topic.name: PoseSamples(f"{bag.where}: topic {topic.name}") for topic in choice.odometry}
    infos = {topic.name for each in choices for topic in (each.camera_info, each.depth_info) if topic}
    imu = choice.imu.name if choice.imu else None
    for name in infos:
        index.infos[name] = next(bag.messages([name]))[2]
    for name, received, message in bag.messages(sorted(transforms | candidates | ({imu} if imu else set()))):
        if name in transforms:
            static = name.endswith("tf_static")
            for i, item in enumerate(message.transforms):
                time = stamp_of(item) or received
                if i == 0 and not static and time != received:
                    index.delays.setdefault(name, array("d")).append(received - time)
                at, rotation = item.transform.translation, item.transform.rotation
                position, quaternion = (at.x, at.y, at.z), (rotation.x, rotation.y, rotation.z, rotation.w)
                index.tree.add(item.header.frame_id, item.child_frame_id, time, position, quaternion, static=static)
            continue
        time = index.time_of(name, received, message)
        if name == imu:
            force, rate = message.linear_acceleration, message.angular_velocity
            index.imu.extend((time, force.x, force.y, force.z, rate.x, rate.y, rate.z))
            continue
        pose = message.transform if hasattr(message, "transform") else message.pose.pose
        at = pose.translation if hasattr(pose, "translation") else pose.position
        rotation = pose.rotation if hasattr(pose, "rotation") else pose.orientation
        index.poses[name].add(time, (at.x, at.y, at.z), (rotation.x, rotation.y, rotation.z, rotation.w))
    return index


@dataclass(frozen=True, eq=False)
class CameraPoses:
    """Poses of a camera (`chain` is world from camera) by the topic of the odometry, or of tf."""

    topic: str
    chain: Chain
    note: str

    def at(self, time: float) -> Pose | None:
        """World from camera at a time [s]."""
        return self.chain.at(time, MAX_GAP)


def camera_frame(index: BagIndex, frame: str) -> tuple[str, Pose, str | None]:
    """Frame of an image, pose of its CV axes in that frame (frame_from_camera), and a note on what was assumed.

    A header should name the optical frame (REP 103); where it names the camera's link, which has a body's axes, the
    optical frame below the link is taken, else the axes are rotated.
    """
    if "optical" in frame or not frame.endswith("_link") or frame in _CV_LINKS:
        return frame, Pose.identity(), None
    optical = [child for child in index.tree.children(frame) if "optical" in child]
    if len(optical) == 1:
        return optical[0], Pose.identity(), f"images name the frame {frame}: {optical[0]} below it is taken"
    rotated = Pose(CV_FROM_FLU.T, np.zeros(3))
    return frame, rotated, f"images name the frame {frame}: taken as x forward, y left, z up (REP 103)"


def find_poses(index: BagIndex, choice: TopicChoice, topics: list[Topic], frame: str) -> CameraPoses | None:
    """The best poses of the camera's `frame` in a fixed one, or None where nothing connects them."""
    candidates: list[tuple[int, CameraPoses]] = []
    for topic in choice.odometry:
        to_camera = index.tree.chain(topic.child, frame)
        samples = index.poses[topic.name]
        if to_camera is None or not len(samples):
            continue
        samples.table(in_order=True)
        chain = Chain(((samples, False),)).then(to_camera)
        note = f"poses: {topic.name} ({topic.frame} from {topic.child}), {len(samples)} of them"
        candidates.append((odometry_rank(topic), CameraPoses(topic.name, chain, note)))
    if choice.use_tf:
        root = index.tree.root(frame)
        chain = index.tree.chain(root, frame)
        if chain is not None and chain.moves:
            names = [topic.name for topic in topics if topic.type in TRANSFORMS]
            moving = next((name for name in names if not name.endswith("tf_static")), "tf")
            poses = CameraPoses(moving, chain, f"poses: tf, {root} from {frame}")
            candidates.append((tf_rank(root), poses))
    return max(candidates, key=lambda candidate: candidate[0], default=(0, None))[1]


def check_clocks(bag: Bag, index: BagIndex, camera: Topic, poses: CameraPoses) -> None:
    """Check that images and poses are stamped by one clock.

    Where one file holds both, their delays until reception are compared; else their times must overlap.

    Raises:
        CaptureError: When the clocks are apart.
    """
    rule = "images and poses must be stamped by one clock"
    delay = index.delay(camera.name)
    apart = index.delay(poses.topic) - delay
    if abs(apart) > MAX_CLOCKS and bag.files_of(camera.name) & bag.files_of(poses.topic):
        raise CaptureError(
            rule,
            found=f"{poses.topic} is stamped {abs(apart):.2f} s {'earlier' if apart > 0 else 'later'} than "
            f"{camera.name}, both as received at the same time",
            remedy="synchronise the computers' clocks (chrony, PTP) and record again, or correct the stamps by that "
            "time; poses that were computed later belong into a bag of their own next to this one",
            file=bag.where,
        )
    start, end = (at - delay for at in bag.span(camera.name))
    for samples, _ in poses.chain.steps:
        if samples.static:
            continue
        times = samples.table()[:, 0]
        if times[0] > end or times[-1] < start:
            raise CaptureError(
                rule,
                found=f"{samples.name} from {times[0]:.3f} to {times[-1]:.3f} s, "
                f"images from {start:.3f} to {end:.3f} s",
                remedy="correct the stamps, or record with synchronised clocks",
                file=bag.where,
            )
