"""Reader of GrandTour missions (ANYmal with the Boxi payload): ROS bags, or the zarr groups of Hugging Face, unpacked.

Source: leggedrobotics/grand_tour_dataset, its README and examples; arXiv 2602.18164.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field

from pipeline.capture.bags.depth import seen_by
from pipeline.capture.bags.files import bag_names
from pipeline.capture.bags.messages import calibrated_lens
from pipeline.capture.bags.rosbag import bag_survey, read_bags
from pipeline.capture.bags.transforms import TransformTree
from pipeline.capture.bags.zarr import ZarrArray, open_array, read_description
from pipeline.capture.checks import chosen_cameras, unread_cameras
from pipeline.capture.frames import FrameFiles, ListedFrame, sensor_capture, thinned, through_lens, with_poses
from pipeline.capture.images import MASK_FOLDER, find_masks
from pipeline.capture.imu_gravity import FrameGravity, ImuReadings, imu_readings, up_while_moving
from pipeline.capture.lens import Lens, camera_of
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import Reader, Sensors, Survey
from pipeline.capture.slam.lidar_depth import LIDAR_RANGE, without_distortion
from pipeline.capture.source import CaptureSource
from pipeline.capture.time_offset import PosesAt, find_time_offset
from pipeline.capture.trajectory import Trajectory, check_clocks, ordered_trajectory, pose_of
from pipeline.errors import CaptureError
from pipeline.geometry import Pose
from pipeline.parameters import checked
from pipeline.types import F32, F64

CAMERAS = ("hdr_front", "hdr_left", "hdr_right", "alphasense_front_center", "zed2i_left_images", "zed2i_right_images")
"""The best first; any other camera of images/ comes after them."""
LIDARS = ("hesai_points_undistorted", "hesai_undistorted", "livox_points_undistorted", "livox_undistorted")
"""Names differ between releases. Points that are not undistorted span a rotation of the LiDAR on a walking robot."""
POSES = {"dlio_map_odometry": "hesai_lidar", "anymal_state_odometry": "base"}
"""Groups of poses and the frame that each describes: LiDAR-inertial before the legs' odometry, which drifts."""
_IMAGE = re.compile(r"images/(?P<camera>[^/]+)/(?P<number>\d+)\.(jpe?g|png)")
_CHUNK = re.compile(r"data/(?P<group>[^/]+)/[^/]+/\d+([./]\d+)*")

MAX_GAP = 0.5
"""Largest distance of the two poses that an image's is interpolated from [s]."""
MAX_APART = 0.05
"""Largest difference of an image and its scan [s]."""
_MISSION = re.compile(
    r"\d{4}(-\d\d){5}_(hdr_|alphasense|zed2i|dlio|hesai|livox|tf_|cpt7|anymal_|adis|stim320|ap20).*\.bag"
)


class _Position(BaseModel):
    x: float
    y: float
    z: float


class _Quaternion(_Position):
    w: float


class _Transform(BaseModel):
    """Maps points of the base frame to the child's: the inverse of what ROS writes."""

    base_frame_id: str
    translation: _Position
    rotation: _Quaternion


class _CameraInfo(BaseModel):
    K: Annotated[list[float], Field(min_length=9, max_length=9)]
    D: list[float]
    width: int
    height: int
    distortion_model: str


@dataclass(frozen=True, eq=False)
class MissionCamera:
    """One of a mission's cameras: its images by index in the arrays, and how it is mounted.

    `body_from_camera` is its pose on the body that the poses follow. What the mission lacks is None.
    """

    name: str
    images: dict[int, str]
    lens: Lens
    file: str
    times: ZarrArray
    body_from_camera: Pose | None
    camera_from_lidar: Pose | None
    camera_from_imu: Pose | None


@dataclass(frozen=True, eq=False)
class Mission:
    """A mission's cameras that are read, and the arrays of its sensors as far as the first camera has them.

    Attributes:
        poses: Times, positions and quaternions xyzw of a body in the world.
        scans: Times, points and how many of them are valid, by scan.
        imu: Times, specific force and rotation rate.
        described: Groups whose attributes were read.
    """

    cameras: tuple[MissionCamera, ...]
    poses: tuple[ZarrArray, ...]
    scans: tuple[ZarrArray, ...]
    imu: tuple[ZarrArray, ...]
    described: tuple[str, ...]
    notes: tuple[str, ...]


def cameras_of(source: CaptureSource) -> dict[str, dict[int, str]]:
    """Names of the images by index in the arrays, by camera; the best camera first."""
    cameras: dict[str, dict[int, str]] = {}
    for name in source.names:
        match = _IMAGE.fullmatch(name)
        if match and not re.search(r"depth|confidence|mask", match["camera"]):
            cameras.setdefault(match["camera"], {})[int(match["number"])] = name
    rank = {key: i for i, key in enumerate(CAMERAS)}
    return dict(sorted(cameras.items(), key=lambda item: (rank.get(item[0], len(rank)), item[0])))


def groups_of(source: CaptureSource) -> set[str]:
    """Names of the zarr groups by their chunks: files whose names begin with a dot aren't listed."""
    return {match["group"] for name in source.names if (match := _CHUNK.fullmatch(name))}


def open_mission(source: CaptureSource, requested: str) -> Mission:
    """The requested cameras (`CaptureParams.cameras`), poses, LiDAR and IMU, and their poses to each other.

    Raises:
        CaptureError: When attributes or arrays are missing or broken, or a camera does not exist.
    """
    images, groups = cameras_of(source), groups_of(source)
    present = [key for key in images if key in groups]
    cameras = chosen_cameras(present, requested, source.where("images"))
    poses = next((group for group in POSES if group in groups), None)
    lidar = next((group for group in LIDARS if group in groups), None)
    imu = min((group for group in groups if group.endswith("_imu")), default=None)
    tree, frames, described = _transforms(source, [group for group in (*cameras, lidar, imu) if group])

    def between(target: str | None, of: str | None) -> Pose | None:
        chain = tree.chain(target, of) if target and of else None
        return None if chain is None else chain.at(0.0, 0.0)

    def array(group: str, name: str) -> ZarrArray:
        return open_array(source, f"data/{group}/{name}")

    all_cameras = [
        MissionCamera(
            camera,
            images[camera],
            _lens(source, f"data/{camera}/.zattrs"),
            source.where(f"data/{camera}/.zattrs"),
            array(camera, "timestamp"),
            body_from_camera=between(POSES[poses] if poses else None, frames[camera]),
            camera_from_lidar=between(frames[camera], frames.get(lidar or "")),
            camera_from_imu=between(frames[camera], frames.get(imu or "")),
        )
        for camera in cameras
    ]
    posed = [camera for camera in all_cameras if camera.body_from_camera is not None]
    notes = [f"camera {', '.join(cameras)}, poses {poses}, LiDAR {lidar}, IMU {imu}", *unread_cameras(present, cameras)]
    if poses and len(posed) < len(all_cameras):
        unposed = ", ".join(camera.name for camera in all_cameras if camera not in posed)
        notes.append(f"{'left out' if posed else 'no poses'}: no transform connects {POSES[poses]} with {unposed}")
    first = (posed or all_cameras)[0]

    def arrays(known: Pose | None, group: str | None, *names: str) -> tuple[ZarrArray, ...]:
        return tuple(array(group, name) for name in names) if group and known is not None else ()

    return Mission(
        cameras=tuple(posed or all_cameras),
        poses=arrays(first.body_from_camera, poses, "timestamp", "pose_pos", "pose_orien"),
        scans=arrays(first.camera_from_lidar, lidar, "timestamp", "points", "valid"),
        imu=arrays(first.camera_from_imu, imu, "timestamp", "lin_acc", "ang_vel"),
        described=tuple(described),
        notes=tuple(notes),
    )


def _transforms(source: CaptureSource, groups: Sequence[str]) -> tuple[TransformTree, dict[str, str], list[str]]:
    """All transforms, the frame of each of these groups, and the groups whose attributes were read."""
    tree = TransformTree()
    frames: dict[str, str] = {}
    for group in groups:
        values = read_description(source, f"data/{group}/.zattrs")
        frames[group] = str(values.get("frame_id") or group)
        if "transform" in values:
            _add_transform(values["transform"], frames[group], tree, source.where(f"data/{group}/.zattrs"))
    described, entries = [*frames], None
    with suppress(CaptureError):  # the group tf has attributes only; it may not have been downloaded
        entries = read_description(source, "data/tf/.zattrs").get("tf")
        described.append("tf")
    for frame, entry in entries.items() if isinstance(entries, dict) else ():
        _add_transform(entry, frame, tree, source.where("data/tf/.zattrs"))
    return tree, frames, described


def _add_transform(entry: object, frame: str, tree: TransformTree, file: str) -> None:
    from scipy.spatial.transform import Rotation

    transform = checked(_Transform, entry, "transform", CaptureError, file)
    at, rotation = transform.translation, transform.rotation
    quaternion = np.array([rotation.x, rotation.y, rotation.z, rotation.w])
    base_from_child = pose_of(np.array([at.x, at.y, at.z]), quaternion, file).inverse()
    x, y, z = base_from_child.translation
    qx, qy, qz, qw = Rotation.from_matrix(base_from_child.rotation).as_quat()
    tree.add(transform.base_frame_id, frame, 0.0, (x, y, z), (qx, qy, qz, qw), static=True)


def _lens(source: CaptureSource, attributes: str) -> Lens:
    file, values = source.where(attributes), read_description(source, attributes)
    info = checked(_CameraInfo, values.get("camera_info"), "camera_info", CaptureError, file)
    matrix, size = np.reshape(info.K, (3, 3)), (info.width, info.height)
    return calibrated_lens(matrix, size, info.distortion_model or "plumb_bob", np.array(info.D), file)


def _is_bags(source: CaptureSource) -> bool:
    return any(_MISSION.fullmatch(name) for name in bag_names(source))


def _survey(source: CaptureSource) -> Survey:
    if _is_bags(source):
        return bag_survey(source, {})
    mission, groups = open_mission(source, "first"), groups_of(source)
    cameras = {key: images for key, images in cameras_of(source).items() if key in groups}
    times = [open_array(source, f"data/{camera}/timestamp") for camera in cameras]
    names = {name for array in (*times, *mission.poses, *mission.scans, *mission.imu) for name in array.files()}
    names |= {f"data/{group}/.zattrs" for group in (*mission.described, *cameras)}
    names |= {name for images in cameras.values() for name in images.values()}
    return Survey(
        sorted(names | {name for name in source.names if f"{MASK_FOLDER}/" in name}),
        len(mission.cameras[0].images),
        has_poses=bool(mission.poses),
        has_depth=bool(mission.poses) and bool(mission.scans),
        has_gravity=bool(mission.imu),
        has_scale=bool(mission.poses),
    )


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    if _is_bags(source):
        return read_bags(READER, source, out_dir, params)
    mission = open_mission(source, params.cameras)
    trajectory = None
    if mission.poses:
        times, positions, quaternions = (_numbers(array) for array in mission.poses)
        file = source.where(mission.poses[1].path)
        poses = [pose_of(p, q, file) for p, q in zip(positions, quaternions, strict=True)]
        trajectory = ordered_trajectory(times, poses, file)
    readings = imu_readings(*(_numbers(array) for array in mission.imu)) if mission.imu else None
    notes, sigmas = [*mission.notes], [0.0]
    listed: list[ListedFrame] = []
    skipped: list[Skipped] = []
    late = None
    for camera in mission.cameras:
        frames = _frames(source, camera)
        times = np.array([frame.time for frame in frames])
        if gravity := _gravity(readings, camera, trajectory) if readings else None:
            notes += [gravity.note] if gravity.note not in notes else []
            sigmas.append(gravity.sigma_deg or 0.0)
        if trajectory:
            check_clocks(times, trajectory, source.where(mission.poses[0].path))
        if trajectory and camera.body_from_camera:
            camera_at = trajectory.of_camera(camera.body_from_camera, MAX_GAP)
            if late is None:
                offset = find_time_offset(frames, camera_at)
                late = offset.seconds if offset else 0.0
                notes += [offset.note] if offset else []
            frames, missing = with_poses(frames, camera_at(times + late), f"no poses within {MAX_GAP:g} s around it")
            skipped += missing
            if mission.scans:
                frames, missing = _with_scans(mission, camera, camera_at, frames, late)
                skipped += missing
        sensor = camera.name if len(mission.cameras) > 1 else None
        for frame in frames:
            down = gravity.at((frame.time or 0.0) + (late or 0.0), frame.world_from_camera) if gravity else None
            listed.append(replace(frame, gravity=down, sensor=sensor))
    return sensor_capture(
        READER,
        thinned(listed, params),
        source,
        out_dir,
        params,
        metric=trajectory is not None,
        gravity_sigma_deg=max(sigmas) or None,
        skipped=skipped,
        notes=notes,
    )


def _numbers(array: ZarrArray) -> F64:
    return np.asarray(array.all(), np.float64)


def _gravity(readings: ImuReadings, camera: MissionCamera, poses: Trajectory | None) -> FrameGravity | None:
    """In the camera's axes; None where the IMU's are unknown."""
    if camera.camera_from_imu is None:
        return None
    rotated, up = readings.rotated(camera.camera_from_imu.rotation), None
    if poses is not None and camera.body_from_camera is not None:
        imu = tuple(pose @ camera.body_from_camera @ camera.camera_from_imu for pose in poses.poses)
        up = up_while_moving(readings, *Trajectory(poses.times, imu).samples())
    return FrameGravity(rotated, up)


def _frames(source: CaptureSource, camera: MissionCamera) -> list[ListedFrame]:
    """A camera's images, without poses and depth."""
    times = _numbers(camera.times)
    if max(camera.images) >= len(times):
        rule = "images must be named by their index in the array of times"
        found = f"image {max(camera.images)}, {len(times)} times"
        remedy = "download the camera's data/ and images/ of one release"
        raise source.broken(camera.times.path, rule, found, remedy)
    files = FrameFiles(source, find_masks(source, camera.images.values(), camera.name))
    return [
        through_lens(files.frame(f"{number:06d}", name, float(times[number])), camera.lens, camera.file)
        for number, name in sorted(camera.images.items())
    ]


def _with_scans(
    mission: Mission, camera: MissionCamera, camera_at: PosesAt, frames: Sequence[ListedFrame], late: float
) -> tuple[list[ListedFrame], list[Skipped]]:
    """Posed frames with the scan nearest in time as their depth, moved by the poses to the image's time [s]."""
    stamps, stored, valid = mission.scans
    times, camera_from_lidar = _numbers(stamps), camera.camera_from_lidar
    poses = camera_at(times)
    if not len(times) or camera_from_lidar is None:
        return [*frames], []
    pinhole = without_distortion(camera_of(camera.lens, camera.file))
    listed: list[ListedFrame] = []
    skipped: list[Skipped] = []

    def points(scan: int) -> F32:
        count = int(valid.rows(scan, scan + 1).ravel()[0])
        return np.asarray(stored.rows(scan, scan + 1)[0, :count], np.float32)

    for frame in frames:
        time, pose = (frame.time or 0.0) + late, frame.world_from_camera
        scan = int(np.abs(times - time).argmin())
        at_scan = poses[scan]
        if pose is None or at_scan is None or abs(times[scan] - time) > MAX_APART:
            skipped.append(Skipped(frame.name, f"no scan within {1000 * MAX_APART:g} ms"))
            continue
        depth, size = seen_by(pinhole, pose.inverse() @ at_scan @ camera_from_lidar, partial(points, scan))
        listed.append(replace(frame, depth=depth, depth_name=f"scan {scan} for {frame.name}", depth_camera=size))
    return listed, skipped


READER = Reader(
    kind="grandtour",
    form="a GrandTour mission (folder or zip): its *.bag files, or data/ (zarr groups) and images/ unpacked",
    yields="several cameras, poses, depth from LiDAR, gravity from an IMU, lens distortion, times, metric scale",
    recognise=lambda source: _is_bags(source) or bool(set(cameras_of(source)) & groups_of(source)),
    survey=_survey,
    read=_read,
    # the LiDAR that the poses come from
    sensors=Sensors(scale_sigma=0.01, depth_range=LIDAR_RANGE, on_machine=True),
)
