"""Reader of Record3D recordings: .r3d archives (or unpacked ones), and the app's export as EXR and JPG.

Poses and intrinsics are in the JSON file `metadata` of an archive or `metadata.json` of an export. Old versions of the
app leave out sizes, times and the intrinsics of single frames.

Layouts: issues 27, 33, 36, 53, 67, 83, 86 and 93 of github.com/marek-simonik/record3d, answered by the app's author;
RGBD video: README of github.com/marek-simonik/record3d-simple-wifi-streaming-demo, section 2.2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.capture.checks import check_increasing, checked_camera
from pipeline.capture.depth_images import depth_of_exr, millimetres, spread_levels
from pipeline.capture.frames import FrameFiles, ListedFrame, scaled_camera, sensor_capture, thinned
from pipeline.capture.images import find_masks, load_image
from pipeline.capture.model import Capture, Size, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.phones.arkit import ARKIT, ARKIT_UP, from_arkit
from pipeline.capture.phones.lzfse import unpacked, unpacked_size
from pipeline.capture.reader import Reader, Survey, put_once
from pipeline.capture.source import CaptureSource
from pipeline.capture.trajectory import pose_of
from pipeline.capture.videos.containers import boxes_of
from pipeline.errors import CaptureError
from pipeline.geometry import CV_FROM_GL, Pose, angle_deg
from pipeline.image_files import BadImageError
from pipeline.types import F64, U8, U16

MAX_DEPTH_PIXELS = 960 * 720
"""Largest depth image of the app (Face ID camera); LiDAR has 256 x 192."""
SAME_ROTATION_DEG = 0.1
"""A first pose rotated by less is the identity, but for rounding [deg]: the world begins at the first camera."""
AS_EXPORTED = "export the recording again as .r3d or as EXR + JPG"
CONFIDENCE_LEVELS = (0, 1, 2)
_ARCHIVE, _EXPORT = "metadata", "metadata.json"
_ARCHIVE_FILE = re.compile(r"rgbd/(\d{1,9})\.(jpg|jpeg|depth|conf)", re.IGNORECASE)
_EXPORT_FILE = re.compile(r"(?:rgb/(\d{1,9})\.(?:jpg|jpeg)|depth/(\d{1,9})\.exr)", re.IGNORECASE)
_VIDEO_MARK = b'{"intrinsic'
"""Begins the JSON that the app puts into the mp4 files of its RGBD video export (by the app's own demo page)."""


@dataclass(frozen=True)
class _Listing:
    """File names by frame number."""

    metadata: str
    images: dict[int, str]
    depth: dict[int, str]
    confidence: dict[int, str]

    def names(self) -> list[str]:
        return sorted([self.metadata, *self.images.values(), *self.depth.values(), *self.confidence.values()])


def _list(source: CaptureSource) -> _Listing:
    metadata = _ARCHIVE if _ARCHIVE in source.names else _EXPORT
    pattern = _ARCHIVE_FILE if metadata == _ARCHIVE else _EXPORT_FILE
    parts: dict[str, dict[int, str]] = {"jpg": {}, "depth": {}, "conf": {}}
    for name in source.names:
        if match := pattern.fullmatch(name):
            kind = {"jpeg": "jpg", "exr": "depth"}.get(suffix := name.rpartition(".")[2].lower(), suffix)
            put_once(parts[kind], int(next(filter(None, match.groups()))), name, source)
    return _Listing(metadata, parts["jpg"], parts["depth"], parts["conf"])


def _recognise(source: CaptureSource) -> bool:
    """By names; metadata.json is a common one, so its content must be the app's."""
    if _ARCHIVE in source.names:
        return any(map(_ARCHIVE_FILE.fullmatch, source.names))
    if _EXPORT in source.names and any(map(_EXPORT_FILE.fullmatch, source.names)):
        try:
            return {"K", "poses"} & source.read_object(_EXPORT).keys() != set()
        except CaptureError:
            return False
    return _rgbd_video(source) is not None


def _rgbd_video(source: CaptureSource) -> str | None:
    """The name of an RGBD video that the app exported, by the intrinsics in its header."""
    videos = [name for name in source.names if "/" not in name and name.lower().endswith(".mp4")]
    if len(videos) != 1 or len(source.names) > 3:  # the video, perhaps metadata.json, perhaps a note
        return None
    with source.local(videos[0]) as path, path.open("rb") as video:
        for box in boxes_of(path):
            if len(box.path) == 1 and box.kind != b"mdat":
                video.seek(box.start)
                if _VIDEO_MARK in video.read(min(box.end - box.start, 64 * 2**20)):
                    return videos[0]
    return None


def _complete(source: CaptureSource) -> _Listing:
    """The recording's files.

    Raises:
        CaptureError: When it is an RGBD video, or has no images.
    """
    listing = _list(source)
    if not listing.images and (video := _rgbd_video(source)):
        raise CaptureError(
            "depth must be metric; a Record3D RGBD video has it as colours of a compressed image, cut off at 3 m",
            found="an RGBD video",
            remedy=f"{AS_EXPORTED}; for the images alone: ffmpeg -i VIDEO -vf crop=iw/2:ih:iw/2:0 images.mp4",
            file=source.where(video),
        )
    if not listing.images:
        raise CaptureError(
            "a Record3D recording must hold images (rgbd/0.jpg or rgb/0.jpg ...)",
            found=source.summary(),
            remedy=AS_EXPORTED,
            file=source.folder,
        )
    return listing


@dataclass(frozen=True, eq=False)
class _Metadata:
    """Content of the metadata, by frame number.

    Attributes:
        poses: World from camera, CV axes.
        up: (3,) unit up direction of the poses' world, or None where that is the first camera's, however it was tilted.
        intrinsics: fx, fy, cx, cy [px] for images of `size`, as ARKit counts; one row for each frame, or one for all.
        times: Times [s], or None.
        size: Width and height that the intrinsics belong to.
        depth_size: Width and height of the depth images, or None.
    """

    poses: list[Pose]
    up: F64 | None
    intrinsics: F64
    times: F64 | None
    size: Size
    depth_size: Size | None

    @property
    def frames(self) -> int:
        """Number of frames that have everything."""
        intrinsics = [self.intrinsics] if len(self.intrinsics) > 1 else []
        times = [] if self.times is None else [self.times]
        return min(map(len, [self.poses, *intrinsics, *times]))


def _array(content: Mapping[str, Any], key: str, columns: int, file: str) -> F64 | None:
    """A list of rows of numbers (N, columns); None where the key is absent or its list empty."""
    values = content.get(key)
    if values is None or values == []:
        return None
    try:
        table = np.asarray(values, np.float64).reshape(len(values), -1)
    except (TypeError, ValueError):
        table = np.zeros((0, 0))
    if table.shape[1:] != (columns,) or (key == "frameTimestamps" and not np.isfinite(table).all()):
        raise CaptureError(
            f"{key} must be a list of rows of {columns} number(s)",
            found=repr(values)[:80],
            remedy=AS_EXPORTED,
            file=file,
        )
    return table


def _size(content: Mapping[str, Any], width: str, height: str, file: str) -> Size | None:
    values = content.get(width), content.get(height)
    if values == (None, None):
        return None
    if not all(isinstance(value, int | float) and 1 <= value <= 65535 and value == int(value) for value in values):
        raise CaptureError(
            f"{width} and {height} must be an image's width and height",
            found=f"{values[0]!r}, {values[1]!r}",
            remedy=AS_EXPORTED,
            file=file,
        )
    return int(values[0] or 0), int(values[1] or 0)


def _intrinsics(content: Mapping[str, Any], file: str) -> F64:
    """fx, fy, cx, cy of each frame, or of the first one where the app did not write more."""
    each = _array(content, "perFrameIntrinsicCoeffs", 4, file)
    if each is not None:
        return each
    first = _array(content, "K", 1, file)
    matrix = np.zeros(0) if first is None else first[:, 0]
    if matrix.shape != (9,) or np.abs(matrix[[1, 2, 3, 5]]).max() > 1e-6 or abs(matrix[8] - 1) > 1e-6:
        raise CaptureError(
            "K must be nine numbers, column by column: fx 0 0 0 fy 0 cx cy 1",
            found=repr(content.get("K"))[:80],
            remedy=AS_EXPORTED,
            file=file,
        )
    return matrix[None, [0, 4, 6, 7]]


def _poses(content: Mapping[str, Any], file: str) -> list[Pose]:
    """Rows of qx, qy, qz, qw, x, y, z [m]: world from camera in GL axes."""
    table = _array(content, "poses", 7, file)
    lidar = "record with the LiDAR camera: the Face ID (selfie) camera gives no poses"
    if table is None:
        raise CaptureError("a Record3D recording must have poses", found="none", remedy=lidar, file=file)
    if len(table) > 1 and np.ptp(table, axis=0).max() < 1e-9:
        found = f"{len(table)} times the same"
        raise CaptureError("a Record3D recording must have poses", found=found, remedy=lidar, file=file)
    if abs(abs(table[0, 0]) - 1) < 1e-3 and np.abs(table[0, 1:4]).max() < 0.05:
        raise CaptureError(
            "poses must be qx, qy, qz, qw, x, y, z",
            found=f"first {table[0, :4].tolist()}: a camera upside down, or a quaternion with its scalar first",
            remedy=AS_EXPORTED,
            file=file,
        )
    poses = []
    for number, row in enumerate(table):
        pose = pose_of(row[4:], row[:4], f"{file} (poses, frame {number})")
        poses.append(Pose(pose.rotation @ CV_FROM_GL, pose.translation))
    return poses


def _up_of(poses: Sequence[Pose]) -> F64 | None:
    """Up (3,) in the poses' world: ARKit's; a world that begins at the first camera knows nothing of gravity."""
    return None if angle_deg(poses[0].rotation, CV_FROM_GL) < SAME_ROTATION_DEG else ARKIT_UP


def _read_metadata(source: CaptureSource, listing: _Listing) -> _Metadata:
    """Read the metadata, and fill in what old versions of the app left out.

    Raises:
        CaptureError: When something is missing, malformed or of another number of frames than there are images.
    """
    file, images = source.where(listing.metadata), listing.images
    content = source.read_object(listing.metadata)
    poses, intrinsics = _poses(content, file), _intrinsics(content, file)
    stamps = _array(content, "frameTimestamps", 1, file)
    image_count = max(images) + 1
    gaps = len(images) < image_count
    counts = {"poses": len(poses)}
    if len(intrinsics) > 1:
        counts["perFrameIntrinsicCoeffs"] = len(intrinsics)
    if stamps is not None:
        counts["frameTimestamps"] = len(stamps)
    for key, count in counts.items():
        # where numbers are left out someone removed images, and the numbers still tell which pose is whose
        if image_count > count + 1 or (image_count < count - 1 and not gaps) or abs(count - len(poses)) > 1:
            raise CaptureError(
                f"{key} must have one entry for each image",
                found=f"{count} entries, {len(poses)} poses, images up to number {image_count - 1}",
                remedy=AS_EXPORTED,
                file=file,
            )
    times = None if stamps is None else stamps[:, 0]
    fps = content.get("fps")
    if times is None and isinstance(fps, int | float) and 0 < fps < 1000:
        times = np.arange(len(poses)) / fps
    size = _size(content, "w", "h", file) or _image_size(source, images)
    depth_size = _size(content, "dw", "dh", file)
    if depth_size is None and listing.depth and listing.depth[min(listing.depth)].lower().endswith(".depth"):
        depth_size = _guessed_depth_size(source, listing.depth, size)
    if depth_size is not None and depth_size[0] * depth_size[1] > MAX_DEPTH_PIXELS:
        raise CaptureError(
            f"dw x dh must be at most {MAX_DEPTH_PIXELS}",
            found=f"{depth_size[0]} x {depth_size[1]}",
            remedy=AS_EXPORTED,
            file=file,
        )
    return _Metadata(poses, _up_of(poses), intrinsics, times, size, depth_size)


def _image_size(source: CaptureSource, images: Mapping[int, str]) -> Size:
    first = images[min(images)]
    try:
        return load_image(source.read(first), upright=False).size
    except BadImageError as error:
        raise CaptureError(
            "the first image must be readable where the metadata have no w and h",
            found=str(error),
            remedy=AS_EXPORTED,
            file=source.where(first),
        ) from error


def _guessed_depth_size(source: CaptureSource, depth: Mapping[int, str], size: Size) -> Size:
    """The size in the image's shape that fits the number of values: old metadata have no dw and dh."""
    name = depth[min(depth)]
    try:
        pixels = unpacked_size(source.read(name)) / 4
    except BadImageError as error:
        pixels, reason = 0.0, str(error)
    else:
        reason = f"{pixels:g} values"
    width, height = (round(math.sqrt(pixels * a / b)) for a, b in (size, size[::-1]))
    if pixels == 0 or width * height != pixels:
        raise CaptureError(
            "depth must have the image's shape where the metadata have no dw and dh",
            found=f"{reason}, images of {size[0]} x {size[1]}",
            remedy="add dw and dh, the depth's width and height, to the metadata",
            file=source.where(name),
        )
    return width, height


def _survey(source: CaptureSource) -> Survey:
    listing = _complete(source)
    poses = _poses(source.read_object(listing.metadata), source.where(listing.metadata))
    return Survey(
        [*listing.names(), *find_masks(source, listing.images.values()).values()],
        len(listing.images),
        has_poses=True,
        has_depth=bool(listing.depth),
        has_gravity=_up_of(poses) is not None,
        has_scale=True,
    )


def _depth(source: CaptureSource, name: str | None, size: Size | None) -> U16:
    if name is None:
        raise BadImageError("no depth for it")
    file = source.where(name)
    if size is None or name.lower().endswith(".exr"):
        return depth_of_exr(source.read(name), file, MAX_DEPTH_PIXELS)
    width, height = size
    metres = np.frombuffer(unpacked(source.read(name), 4 * width * height, file), "<f4").reshape(height, width)
    return millimetres(metres)


def _confidence(source: CaptureSource, name: str, size: Size) -> U8:
    width, height = size
    levels = np.frombuffer(unpacked(source.read(name), width * height, source.where(name)), np.uint8)
    return spread_levels(levels.reshape(height, width), source.where(name), CONFIDENCE_LEVELS)


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listing = _complete(source)
    data = _read_metadata(source, listing)
    files = FrameFiles(source, find_masks(source, listing.images.values()))
    frames = data.frames

    def listed(number: int) -> ListedFrame:
        image, depth, confidence = listing.images[number], listing.depth.get(number), listing.confidence.get(number)
        fx, fy, cx, cy = data.intrinsics[number if len(data.intrinsics) > 1 else 0].tolist()
        where = f"{source.where(listing.metadata)} (intrinsics, frame {number})"
        camera = from_arkit(checked_camera((fx, fy, cx, cy), data.size, where))
        time = None if data.times is None else float(data.times[number])
        read_confidence: Callable[[], U8] | None = None
        if confidence is not None and (size := data.depth_size) is not None:
            read_confidence = lambda: _confidence(source, confidence, size)  # noqa: E731
        return ListedFrame(
            key=str(number),
            name=image,
            image=files.image(image),
            camera=scaled_camera(camera, source.where(image)),
            time=time,
            source_time=float(number) if time is None else time,
            world_from_camera=data.poses[number],
            depth=(lambda: _depth(source, depth, data.depth_size)) if listing.depth else None,
            depth_name=depth or image,
            depth_camera=scaled_camera(camera, source.where(depth or image), "depth image"),
            confidence=read_confidence,
            mask=files.mask(image),
        )

    numbers = sorted(listing.images)
    if data.times is not None:
        posed = [number for number in numbers if number < frames]
        check_increasing([data.times[n] for n in posed], [source.where(listing.images[n]) for n in posed])
    begins_at_camera = "poses begin at the first image: the app left out how it was tilted, so gravity is not known"
    notes = [begins_at_camera if data.up is None else "poses are in ARKit's world: y is up"]
    if len(data.intrinsics) == 1:
        notes.append("the first image's intrinsics serve all")
    return sensor_capture(
        READER,
        thinned([listed(number) for number in numbers if number < frames], params),
        source,
        out_dir,
        params,
        up_in_world=data.up,
        skipped=[Skipped(listing.images[number], "no pose") for number in numbers if number >= frames],
        notes=notes if listing.depth else [*notes, "the recording has no depth"],
    )


READER = Reader(
    kind="record3d",
    form="a Record3D recording: a .r3d file (metadata, rgbd/*.jpg|depth|conf) or the export as EXR + JPG",
    yields="poses, depth, confidence, times, metric scale; gravity where the app wrote it",
    recognise=_recognise,
    survey=_survey,
    read=_read,
    sensors=ARKIT,
)
