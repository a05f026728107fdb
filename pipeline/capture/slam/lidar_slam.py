"""Reader of LiDAR SLAM exports: a map cloud, the trajectory it was built with, images with times, one calibration.

Sources: tools/Export/main.cpp and corelib/src/CameraModel.cpp of github.com/introlab/rtabmap; src/mapOptmization.cpp of
github.com/TixiaoShan/LIO-SAM and pcl/common's getTransformation for its keyframes; the README of
github.com/hku-mars/FAST_LIO.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from pydantic import BaseModel, PositiveInt

from pipeline.capture.checks import checked_matrix, checked_pose
from pipeline.capture.frames import FrameFiles, ListedFrame, sensor_capture, thinned, through_lens, with_poses
from pipeline.capture.images import IMAGE_SUFFIXES, find_masks
from pipeline.capture.lens import Lens, camera_of, opencv_lens
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import Reader, Sensors, Survey, natural, suffix_of
from pipeline.capture.slam.clouds import CLOUD_SUFFIXES, read_fields, read_points
from pipeline.capture.slam.lidar_depth import LIDAR_RANGE, Spacing, depth_camera_for, point_spacing, project_cloud
from pipeline.capture.slam.registration import check_registration
from pipeline.capture.source import CaptureSource
from pipeline.capture.texts import parse_yaml
from pipeline.capture.time_offset import find_time_offset
from pipeline.capture.trajectory import check_clocks, ordered_trajectory, tum_trajectory
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose
from pipeline.parameters import checked
from pipeline.types import F64

CAMERA, TIMES, KEYFRAMES = "camera.yaml", "images.txt", "transformations.pcd"
TIME_LISTS = (TIMES, "timestamps.txt")
EXTRINSICS = "extrinsics.yaml"
_CLOCK = re.compile(r"\d{10,}|\d+\.\d+")  # names that are times, not numbers of images
_AUXILIARY = ("trajectory.pcd", KEYFRAMES, "CornerMap.pcd", "SurfMap.pcd", "cloudCorner.pcd", "cloudSurf.pcd")
"""What LIO-SAM saves next to GlobalMap.pcd (cloudGlobal.pcd in older versions)."""
_LINE = "1700000000.125 images/0001.jpg"
CALIBRATION_REMEDY = "write it as docs/captures/lidar_slam.md shows"


_BODY, _CAM = "(?:body|base|base_link|lidar|velodyne|livox|ouster|imu)", "(?:camera|cam|cam0)"
_TO_BODY = re.compile(f"{_BODY}_from_{_CAM}|{_BODY}_T_{_CAM}|T_{_BODY}_{_CAM}|local_transform", re.IGNORECASE)
"""Keys of matrices that map points from the camera to the body: T_a_b maps from b to a, as in Kalibr's files."""
_TO_CAMERA = re.compile(f"{_CAM}_from_{_BODY}|{_CAM}_T_{_BODY}|T_{_CAM}_{_BODY}", re.IGNORECASE)
MAX_GAP = 0.25
"""Largest distance of the two poses that an image's is interpolated from [s]; scanners rotate at 10 Hz."""
KEYFRAME_GAP = 1.5
"""Likewise, where only LIO-SAM's keyframes (a metre apart) are known [s]."""
SAME_TIME = 1e-3
"""A pose this near in time to an image is the image's own [s]: exports round times."""
_FORM = (
    f"a map cloud (.ply, .pcd, .las, .laz), trajectory.txt (time x y z qx qy qz qw), {CAMERA} and images/<seconds>.jpg"
)


@dataclass(frozen=True)
class Export:
    """Names of an export's files.

    Attributes:
        of_camera: Whether the trajectory is the camera's, not the body's.
        images: Names of the images and their times [s].
        calibrations: Name of each image's calibration.
        times: Name of the list of the images' times, or None where their names are times.
        extrinsics: Name of the file with the camera's pose on the body, or None where the calibrations hold it.
    """

    cloud: str
    trajectory: str
    of_camera: bool
    images: dict[str, float]
    calibrations: dict[str, str]
    times: str | None
    extrinsics: str | None


def _clouds(source: CaptureSource) -> list[str]:
    """Map clouds at the root; LIO-SAM's parts of its map don't count where the whole exists."""
    found = [name for name in source.names if "/" not in name and suffix_of(name) in CLOUD_SUFFIXES]
    return [name for name in found if name not in _AUXILIARY]


def _trajectory(source: CaptureSource) -> str | None:
    at_root = [name for name in source.names if "/" not in name]
    patterns = r"trajectory\.txt", r".*_camera_poses\.txt", r".*\.tum", r".*(?<!_scan)_poses\.txt", re.escape(KEYFRAMES)
    return next((name for pattern in patterns for name in at_root if re.fullmatch(pattern, name)), None)


def is_export(source: CaptureSource) -> bool:
    """Whether there are a map cloud and a trajectory."""
    trajectory = _trajectory(source)
    if trajectory is None or not _clouds(source):
        return False
    if trajectory == KEYFRAMES:
        return True
    rows = source.read_table(trajectory)
    return bool(rows) and len(rows[0]) in (8, 9)


def _seconds(text: str) -> float | None:
    """The time in a text [s]: "1403.25"; integers of 13, 16 or 19 digits are in ms, us or ns."""
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        return None
    per_second = {13: 10**3, 16: 10**6, 19: 10**9}.get(len(text), 1) if text.isdecimal() else 1
    whole, _, _ = text.partition(".")
    return float(text) if per_second == 1 else int(whole) // per_second + int(whole) % per_second / per_second


def _images(source: CaptureSource) -> list[str]:
    pattern = re.compile(r"(images|.*_rgb|.*_left)/[^/]+")
    return [n for n in source.names if suffix_of(n) in IMAGE_SUFFIXES and pattern.fullmatch(n)]


def _listed_times(source: CaptureSource, file: str) -> dict[str, float]:
    """Images and their times [s] from a list: time and name a line, in either order, or a time for each image."""
    rows = source.read_table(file, "," if b"," in source.read(file) else None)
    if rows and not re.search(r"\d", "".join(rows[0])):  # names of the columns
        rows = rows[1:]
    available = sorted(_images(source), key=natural)
    alone = all(len(row) == 1 for row in rows)
    if alone and len(rows) != len(available):
        if available and all(_CLOCK.match(PurePosixPath(name).stem) for name in available):  # the list is the scans'
            return _times_in_names(source)
        rule = "a list of times alone must have one for each image"
        found = f"{len(rows)} times, {len(available)} images"
        raise source.broken(file, rule, found, f"write the image's name behind each time: {_LINE}")
    images: dict[str, float] = {}
    for number, row in enumerate(rows):
        first, name = (row[0], available[number]) if alone else (row[0], row[-1])
        if (time := _seconds(first)) is None:
            time, name = _seconds(name), first
        if time is None:
            rule = "each line must hold an image's time and its name"
            found = f"line {number + 1}: {' '.join(row)[:80]!r}"
            raise source.broken(file, rule, found, f"write lines such as: {_LINE}")
        images[name if name in source.names else f"images/{name}"] = time
    missing = [name for name in images if name not in source.names]
    if missing:
        found = f"{len(missing)} of {len(images)} missing, first {missing[0]}"
        raise source.broken(file, f"all images that {file} lists must exist", found, "copy the whole export")
    return images


def _times_in_names(source: CaptureSource) -> dict[str, float]:
    names = _images(source)
    times = {name: _seconds(PurePosixPath(name).stem) for name in names}
    untimed = [name for name, time in times.items() if time is None]
    if untimed or not times:
        first, *_ = [*untimed, "images"]
        rule = f"images must be named by their time in seconds, or listed in {' or '.join(TIME_LISTS)}"
        found = f"{len(untimed)} of {len(times)} without a time{f', first {first}' if untimed else ''}"
        remedy = f"name them images/<seconds>.jpg, or write {TIMES} with lines: <seconds> images/<name>"
        raise source.broken(first, rule, found, remedy)
    return {name: time for name, time in times.items() if time is not None}


def list_export(source: CaptureSource) -> Export:
    """Find everything, images in the order of time.

    Raises:
        CaptureError: When something is missing, or there is more than one map or camera.
    """
    clouds = _clouds(source)
    if len(clouds) != 1:
        remedy = "keep only the one that belongs to the trajectory"
        raise source.broken("", "one map cloud", ", ".join(clouds[:5]), remedy)
    trajectory = _trajectory(source)
    assert trajectory is not None
    times = next((name for name in TIME_LISTS if name in source.names), None)
    found = _listed_times(source, times) if times else _times_in_names(source)
    images = dict(sorted(found.items(), key=lambda item: item[1]))
    stems = {PurePosixPath(name).stem for name in images}
    if len(stems) < len(images):
        rule = "images must have different names: one camera's are read"
        found = f"{len(images)} with {len(stems)} names"
        raise source.broken(times or TIMES, rule, found, f"keep one camera's images in {times or TIMES}")
    calibrations = dict.fromkeys(images, CAMERA)
    if CAMERA not in source.names:  # RTAB-Map gives each image its own
        calibrations = {
            name: re.sub(r"_(rgb|left)/", "_calib/", str(PurePosixPath(name).with_suffix(".yaml"))) for name in images
        }
    missing = sorted({name for name in calibrations.values() if name not in source.names})
    if missing:
        name, more = (missing[0], f" and {len(missing) - 1} more") if len(missing) < len(images) else (CAMERA, "")
        rule = f"a map with images needs {CAMERA}, the camera's calibration and pose on the body"
        raise source.broken(name, rule, f"no {name}{more}", CALIBRATION_REMEDY)
    of_camera = trajectory.endswith("_camera_poses.txt")
    extrinsics = EXTRINSICS if EXTRINSICS in source.names and not of_camera else None
    return Export(clouds[0], trajectory, of_camera, images, calibrations, times, extrinsics)


def _poses(
    source: CaptureSource, listing: Export, frames: Sequence[ListedFrame], mounts: Sequence[Pose], notes: list[str]
) -> list[Pose | None]:
    """World from camera of each image. The clocks are compared where the trajectory has times of its own."""
    from scipy.spatial.transform import Rotation

    file = source.where(listing.trajectory)
    if listing.trajectory == KEYFRAMES:
        rows = read_fields(source, listing.trajectory, ("x", "y", "z", "roll", "pitch", "yaw", "time"))
        if not np.isfinite(rows).all():
            raise source.broken(listing.trajectory, "keyframes must be finite", "NaN or infinity", "save the map again")
        # LIO-SAM's PointXYZIRPYT: R = Rz(yaw) Ry(pitch) Rx(roll)
        keyframes = [Pose(Rotation.from_euler("ZYX", row[[5, 4, 3]]).as_matrix(), row[:3]) for row in rows]
        trajectory, gap = ordered_trajectory(rows[:, 6], keyframes, file), KEYFRAME_GAP
    else:
        trajectory, gap = tum_trajectory(source.read(listing.trajectory), file), MAX_GAP
    times = np.array(list(listing.images.values()))
    check_clocks(times, trajectory, file)
    if not listing.of_camera and listing.trajectory != KEYFRAMES:
        offset = find_time_offset(frames, trajectory.of_camera(mounts[0], gap))
        times = times + (offset.seconds if offset else 0.0)
        notes += [offset.note] if offset else []
    bodies = trajectory.at(times, gap, snap=SAME_TIME)
    return [body and body @ mount for body, mount in zip(bodies, mounts, strict=True)]


class _ImageSize(BaseModel):
    image_width: PositiveInt
    image_height: PositiveInt


def _lens(values: dict[str, object], file: str) -> Lens:
    """The lens by ROS's calibration keys. Exports of RTAB-Map hold rectified images: their projection matrix counts."""
    size = checked(_ImageSize, values, "calibration", CaptureError, file, remedy=CALIBRATION_REMEDY)
    rectified = "local_transform" in values and "projection_matrix" in values
    key, shape = ("projection_matrix", (3, 4)) if rectified else ("camera_matrix", (3, 3))
    k = checked_matrix(values, key, (shape,), file)
    coefficients, model = np.zeros(4), ""
    if not rectified and "distortion_coefficients" in values:
        shapes = ((1, 4), (1, 5), (1, 8))
        coefficients = checked_matrix(values, "distortion_coefficients", shapes, file)
        model = str(values.get("distortion_model", "plumb_bob"))
    intrinsics = (k[0, 0], k[1, 1], k[0, 2], k[1, 2])
    return opencv_lens(intrinsics, (size.image_width, size.image_height), model, coefficients, file)


def _body_from_camera(values: dict[str, object], file: str) -> Pose:
    """Pose of the camera on the body, by a key that names the direction of its matrix."""
    known = [key for key in values if isinstance(key, str) and (_TO_BODY.fullmatch(key) or _TO_CAMERA.fullmatch(key))]
    if len(known) != 1:
        unknown = ", ".join(str(key) for key in values)[:200]
        raise CaptureError(
            "the trajectory is the body's: one matrix must hold the camera's pose on it",
            found=", ".join(known) or f"no body_from_camera; there are {unknown}",
            remedy="write body_from_camera: a 4x4 matrix that takes points from the camera's optical axes (x right, "
            "y down, z forward) to the trajectory's body; the identity where the trajectory is the camera's. Also "
            "understood: T_lidar_camera, T_imu_camera (the same), T_camera_lidar, T_cam_imu (the inverse)",
            file=file,
        )
    pose = checked_pose(checked_matrix(values, known[0], ((4, 4), (3, 4)), file), file)
    return pose if _TO_BODY.fullmatch(known[0]) else pose.inverse()


def _up(values: dict[str, object], file: str) -> F64 | None:
    """The map's up direction where the calibration states it."""
    if "up_in_world" not in values:
        return None
    up = checked_matrix(values, "up_in_world", ((1, 3),), file)[0]
    if not abs(np.linalg.norm(up) - 1) < 1e-2:
        raise CaptureError(
            "up_in_world must be a unit direction", found=str(up.tolist()), remedy="write [0, 0, 1]", file=file
        )
    return up / np.linalg.norm(up)


def _survey(source: CaptureSource) -> Survey:
    listing = list_export(source)
    masks = find_masks(source, listing.images).values()
    lists = {listing.cloud, listing.trajectory, listing.times, listing.extrinsics, *listing.calibrations.values()}
    return Survey(
        sorted({*filter(None, lists), *listing.images, *masks}),
        len(listing.images),
        has_poses=True,
        has_depth=True,
        has_gravity=any("up_in_world" in values for values in _content(source, listing).values()),
        has_scale=True,
    )


def _content(source: CaptureSource, listing: Export) -> dict[str, dict[str, object]]:
    """Content of the calibrations by their names, with the extrinsics that all of them share."""
    shared = parse_yaml(source.read(listing.extrinsics), source.where(listing.extrinsics)) if listing.extrinsics else {}
    names = dict.fromkeys(listing.calibrations.values())
    return {name: parse_yaml(source.read(name), source.where(name)) | shared for name in names}


def _with_depth(
    frames: Sequence[ListedFrame], cameras: Sequence[Camera], points: F64, spacing: Spacing
) -> list[ListedFrame]:
    """Posed frames with depth: the map's points (N, 3) as their cameras see them."""
    views = [frame.world_from_camera.inverse() for frame in frames if frame.world_from_camera]
    typical = views[:: max(1, len(views) // 8)]
    depth_cameras = {camera: depth_camera_for(camera, points, typical, spacing) for camera in dict.fromkeys(cameras)}

    def with_depth(frame: ListedFrame, view: Pose, camera: Camera) -> ListedFrame:
        depth = partial(project_cloud, points, view, camera, spacing)
        return replace(frame, depth=depth, depth_camera=lambda _: camera)

    return [with_depth(frame, view, depth_cameras[c]) for frame, view, c in zip(frames, views, cameras, strict=True)]


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listing = list_export(source)
    content = _content(source, listing)
    lenses = {name: _lens(values, source.where(name)) for name, values in content.items()}
    cameras = {name: camera_of(lens, source.where(name)) for name, lens in lenses.items()}
    mounts = dict.fromkeys(content, Pose.identity())
    if not listing.of_camera:
        mounts = {n: _body_from_camera(v, source.where(listing.extrinsics or n)) for n, v in content.items()}
    files = FrameFiles(source, find_masks(source, listing.images))
    frames = [
        through_lens(
            files.frame(PurePosixPath(image).stem, image, time),
            lenses[listing.calibrations[image]],
            source.where(image),
        )
        for image, time in listing.images.items()
    ]
    notes: list[str] = []
    poses = _poses(source, listing, frames, [mounts[name] for name in listing.calibrations.values()], notes)
    posed, skipped = with_poses(frames, poses, "no pose near its time")
    points = read_points(source, listing.cloud)
    spacing = point_spacing(points)
    listed = _with_depth(posed, [cameras[listing.calibrations[frame.name]] for frame in posed], points, spacing)
    calibration = next(iter(content))
    up = _up(content[calibration], source.where(listing.extrinsics or calibration))
    capture = sensor_capture(
        READER,
        thinned([replace(frame, depth_name=listing.cloud) for frame in listed], params),
        source,
        out_dir,
        params,
        up_in_world=up,
        skipped=skipped,
        notes=[f"depth is the map {listing.cloud}, its points about {1000 * spacing.metres:.0f} mm apart", *notes],
    )
    remedy = (
        "check body_from_camera (from the camera's optical axes, z forward, to the trajectory's body), the images' "
        "times, and that the cloud is of this trajectory"
    )
    return check_registration(capture, source.folder, remedy)


READER = Reader(
    kind="lidar_slam",
    form=f"a LiDAR SLAM export (folder or zip; RTAB-Map, LIO-SAM, FAST-LIO): {_FORM}",
    yields="poses, depth from the map, lens distortion, times, metric scale",
    recognise=is_export,
    survey=_survey,
    read=_read,
    # a laser scanner's ranges are good to centimetres; maps are levelled by their first second of IMU readings
    sensors=Sensors(scale_sigma=0.005, up_sigma_deg=1.0, depth_range=LIDAR_RANGE, on_machine=True),
)
