"""The cameras of a ROS bag and all that is known of each before its pictures are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.bags.bag_depth import DepthSource, find_depth
from pipeline.capture.bags.bag_files import Bag
from pipeline.capture.bags.bag_messages import lens_of
from pipeline.capture.bags.bag_survey import (
    CameraPoses,
    Survey,
    camera_frame,
    check_clocks,
    find_poses,
    same_world,
    survey,
)
from pipeline.capture.bags.bag_topics import Topic, TopicChoice, cameras_of, choose_topics
from pipeline.capture.checks import unread_cameras
from pipeline.capture.imu_gravity import FrameGravity, ImuReadings, up_while_moving
from pipeline.capture.lens import Lens, camera_of
from pipeline.capture.masks import MASK_FOLDER
from pipeline.capture.source import CaptureSource
from pipeline.geometry import Camera, Pose

FIRST_PICTURES = 10
"""Whose delay from stamp to reception is compared with that of the poses."""
NOTED_DELAY = 0.1
"""A difference of those delays that is worth a note [s]."""


@dataclass(frozen=True, eq=False)
class CameraRecording:
    """Everything that is known of a camera before its pictures are read; `late` is added to its stamps [s]."""

    bag: Bag
    choice: TopicChoice
    found: Survey
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

    def poses_at(self, times: NDArray[np.float64]) -> list[Pose | None]:
        """World from camera."""
        poses = [self.poses.at(float(time)) if self.poses else None for time in times]
        return [pose and pose @ self.frame_from_camera for pose in poses]


def prepare(source: CaptureSource, bag: Bag, given: Mapping[str, str], cameras: str) -> list[CameraRecording]:
    """Choose the topics, read the small ones, connect the frames; one recording a camera."""
    topics = bag.topics()
    choices = choose_topics(topics, given, bag.where, cameras)
    found = survey(bag, topics, choices)
    readings = found.readings()
    recordings = [_connect(source, bag, topics, choice, found, readings) for choice in choices]
    read = {choice.camera.base for choice in choices}
    notes = unread_cameras([topic.name for topic in cameras_of(topics, bag.where) if topic.base not in read], [])
    posed = [one for one in recordings if one.poses]
    if posed and len(posed) < len(recordings):
        unposed = ", ".join(one.choice.camera.name for one in recordings if not one.poses)
        notes.append(f"left out, since no poses reach their frames: {unposed}")
        recordings = posed
    if any(one.depth for one in recordings) and not all(one.depth for one in recordings):
        notes.append("depth left out: not all cameras have it")
        recordings = [replace(one, depth=None) for one in recordings]
    if len(recordings) > 1:
        recordings = [replace(one, sensor=file_name(one.choice.camera)) for one in recordings]
    recordings[0] = replace(recordings[0], notes=(*recordings[0].notes, *notes))
    return recordings


def _connect(
    source: CaptureSource, bag: Bag, topics: list[Topic], choice: TopicChoice, found: Survey, readings: ImuReadings
) -> CameraRecording:
    """A camera's lens, its poses, depth and gravity."""
    info = choice.camera_info
    notes = [choice.note]
    lens = camera = None
    if info is None:
        notes.append(f"{choice.camera.name} has no camera_info: its focal length is guessed")
    else:
        rectified = "rect" in choice.camera.base.rpartition("/")[2]
        file = f"{bag.where}: topic {info.name}"
        lens = lens_of(found.infos[info.name], file, rectified=rectified)
        camera = camera_of(lens, file)
        if not lens.held:
            notes.append("the pictures were undistorted here: no later stage knows their lens")
    frame, frame_from_camera, assumed = camera_frame(found, choice.camera.frame or (info.frame if info else ""))
    poses = find_poses(found, choice, topics, frame)
    times = [found.time_of(*message) for message in islice(bag.messages([choice.camera.name]), FIRST_PICTURES)]
    if poses is not None:
        check_clocks(bag, found, choice.camera, poses)
    depth = find_depth(bag, choice, found, camera, poses, frame, frame_from_camera)
    gravity = None
    if choice.imu:
        gravity = _gravity(found, choice.imu, readings, poses, frame, frame_from_camera, times[0])
        unconnected = f"tf does not connect {choice.imu.frame or 'its empty frame_id'} with {frame}"
        notes.append(f"{choice.imu.name}: {gravity.note if gravity else f'gravity not used: {unconnected}'}")
    missing = f"no poses: neither odometry nor tf connects a fixed frame with {frame or 'the pictures (no frame_id)'}"
    notes += [poses.about if poses else missing, *([assumed] if assumed else [])]
    if poses is not None and abs(late := found.delay(poses.topic) - found.delay(choice.camera.name)) > NOTED_DELAY:
        notes.append(f"from stamp to reception {poses.topic} takes {1000 * late:.0f} ms longer than the pictures")
    if (choice.depth or choice.cloud) and depth is None:
        notes.append("depth left out: it needs a camera_info of its own and tf from its frame to the camera's")
    mask_file = f"{MASK_FOLDER}/{file_name(choice.camera)}.png"
    mask = source.read(mask_file) if mask_file in source.names else None
    if mask is not None:
        notes.append(f"{mask_file} masks all pictures")
    return CameraRecording(
        bag, choice, found, lens, camera, poses, frame_from_camera, depth, gravity, mask, tuple(notes)
    )


def _gravity(
    found: Survey,
    imu: Topic,
    readings: ImuReadings,
    poses: CameraPoses | None,
    frame: str,
    frame_from_camera: Pose,
    time: float,
) -> FrameGravity | None:
    """In the camera's axes; None where nothing connects the IMU with the camera's frame.

    The readings have the poses' clock.
    """
    between = found.tree.chain(frame, imu.frame)
    frame_from_imu = between.at(time, np.inf) if between is not None else None
    if frame_from_imu is None:
        return None
    up = None
    world = same_world(found, poses, frame, imu.frame) if poses is not None else None
    if world is not None:
        times, rotations, positions = world.samples()
        if len(times) > 1:
            up = up_while_moving(readings, times, rotations, positions)
    camera_from_imu = frame_from_camera.inverse() @ frame_from_imu
    return FrameGravity(readings.turned(camera_from_imu.rotation), up)


def file_name(topic: Topic) -> str:
    """Of a camera's pictures and mask: its topic's with "-" for "/"."""
    return topic.base.strip("/").replace("/", "-")
