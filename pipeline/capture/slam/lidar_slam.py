"""Reader of LiDAR SLAM exports: a map cloud, the trajectory it was built with, pictures with times, one calibration.

Sources: corelib/src/CameraModel.cpp of github.com/introlab/rtabmap; pcl/common's getTransformation for LIO-SAM's
keyframes; the README of github.com/hku-mars/FAST_LIO.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pipeline.capture.checks import checked_pose
from pipeline.capture.frames import ListedFrame, declared_camera, sensor_capture, thinned
from pipeline.capture.lens import Lens, camera_of
from pipeline.capture.masks import find_masks
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import Reader
from pipeline.capture.slam.calibration_files import lens_with, load_straight, matrix, read_yaml
from pipeline.capture.slam.clouds import read_fields, read_points
from pipeline.capture.slam.lidar_depth import WELL, depth_camera_for, point_spacing, project_cloud
from pipeline.capture.slam.registration import check_registration
from pipeline.capture.slam.slam_export import (
    CALIBRATION_REMEDY,
    CAMERA,
    KEYFRAMES,
    Export,
    is_export,
    list_export,
)
from pipeline.capture.source import CaptureSource
from pipeline.capture.time_offset import find_time_offset
from pipeline.capture.trajectory import (
    Trajectory,
    check_clocks,
    nearest,
    ordered_trajectory,
    tum_trajectory,
)
from pipeline.errors import CaptureError
from pipeline.geometry import Pose
from pipeline.stage import Traits

_BODY, _EYE = "(?:body|base|base_link|lidar|velodyne|livox|ouster|imu)", "(?:camera|cam|cam0)"
_TO_BODY = re.compile(f"{_BODY}_from_{_EYE}|{_BODY}_T_{_EYE}|T_{_BODY}_{_EYE}|local_transform", re.IGNORECASE)
"""Keys of matrices that take points from the camera to the body: T_a_b takes them from b to a, as in Kalibr's files."""
_TO_CAMERA = re.compile(f"{_EYE}_from_{_BODY}|{_EYE}_T_{_BODY}|T_{_EYE}_{_BODY}", re.IGNORECASE)
SCALE_SIGMA = 0.005
"""A laser scanner's ranges are good to centimetres."""
UP_SIGMA_DEG = 1.0
"""Of an up direction that the user states: maps are levelled by their first second of IMU readings."""
MAX_GAP = 0.25
"""Between the two poses that a picture's is interpolated from [s]; scanners turn at 10 Hz."""
KEYFRAME_GAP = 1.5
"""Likewise, where only LIO-SAM's keyframes (a metre apart) are known [s]."""
SAME_TIME = 1e-3
"""A pose so near in time to a picture is the picture's own [s]: exports round times."""
_FORM = (
    f"a map cloud (.ply, .pcd, .las, .laz), trajectory.txt (time x y z qx qy qz qw), {CAMERA} and images/<seconds>.jpg"
)


def _keyframes(source: CaptureSource, name: str) -> Trajectory:
    """LIO-SAM's keyframes: PointXYZIRPYT, with R = Rz(yaw) Ry(pitch) Rx(roll)."""
    rows = read_fields(source, name, ("x", "y", "z", "roll", "pitch", "yaw", "time"))
    file = source.where(name)
    if not np.isfinite(rows).all():
        raise CaptureError("keyframes must be finite", found="NaN or infinity", remedy="save the map again", file=file)
    poses = [Pose(Rotation.from_euler("ZYX", row[[5, 4, 3]]).as_matrix(), row[:3]) for row in rows]
    return ordered_trajectory(rows[:, 6], poses, file)


def _poses(
    source: CaptureSource, listing: Export, frames: Sequence[ListedFrame], mounts: Sequence[Pose], notes: list[str]
) -> dict[str, Pose | None]:
    """World from camera by picture. The clocks are compared where the trajectory has times of its own."""
    file = source.where(listing.trajectory)
    if listing.trajectory == KEYFRAMES:
        trajectory, gap = _keyframes(source, listing.trajectory), KEYFRAME_GAP
    else:
        trajectory, gap = tum_trajectory(source.read(listing.trajectory), file), MAX_GAP
    times = np.array(list(listing.images.values()))
    check_clocks(times, trajectory, file)
    if not listing.of_camera and listing.trajectory != KEYFRAMES:
        offset = find_time_offset(frames, trajectory.of_camera(mounts[0], gap))
        times = times + (offset.seconds if offset else 0.0)
        notes += [offset.note] if offset else []
    own = trajectory.times[nearest(trajectory.times, times)]
    bodies = trajectory.at(np.where(np.abs(own - times) <= SAME_TIME, own, times), gap)
    return {f.name: body and body @ mount for f, body, mount in zip(frames, bodies, mounts, strict=True)}


def _lens(values: dict[str, Any], file: str) -> Lens:
    """From ROS' calibration keys. Exports of RTAB-Map hold rectified pictures: their projection matrix counts."""
    size = []
    for key in ("image_width", "image_height"):
        value = values.get(key)
        if not isinstance(value, int) or value <= 0:
            raise CaptureError(
                "a calibration must hold image_width and image_height [px]",
                found=f"{key} = {value!r}",
                remedy=CALIBRATION_REMEDY,
                file=file,
            )
        size.append(value)
    rectified = "local_transform" in values and "projection_matrix" in values
    key, shape = ("projection_matrix", (3, 4)) if rectified else ("camera_matrix", (3, 3))
    k = matrix(values, key, (shape,), file)
    coefficients, model = np.zeros(4), ""
    if not rectified and "distortion_coefficients" in values:
        shapes = ((1, 4), (1, 5), (1, 8))
        coefficients = matrix(values, "distortion_coefficients", shapes, file)
        model = str(values.get("distortion_model", "plumb_bob"))
    return lens_with((k[0, 0], k[1, 1], k[0, 2], k[1, 2]), (size[0], size[1]), model, coefficients, file)


def _body_from_camera(values: dict[str, Any], file: str) -> Pose:
    """Where the camera is on the body, by a key that says which way its matrix goes."""
    known = [key for key in values if isinstance(key, str) and (_TO_BODY.fullmatch(key) or _TO_CAMERA.fullmatch(key))]
    if len(known) != 1:
        unknown = ", ".join(str(key) for key in values)[:200]
        raise CaptureError(
            "the trajectory is the body's: one matrix must say where the camera is on it",
            found=", ".join(known) or f"no body_from_camera; there are {unknown}",
            remedy="write body_from_camera: a 4x4 matrix that takes points from the camera's optical axes (x right, "
            "y down, z forward) to the trajectory's body; the identity where the trajectory is the camera's. Also "
            "understood: T_lidar_camera, T_imu_camera (the same), T_camera_lidar, T_cam_imu (the other way)",
            file=file,
        )
    pose = checked_pose(matrix(values, known[0], ((4, 4), (3, 4)), file), file)
    return pose if _TO_BODY.fullmatch(known[0]) else pose.inverse()


def _up(values: dict[str, Any], file: str) -> NDArray[np.float64] | None:
    """The map's up direction where the calibration states it."""
    if "up_in_world" not in values:
        return None
    up = matrix(values, "up_in_world", ((1, 3),), file)[0]
    if not abs(np.linalg.norm(up) - 1) < 1e-2:
        raise CaptureError(
            "up_in_world must be a unit direction", found=str(up.tolist()), remedy="write [0, 0, 1]", file=file
        )
    return up / np.linalg.norm(up)


def _traits(source: CaptureSource) -> Traits:
    listing = list_export(source)
    up = any("up_in_world" in values for values in _content(source, listing).values())
    return Traits("lidar_slam", len(listing.images), True, True, has_gravity=up, ordered=True, has_scale=True)


def _files(source: CaptureSource) -> list[str]:
    listing = list_export(source)
    masks = find_masks(source, listing.images).values()
    lists = {listing.cloud, listing.trajectory, listing.times, listing.extrinsics, *listing.calibrations.values()}
    return sorted({*filter(None, lists), *listing.images, *masks})


def _content(source: CaptureSource, listing: Export) -> dict[str, dict[str, Any]]:
    """What the calibrations hold, by their names, and the extrinsics that all of them share."""
    shared = read_yaml(source.read(listing.extrinsics), source.where(listing.extrinsics)) if listing.extrinsics else {}
    names = dict.fromkeys(listing.calibrations.values())
    return {name: read_yaml(source.read(name), source.where(name)) | shared for name in names}


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listing = list_export(source)
    content = _content(source, listing)
    lenses = {name: _lens(values, source.where(name)) for name, values in content.items()}
    cameras = {name: camera_of(lens, source.where(name)) for name, lens in lenses.items()}
    identity = dict.fromkeys(content, Pose.identity())
    mounts = identity
    if not listing.of_camera:
        mounts = {n: _body_from_camera(v, source.where(listing.extrinsics or n)) for n, v in content.items()}
    masks = find_masks(source, listing.images)

    def plain(image: str) -> ListedFrame:
        """Without pose and depth."""
        lens, camera = lenses[listing.calibrations[image]], cameras[listing.calibrations[image]]
        time = listing.images[image]
        return ListedFrame(
            key=PurePosixPath(image).stem,
            name=image,
            picture=partial(load_straight, source, image, lens, masks.get(image)),
            camera=declared_camera(camera, source.where(image)),
            time=time,
            source_time=time,
            mask=partial(source.read, masks[image]) if image in masks and lens.held else None,
        )

    frames = {image: plain(image) for image in listing.images}
    notes: list[str] = []
    of_pictures = [mounts[listing.calibrations[image]] for image in frames]
    poses = _poses(source, listing, [*frames.values()], of_pictures, notes)
    views = {image: pose for image, pose in poses.items() if pose is not None}
    points = read_points(source, listing.cloud)
    spacing = point_spacing(points)
    spread = [pose.inverse() for pose in list(views.values())[:: max(1, len(views) // 8)]]
    depth_cameras = {
        camera: depth_camera_for(camera, points, spread, spacing) for camera in dict.fromkeys(cameras.values())
    }

    def listed(image: str) -> ListedFrame:
        depth_camera = depth_cameras[cameras[listing.calibrations[image]]]
        return replace(
            frames[image],
            world_from_camera=views[image],
            depth=lambda: project_cloud(points, views[image].inverse(), depth_camera, spacing),
            depth_name=listing.cloud,
            depth_camera=lambda _: depth_camera,
        )

    calibration = next(iter(content))
    up = _up(content[calibration], source.where(listing.extrinsics or calibration))
    capture = sensor_capture(
        "lidar_slam",
        thinned([listed(image) for image in views], params),
        source,
        out_dir,
        params,
        up_in_world=up,
        up_sigma_deg=None if up is None else UP_SIGMA_DEG,
        scale_sigma=SCALE_SIGMA,
        depth_range=WELL,
        skipped=[Skipped(image, "no pose near its time") for image, pose in poses.items() if pose is None],
        notes=[f"depth is the map {listing.cloud}, its points about {1000 * spacing.metres:.0f} mm apart", *notes],
    )
    remedy = (
        "check body_from_camera (from the camera's optical axes, z forward, to the trajectory's body), the pictures' "
        "times, and that the cloud is of this trajectory"
    )
    note = check_registration(capture, source.path / source.prefix, remedy)
    return replace(capture, notes=(*capture.notes, note))


READER = Reader(
    kind="lidar_slam",
    form=f"a LiDAR SLAM export (folder or zip; RTAB-Map, LIO-SAM, FAST-LIO): {_FORM}",
    yields="poses, depth from the map, lens distortion, times, metric scale",
    recognise=is_export,
    traits=_traits,
    files=_files,
    read=_read,
)
