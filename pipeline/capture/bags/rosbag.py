"""Reader of ROS bags: ROS 1 .bag, ROS 2 .db3 and .mcap. One pass over the small topics, one over each camera.

Poses are the odometry's or tf's at the pictures' stamps; depth from another frame or moment is projected into the
picture's camera. Sources: sensor_msgs, nav_msgs, tf2_msgs; REP 103, 105, 118.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.capture.bags.bag_cameras import CameraRecording, file_name, prepare
from pipeline.capture.bags.bag_depth import Moment, guessed_camera, paired
from pipeline.capture.bags.bag_files import SUFFIXES, bag_names, open_bag
from pipeline.capture.bags.bag_messages import picture_of
from pipeline.capture.bags.bag_topics import CLOUD
from pipeline.capture.frames import ListedFrame, declared_camera, sensor_capture
from pipeline.capture.lens import straight_picture
from pipeline.capture.masks import MASK_FOLDER
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.pictures import Picture
from pipeline.capture.reader import Reader
from pipeline.capture.slam.lidar_depth import WELL
from pipeline.capture.source import CaptureSource
from pipeline.capture.time_offset import TimeOffset, lively_stretch, measure_time_offset
from pipeline.geometry import Pose
from pipeline.stage import Traits

SCALE_SIGMA = 0.02
"""Of odometry with a LiDAR, wheels or a depth camera."""


def _recognise(source: CaptureSource) -> bool:
    return bool(bag_names(source))


def _find_late(recording: CameraRecording) -> TimeOffset | None:
    """How much earlier the camera's stamps are than the poses', by the liveliest seconds of the bag."""
    name, found = recording.choice.camera.name, recording.found
    delay = found.delay(name)
    start, end = (at - delay for at in recording.bag.span(name))
    stretch = lively_stretch(start, end, recording.poses_at)
    if recording.poses is None or stretch is None:
        return None
    stored = recording.bag.messages([name], stretch[0] + delay, stretch[1] + delay)
    moments = (Moment(name, at, found.time_of(name, at, message), 0, message) for _, at, message in stored)
    offset = measure_time_offset((_listed(recording, one, None, None) for one in moments), recording.poses_at)
    return offset if offset is not None and offset.sure else None


def bag_files(source: CaptureSource) -> list[str]:
    """Names of a recording's files and masks."""
    masks = [name for name in source.names if name.startswith(f"{MASK_FOLDER}/") and name.endswith(".png")]
    return [*bag_names(source), *masks]


def _traits(source: CaptureSource) -> Traits:
    return bag_traits(source, "rosbag", {})


def bag_traits(source: CaptureSource, kind: str, given: Mapping[str, str]) -> Traits:
    """What a recording holds, by its small topics."""
    with open_bag(source, bag_names(source)) as bag:
        recording = prepare(source, bag, given, "first")[0]
        return Traits(
            kind,
            recording.choice.camera.count,
            has_poses=recording.poses is not None,
            has_depth=recording.depth is not None,
            has_gravity=recording.gravity is not None and recording.gravity.usable,
            ordered=True,
            has_scale=recording.poses is not None or recording.depth is not None,
        )


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    return read_bags(source, out_dir, params, "rosbag", params.topics)


def read_bags(
    source: CaptureSource, out_dir: Path, params: CaptureParams, kind: str, given: Mapping[str, str]
) -> Capture:
    """Read a recording with topics given by role; those that aren't are guessed.

    Raises:
        CaptureError: When the bag, its topics, clocks or cameras break a rule.
    """
    with open_bag(source, bag_names(source)) as bag:
        recordings = prepare(source, bag, given, params.cameras)
        notes = list(dict.fromkeys(note for recording in recordings for note in recording.notes))
        first = recordings[0]
        if offset := _find_late(first):
            notes.append(offset.note)
            recordings = [replace(recording, late=offset.seconds) for recording in recordings]
        return sensor_capture(
            kind,
            (frame for recording in recordings for frame in _frames(recording, params, notes)),
            source,
            out_dir,
            params,
            gravity_sigma_deg=max((one.gravity.sigma_deg or 0.0 for one in recordings if one.gravity), default=0.0)
            or None,
            scale_sigma=SCALE_SIGMA if first.poses is not None or first.depth is not None else None,
            depth_range=WELL if first.depth is not None and first.depth.topic.type == CLOUD else None,
            notes=notes,
        )


def _frames(recording: CameraRecording, params: CaptureParams, notes: list[str]) -> Iterator[ListedFrame]:
    """A camera's frames, as the pictures come; at the end the notes say how many were left out and why."""
    total, left = 0, dict[str, int]()
    of = f" of {recording.choice.camera.name}" if recording.sensor else ""
    moments = _moments(recording, params)
    pairs = paired(moments, recording.depth) if recording.depth else ((moment, None) for moment in moments)
    for picture, depth in pairs:
        total += 1
        pose = recording.poses.at(picture.time) if recording.poses else None
        if recording.poses is not None and pose is None:
            left["no pose near enough in time"] = left.get("no pose near enough in time", 0) + 1
        elif recording.depth is not None and depth is None:
            left["no depth near enough in time"] = left.get("no depth near enough in time", 0) + 1
        else:
            yield _listed(recording, picture, pose, depth)
    notes += [f"{count} of {total} pictures{of} left out: {reason}" for reason, count in left.items()]
    if recording.found.unstamped:
        names = ", ".join(sorted(recording.found.unstamped))
        notes.append(f"without stamps, so that the time of reception counts: {names}")


def _moments(recording: CameraRecording, params: CaptureParams) -> Iterator[Moment]:
    """The pictures asked for and all depth, in the order of reception, by the poses' clock.

    Depth images are stamped by the camera's clock, LiDAR scans by that of the poses made of them.
    """
    camera = recording.choice.camera.name
    names = [camera, *([recording.depth.topic.name] if recording.depth else [])]
    first = None
    number = chosen = 0
    for name, received, message in recording.bag.messages(names):
        time = recording.found.time_of(name, received, message)
        if name == camera or recording.choice.depth is not None:
            time += recording.late
        if name != camera:
            yield Moment(name, received, time, 0, message)
            continue
        first = time if first is None else first
        if (params.start or -np.inf) <= time - first and (params.end is None or time - first <= params.end):
            if chosen % params.stride == 0:
                yield Moment(name, received, time, number, message)
            chosen += 1
        number += 1


def _listed(recording: CameraRecording, moment: Moment, pose: Pose | None, depth: Moment | None) -> ListedFrame:
    topic, lens, camera = recording.choice.camera, recording.lens, recording.camera
    number, time = moment.number, moment.time
    name = f"{number:06d}" if recording.sensor else f"{file_name(topic)}-{number:06d}"
    where = f"{recording.bag.where}: topic {topic.name}, message {number}"

    mask = recording.mask

    def picture() -> Picture:
        stored = picture_of(moment.message)
        if lens is None or camera is None or lens.held or stored.size != (lens.width, lens.height):
            return stored
        return straight_picture(stored, mask, lens, camera)

    world_from_camera = None if pose is None else pose @ recording.frame_from_camera
    read_depth = depth_camera = None
    if recording.depth is not None and depth is not None:
        read_depth, depth_camera = recording.depth.read(time, depth)
    return ListedFrame(
        key=f"{number:06d}",
        name=name,
        picture=picture,
        camera=guessed_camera if camera is None else declared_camera(camera, where),
        time=time,
        source_time=time - recording.late,
        world_from_camera=world_from_camera,
        depth=read_depth,
        depth_name=f"{recording.depth.topic.name} for {name}" if recording.depth else "",
        depth_camera=depth_camera,
        gravity=recording.gravity.at(time, world_from_camera) if recording.gravity else None,
        mask=None if mask is None or (lens is not None and not lens.held) else lambda: mask,
        focal_source="guessed" if camera is None else "given",
        sensor=recording.sensor,
    )


READER = Reader(
    kind="rosbag",
    form=f"a ROS bag or a folder of one recording (or zip): {', '.join('*' + suffix for suffix in SUFFIXES)}",
    yields="several cameras, poses (odometry or tf), depth (images or LiDAR), gravity, lenses, times, metric scale",
    recognise=_recognise,
    traits=_traits,
    files=bag_files,
    read=_read,
)
