"""Reader of ROS bags: ROS 1 .bag, ROS 2 .db3 and .mcap. One pass over the small topics, one over each camera.

Poses are the odometry's or tf's at the images' stamps; depth from another frame or time is projected into the image's
camera. Sources: sensor_msgs, nav_msgs, tf2_msgs; REP 103, 105, 118.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.capture.bags.depth import DepthSource, Stamped, find_depth, paired
from pipeline.capture.bags.files import SUFFIXES, Bag, bag_names, open_bag
from pipeline.capture.bags.index import BagIndex, CameraPoses, camera_frame, check_clocks, find_poses, index_bag
from pipeline.capture.bags.messages import image_of, lens_of
from pipeline.capture.bags.topics import CLOUD, Topic, TopicChoice, cameras_of, choose_topics
from pipeline.capture.checks import unread_cameras
from pipeline.capture.frames import ListedFrame, sensor_capture, through_lens
from pipeline.capture.images import MASK_FOLDER
from pipeline.capture.imu_gravity import FrameGravity, ImuReadings, up_while_moving
from pipeline.capture.lens import Lens, camera_of
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import Reader, Sensors, Survey
from pipeline.capture.slam.lidar_depth import LIDAR_RANGE
from pipeline.capture.source import CaptureSource
from pipeline.capture.time_offset import TimeOffset, lively_stretch, measure_time_offset
from pipeline.geometry import Camera, Pose
from pipeline.types import F64

FIRST_IMAGES = 10
"""Number of images whose delay from stamp to reception is compared with that of the poses."""
NOTED_DELAY = 0.1
"""Smallest difference of those delays that is worth a note [s]."""


SENSORS = Sensors(scale_sigma=0.02, depth_range=LIDAR_RANGE, on_machine=True)
"""Odometry with a LiDAR, wheels or a depth camera; only scans reach as far."""


@dataclass(frozen=True, eq=False)
class CameraRecording:
    """What is known of a camera before its images are read; `late` is added to its stamps [s]."""

    bag: Bag
    choice: TopicChoice
    index: BagIndex
    lens: Lens | None
    camera: Camera | None
    poses: CameraPoses | None
    frame_from_camera: Pose
    depth: DepthSource | None
    gravity: FrameGravity | None
    mask: bytes | None
    notes: tuple[str, ...]
    sensor: str | None = None
    late: float = 0.0

    @property
    def metric(self) -> bool:
        """Whether its poses or depth have a scale."""
        return self.poses is not None or self.depth is not None

    def poses_at(self, times: F64) -> list[Pose | None]:
        """World from camera at times (N,) [s]."""
        poses = [self.poses.at(float(time)) if self.poses else None for time in times]
        return [pose and pose @ self.frame_from_camera for pose in poses]


def prepare(source: CaptureSource, bag: Bag, given: Mapping[str, str], cameras: str) -> list[CameraRecording]:
    """Choose the topics, read the small ones, connect the frames; one recording a camera."""
    topics = bag.topics()
    choices = choose_topics(topics, given, bag.where, cameras)
    index = index_bag(bag, topics, choices)
    readings = index.readings()
    recordings = [_connect(source, bag, topics, choice, index, readings) for choice in choices]
    read = {choice.camera.base for choice in choices}
    notes = unread_cameras([topic.name for topic in cameras_of(topics, bag.where) if topic.base not in read], [])
    posed = [recording for recording in recordings if recording.poses]
    if posed and len(posed) < len(recordings):
        unposed = ", ".join(recording.choice.camera.name for recording in recordings if not recording.poses)
        notes.append(f"left out, since no poses reach their frames: {unposed}")
        recordings = posed
    if any(recording.depth for recording in recordings) and not all(recording.depth for recording in recordings):
        notes.append("depth left out: not all cameras have it")
        recordings = [replace(recording, depth=None) for recording in recordings]
    if len(recordings) > 1:
        recordings = [replace(recording, sensor=file_name(recording.choice.camera)) for recording in recordings]
    recordings[0] = replace(recordings[0], notes=(*recordings[0].notes, *notes))
    return recordings


def _connect(
    source: CaptureSource, bag: Bag, topics: list[Topic], choice: TopicChoice, index: BagIndex, readings: ImuReadings
) -> CameraRecording:
    info = choice.camera_info
    notes = [choice.note]
    lens = camera = None
    if info is None:
        notes.append(f"{choice.camera.name} has no camera_info: its focal length is guessed")
    else:
        rectified = "rect" in choice.camera.base.rpartition("/")[2]
        file = f"{bag.where}: topic {info.name}"
        lens = lens_of(index.infos[info.name], file, rectified=rectified)
        camera = camera_of(lens, file)
        if not lens.canonical:
            notes.append("the images were undistorted here: no later stage knows their lens")
    frame, frame_from_camera, assumed = camera_frame(index, choice.camera.frame or (info.frame if info else ""))
    poses = find_poses(index, choice, topics, frame)
    times = [index.time_of(*message) for message in islice(bag.messages([choice.camera.name]), FIRST_IMAGES)]
    if poses is not None:
        check_clocks(bag, index, choice.camera, poses)
    depth = find_depth(bag, choice, index, camera, poses, frame, frame_from_camera)
    gravity = None
    if choice.imu:
        gravity = _gravity(index, choice.imu, readings, poses, frame, frame_from_camera, times[0])
        unconnected = f"tf does not connect {choice.imu.frame or 'its empty frame_id'} with {frame}"
        notes.append(f"{choice.imu.name}: {gravity.note if gravity else f'gravity not used: {unconnected}'}")
    missing = f"no poses: neither odometry nor tf connects a fixed frame with {frame or 'the images (no frame_id)'}"
    notes += [poses.note if poses else missing, *([assumed] if assumed else [])]
    if poses is not None and abs(late := index.delay(poses.topic) - index.delay(choice.camera.name)) > NOTED_DELAY:
        notes.append(f"from stamp to reception {poses.topic} takes {1000 * late:.0f} ms longer than the images")
    if (choice.depth or choice.cloud) and depth is None:
        notes.append("depth left out: it needs a camera_info of its own and tf from its frame to the camera's")
    mask_file = f"{MASK_FOLDER}/{file_name(choice.camera)}.png"
    mask = source.read(mask_file) if mask_file in source.names else None
    if mask is not None:
        notes.append(f"{mask_file} masks all images")
    return CameraRecording(
        bag, choice, index, lens, camera, poses, frame_from_camera, depth, gravity, mask, tuple(notes)
    )


def _gravity(
    index: BagIndex,
    imu: Topic,
    readings: ImuReadings,
    poses: CameraPoses | None,
    frame: str,
    frame_from_camera: Pose,
    time: float,
) -> FrameGravity | None:
    """Gravity in the camera's axes, by the poses' clock; None where nothing connects the IMU with its frame."""
    between = index.tree.chain(frame, imu.frame)
    frame_from_imu = between and between.at(time, np.inf)
    if between is None or frame_from_imu is None:
        return None
    up = None
    if poses is not None:
        times, rotations, positions = poses.chain.then(between).samples()
        if len(times) > 1:
            up = up_while_moving(readings, times, rotations, positions)
    camera_from_imu = frame_from_camera.inverse() @ frame_from_imu
    return FrameGravity(readings.rotated(camera_from_imu.rotation), up)


def file_name(topic: Topic) -> str:
    """Name of a camera's images and mask: its topic's with "-" for "/"."""
    return topic.base.strip("/").replace("/", "-")


def _find_late(recording: CameraRecording) -> TimeOffset | None:
    """Time by which the camera's stamps precede the poses', measured in the liveliest seconds of the bag."""
    name, index = recording.choice.camera.name, recording.index
    delay = index.delay(name)
    start, end = (at - delay for at in recording.bag.span(name))
    stretch = lively_stretch(start, end, recording.poses_at)
    if recording.poses is None or stretch is None:
        return None
    stored = recording.bag.messages([name], stretch[0] + delay, stretch[1] + delay)
    messages = (Stamped(name, at, index.time_of(name, at, message), 0, message) for _, at, message in stored)
    offset = measure_time_offset((_listed(recording, message, None, None) for message in messages), recording.poses_at)
    return offset if offset is not None and offset.sure else None


def bag_survey(source: CaptureSource, given: Mapping[str, str]) -> Survey:
    """What a recording holds, by its small topics."""
    masks = [name for name in source.names if name.startswith(f"{MASK_FOLDER}/") and name.endswith(".png")]
    with open_bag(source, bag_names(source)) as bag:
        recording = prepare(source, bag, given, "first")[0]
        return Survey(
            [*bag_names(source), *masks],
            recording.choice.camera.count,
            has_poses=recording.poses is not None,
            has_depth=recording.depth is not None,
            has_gravity=recording.gravity is not None and recording.gravity.usable,
            has_scale=recording.metric,
        )


def read_bags(reader: Reader, source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    """Read a recording for `reader` with the topics that are given; those that aren't are guessed.

    Raises:
        CaptureError: When the bag, its topics, clocks or cameras break a rule.
    """
    with open_bag(source, bag_names(source)) as bag:
        recordings = prepare(source, bag, params.topics, params.cameras)
        notes = list(dict.fromkeys(note for recording in recordings for note in recording.notes))
        first = recordings[0]
        if offset := _find_late(first):
            notes.append(offset.note)
            recordings = [replace(recording, late=offset.seconds) for recording in recordings]
        lidar = first.depth is not None and first.depth.topic.type == CLOUD
        sigmas = [recording.gravity.sigma_deg or 0.0 for recording in recordings if recording.gravity]
        return sensor_capture(
            reader,
            (frame for recording in recordings for frame in _frames(recording, params, notes)),
            source,
            out_dir,
            params,
            sensors=SENSORS if lidar else replace(SENSORS, depth_range=None),
            metric=first.metric,
            gravity_sigma_deg=max(sigmas, default=0.0) or None,
            notes=notes,
        )


def _frames(recording: CameraRecording, params: CaptureParams, notes: list[str]) -> Iterator[ListedFrame]:
    """A camera's frames, as the images come; at the end the notes say how many were left out and why."""
    total, left = 0, Counter[str]()
    of = f" of {recording.choice.camera.name}" if recording.sensor else ""
    messages = _messages(recording, params)
    pairs = paired(messages, recording.depth) if recording.depth else ((stamped, None) for stamped in messages)
    for image, depth in pairs:
        total += 1
        pose = recording.poses.at(image.time) if recording.poses else None
        if recording.poses is not None and pose is None:
            left["no pose near enough in time"] += 1
        elif recording.depth is not None and depth is None:
            left["no depth near enough in time"] += 1
        else:
            yield _listed(recording, image, pose, depth)
    notes += [f"{count} of {total} images{of} left out: {reason}" for reason, count in left.items()]
    if recording.index.unstamped:
        names = ", ".join(sorted(recording.index.unstamped))
        notes.append(f"without stamps, so that the time of reception counts: {names}")


def _messages(recording: CameraRecording, params: CaptureParams) -> Iterator[Stamped]:
    """The images asked for and all depth, in the order of reception, by the poses' clock.

    Depth images are stamped by the camera's clock, LiDAR scans by that of the poses made of them.
    """
    camera = recording.choice.camera.name
    names = [camera, *([recording.depth.topic.name] if recording.depth else [])]
    first = None
    number = chosen = 0
    for name, received, message in recording.bag.messages(names):
        time = recording.index.time_of(name, received, message)
        if name == camera or recording.choice.depth is not None:
            time += recording.late
        if name != camera:
            yield Stamped(name, received, time, 0, message)
            continue
        first = time if first is None else first
        if (params.start or -np.inf) <= time - first and (params.end is None or time - first <= params.end):
            if chosen % params.stride == 0:
                yield Stamped(name, received, time, number, message)
            chosen += 1
        number += 1


def _listed(recording: CameraRecording, stamped: Stamped, pose: Pose | None, depth: Stamped | None) -> ListedFrame:
    number, time, mask = stamped.number, stamped.time, recording.mask
    name = f"{number:06d}" if recording.sensor else f"{file_name(recording.choice.camera)}-{number:06d}"
    world_from_camera = None if pose is None else pose @ recording.frame_from_camera
    frame = ListedFrame(
        key=f"{number:06d}",
        name=name,
        image=partial(image_of, stamped.message),
        time=time,
        source_time=time - recording.late,
        world_from_camera=world_from_camera,
        gravity=recording.gravity.at(time, world_from_camera) if recording.gravity else None,
        mask=None if mask is None else lambda: mask,
        focal_source="given" if recording.lens else "guessed",
        sensor=recording.sensor,
    )
    if recording.lens is not None:
        where = f"{recording.bag.where}: topic {recording.choice.camera.name}, message {number}"
        frame = through_lens(frame, recording.lens, where)
    if recording.depth is None or depth is None:
        return frame
    read_depth, depth_camera = recording.depth.read(time, depth)
    depth_name = f"{recording.depth.topic.name} for {name}"
    return replace(frame, depth=read_depth, depth_name=depth_name, depth_camera=depth_camera)


READER = Reader(
    kind="rosbag",
    form=f"a ROS bag or a folder of one recording (or zip): {', '.join('*' + suffix for suffix in SUFFIXES)}",
    yields="several cameras, poses (odometry or tf), depth (images or LiDAR), gravity, lenses, times, metric scale",
    recognise=lambda source: bool(bag_names(source)),
    survey=lambda source: bag_survey(source, {}),
    read=lambda source, out_dir, params: read_bags(READER, source, out_dir, params),
    sensors=SENSORS,
)
