"""Reader of Stray Scanner recordings: a video, a table of ARKit poses, depth, confidence and an IMU's readings.

The app stamps its n-th image, of every d-th of 60 a second, with (n d - 1) / 60 s (VideoEncoder.swift), and starts
the video at 0. So the first one is stored, but hidden by an edit list: what players and decoders show begins with
frame 1. The n-th stored time is frame n's, shown or not.

Source: github.com/strayrobots/scanner: docs/format.md, and what its encoders write (Helpers/*Encoder.swift), which
differs from that page in units; the columns fx .. cy of newer versions of the app as its users' readers have them.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.capture.checks import check_increasing, checked_camera
from pipeline.capture.frames import FrameFiles, ListedFrame, scaled_camera, sensor_capture, thinned
from pipeline.capture.images import DecodedImage, find_masks
from pipeline.capture.imu_gravity import PHONE_BIAS_SIGMA, FrameGravity, Up, imu_readings, up_while_moving
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.phones.arkit import ARKIT, ARKIT_UP, CONFIDENCE_LEVELS, arkit_survey
from pipeline.capture.reader import Reader, Survey, numbered_files
from pipeline.capture.source import CaptureSource
from pipeline.capture.texts import parse_table
from pipeline.capture.trajectory import Trajectory, number_table, numbers, pose_of
from pipeline.capture.videos.movie import images_of, opened
from pipeline.errors import CaptureError
from pipeline.geometry import CV_FROM_GL, Pose
from pipeline.io.image_files import MAX_PIXELS
from pipeline.types import F64

logger = logging.getLogger(__name__)

Intrinsics = tuple[float, float, float, float]

VIDEO, ODOMETRY, INTRINSICS, IMU = "rgb.mp4", "odometry.csv", "camera_matrix.csv", "imu.csv"
NOT_SHOWN = "the video does not show it"
MAX_TILT_DEG = 5.0
"""Largest difference of the accelerometer from ARKit's up; above, it has other axes or another clock."""
CAMERA_FROM_DEVICE = CV_FROM_GL @ np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
"""CoreMotion's axes (x right, y to the top, z out of the screen of an upright phone) in those of the back camera,
whose images have their top on the phone's right side (Apple, ARCamera.transform)."""
_POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")
_COEFFICIENTS = ("fx", "fy", "cx", "cy")


@dataclass(frozen=True, eq=False)
class Row:
    """A line of odometry.csv.

    Attributes:
        number: Number of the frame, from 0.
        time: Time since the phone was switched on [s], or None (before August 2021).
        pose: World from camera, CV axes as they are written; the world is ARKit's, y up.
        intrinsics: fx, fy, cx, cy [px], the upper left pixel's centre at 0.5; None in recordings without them.
    """

    number: int
    time: float | None
    pose: Pose
    intrinsics: Intrinsics | None


def read_odometry(data: bytes, file: str) -> list[Row]:
    """The lines of odometry.csv, by the names of its columns.

    Raises:
        CaptureError: When a column is missing, or a line malformed, repeated or back in time.
    """
    header, *lines = parse_table(data, file, ",") or [[]]
    if missing := [name for name in _POSE if name not in header]:
        rule = "odometry.csv must begin with the names of its columns: timestamp, frame, x, y, z, qx, qy, qz, qw"
        raise _damaged(rule, f"no {', '.join(missing)} in {', '.join(header)[:80]!r}", file)
    needed = [name for name in ("timestamp", "frame", *_POSE) if name in header]
    rows: list[Row] = []
    for line, fields in enumerate(lines, 2):
        given = {name: field for name, field in zip(header, fields, strict=False) if field}
        values = numbers([given.get(name, "") for name in needed], len(needed), file, line, finite=True)
        named = dict(zip(needed, values.tolist(), strict=True))
        number, last = named.get("frame", line - 2), rows[-1].number if rows else -1
        if not last < number < 1e9 or number != int(number):
            found = f"line {line}: frame {number:g} after {last}"
            raise _damaged("frames must be numbered from 0 on and in order, each once", found, file)
        intrinsics = None
        if all(name in given for name in _COEFFICIENTS):
            coefficients = numbers([given[name] for name in _COEFFICIENTS], 4, file, line, finite=True)
            intrinsics = _intrinsics(coefficients)
        pose = pose_of(values[-7:-4], values[-4:], f"{file} (line {line})")
        rows.append(Row(int(number), named.get("timestamp"), pose, intrinsics))
    if not rows:
        raise _damaged("odometry.csv must hold poses", "none", file)
    stamps = [(row.time, f"{file} (frame {row.number})") for row in rows if row.time is not None]
    check_increasing([time for time, _ in stamps], [where for _, where in stamps])
    return rows


def _damaged(rule: str, found: str, file: str) -> CaptureError:
    remedy = "copy the whole folder of the recording from the phone again, as the app wrote it"
    return CaptureError(rule, found=found, remedy=remedy, file=file)


def _intrinsics(values: F64) -> Intrinsics:
    """fx, fy, cx, cy in our convention: ARKit counts pixels from the centre of the upper left one."""
    fx, fy, cx, cy = (values + np.array([0, 0, 0.5, 0.5])).tolist()
    return fx, fy, cx, cy


def read_camera_matrix(data: bytes, file: str) -> Intrinsics:
    """fx, fy, cx, cy [px] of camera_matrix.csv, the last frame's at the video's size.

    Raises:
        CaptureError: When it is no such matrix, row by row.
    """
    matrix = number_table(data, 3, file, ",")
    if matrix.shape != (3, 3) or np.abs(matrix[[0, 1, 2, 2], [1, 0, 0, 1]]).max() > 1e-6 or matrix[2, 2] != 1:
        found = str(matrix.tolist()) if matrix.size else "no such matrix"
        raise _damaged("camera_matrix.csv must hold three rows: fx, 0, cx / 0, fy, cy / 0, 0, 1", found, file)
    return _intrinsics(matrix[[0, 1, 0, 1], [0, 1, 2, 2]])


def _stored(file: Path) -> list[tuple[float, bool]]:
    """Time [s] of every stored image, in order, and whether players hide it."""
    from av.error import FFmpegError

    try:
        with opened(file, MAX_PIXELS) as container:
            stream = container.streams.best("video")
            packets = [] if stream is None else container.demux(stream)
            return sorted(
                (float(packet.pts * packet.time_base), packet.is_discard)
                for packet in packets
                if packet.size and packet.pts is not None and packet.time_base is not None
            )
    except FFmpegError as error:
        raise _damaged("rgb.mp4 must be a complete video", str(error), str(file)) from error


def _recognise(source: CaptureSource) -> bool:
    """By the columns of odometry.csv, which others write, too; with both other files next to it, it is damaged."""
    others = {VIDEO, INTRINSICS} & set(source.names)
    if ODOMETRY not in source.names or not others:
        return False
    columns = source.read(ODOMETRY).partition(b"\n")[0].split(b",")
    return len(others) == 2 or b"qx" in [column.strip() for column in columns]


def _complete(source: CaptureSource) -> tuple[list[Row], dict[int, str], dict[int, str]]:
    """The lines of odometry.csv, and the names of depth and of confidence images by frame number."""
    if VIDEO not in source.names:
        rule = f"a Stray Scanner recording must hold {VIDEO}, {ODOMETRY} and {INTRINSICS}"
        raise _damaged(rule, f"no {VIDEO}", source.where(VIDEO))
    rows = read_odometry(source.read(ODOMETRY), source.where(ODOMETRY))
    depths, confidences = (
        numbered_files(source, rf"{part}/(\d{{1,9}})\.(?:png|npy)") for part in ("depth", "confidence")
    )
    return rows, depths, confidences


def _survey(source: CaptureSource) -> Survey:
    rows, depths, confidences = _complete(source)
    frames = {row.number for row in rows}
    images = [name for part in (depths, confidences) for number, name in part.items() if number in frames]
    tables = [name for name in (ODOMETRY, INTRINSICS, IMU) if name in source.names]
    masks = find_masks(source, map(_image_name, sorted(frames))).values()
    return arkit_survey([VIDEO, *tables, *images, *masks], len(rows), depth=bool(depths))


def _image_name(number: int) -> str:
    return f"{number:06d}.jpg"


def _gravity(source: CaptureSource, rows: Sequence[Row]) -> tuple[FrameGravity | None, str]:
    """Gravity by the accelerometer and ARKit's poses, and a note.

    Apple's accelerometers give -1 g along the axis that points up, the opposite of what others call specific force.
    """
    data = source.read(IMU) if IMU in source.names else b""
    timed = [row for row in rows if row.time is not None]
    if not data.partition(b"\n")[2].strip() or not timed:
        return None, "no accelerometer: up is ARKit's alone"
    try:
        table = np.loadtxt(io.BytesIO(data), delimiter=",", skiprows=1, usecols=range(7), ndmin=2)
    except ValueError as error:
        raise CaptureError(
            "imu.csv must hold seven numbers a line: time, acceleration and rotation rate",
            found=str(error),
            remedy="remove the line or the file: it is not needed",
            file=source.where(IMU),
        ) from error
    readings = imu_readings(table[:, 0], -table[:, 1:4], table[:, 4:7]).rotated(CAMERA_FROM_DEVICE)
    trajectory = Trajectory(np.array([row.time for row in timed]), tuple(row.pose for row in timed))
    up = up_while_moving(readings, *trajectory.samples(), PHONE_BIAS_SIGMA)
    if not isinstance(up, Up):
        return None, up or "accelerometer not used: too few readings, or another clock"
    tilt = float(np.degrees(np.arccos(np.clip(up.direction[1], -1, 1))))
    if tilt > MAX_TILT_DEG:
        logger.warning("%s: the accelerometer's up is %.0f degrees off ARKit's; left out", source.where(IMU), tilt)
        return None, f"the accelerometer is {tilt:.0f} degrees off ARKit's up (other axes or another clock): left out"
    return FrameGravity(readings, up), f"{up.note}; ARKit agrees on up within {tilt:.1f} degrees"


def _with_images(
    source: CaptureSource, chosen: dict[int, ListedFrame], frames: int, lost: list[Skipped], max_lost: float
) -> Iterator[ListedFrame]:
    """The chosen frames (by number) with their images, as the video is decoded; `lost` receives those without one.

    The video may have one image more or less than `frames`, and at most a share `max_lost` may be lost.
    """
    left = dict(chosen)
    with source.local(VIDEO) as path:
        stored = _stored(path)
        if abs(len(stored) - frames) > 1:
            rule = "rgb.mp4 must have one image for each line of odometry.csv: edited videos have other frames"
            raise _damaged(rule, f"{len(stored)} images, {frames} poses", source.where(VIDEO))
        number_of = {round(time * 1e6): number for number, (time, _) in enumerate(stored)}
        shown = [number for number, (_, hidden) in enumerate(stored) if not hidden]
        for frame in images_of(path, lambda index: index >= len(shown) or shown[index] in chosen):
            # by time, not by index: a damaged packet makes all later indices one less
            number = number_of.get(round(frame.time * 1e6), -1)
            if listed := left.pop(number, None):
                image = DecodedImage(frame.image)
                depth_camera = scaled_camera(listed.camera(image.size), listed.depth_name, "depth image")
                yield replace(listed, image=lambda image=image: image, depth_camera=depth_camera)
            if number >= max(chosen, default=-1):
                break
    lost += [Skipped(listed.name, NOT_SHOWN) for listed in left.values()]
    if len(left) > max(1, max_lost * len(chosen)):
        found = f"{len(left)} of {len(chosen)} can't be decoded, first {next(iter(left.values())).name}"
        raise _damaged("rgb.mp4 must show the images of odometry.csv", found, source.where(VIDEO))


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    rows, depths, confidences = _complete(source)
    shared = None
    if any(row.intrinsics is None for row in rows):
        matrix = source.read(INTRINSICS) if INTRINSICS in source.names else b""
        shared = read_camera_matrix(matrix, source.where(INTRINSICS))
    files = FrameFiles(source, find_masks(source, [_image_name(row.number) for row in rows]))
    gravity, gravity_note = _gravity(source, rows)

    def listed(row: Row) -> ListedFrame:
        depth, confidence = depths.get(row.number), confidences.get(row.number)
        name, file = _image_name(row.number), source.where(ODOMETRY if row.intrinsics else INTRINSICS)
        intrinsics = row.intrinsics or shared
        assert intrinsics is not None
        return replace(  # its image is set as the video is decoded
            files.frame(f"{row.number:06d}", name, row.time),
            name=f"{VIDEO}/{name}",
            camera=lambda size: checked_camera(intrinsics, size, file),
            source_time=float(row.number) if row.time is None else row.time,
            world_from_camera=row.pose,
            depth=files.depth(depth) if depths else None,
            depth_name=depth or f"depth/{row.number:06d}.png",
            confidence=files.confidence(confidence, CONFIDENCE_LEVELS) if confidence else None,
            gravity=gravity.at(row.time, row.pose) if gravity and row.time is not None else None,
        )

    lost: list[Skipped] = []
    chosen = {int(frame.key): frame for frame in thinned([listed(row) for row in rows], params)}
    notes = [gravity_note, *(["the last image's intrinsics serve all"] if shared else [])]
    return sensor_capture(
        READER,
        _with_images(source, chosen, rows[-1].number + 1, lost, params.max_bad_share),
        source,
        out_dir,
        params,
        up_in_world=ARKIT_UP,
        gravity_sigma_deg=gravity.sigma_deg if gravity else None,
        skipped=lost,
        notes=notes if depths else [*notes, "the recording has no depth"],
    )


READER = Reader(
    kind="stray_scanner",
    form=f"a Stray Scanner recording (folder or zip): {VIDEO}, {ODOMETRY}, {INTRINSICS}, {IMU}, depth/, confidence/",
    yields="poses, depth, confidence, gravity, times, metric scale",
    recognise=_recognise,
    survey=_survey,
    read=_read,
    sensors=ARKIT,
)
