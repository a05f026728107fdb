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
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from pipeline.capture.checks import check_increasing, checked_camera
from pipeline.capture.depth_images import depth_of_npy, depth_of_png
from pipeline.capture.frames import FrameFiles, ListedFrame, scaled_camera, sensor_capture, thinned
from pipeline.capture.images import DecodedImage, find_masks
from pipeline.capture.imu_gravity import PHONE_BIAS_SIGMA, FrameGravity, Up, imu_readings, up_while_moving
from pipeline.capture.model import Capture, Size, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.phones.arkit import ARKIT, ARKIT_UP
from pipeline.capture.reader import Reader, Survey, put_once
from pipeline.capture.source import CaptureSource, parse_table
from pipeline.capture.trajectory import numbers, pose_of
from pipeline.capture.videos.containers import check_container, format_of
from pipeline.capture.videos.movie import images_of
from pipeline.errors import CaptureError
from pipeline.geometry import CV_FROM_GL, Camera, Pose
from pipeline.image_files import BadImageError
from pipeline.types import F64, U16

logger = logging.getLogger(__name__)

Intrinsics = tuple[float, float, float, float]

VIDEO, ODOMETRY, INTRINSICS, IMU = "rgb.mp4", "odometry.csv", "camera_matrix.csv", "imu.csv"
CONFIDENCE_LEVELS = (0, 1, 2)
NOT_SHOWN = "the video does not show it"
MAX_TILT_DEG = 5.0
"""Largest difference of the accelerometer from ARKit's up; above, it has other axes or another clock."""
CAMERA_FROM_DEVICE = CV_FROM_GL @ np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
"""CoreMotion's axes (x right, y to the top, z out of the screen of an upright phone) in those of the back camera,
whose images have their top on the phone's right side (Apple, ARCamera.transform)."""
_IMAGE = re.compile(r"(depth|confidence)/(\d{1,9})\.(png|npy)", re.IGNORECASE)
_POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")
_COEFFICIENTS = ("fx", "fy", "cx", "cy")
_HALF = np.array([0, 0, 0.5, 0.5])
"""ARKit counts pixels from the centre of the upper left one."""


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
    column = {name: index for index, name in enumerate(header)}
    if missing := [name for name in _POSE if name not in column]:
        raise CaptureError(
            "odometry.csv must begin with the names of its columns: timestamp, frame, x, y, z, qx, qy, qz, qw",
            found=f"no {', '.join(missing)} in {', '.join(header)[:80]!r}",
            remedy="export the recording again",
            file=file,
        )
    rows: list[Row] = []
    for index, fields in enumerate(lines):
        row = _row(fields, column, index, file)
        if rows and row.number <= rows[-1].number:
            raise CaptureError(
                "frames must be numbered in order, each once",
                found=f"line {index + 2}: frame {row.number} after {rows[-1].number}",
                remedy="export the recording again",
                file=file,
            )
        rows.append(row)
    if not rows:
        raise CaptureError("odometry.csv must hold poses", found="none", remedy="record again", file=file)
    stamps = [(row.time, f"{file} (frame {row.number})") for row in rows if row.time is not None]
    check_increasing([time for time, _ in stamps], [where for _, where in stamps])
    return rows


def _row(fields: Sequence[str], column: Mapping[str, int], index: int, file: str) -> Row:
    line = index + 2

    def given(name: str) -> bool:
        return name in column and column[name] < len(fields) and fields[column[name]] != ""

    def values(names: Sequence[str]) -> F64:
        found = numbers([fields[column[name]] if given(name) else "" for name in names], len(names), file, line)
        if not np.isfinite(found).all():
            raise CaptureError(
                "numbers must be finite",
                found=f"line {line}: {', '.join(names)} = {found.tolist()}",
                remedy="remove the line: tracking was lost here",
                file=file,
            )
        return found

    pose = values(_POSE)
    number = float(values(["frame"])[0]) if "frame" in column else index
    if not 0 <= number < 1e9 or number != int(number):
        raise CaptureError(
            "frames must be numbered from 0 on",
            found=f"line {line}: frame {number:g}",
            remedy="export the recording again",
            file=file,
        )
    intrinsics = None
    if all(map(given, _COEFFICIENTS)):
        fx, fy, cx, cy = (values(_COEFFICIENTS) + _HALF).tolist()
        intrinsics = fx, fy, cx, cy
    return Row(
        number=int(number),
        time=float(values(["timestamp"])[0]) if "timestamp" in column else None,
        pose=pose_of(pose[:3], pose[3:], f"{file} (line {line})"),
        intrinsics=intrinsics,
    )


def read_camera_matrix(data: bytes, file: str) -> Intrinsics:
    """fx, fy, cx, cy [px] of camera_matrix.csv, the last frame's at the video's size.

    Raises:
        CaptureError: When it is no such matrix, row by row.
    """
    lines = parse_table(data, file, ",")
    matrix = np.array([numbers(fields, 3, file, line) for line, fields in enumerate(lines, 1)])
    if matrix.shape != (3, 3) or np.abs(matrix[[0, 1, 2, 2], [1, 0, 0, 1]]).max() > 1e-6 or matrix[2, 2] != 1:
        raise CaptureError(
            "camera_matrix.csv must hold three rows: fx, 0, cx / 0, fy, cy / 0, 0, 1",
            found=str(matrix.tolist()) if matrix.size else "no such matrix",
            remedy="copy the whole folder of the recording from the phone",
            file=file,
        )
    fx, fy, cx, cy = (matrix[[0, 1, 0, 1], [0, 1, 2, 2]] + _HALF).tolist()
    return fx, fy, cx, cy


def numbered_images(file: Path, chosen: Collection[int], frames: int) -> Iterator[tuple[int, Image.Image]]:
    """Numbers and images of the chosen frames as they are decoded; hidden and damaged ones are missing.

    Args:
        file: The video.
        chosen: Numbers of the frames to decode.
        frames: Number of frames in odometry.csv; the video may have one more or less.

    Raises:
        CaptureError: When it has another number of images, or is truncated, damaged or no video.
    """
    stored = _stored(file)
    if abs(len(stored) - frames) > 1:
        raise CaptureError(
            "rgb.mp4 must have one image for each line of odometry.csv",
            found=f"{len(stored)} images, {frames} poses",
            remedy="use the video as the app wrote it; edited ones have other frames",
            file=file,
        )
    number_of = {_microseconds(time): number for number, (time, _) in enumerate(stored)}
    shown = [number for number, (_, hidden) in enumerate(stored) if not hidden]
    last = max(chosen, default=-1)
    for frame in images_of(file, lambda index: index >= len(shown) or shown[index] in chosen):
        # by time, not by index: a damaged packet makes all later indices one less
        number = number_of.get(_microseconds(frame.time), -1)
        if number in chosen:
            yield number, frame.image
        if number >= last:
            return


def _stored(file: Path) -> list[tuple[float, bool]]:
    """Time [s] of every stored image, in order, and whether players hide it."""
    import av
    from av.error import FFmpegError

    check_container(file)
    try:
        with av.open(f"file:{file.resolve()}", format=format_of(file), metadata_errors="replace") as container:
            stream = container.streams.best("video")
            packets = [] if stream is None else container.demux(stream)
            return sorted(
                (float(packet.pts * packet.time_base), packet.is_discard)
                for packet in packets
                if packet.size and packet.pts is not None and packet.time_base is not None
            )
    except FFmpegError as error:
        raise CaptureError(
            "rgb.mp4 must be a complete video", found=str(error), remedy="copy it from the phone again", file=file
        ) from error


def _microseconds(time: float) -> int:
    return round(time * 1e6)


def _recognise(source: CaptureSource) -> bool:
    """By the columns of odometry.csv, which others write, too; with both other files next to it, it is damaged."""
    others = {VIDEO, INTRINSICS} & set(source.names)
    if ODOMETRY not in source.names or not others:
        return False
    columns = source.read(ODOMETRY).partition(b"\n")[0].split(b",")
    return len(others) == 2 or b"qx" in [column.strip() for column in columns]


def _images(source: CaptureSource, folder: str) -> dict[int, str]:
    """Names of depth or confidence images by frame number."""
    images: dict[int, str] = {}
    for name in source.names:
        if (match := _IMAGE.fullmatch(name)) and match[1].lower() == folder:
            put_once(images, int(match[2]), name, source)
    return images


def _complete(source: CaptureSource) -> list[Row]:
    """The lines of odometry.csv.

    Raises:
        CaptureError: When there is no video, or a line is wrong.
    """
    if VIDEO not in source.names:
        raise CaptureError(
            f"a Stray Scanner recording must hold {VIDEO}, {ODOMETRY} and {INTRINSICS}",
            found=f"no {VIDEO}",
            remedy="copy the whole folder of the recording from the phone",
            file=source.where(VIDEO),
        )
    return read_odometry(source.read(ODOMETRY), source.where(ODOMETRY))


def _survey(source: CaptureSource) -> Survey:
    rows, depths, confidences = _complete(source), _images(source, "depth"), _images(source, "confidence")
    frames = {row.number for row in rows}
    images = [name for part in (depths, confidences) for number, name in part.items() if number in frames]
    tables = [name for name in (ODOMETRY, INTRINSICS, IMU) if name in source.names]
    return Survey(
        [VIDEO, *tables, *images, *find_masks(source, map(_image_name, sorted(frames))).values()],
        len(rows),
        has_poses=True,
        has_depth=bool(depths),
        has_gravity=True,
        has_scale=True,
    )


def _image_name(number: int) -> str:
    return f"{number:06d}.jpg"


def _gravity(source: CaptureSource, rows: Sequence[Row]) -> tuple[FrameGravity | None, str]:
    """Gravity by the accelerometer and ARKit's poses, and a note.

    Apple's accelerometers give -1 g along the axis that points up, the opposite of what others call specific force.
    """
    data = source.read(IMU) if IMU in source.names else b""
    timed = [(row, row.time) for row in rows if row.time is not None]
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
    up = up_while_moving(
        readings,
        np.array([time for _, time in timed]),
        Rotation.from_matrix(np.stack([row.pose.rotation for row, _ in timed])),
        np.stack([row.pose.translation for row, _ in timed]),
        PHONE_BIAS_SIGMA,
    )
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
    """Frames with their images, as the video is decoded.

    Args:
        source: The recording.
        chosen: Frames to read by number.
        frames: Number of frames that the video should have.
        lost: Receives the frames whose image can't be decoded.
        max_lost: Largest share of them.
    """
    left = dict(chosen)
    with source.local(VIDEO) as path:
        for number, image in numbered_images(path, chosen.keys(), frames):
            if number in left:
                yield _with_image(left.pop(number), DecodedImage(image))
    lost += [Skipped(listed.name, NOT_SHOWN) for listed in left.values()]
    if len(left) > max(1, max_lost * len(chosen)):
        raise CaptureError(
            "rgb.mp4 must show the images of odometry.csv",
            found=f"{len(left)} of {len(chosen)} can't be decoded, first {next(iter(left.values())).name}",
            remedy="copy it from the phone again",
            file=source.where(VIDEO),
        )


def _with_image(frame: ListedFrame, image: DecodedImage) -> ListedFrame:
    depth_camera = scaled_camera(frame.camera(image.size), frame.depth_name, "depth image")
    return replace(frame, image=lambda: image, depth_camera=depth_camera)


def _camera(intrinsics: Intrinsics | None, file: str) -> Callable[[Size], Camera]:
    assert intrinsics is not None, "camera_matrix.csv is read where a line has none"
    return lambda size: checked_camera(intrinsics, size, file)


def _not_shown() -> DecodedImage:
    raise BadImageError(NOT_SHOWN)


def _depth(source: CaptureSource, name: str | None) -> U16:
    if name is None:
        raise BadImageError("no depth for it")
    read = depth_of_npy if name.lower().endswith(".npy") else depth_of_png
    return read(source.read(name), source.where(name))


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    rows = _complete(source)
    shared = None
    if any(row.intrinsics is None for row in rows):
        matrix = source.read(INTRINSICS) if INTRINSICS in source.names else b""
        shared = read_camera_matrix(matrix, source.where(INTRINSICS))
    depths, confidences = _images(source, "depth"), _images(source, "confidence")
    files = FrameFiles(source, find_masks(source, [_image_name(row.number) for row in rows]))
    gravity, gravity_note = _gravity(source, rows)

    def listed(row: Row) -> ListedFrame:
        depth, confidence = depths.get(row.number), confidences.get(row.number)
        name = _image_name(row.number)
        return ListedFrame(
            key=f"{row.number:06d}",
            name=f"{VIDEO}/{name}",
            image=_not_shown,
            camera=_camera(row.intrinsics or shared, source.where(ODOMETRY if row.intrinsics else INTRINSICS)),
            time=row.time,
            source_time=float(row.number) if row.time is None else row.time,
            world_from_camera=row.pose,
            depth=(lambda: _depth(source, depth)) if depths else None,
            depth_name=depth or f"depth/{row.number:06d}.png",
            confidence=files.confidence(confidence, CONFIDENCE_LEVELS) if confidence else None,
            gravity=gravity.at(row.time, row.pose) if gravity and row.time is not None else None,
            mask=files.mask(name),
        )

    lost: list[Skipped] = []
    chosen = {int(frame.key): frame for frame in thinned([listed(row) for row in rows], params)}
    notes = [gravity_note]
    if shared is not None:
        notes.append("the last image's intrinsics serve all")
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
