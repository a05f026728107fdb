"""Reader of GrandTour missions (ANYmal with the Boxi payload): ROS bags, or the zarr groups of Hugging Face, unpacked.

Source: leggedrobotics/grand_tour_dataset, its README and examples; arXiv 2602.18164.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pipeline.capture.bags.bag_depth import seen_by, without_distortion
from pipeline.capture.bags.bag_files import bag_names
from pipeline.capture.bags.grandtour_zarr import Eye, Mission, cameras_of, groups_of, open_mission
from pipeline.capture.bags.rosbag import bag_files, bag_traits, read_bags
from pipeline.capture.bags.zarr_arrays import ZarrArray, open_array
from pipeline.capture.frames import ListedFrame, declared_camera, sensor_capture, thinned
from pipeline.capture.imu_gravity import FrameGravity, ImuReadings, imu_readings, up_while_moving
from pipeline.capture.lens import camera_of, straight_picture
from pipeline.capture.masks import MASK_FOLDER, find_masks
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.pictures import Picture, load_picture
from pipeline.capture.reader import Reader
from pipeline.capture.slam.lidar_depth import WELL
from pipeline.capture.source import CaptureSource
from pipeline.capture.time_offset import PosesAt, find_time_offset
from pipeline.capture.trajectory import Trajectory, check_clocks, ordered_trajectory, pose_of
from pipeline.errors import CaptureError
from pipeline.geometry import Pose
from pipeline.stage import Traits

KIND = "grandtour"
MAX_GAP = 0.5
"""Between the two poses that a picture's is interpolated from [s]."""
MAX_APART = 0.05
"""Between a picture and its scan [s]."""
SCALE_SIGMA = 0.01
"""Of the LiDAR that the poses come from."""
_MISSION = re.compile(
    r"\d{4}(-\d\d){5}_(hdr_|alphasense|zed2i|dlio|hesai|livox|tf_|cpt7|anymal_|adis|stim320|ap20).*\.bag"
)


def _is_bags(source: CaptureSource) -> bool:
    return any(_MISSION.fullmatch(name) for name in bag_names(source))


def _recognise(source: CaptureSource) -> bool:
    return _is_bags(source) or bool(set(cameras_of(source)) & groups_of(source))


def _traits(source: CaptureSource) -> Traits:
    if _is_bags(source):
        return bag_traits(source, KIND, {})
    mission = open_mission(source, "first")
    return Traits(
        KIND,
        len(mission.eyes[0].pictures),
        has_poses=bool(mission.poses),
        has_depth=bool(mission.poses) and bool(mission.scans),
        has_gravity=bool(mission.imu),
        ordered=True,
        has_scale=bool(mission.poses),
    )


def _files(source: CaptureSource) -> list[str]:
    if _is_bags(source):
        return bag_files(source)
    mission, groups = open_mission(source, "first"), groups_of(source)
    cameras = {key: pictures for key, pictures in cameras_of(source).items() if key in groups}
    times = [open_array(source, f"data/{camera}/timestamp") for camera in cameras]
    names = {name for array in (*times, *mission.poses, *mission.scans, *mission.imu) for name in array.files()}
    names |= {f"data/{group}/.zattrs" for group in (*mission.described, *cameras)}
    names |= {name for pictures in cameras.values() for name in pictures.values()}
    return sorted(names | {name for name in source.names if f"{MASK_FOLDER}/" in name})


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    if _is_bags(source):
        return read_bags(source, out_dir, params, KIND, params.topics)
    mission = open_mission(source, params.cameras)
    poses = _trajectory(mission, source)
    readings = imu_readings(*(_numbers(array) for array in mission.imu)) if mission.imu else None
    notes, gravity_sigma = [*mission.notes], None
    listed: list[ListedFrame] = []
    skipped: list[Skipped] = []
    late = None
    for eye in mission.eyes:
        frames = _pictures(source, eye)
        times = np.array([frame.time for frame in frames])
        camera_at = poses.of_camera(eye.body_from_camera, MAX_GAP) if poses and eye.body_from_camera else None
        gravity = _gravity(readings, eye, poses) if readings else None
        if gravity is not None:
            notes += [gravity.note] if gravity.note not in notes else []
            gravity_sigma = max(gravity_sigma or 0.0, gravity.sigma_deg or 0.0) or None
        if poses:
            check_clocks(times, poses, source.where(mission.poses[0].path))
        if camera_at and late is None:
            offset = find_time_offset(frames, camera_at)
            late = offset.seconds if offset else 0.0
            notes += [offset.note] if offset else []
        scans = _Scans(mission, eye, camera_at)
        at = camera_at(times + (late or 0.0)) if camera_at else [None] * len(frames)
        for frame, pose, time in zip(frames, at, times + (late or 0.0), strict=True):
            scan = scans.near(time)
            if camera_at and pose is None:
                skipped.append(Skipped(frame.name, f"no poses within {MAX_GAP:g} s around it"))
            elif len(scans.times) and scan is None:
                skipped.append(Skipped(frame.name, f"no scan within {1000 * MAX_APART:g} ms"))
            else:
                posed = replace(
                    frame if scan is None or pose is None else scans.onto(frame, pose, scan),
                    world_from_camera=pose,
                    gravity=gravity.at(time, pose) if gravity else None,
                    sensor=eye.name if len(mission.eyes) > 1 else None,
                )
                listed.append(posed)
    return sensor_capture(
        KIND,
        thinned(listed, params),
        source,
        out_dir,
        params,
        gravity_sigma_deg=gravity_sigma,
        scale_sigma=SCALE_SIGMA if poses else None,
        depth_range=WELL if mission.scans and poses else None,
        skipped=skipped,
        notes=notes,
    )


def _numbers(array: ZarrArray) -> NDArray[np.float64]:
    return np.asarray(array.all(), np.float64)


def _trajectory(mission: Mission, source: CaptureSource) -> Trajectory | None:
    """World from the body that the poses tell of, over time."""
    if not mission.poses:
        return None
    times, positions, turns = (_numbers(array) for array in mission.poses)
    file = source.where(mission.poses[1].path)
    poses = [pose_of(p, q, file) for p, q in zip(positions, turns, strict=True)]
    return ordered_trajectory(times, poses, file)


def _gravity(readings: ImuReadings, eye: Eye, poses: Trajectory | None) -> FrameGravity | None:
    """In the eye's axes; None where the IMU's are unknown."""
    if eye.camera_from_imu is None:
        return None
    turned, up = readings.turned(eye.camera_from_imu.rotation), None
    if poses is not None and eye.body_from_camera is not None:
        imu = [pose @ eye.body_from_camera @ eye.camera_from_imu for pose in poses.poses]
        rotations = Rotation.from_matrix(np.stack([pose.rotation for pose in imu]))
        up = up_while_moving(readings, poses.times, rotations, np.stack([pose.translation for pose in imu]))
    return FrameGravity(turned, up)


def _pictures(source: CaptureSource, eye: Eye) -> list[ListedFrame]:
    """A camera's pictures, without poses and depth."""
    times = _numbers(eye.times)
    if max(eye.pictures) >= len(times):
        raise CaptureError(
            "pictures must be named by their place in the array of times",
            found=f"picture {max(eye.pictures)}, {len(times)} times",
            remedy="download the camera's data/ and images/ of one release",
            file=source.where(eye.times.path),
        )
    camera = camera_of(eye.lens, eye.about)
    masks = find_masks(source, eye.pictures.values(), eye.name)

    def picture(name: str) -> Picture:
        stored = load_picture(source.read(name), upright=False)
        if eye.lens.held or stored.size != (eye.lens.width, eye.lens.height):
            return stored
        return straight_picture(stored, source.read(masks[name]) if name in masks else None, eye.lens, camera)

    return [
        ListedFrame(
            key=f"{number:06d}",
            name=name,
            picture=partial(picture, name),
            camera=declared_camera(camera, eye.about),
            time=float(times[number]),
            source_time=float(times[number]),
            mask=partial(source.read, masks[name]) if name in masks and eye.lens.held else None,
        )
        for number, name in sorted(eye.pictures.items())
    ]


class _Scans:
    """LiDAR scans as a camera sees them.

    Attributes:
        times: (N,) [s]; none where the mission has no scans or no poses.
    """

    def __init__(self, mission: Mission, eye: Eye, camera_at: PosesAt | None) -> None:
        known = bool(mission.scans) and camera_at is not None and eye.camera_from_lidar is not None
        self.times = _numbers(mission.scans[0]) if known else np.zeros(0)
        self._poses = camera_at(self.times) if camera_at else ()
        self._mission, self._eye = mission, eye

    def near(self, time: float) -> int | None:
        """The scan of about that time [s], or None."""
        scan = int(np.abs(self.times - time).argmin()) if len(self.times) else -1
        near = scan >= 0 and abs(self.times[scan] - time) <= MAX_APART and self._poses[scan] is not None
        return scan if near else None

    def onto(self, frame: ListedFrame, pose: Pose, scan: int) -> ListedFrame:
        """The frame with the scan's points as its depth, moved by the poses to the picture's moment."""
        at_scan, camera_from_lidar = self._poses[scan], self._eye.camera_from_lidar
        assert at_scan and camera_from_lidar

        def points() -> NDArray[np.float32]:
            _, stored, valid = self._mission.scans
            return np.asarray(stored.rows(scan, scan + 1)[0, : int(valid.rows(scan, scan + 1).ravel()[0])], np.float32)

        pinhole = without_distortion(camera_of(self._eye.lens, self._eye.about))
        depth, depth_camera = seen_by(pinhole, pose.inverse() @ at_scan @ camera_from_lidar, points)
        return replace(frame, depth=depth, depth_name=f"scan {scan} for {frame.name}", depth_camera=depth_camera)


READER = Reader(
    kind=KIND,
    form="a GrandTour mission (folder or zip): its *.bag files, or data/ (zarr groups) and images/ unpacked",
    yields="several cameras, poses, depth from LiDAR, gravity from an IMU, lens distortion, times, metric scale",
    recognise=_recognise,
    traits=_traits,
    files=_files,
    read=_read,
)
