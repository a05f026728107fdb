"""Reader of recordings in the EuRoC (ASL) layout: cameras, an IMU and the body's poses, each with its own times.

Source: M. Burri et al., The EuRoC micro aerial vehicle datasets, IJRR 2016, and the data set's format description.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.capture.checks import checked_matrix, checked_pose, chosen_cameras, unread_cameras
from pipeline.capture.frames import FrameFiles, ListedFrame, sensor_capture, thinned, through_lens, with_poses
from pipeline.capture.images import find_masks
from pipeline.capture.imu_gravity import (
    ALONE_SIGMA_DEG,
    BIAS_SIGMA,
    GRAVITY,
    FrameGravity,
    ImuReadings,
    Up,
    imu_readings,
    up_while_moving,
)
from pipeline.capture.lens import Lens, camera_of, opencv_lens
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import Reader, Sensors, Survey
from pipeline.capture.source import CaptureSource
from pipeline.capture.texts import parse_yaml
from pipeline.capture.time_offset import find_time_offset
from pipeline.capture.trajectory import Trajectory, check_clocks, nearest, numbers, ordered_trajectory, pose_of
from pipeline.errors import CaptureError
from pipeline.geometry import Pose
from pipeline.types import F64

KNOWN_BIAS_SIGMA = 0.02
"""One sigma of an accelerometer's bias around what the ground truth states [m/s^2]."""
MAX_GAP = 0.1
"""Largest distance of the two poses that an image's is interpolated from [s]."""


def _base(source: CaptureSource) -> str | None:
    """Folder of the sensors: mav0/, or the source itself."""
    for base in ("", "mav0/"):
        if {f"{base}cam0/data.csv", f"{base}cam0/sensor.yaml"} & set(source.names):
            return base
    return None


def _file(source: CaptureSource, name: str) -> str:
    """The full name in the source, of a required file."""
    full = f"{_base(source)}{name}"
    if full not in source.names:
        rule = "a EuRoC recording needs data.csv, sensor.yaml and data/*.png of each camera, such as mav0/cam0/"
        raise _broken(rule, f"no {name}", source.where(full))
    return full


def _broken(rule: str, found: str, file: str) -> CaptureError:
    return CaptureError(rule, found=found, remedy="download the whole ASL archive again and unpack it", file=file)


def _optional(source: CaptureSource, sensor: str) -> str | None:
    name = f"{_base(source)}{sensor}/data.csv"
    return name if name in source.names else None


def _stamp(field: str, file: str, line: int) -> int:
    """Nanoseconds; as integers, since floating point is too coarse for them."""
    if not field.isdecimal():
        raise _broken("each line must begin with nanoseconds", f"line {line}: {field[:40]!r}", file)
    return int(field)


def _cameras(source: CaptureSource) -> list[str]:
    """Names of all cameras, cam0 first; others only where calibration and images exist."""
    pattern = re.compile(rf"{_base(source)}(cam\d+)/data/.+")
    cameras = {match[1] for name in source.names if (match := pattern.fullmatch(name))}
    needed = ("data.csv", "sensor.yaml")
    complete = {c for c in cameras if {f"{_base(source)}{c}/{name}" for name in needed} <= set(source.names)}
    return ["cam0", *sorted(complete - {"cam0"})]


def _images(source: CaptureSource, camera: str) -> list[tuple[int, str]]:
    """Nanoseconds and names of a camera's images."""
    name = _file(source, f"{camera}/data.csv")
    rows = source.read_table(name, ",")
    images = []
    for line, fields in enumerate(rows, 1):
        image = f"{_base(source)}{camera}/data/{fields[1] if len(fields) > 1 else ''}"
        images.append((_stamp(fields[0], source.where(name), line), image))
    missing = [image for _, image in images if image not in source.names]
    if missing or not images:
        found = f"{len(missing)} of {len(images)} missing{f', first {missing[0]}' if missing else ''}"
        raise _broken("all images that data.csv lists must exist", found, source.where(name))
    return images


def _table(source: CaptureSource, name: str, columns: int, start: int) -> tuple[F64, F64]:
    """Times (N,) [s] since the nanosecond `start`, and the columns (N, columns) after them."""
    file = source.where(name)
    times, values = [], []
    for line, fields in enumerate(source.read_table(name, ","), 1):
        times.append((_stamp(fields[0], file, line) - start) * 1e-9)
        values.append(numbers(fields[1:], columns, file, line))
    return np.array(times), np.array(values).reshape(-1, columns)


def _read_imu(source: CaptureSource, name: str, start: int) -> ImuReadings:
    """In the body's axes. The file's columns: w_RS_S x y z [rad/s], a_RS_S x y z [m/s^2], in the sensor's axes."""
    (times, values), file = _table(source, name, 6, start), source.where(name)
    strength = float(np.median(np.linalg.norm(values[:, 3:], axis=1))) if len(values) else np.nan
    if not abs(strength - GRAVITY) < 2 or np.any(np.diff(times) <= 0):
        found = f"a median of {strength:.3g} m/s^2, {int(np.sum(np.diff(times) <= 0))} times that don't increase"
        raise _broken("an IMU must give increasing times and specific force in m/s^2", found, file)
    readings = imu_readings(times, values[:, 3:], values[:, :3])
    sensor = name.removesuffix("data.csv") + "sensor.yaml"
    return readings.rotated(_body_from_sensor(source, sensor).rotation) if sensor in source.names else readings


def _body_from_sensor(source: CaptureSource, name: str) -> Pose:
    file = source.where(name)
    return checked_pose(checked_matrix(parse_yaml(source.read(name), file), "T_BS", ((4, 4),), file), file)


def _lens(source: CaptureSource, camera: str) -> Lens:
    name = _file(source, f"{camera}/sensor.yaml")
    file = source.where(name)
    values = parse_yaml(source.read(name), file)
    fx, fy, cx, cy = checked_matrix(values, "intrinsics", ((1, 4),), file)[0]
    width, height = checked_matrix(values, "resolution", ((1, 2),), file)[0]
    coefficients = checked_matrix(values, "distortion_coefficients", ((1, 4), (1, 5)), file)
    model = str(values.get("distortion_model", ""))
    return opencv_lens((fx, fy, cx, cy), (round(width), round(height)), model, coefficients, file)


def _up_in_world(
    readings: ImuReadings, trajectory: Trajectory, source: CaptureSource, name: str, start: int
) -> Up | str | None:
    """Up in the poses' world, as `up_while_moving`; less the accelerometer's bias where the pose file states it."""
    rows = source.read_table(name, ",")
    bias_sigma = BIAS_SIGMA
    if rows and len(rows[0]) >= 17:
        times, values = _table(source, name, 16, start)
        readings = replace(readings, force=readings.force - values[nearest(times, readings.times), 13:16])
        bias_sigma = KNOWN_BIAS_SIGMA
    return up_while_moving(readings, *trajectory.samples(), bias_sigma)


def _survey(source: CaptureSource) -> Survey:
    poses, imu = (_optional(source, sensor) for sensor in ("state_groundtruth_estimate0", "imu0"))
    base, first = _base(source), [image for _, image in _images(source, "cam0")]
    names = [_file(source, "cam0/data.csv"), _file(source, "cam0/sensor.yaml"), *filter(None, (poses, imu))]
    names += [name for name in (f"{base}imu0/sensor.yaml",) if name in source.names]
    for camera in _cameras(source):
        images = first if camera == "cam0" else [name for name in source.names if name.startswith(f"{base}{camera}/")]
        names += [*images, *find_masks(source, images, camera).values()]
    return Survey(sorted({*names}), len(first), has_poses=bool(poses), has_gravity=bool(imu), has_scale=bool(poses))


def _listed(source: CaptureSource, camera: str, start: int) -> list[ListedFrame]:
    """A camera's images, seconds since the nanosecond `start`, without poses and gravity."""
    images, lens = _images(source, camera), _lens(source, camera)
    camera_of(lens, source.where(_file(source, f"{camera}/sensor.yaml")))  # an unusable lens names that file
    files = FrameFiles(source, find_masks(source, [image for _, image in images], camera))
    return [
        through_lens(
            replace(files.frame(str(stamp), image, (stamp - start) * 1e-9), source_time=float(stamp)),
            lens,
            source.where(image),
        )
        for stamp, image in images
    ]


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    present = _cameras(source)
    cameras = chosen_cameras(present, params.cameras, source.where(f"{_base(source)}cam0"))
    start = min(_images(source, camera)[0][0] for camera in cameras)
    imu_name, pose_name = (_optional(source, sensor) for sensor in ("imu0", "state_groundtruth_estimate0"))
    imu = _read_imu(source, imu_name, start) if imu_name else None
    trajectory = None
    if pose_name:  # columns: p_RS_R x y z [m], q_RS w x y z (world from body), then velocity and biases
        (times, values), file = _table(source, pose_name, 7, start), source.where(pose_name)
        poses = [pose_of(row[:3], np.roll(row[3:], -1), file) for row in values]
        trajectory = ordered_trajectory(times, poses, file)
    up = _up_in_world(imu, trajectory, source, pose_name, start) if imu and trajectory and pose_name else None
    skipped: list[Skipped] = []
    listed: list[ListedFrame] = []
    notes = [f"images of {', '.join(cameras)}", *unread_cameras(present, cameras)]
    late = 0.0
    for camera in cameras:
        frames = _listed(source, camera, start)
        times = np.array([frame.time for frame in frames])
        body_from_camera = _body_from_sensor(source, _file(source, f"{camera}/sensor.yaml"))
        if trajectory and pose_name:
            check_clocks(times, trajectory, source.where(pose_name))
            camera_at = trajectory.of_camera(body_from_camera, MAX_GAP)
            if not listed and (offset := find_time_offset(frames, camera_at)):
                late = offset.seconds
                notes.append(offset.note)
            frames, missing = with_poses(frames, camera_at(times + late), f"no pose within {1000 * MAX_GAP:g} ms")
            skipped += missing
        elif imu:
            gravity = FrameGravity(imu.rotated(body_from_camera.rotation.T), None)
            frames = [replace(frame, gravity=gravity.at(frame.time or 0.0, None)) for frame in frames]
        listed += [replace(frame, sensor=camera if len(cameras) > 1 else None) for frame in frames]
    if up is not None:
        notes.append(up.note if isinstance(up, Up) else up)
    return sensor_capture(
        READER,
        thinned(listed, params),
        source,
        out_dir,
        params,
        metric=trajectory is not None,
        up_in_world=up.direction if isinstance(up, Up) else None,
        up_sigma_deg=up.sigma_deg if isinstance(up, Up) else None,
        gravity_sigma_deg=ALONE_SIGMA_DEG if imu and not trajectory else None,
        skipped=skipped,
        notes=notes,
    )


READER = Reader(
    kind="euroc",
    form="a EuRoC (ASL) recording (folder or zip): mav0/{cam0, imu0, state_groundtruth_estimate0}",
    yields="several cameras, poses, gravity from the accelerometer, lens distortion, times, metric scale",
    recognise=lambda source: _base(source) is not None,
    survey=_survey,
    read=_read,
    sensors=Sensors(scale_sigma=0.002, on_machine=True),  # motion capture or a laser tracker: millimetres over a room
)
