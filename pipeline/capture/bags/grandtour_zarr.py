"""A GrandTour mission in the zarr form of Hugging Face: its cameras, poses, LiDAR and IMU, and where they are.

Source: leggedrobotics/grand_tour_dataset, its README and examples; arXiv 2602.18164.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.capture.bags.bag_messages import lens_of
from pipeline.capture.bags.transforms_tree import TransformTree
from pipeline.capture.bags.zarr_arrays import ZarrArray, attributes, open_array
from pipeline.capture.checks import chosen_cameras, unread_cameras
from pipeline.capture.lens import Lens
from pipeline.capture.source import CaptureSource
from pipeline.capture.trajectory import pose_of
from pipeline.errors import CaptureError
from pipeline.geometry import Pose

CAMERAS = ("hdr_front", "hdr_left", "hdr_right", "alphasense_front_center", "zed2i_left_images", "zed2i_right_images")
"""The best first; any other camera of images/ comes after them."""
LIDARS = ("hesai_points_undistorted", "hesai_undistorted", "livox_points_undistorted", "livox_undistorted")
"""Names differ from release to release. Points that were not undistorted are of a whole turn of a walking robot."""
POSES = {"dlio_map_odometry": "hesai_lidar", "anymal_state_odometry": "base"}
"""Groups of poses and the frame that each tells the pose of: LiDAR-inertial before the legs' odometry, which drifts."""
_PICTURE = re.compile(r"images/(?P<camera>[^/]+)/(?P<number>\d+)\.(jpe?g|png)")
_CHUNK = re.compile(r"data/(?P<group>[^/]+)/[^/]+/\d+([./]\d+)*")


@dataclass(frozen=True, eq=False)
class Eye:
    """One of a mission's cameras.

    Attributes:
        name: Of its group and its folder of pictures.
        pictures: File names by place in the arrays.
        lens: Of the pictures as they are stored.
        about: The camera's `.zattrs`, for messages.
        times: (N,) [s].
        body_from_camera: None without poses.
        camera_from_lidar: None without LiDAR.
        camera_from_imu: None without IMU.
    """

    name: str
    pictures: dict[int, str]
    lens: Lens
    about: str
    times: ZarrArray
    body_from_camera: Pose | None
    camera_from_lidar: Pose | None
    camera_from_imu: Pose | None


@dataclass(frozen=True, eq=False)
class Mission:
    """A mission's cameras and all that is known of them.

    Attributes:
        eyes: The cameras that are read, the first one tells what there is of poses, LiDAR and IMU.
        poses: Times, positions and quaternions xyzw of a body in the world; empty without.
        scans: Times, points and how many of them are valid, by scan; empty without LiDAR.
        imu: Times, specific force and turn rate; empty without IMU.
        described: Groups whose attributes were read.
        notes: What was taken.
    """

    eyes: tuple[Eye, ...]
    poses: tuple[ZarrArray, ...]
    scans: tuple[ZarrArray, ...]
    imu: tuple[ZarrArray, ...]
    described: tuple[str, ...]
    notes: tuple[str, ...]


def cameras_of(source: CaptureSource) -> dict[str, dict[int, str]]:
    """Pictures' names by place in the arrays, by camera; the best camera first."""
    found: dict[str, dict[int, str]] = {}
    for name in source.names:
        match = _PICTURE.fullmatch(name)
        if match and not re.search(r"depth|confidence|mask", match["camera"]):
            found.setdefault(match["camera"], {})[int(match["number"])] = name
    rank = {key: i for i, key in enumerate(CAMERAS)}
    return dict(sorted(found.items(), key=lambda item: (rank.get(item[0], len(rank)), item[0])))


def groups_of(source: CaptureSource) -> set[str]:
    """Names of the zarr groups by their chunks: files whose names begin with a dot aren't listed."""
    return {match["group"] for name in source.names if (match := _CHUNK.fullmatch(name))}


def open_mission(source: CaptureSource, wanted: str) -> Mission:
    """The cameras that are wanted (`CaptureParams.cameras`), poses, LiDAR and IMU, and where they are to each other.

    Raises:
        CaptureError: When attributes or arrays are missing or broken, or a camera isn't there.
    """
    pictures, groups = cameras_of(source), groups_of(source)
    present = [key for key in pictures if key in groups]
    cameras = chosen_cameras(present, wanted, source.where("images"))
    poses = next((group for group in POSES if group in groups), None)
    lidar = next((group for group in LIDARS if group in groups), None)
    imu = min((group for group in groups if group.endswith("_imu")), default=None)
    tree = TransformTree()
    frames = {group: _take_frame(source, group, tree) for group in (*cameras, lidar, imu) if group}
    described = [*frames, *(["tf"] if _take_tf(source, tree) else [])]

    def between(target: str | None, of: str | None) -> Pose | None:
        chain = tree.chain(target, of) if target and of else None
        return None if chain is None else chain.at(0.0, 0.0)

    def array(group: str, name: str) -> ZarrArray:
        return open_array(source, f"data/{group}/{name}")

    eyes = [
        Eye(
            camera,
            pictures[camera],
            _lens(attributes(source, f"data/{camera}"), source.where(f"data/{camera}/.zattrs")),
            source.where(f"data/{camera}/.zattrs"),
            array(camera, "timestamp"),
            body_from_camera=between(POSES[poses] if poses else None, frames[camera]),
            camera_from_lidar=between(frames[camera], frames.get(lidar or "")),
            camera_from_imu=between(frames[camera], frames.get(imu or "")),
        )
        for camera in cameras
    ]
    posed = [eye for eye in eyes if eye.body_from_camera is not None]
    notes = [f"camera {', '.join(cameras)}, poses {poses}, LiDAR {lidar}, IMU {imu}", *unread_cameras(present, cameras)]
    if poses and len(posed) < len(eyes):
        unposed = ", ".join(eye.name for eye in eyes if eye not in posed)
        notes.append(f"{'left out' if posed else 'no poses'}: no transform connects {POSES[poses]} with {unposed}")
    first = (posed or eyes)[0]

    def arrays(known: Pose | None, group: str | None, *names: str) -> tuple[ZarrArray, ...]:
        return tuple(array(group, name) for name in names) if group and known is not None else ()

    return Mission(
        eyes=tuple(posed or eyes),
        poses=arrays(first.body_from_camera, poses, "timestamp", "pose_pos", "pose_orien"),
        scans=arrays(first.camera_from_lidar, lidar, "timestamp", "points", "valid"),
        imu=arrays(first.camera_from_imu, imu, "timestamp", "lin_acc", "ang_vel"),
        described=tuple(described),
        notes=tuple(notes),
    )


def _take_frame(source: CaptureSource, group: str, tree: TransformTree) -> str:
    """The frame of a sensor; its place goes into the tree."""
    about = attributes(source, f"data/{group}")
    frame = str(about.get("frame_id") or group)
    if "transform" in about:
        _take_transform(about["transform"], frame, tree, source.where(f"data/{group}/.zattrs"))
    return frame


def _take_tf(source: CaptureSource, tree: TransformTree) -> bool:
    """The frames of the group tf, which has attributes only; False where it wasn't downloaded."""
    try:
        entries = attributes(source, "data/tf").get("tf")
    except CaptureError:
        return False
    for frame, entry in entries.items() if isinstance(entries, dict) else ():
        _take_transform(entry, frame, tree, source.where("data/tf/.zattrs"))
    return True


def _take_transform(entry: Any, frame: str, tree: TransformTree, file: str) -> None:
    """A transform takes points of the base frame to the child's: the inverse of what ROS writes."""
    try:
        base = entry["base_frame_id"]
        position = np.array([float(entry["translation"][axis]) for axis in "xyz"])
        turn = np.array([float(entry["rotation"][axis]) for axis in "xyzw"])
    except (KeyError, TypeError, ValueError) as error:
        raise CaptureError(
            "a transform must have base_frame_id, translation (x, y, z) and rotation (w, x, y, z)",
            found=f"{error!r} in {frame}",
            remedy="download this file again",
            file=file,
        ) from error
    base_from_child = pose_of(position, turn, file).inverse()
    x, y, z = base_from_child.translation
    qx, qy, qz, qw = Rotation.from_matrix(base_from_child.rotation).as_quat()
    tree.add(base, frame, 0.0, (x, y, z), (qx, qy, qz, qw), static=True)


def _lens(about: dict[str, Any], file: str) -> Lens:
    info = about.get("camera_info")
    try:
        assert isinstance(info, dict)
        none = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
        values = SimpleNamespace(
            **{key: info[key] for key in ("K", "D", "width", "height", "distortion_model")},
            roi=none,
            binning_x=0,
            binning_y=0,
        )
    except (AssertionError, KeyError) as error:
        raise CaptureError(
            "a camera's attributes must have camera_info with K, D, width, height and distortion_model",
            found=f"{error!r}",
            remedy="download this file again",
            file=file,
        ) from error
    return lens_of(values, file)
