"""Reader of Stray Scanner recordings: a video, a table of ARKit poses, depth, confidence and an IMU's readings.

Source: github.com/strayrobots/scanner: docs/format.md, and what its encoders write (Helpers/*Encoder.swift), which
differs from that page in units; columns of newer versions of the app as its users' readers have them.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pipeline.capture.checks import checked_camera
from pipeline.capture.depth_images import confidence_of_png, depth_of_png
from pipeline.capture.frames import ListedFrame, Size, sensor_capture, thinned
from pipeline.capture.imu_gravity import PHONE_BIAS_SIGMA, FrameGravity, Up, imu_readings, up_while_moving
from pipeline.capture.masks import find_masks
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.phones.phone_depth import depth_of_npy, scaled_camera
from pipeline.capture.phones.stray_odometry import Intrinsics, Row, read_camera_matrix, read_odometry
from pipeline.capture.phones.stray_video import numbered_pictures
from pipeline.capture.pictures import BadPictureError, Picture
from pipeline.capture.reader import Reader, put_once
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.geometry import CV_FROM_GL, Camera
from pipeline.stage import Traits

logger = logging.getLogger(__name__)

VIDEO, ODOMETRY, INTRINSICS, IMU = "rgb.mp4", "odometry.csv", "camera_matrix.csv", "imu.csv"
SCALE_SIGMA = 0.01
UP_SIGMA_DEG = 1.0
"""What ARKit reaches for scale and gravity on phones with LiDAR."""
CONFIDENCE_LEVELS = (0, 1, 2)
NOT_SHOWN = "the video does not show it"
MAX_TILT_DEG = 5.0
"""By how much the accelerometer may differ from ARKit's up before it counts as of other axes or another clock."""
CAMERA_FROM_DEVICE = CV_FROM_GL @ np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
"""CoreMotion's axes (x right, y to the top, z out of the screen of an upright phone) in those of the back camera,
whose pictures have their top on the phone's right side (Apple, ARCamera.transform)."""
_IMAGE = re.compile(r"(depth|confidence)/(\d{1,9})\.(png|npy)", re.IGNORECASE)


def _recognise(source: CaptureSource) -> bool:
    """By the columns of odometry.csv, which others write, too; with both other files beside it, it is damaged."""
    beside = {VIDEO, INTRINSICS} & set(source.names)
    if ODOMETRY not in source.names or not beside:
        return False
    columns = source.read(ODOMETRY).partition(b"\n")[0].split(b",")
    return len(beside) == 2 or b"qx" in [column.strip() for column in columns]


def _images(source: CaptureSource, folder: str) -> dict[int, str]:
    """Names of depth or confidence images by frame number."""
    found: dict[int, str] = {}
    for name in source.names:
        if (match := _IMAGE.fullmatch(name)) and match[1].lower() == folder:
            put_once(found, int(match[2]), name, source)
    return found


def _complete(source: CaptureSource) -> list[Row]:
    """The lines of odometry.csv.

    Raises:
        CaptureError: When there is no video beside it, or a line is wrong.
    """
    if VIDEO not in source.names:
        raise CaptureError(
            f"a Stray Scanner recording must hold {VIDEO}, {ODOMETRY} and {INTRINSICS}",
            found=f"no {VIDEO}",
            remedy="copy the whole folder of the recording from the phone",
            file=source.where(VIDEO),
        )
    return read_odometry(source.read(ODOMETRY), source.where(ODOMETRY))


def _traits(source: CaptureSource) -> Traits:
    count, depth = len(_complete(source)), _images(source, "depth")
    return Traits(
        "stray_scanner", count, has_poses=True, has_depth=bool(depth), has_gravity=True, ordered=True, has_scale=True
    )


def _files(source: CaptureSource) -> list[str]:
    frames = {row.number for row in _complete(source)}
    images = [
        name for part in ("depth", "confidence") for number, name in _images(source, part).items() if number in frames
    ]
    tables = [name for name in (ODOMETRY, INTRINSICS, IMU) if name in source.names]
    return [VIDEO, *tables, *images, *find_masks(source, map(_picture_name, sorted(frames))).values()]


def _picture_name(number: int) -> str:
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
            "imu.csv must hold seven numbers a line: time, acceleration and turn rate",
            found=str(error),
            remedy="remove the line or the file: it is not needed",
            file=source.where(IMU),
        ) from error
    readings = imu_readings(table[:, 0], -table[:, 1:4], table[:, 4:7]).turned(CAMERA_FROM_DEVICE)
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


def _with_pictures(
    source: CaptureSource, wanted: dict[int, ListedFrame], frames: int, lost: list[Skipped], max_lost: float
) -> Iterator[ListedFrame]:
    """The wanted frames with their pictures, as the video is decoded.

    Args:
        source: The recording.
        wanted: Frames by number.
        frames: How many there should be in the video.
        lost: Frames whose picture can't be had are added to it.
        max_lost: Largest share of them.
    """
    left = dict(wanted)
    with source.local(VIDEO) as path:
        for number, image in numbered_pictures(path, wanted.keys(), frames):
            if number in left:
                yield _with_picture(left.pop(number), Picture(image))
    lost += [Skipped(listed.name, NOT_SHOWN) for listed in left.values()]
    if len(left) > max(1, max_lost * len(wanted)):
        raise CaptureError(
            "rgb.mp4 must show the pictures of odometry.csv",
            found=f"{len(left)} of {len(wanted)} can't be decoded, first {next(iter(left.values())).name}",
            remedy="copy it from the phone again",
            file=source.where(VIDEO),
        )


def _with_picture(listed: ListedFrame, picture: Picture) -> ListedFrame:
    size = picture.size
    depth_camera = scaled_camera(listed.camera(size), listed.depth_name, "depth image")
    return replace(listed, picture=lambda: picture, depth_camera=depth_camera)


def _camera(intrinsics: Intrinsics | None, file: str) -> Callable[[Size], Camera]:
    assert intrinsics is not None, "camera_matrix.csv is read where a line has none"
    return lambda size: checked_camera(intrinsics, size, file)


def _not_shown() -> Picture:
    raise BadPictureError(NOT_SHOWN)


def _depth(source: CaptureSource, name: str | None) -> NDArray[np.uint16]:
    if name is None:
        raise BadPictureError("no depth for it")
    read = depth_of_npy if name.lower().endswith(".npy") else depth_of_png
    return read(source.read(name), source.where(name))


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    rows = _complete(source)
    shared = None
    if any(row.intrinsics is None for row in rows):
        matrix = source.read(INTRINSICS) if INTRINSICS in source.names else b""
        shared = read_camera_matrix(matrix, source.where(INTRINSICS))
    depths, confidences = _images(source, "depth"), _images(source, "confidence")
    masks = find_masks(source, [_picture_name(row.number) for row in rows])
    gravity, gravity_note = _gravity(source, rows)

    def listed(row: Row) -> ListedFrame:
        depth, confidence = depths.get(row.number), confidences.get(row.number)
        name = _picture_name(row.number)
        return ListedFrame(
            key=f"{row.number:06d}",
            name=f"{VIDEO}/{name}",
            picture=_not_shown,
            camera=_camera(row.intrinsics or shared, source.where(ODOMETRY if row.intrinsics else INTRINSICS)),
            time=row.time,
            source_time=float(row.number) if row.time is None else row.time,
            world_from_camera=row.pose,
            depth=(lambda: _depth(source, depth)) if depths else None,
            depth_name=depth or f"depth/{row.number:06d}.png",
            confidence=(lambda: confidence_of_png(source.read(confidence), source.where(confidence), CONFIDENCE_LEVELS))
            if confidence
            else None,
            gravity=gravity.at(row.time, row.pose) if gravity and row.time is not None else None,
            mask=(lambda: source.read(masks[name])) if name in masks else None,
        )

    lost: list[Skipped] = []
    chosen = thinned([listed(row) for row in rows], params)
    wanted = {int(frame.key): frame for frame in chosen}
    notes = [gravity_note]
    if shared is not None:
        notes.append("the last picture's intrinsics serve all")
    return sensor_capture(
        "stray_scanner",
        _with_pictures(source, wanted, rows[-1].number + 1, lost, params.max_bad_share),
        source,
        out_dir,
        params,
        up_in_world=np.array([0.0, 1.0, 0.0]),
        up_sigma_deg=UP_SIGMA_DEG,
        gravity_sigma_deg=gravity.sigma_deg if gravity else None,
        scale_sigma=SCALE_SIGMA,
        skipped=lost,
        notes=notes if depths else [*notes, "the recording has no depth"],
    )


READER = Reader(
    kind="stray_scanner",
    form=f"a Stray Scanner recording (folder or zip): {VIDEO}, {ODOMETRY}, {INTRINSICS}, {IMU}, depth/, confidence/",
    yields="poses, depth, confidence, gravity, times, metric scale",
    recognise=_recognise,
    traits=_traits,
    files=_files,
    read=_read,
)
