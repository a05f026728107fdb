"""The first pass over a ROS bag: all its small topics; then where the camera was, by odometry or tf."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.capture.bags.bag_files import Bag
from pipeline.capture.bags.bag_messages import stamp_of
from pipeline.capture.bags.bag_topics import TRANSFORMS, Topic, TopicChoice, trust, world_trust
from pipeline.capture.bags.transforms_tree import Chain, PoseSamples, TransformTree
from pipeline.capture.imu_gravity import ImuReadings, imu_readings
from pipeline.errors import CaptureError
from pipeline.geometry import Pose

MAX_GAP = 0.5
"""Between the two poses that a picture's is interpolated from [s]."""
MAX_CLOCKS = 1.0
"""Between the clocks of pictures and poses [s]: more is a wrong clock, less the time that an estimator takes."""
CV_FROM_FLU = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
"""Camera axes from a body's (x forward, y left, z up; REP 103)."""
_CV_LINKS = ("rgb_camera_link", "depth_camera_link", "ir_camera_link")
"""Frames of the Azure Kinect's driver, which have a camera's axes despite their names."""


@dataclass(eq=False)
class Survey:
    """What the small topics of a bag hold.

    Attributes:
        tree: tf and tf_static of the whole bag.
        poses: Samples by odometry topic.
        infos: The first CameraInfo by topic.
        imu: Times, specific force and turn rate, 7 numbers a reading.
        delays: Time of reception minus stamp [s] by topic.
        unstamped: Topics whose stamps are zero: the time of reception counts.
    """

    tree: TransformTree = field(default_factory=TransformTree)
    poses: dict[str, PoseSamples] = field(default_factory=dict)
    infos: dict[str, Any] = field(default_factory=dict)
    imu: array[float] = field(default_factory=lambda: array("d"))
    delays: dict[str, array[float]] = field(default_factory=dict)
    unstamped: set[str] = field(default_factory=set)

    def time_of(self, topic: str, received: float, message: Any) -> float:
        """When a message's content was measured [s]."""
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


def survey(bag: Bag, topics: list[Topic], choices: list[TopicChoice]) -> Survey:
    """Read transforms, odometry, camera infos and the IMU of the whole bag."""
    found, choice = Survey(), choices[0]
    transforms = {topic.name for topic in topics if topic.type in TRANSFORMS}
    candidates = {topic.name for topic in choice.odometry}
    found.poses = {topic.name: PoseSamples(f"{bag.where}: topic {topic.name}") for topic in choice.odometry}
    infos = {topic.name for one in choices for topic in (one.camera_info, one.depth_info) if topic}
    imu = choice.imu.name if choice.imu else None
    for name in infos:
        found.infos[name] = next(bag.messages([name]))[2]
    for name, received, message in bag.messages(sorted(transforms | candidates | ({imu} if imu else set()))):
        if name in transforms:
            _take_transforms(found, name, received, message)
            continue
        time = found.time_of(name, received, message)
        if name == imu:
            force, turn = message.linear_acceleration, message.angular_velocity
            found.imu.extend((time, force.x, force.y, force.z, turn.x, turn.y, turn.z))
            continue
        pose = message.transform if hasattr(message, "transform") else message.pose.pose
        at = pose.translation if hasattr(pose, "translation") else pose.position
        turn = pose.rotation if hasattr(pose, "rotation") else pose.orientation
        found.poses[name].add(time, (at.x, at.y, at.z), (turn.x, turn.y, turn.z, turn.w))
    return found


def _take_transforms(found: Survey, name: str, received: float, message: Any) -> None:
    static = name.endswith("tf_static")
    for i, item in enumerate(message.transforms):
        time = stamp_of(item) or received
        if i == 0 and not static and time != received:
            found.delays.setdefault(name, array("d")).append(received - time)
        at, turn = item.transform.translation, item.transform.rotation
        position, quaternion = (at.x, at.y, at.z), (turn.x, turn.y, turn.z, turn.w)
        found.tree.add(item.header.frame_id, item.child_frame_id, time, position, quaternion, static=static)


@dataclass(frozen=True, eq=False)
class CameraPoses:
    """Where the camera is.

    Attributes:
        topic: Of the odometry, or of tf.
        world: Name of the world's frame.
        chain: World from camera.
        about: For people: what it comes from.
    """

    topic: str
    world: str
    chain: Chain
    about: str

    def at(self, time: float) -> Pose | None:
        """World from camera at a time [s]."""
        return self.chain.at(time, MAX_GAP)


def camera_frame(found: Survey, frame: str) -> tuple[str, Pose, str | None]:
    """The frame that a picture is in, `frame_from_camera` of its CV axes, and a note on what was assumed.

    A header should name the optical frame (REP 103); where it names the camera's link, which has a body's axes, the
    optical frame below the link is taken, else the axes are turned.
    """
    if "optical" in frame or not frame.endswith("_link") or frame in _CV_LINKS:
        return frame, Pose.identity(), None
    optical = [child for child in found.tree.children(frame) if "optical" in child]
    if len(optical) == 1:
        return optical[0], Pose.identity(), f"pictures name the frame {frame}: {optical[0]} below it is taken"
    turned = Pose(CV_FROM_FLU.T, np.zeros(3))
    return frame, turned, f"pictures name the frame {frame}: taken as x forward, y left, z up (REP 103)"


def find_poses(found: Survey, choice: TopicChoice, topics: list[Topic], frame: str) -> CameraPoses | None:
    """The most promising way from a fixed frame to the camera's `frame`, or None where no pose reaches it."""
    ways: list[tuple[int, CameraPoses]] = []
    for topic in choice.odometry:
        to_camera = found.tree.chain(topic.child, frame)
        samples = found.poses[topic.name]
        if to_camera is None or not len(samples):
            continue
        samples.table(in_order=True)
        chain = Chain(((samples, False), *to_camera.steps))
        about = f"poses: {topic.name} ({topic.frame} from {topic.child}), {len(samples)} of them"
        ways.append((trust(topic), CameraPoses(topic.name, topic.frame, chain, about)))
    if choice.use_tf:
        root = found.tree.root(frame)
        chain = found.tree.chain(root, frame)
        if chain is not None and chain.moves:
            names = [topic.name for topic in topics if topic.type in TRANSFORMS]
            moving = next((name for name in names if not name.endswith("tf_static")), "tf")
            way = CameraPoses(moving, root, chain, f"poses: tf, {root} from {frame}")
            ways.append((world_trust(root), way))
    return max(ways, key=lambda way: way[0], default=(0, None))[1]


def same_world(found: Survey, poses: CameraPoses, camera: str, other: str) -> Chain | None:
    """The world from another sensor's frame by the same poses, or None where tf doesn't connect the two."""
    between = found.tree.chain(camera, other)
    return None if between is None else Chain((*poses.chain.steps, *between.steps))


def check_clocks(bag: Bag, found: Survey, camera: Topic, poses: CameraPoses) -> None:
    """Check that pictures and poses are stamped by one clock.

    Their delays until reception tell it where one file holds both; else their times must overlap.

    Raises:
        CaptureError: When the clocks are apart.
    """
    rule = "pictures and poses must be stamped by one clock"
    delay = found.delay(camera.name)
    apart = found.delay(poses.topic) - delay
    if abs(apart) > MAX_CLOCKS and bag.files_of(camera.name) & bag.files_of(poses.topic):
        raise CaptureError(
            rule,
            found=f"{poses.topic} is stamped {abs(apart):.2f} s {'earlier' if apart > 0 else 'later'} than "
            f"{camera.name}, both as received at the same time",
            remedy="synchronise the computers' clocks (chrony, PTP) and record again, or correct the stamps by that "
            "time; poses that were computed later belong into a bag of their own beside this one",
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
                f"pictures from {start:.3f} to {end:.3f} s",
                remedy="correct the stamps, or record with synchronised clocks",
                file=bag.where,
            )
