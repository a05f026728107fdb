"""Captures with sensors: a reader lists what each frame has; here it is thinned, decoded, checked and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.checks import check_increasing, check_one_camera, check_track
from pipeline.capture.depth_images import save_confidence, save_depth
from pipeline.capture.depth_units import check_depth_unit
from pipeline.capture.masks import picture_mask, save_mask
from pipeline.capture.model import Capture, FocalSource, Frame, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.pictures import BadPictureError, Picture, Size, note_on_shrinking
from pipeline.capture.reader import in_threads, split_results
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose

SAME_SHAPE = 0.03
"""Largest relative difference in width by height between depth and the picture that it shows: sizes are rounded."""


@dataclass(frozen=True, eq=False)
class ListedFrame:
    """A frame as its source lists it; pixels are read when their function is called.

    Attributes:
        key: Stem of its files in the canonical capture, unique.
        name: The picture's name at the source, unique.
        picture: Decodes the picture; raises `BadPictureError`.
        camera: Intrinsics of a picture of some (width, height); raises `CaptureError` where they can't be.
        time: Seconds, increasing from frame to frame, or None.
        source_time: The source's own clock.
        world_from_camera: In CV axes [m], or None.
        depth: Gives (H, W) uint16 [mm], 0 = unknown; raises `BadPictureError`.
        depth_name: The depth's name at the source, for messages.
        depth_camera: Intrinsics of a depth image of some (width, height); None where it shows what the picture shows.
        confidence: Gives (H, W) uint8, 0 worst, 255 best.
        gravity: (3,) unit, in CV camera axes.
        mask: Gives the content of its mask file.
        border: Width of a border without content that is cut off picture and mask [px]; `camera` is that of the whole.
        focal_source: Where the intrinsics come from.
        sensor: Which camera of a rig took it; None where one camera is read. Keys and names are unique for each.
    """

    key: str
    name: str
    picture: Callable[[], Picture]
    camera: Callable[[Size], Camera]
    time: float | None = None
    source_time: float | None = None
    world_from_camera: Pose | None = None
    depth: Callable[[], NDArray[np.uint16]] | None = None
    depth_name: str = ""
    depth_camera: Callable[[Size], Camera] | None = None
    confidence: Callable[[], NDArray[np.uint8]] | None = None
    gravity: NDArray[np.float64] | None = None
    mask: Callable[[], bytes] | None = None
    border: int = 0
    focal_source: FocalSource = "given"
    sensor: str | None = None


def declared_camera(camera: Camera, file: str) -> Callable[[Size], Camera]:
    """For intrinsics that name the size of their picture: any other size is refused, naming `file`."""

    def checked(size: Size) -> Camera:
        if size != (camera.width, camera.height):
            raise CaptureError(
                "a picture must have the size that its camera file declares",
                found=f"{size[0]} x {size[1]}, declared {camera.width} x {camera.height}",
                remedy="use the pictures as exported, neither resized nor rotated",
                file=file,
            )
        return camera

    return checked


def thinned(frames: Sequence[ListedFrame], params: CaptureParams) -> list[ListedFrame]:
    """Those in the time range asked for, every so many of each camera's.

    Raises:
        ValueError: When a time range is asked for and the frames have no times.
    """
    chosen = list(frames)
    if params.start > 0 or params.end is not None:
        times = [frame.time for frame in chosen]
        if None in times:
            raise ValueError("capture.start and capture.end need a capture with times; this one has none")
        first = min((time for time in times if time is not None), default=0.0)
        end = np.inf if params.end is None else params.end
        seconds = [(time or 0.0) - first for time in times]
        chosen = [frame for frame, at in zip(chosen, seconds, strict=True) if params.start <= at <= end]
    sensors = dict.fromkeys(frame.sensor for frame in chosen)
    return [frame for key in sensors for frame in [f for f in chosen if f.sensor == key][:: params.stride]]


def sensor_capture(
    kind: str,
    listed: Iterable[ListedFrame],
    source: CaptureSource,
    out_dir: Path,
    params: CaptureParams,
    *,
    up_in_world: NDArray[np.float64] | None = None,
    up_sigma_deg: float | None = None,
    gravity_sigma_deg: float | None = None,
    scale_sigma: float | None = None,
    depth_range: float | None = None,
    skipped: Sequence[Skipped] = (),
    notes: Sequence[str] = (),
    one_camera: bool = True,
) -> Capture:
    """Read the frames of a recording and check them together.

    Args:
        kind: Of the reader.
        listed: Each camera's in the order of time, already thinned. Taken a few at a time, so that a video is decoded
            as it goes.
        source: For messages.
        out_dir: Root of the canonical capture.
        params: What the user chose.
        up_in_world: As in `Capture`; likewise the sigmas.
        up_sigma_deg: [deg].
        gravity_sigma_deg: [deg].
        scale_sigma: Relative.
        depth_range: As in `Capture` [m].
        skipped: What the reader left out itself.
        notes: What a person should know.
        one_camera: Whether each sensor is one camera, or any mix of them.

    Raises:
        CaptureError: When too much is unreadable, time runs backwards, devices are mixed, the camera does not move, or
            depth and poses contradict each other.
    """
    results = in_threads(lambda frame: _written(frame, source, out_dir), listed, f"reading {kind} frames")
    frames, bad = split_results(results, source, params)
    where = source.path / source.prefix
    sensors = list(dict.fromkeys(frame.sensor for frame in frames))
    frames = tuple(sorted(frames, key=lambda frame: sensors.index(frame.sensor)))
    for sensor in sensors:
        clocked = [(at, f.name) for f in frames if f.sensor == sensor and (at := _clock(f)) is not None]
        check_increasing([at for at, _ in clocked], [f"{where} ({name})" for _, name in clocked])
        if one_camera:
            check_one_camera([frame for frame in frames if frame.sensor == sensor], where)
    first = min((frame.time for frame in frames if frame.time is not None), default=0.0)
    frames = tuple(frame if frame.time is None else replace(frame, time=frame.time - first) for frame in frames)
    if any(frame.world_from_camera for frame in frames):
        check_track(frames, params.min_track, where)
    capture = Capture(
        root=out_dir,
        kind=kind,
        frames=frames,
        ordered=True,
        up_in_world=up_in_world,
        up_sigma_deg=up_sigma_deg,
        gravity_sigma_deg=gravity_sigma_deg,
        scale_sigma=scale_sigma,
        depth_range=depth_range,
        skipped=(*skipped, *bad),
    )
    unit = (check_depth_unit(capture, where),) if capture.has_depth and capture.has_poses else ()
    return replace(capture, notes=(*notes, *unit, *note_on_shrinking(frames)))


def _clock(frame: Frame) -> float | None:
    return frame.source_time if frame.time is None else frame.time


def _written(frame: ListedFrame, source: CaptureSource, out_dir: Path) -> Frame | Skipped:
    of_rig = f"{frame.sensor}_" if frame.sensor else ""
    key = of_rig + frame.key
    try:
        picture = frame.picture().shrunk()
        mask = picture_mask(picture, frame.mask() if frame.mask else None)
    except BadPictureError as error:
        return Skipped(frame.name, str(error))
    whole = frame.camera(picture.size)
    border = ceil(frame.border * picture.image.width / whole.width)
    picture, mask, camera = _without_border(picture, mask, whole.resized(*picture.image.size), border)
    depth_camera = confidence_path = None
    if frame.depth is not None:
        try:
            depth = frame.depth()
            confidence = frame.confidence() if frame.confidence else None
        except BadPictureError as error:
            return Skipped(frame.depth_name, str(error))
        size = (depth.shape[1], depth.shape[0])
        if frame.depth_camera is None:
            _check_shape(size, picture.size, source.where(frame.depth_name))
        depth_camera = frame.depth_camera(size) if frame.depth_camera else whole.resized(*size)
        save_depth(depth, out_dir / "depth" / f"{key}.png")
        if confidence is not None:
            confidence_path = f"confidence/{key}.png"
            save_confidence(confidence, depth.shape, source.where(frame.depth_name), out_dir / confidence_path)
    (out_dir / "images").mkdir(parents=True, exist_ok=True)
    return Frame(
        name=of_rig + frame.name.rpartition("/")[2],
        image=f"images/{picture.save(out_dir / 'images' / key).name}",
        camera=camera,
        focal_source=frame.focal_source,
        time=frame.time,
        source_time=frame.source_time,
        world_from_camera=frame.world_from_camera,
        depth=f"depth/{key}.png" if frame.depth is not None else None,
        depth_camera=depth_camera,
        confidence=confidence_path,
        gravity=frame.gravity,
        mask=None if mask is None else save_mask(mask, out_dir, key),
        source_size=picture.whole and (whole.width - 2 * frame.border, whole.height - 2 * frame.border),
        sensor=frame.sensor,
    )


def _check_shape(depth: Size, picture: Size, file: str) -> None:
    """Check that depth can show what the picture shows; otherwise it needs intrinsics of its own."""
    if abs(depth[0] * picture[1] / (depth[1] * picture[0]) - 1) > SAME_SHAPE:
        raise CaptureError(
            "depth without intrinsics of its own must have its picture's shape",
            found=f"depth of {depth[0]} x {depth[1]}, a picture of {picture[0]} x {picture[1]}",
            remedy="export depth that is registered to the pictures, or give the depth camera's intrinsics",
            file=file,
        )


def _without_border(
    picture: Picture, mask: NDArray[np.bool_] | None, camera: Camera, border: int
) -> tuple[Picture, NDArray[np.bool_] | None, Camera]:
    if border == 0:
        return picture, mask, camera
    right, bottom = camera.width - border, camera.height - border
    inner = replace(camera, width=right - border, height=bottom - border, cx=camera.cx - border, cy=camera.cy - border)
    cut = replace(picture, image=picture.image.crop((border, border, right, bottom)), copy=None)
    return cut, None if mask is None else mask[border:bottom, border:right], inner
