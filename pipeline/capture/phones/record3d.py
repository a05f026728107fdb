"""Reader of Record3D recordings: .r3d archives (or unpacked ones), and the app's export as EXR and JPG.

Poses and intrinsics are in the JSON file `metadata` of an archive or `metadata.json` of an export. Old versions of the
app leave out sizes, times and the intrinsics of single frames.

Layouts: issues 27, 33, 36, 53, 67, 83, 86 and 93 of github.com/marek-simonik/record3d, answered by the app's author;
RGBD video: README of github.com/marek-simonik/record3d-simple-wifi-streaming-demo, section 2.2. LZFSE, Apple's
compression of depth: src/lzfse_internal.h (block headers) and src/lzfse_decode_base.c of github.com/lzfse/lzfse.
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat

from pipeline.capture.checks import check_increasing, checked_camera
from pipeline.capture.depth_images import depth_of_exr, millimetres, spread_levels
from pipeline.capture.frames import FrameFiles, ListedFrame, scaled_camera, sensor_capture, thinned
from pipeline.capture.images import find_masks, load_image
from pipeline.capture.model import Capture, Size, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.phones.arkit import ARKIT, CONFIDENCE_LEVELS, arkit_survey, from_arkit, up_by_first
from pipeline.capture.reader import Reader, Survey, numbered_files
from pipeline.capture.source import CaptureSource
from pipeline.capture.trajectory import pose_of
from pipeline.capture.videos.containers import boxes_of
from pipeline.errors import CaptureError
from pipeline.geometry import CV_FROM_GL, Pose
from pipeline.io.image_files import BadImageError
from pipeline.types import F64, U8, U16

MAX_DEPTH_PIXELS = 960 * 720
"""Largest depth image of the app (Face ID camera); LiDAR has 256 x 192."""
AS_EXPORTED = "export the recording again as .r3d or as EXR + JPG"
_ARCHIVE, _EXPORT = "metadata", "metadata.json"
_VIDEO_MARK = b'{"intrinsic'
"""Begins the JSON that the app puts into the mp4 files of its RGBD video export (by the app's own demo page)."""
_LZFSE_END = b"bvx$"
_BYTES_PER_MATCH = 3
"""Smallest number of bytes of a match: it bounds a stream of blocks whose declared sizes are false."""
_one_at_a_time = threading.Lock()  # so that the bound holds for all threads together; real streams take milliseconds

Side = Annotated[int, Field(ge=1, le=65535)]


class Metadata(BaseModel):
    """The app's JSON.

    Attributes:
        poses: qx, qy, qz, qw, x, y, z [m] of each frame: world from camera in GL axes.
        coefficients: fx, fy, cx, cy [px] of each frame, as ARKit counts, for images of `w` x `h`.
        matrix: Intrinsics of the first frame, column by column.
        stamps: Times [s].
        w: Width of the images that the intrinsics belong to; `h` their height.
        dw: Width of the depth images; `dh` their height.
    """

    poses: list[Annotated[list[float], Field(min_length=7, max_length=7)]] | None = None
    coefficients: list[Annotated[list[float], Field(min_length=4, max_length=4)]] | None = Field(
        None, alias="perFrameIntrinsicCoeffs"
    )
    matrix: list[float] | None = Field(None, alias="K")
    stamps: list[FiniteFloat] | None = Field(None, alias="frameTimestamps")
    fps: float | None = None
    w: Side | None = None
    h: Side | None = None
    dw: Side | None = None
    dh: Side | None = None


@dataclass(frozen=True)
class _Listing:
    """File names by frame number."""

    metadata: str
    images: dict[int, str]
    depth: dict[int, str]
    confidence: dict[int, str]


def _list(source: CaptureSource) -> _Listing:
    if _ARCHIVE in source.names:
        parts = (numbered_files(source, rf"rgbd/(\d{{1,9}})\.{suffix}") for suffix in ("jpe?g", "depth", "conf"))
        return _Listing(_ARCHIVE, *parts)
    depth = numbered_files(source, r"depth/(\d{1,9})\.exr")
    return _Listing(_EXPORT, numbered_files(source, r"rgb/(\d{1,9})\.jpe?g"), depth, {})


def _recognise(source: CaptureSource) -> bool:
    """By names; metadata.json is a common one, so its content must be the app's."""
    found = False
    if _ARCHIVE in source.names or _EXPORT in source.names:
        listing = _list(source)
        found = bool(listing.images or listing.depth or listing.confidence)
    if _ARCHIVE in source.names:
        return found
    if found:
        try:
            return not source.read_object(_EXPORT).keys().isdisjoint(("K", "poses"))
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
    """The recording's files."""
    listing = _list(source)
    if not listing.images and (video := _rgbd_video(source)):
        raise CaptureError(
            "depth must be metric; a Record3D RGBD video has it as colours of a compressed image, cut off at 3 m",
            found="an RGBD video",
            remedy=f"{AS_EXPORTED}; for the images alone: ffmpeg -i VIDEO -vf crop=iw/2:ih:iw/2:0 images.mp4",
            file=source.where(video),
        )
    if not listing.images:
        rule = "a Record3D recording must hold images (rgbd/0.jpg or rgb/0.jpg ...)"
        raise _changed(rule, source.summary(), str(source.folder))
    return listing


def _changed(rule: str, found: str, file: str) -> CaptureError:
    return CaptureError(rule, found=found, remedy=AS_EXPORTED, file=file)


def _intrinsics(metadata: Metadata, frames: int, file: str) -> F64:
    """fx, fy, cx, cy of each frame (N, 4); the first one's for all `frames` where the app did not write more."""
    if metadata.coefficients and len(metadata.coefficients) > 1:
        return np.array(metadata.coefficients)
    if metadata.coefficients:
        return np.repeat(metadata.coefficients, frames, axis=0)
    matrix = np.array(metadata.matrix or ())
    if matrix.shape != (9,) or np.abs(matrix[[1, 2, 3, 5]]).max() > 1e-6 or abs(matrix[8] - 1) > 1e-6:
        rule = "K must be nine numbers, column by column: fx 0 0 0 fy 0 cx cy 1"
        raise _changed(rule, repr(metadata.matrix)[:80], file)
    return np.repeat(matrix[None, [0, 4, 6, 7]], frames, axis=0)


def _poses(metadata: Metadata, file: str) -> tuple[list[Pose], F64 | None]:
    """World from camera in CV axes, and up (3,) in that world: ARKit's; None where it begins at the first camera."""
    table = np.array(metadata.poses or [[]])
    same = len(table) > 1 and np.ptp(table, axis=0).max() < 1e-9
    if same or not table.size:
        raise CaptureError(
            "a Record3D recording must have poses",
            found=f"{len(table)} times the same" if same else "none",
            remedy="record with the LiDAR camera: the Face ID (selfie) camera gives no poses",
            file=file,
        )
    if abs(abs(table[0, 0]) - 1) < 1e-3 and np.abs(table[0, 1:4]).max() < 0.05:
        found = f"first {table[0, :4].tolist()}: a camera upside down, or a quaternion with its scalar first"
        raise _changed("poses must be qx, qy, qz, qw, x, y, z", found, file)
    in_gl = [pose_of(row[4:], row[:4], f"{file} (poses, frame {number})") for number, row in enumerate(table)]
    poses = [Pose(pose.rotation @ CV_FROM_GL, pose.translation) for pose in in_gl]
    return poses, up_by_first(poses[0])


def _check_counts(metadata: Metadata, images: Mapping[int, str], file: str) -> None:
    """Check that what the metadata list is of as many frames as there are images."""
    image_count, poses = max(images) + 1, len(metadata.poses or ())
    gaps = len(images) < image_count
    entries = {"poses": metadata.poses, "frameTimestamps": metadata.stamps}
    if len(metadata.coefficients or ()) > 1:
        entries["perFrameIntrinsicCoeffs"] = metadata.coefficients
    for key, count in ((key, len(values)) for key, values in entries.items() if values):
        # where numbers are left out someone removed images, and the numbers still tell which pose is whose
        if image_count > count + 1 or (image_count < count - 1 and not gaps) or abs(count - poses) > 1:
            found = f"{count} entries, {poses} poses, images up to number {image_count - 1}"
            raise _changed(f"{key} must have one entry for each image", found, file)


def _depth_size(source: CaptureSource, listing: _Listing, metadata: Metadata, image: Size) -> Size | None:
    """Width and height of the raw depth images; None for EXR images, which have their own."""
    size = (metadata.dw, metadata.dh) if metadata.dw and metadata.dh else None
    if size is None and listing.metadata == _ARCHIVE and listing.depth:
        size = _guessed_depth_size(source, listing.depth, image)
    if size is not None and size[0] * size[1] > MAX_DEPTH_PIXELS:
        file = source.where(listing.metadata)
        raise _changed(f"dw x dh must be at most {MAX_DEPTH_PIXELS}", f"{size[0]} x {size[1]}", file)
    return size


def lzfse_size(data: bytes) -> int:
    """Unpacked size of a complete LZFSE stream [bytes], as its blocks declare.

    Raises:
        BadImageError: When it is truncated or no LZFSE stream.
    """
    return sum(raw for raw, _ in _lzfse_blocks(data))


def unpacked(data: bytes, size: int, file: str) -> bytes:
    """Unpack an LZFSE stream of a known size.

    Raises:
        BadImageError: When it is truncated, damaged or no LZFSE stream.
        CaptureError: When it unpacks to something else than `size` bytes.
    """
    import lzfse

    blocks, content = _lzfse_blocks(data), None
    found = sum(raw for raw, _ in blocks)
    if found == size and sum(matches for _, matches in blocks) * _BYTES_PER_MATCH <= size:
        try:
            with _one_at_a_time:
                content = lzfse.decompress(data)
        except lzfse.error as error:
            raise BadImageError(f"damaged LZFSE data {error}".rstrip()) from error
        found = len(content)
    if content is None or found != size:
        rule = f"the file must unpack to {size} bytes, by the size that the recording declares for its depth"
        raise _changed(rule, f"{found} bytes", file)
    return content


def _lzfse_blocks(data: bytes) -> list[tuple[int, int]]:
    """Unpacked bytes and matches of each block; stored and LZVN blocks can't exceed what they say: no matches."""
    blocks = []
    at = 0
    try:
        while (magic := data[at : at + 4]) != _LZFSE_END:
            (raw,) = struct.unpack_from("<I", data, at + 4)
            matches = 0
            if magic == b"bvx-":
                at += 8 + raw
            elif magic == b"bvxn":
                at += 12 + struct.unpack_from("<I", data, at + 8)[0]
            elif magic == b"bvx2":
                literals, states, header = struct.unpack_from("<3Q", data, at + 8)
                matches = literals >> 40 & 0xFFFFF
                at += (header & 0xFFFFFFFF) + (literals >> 20 & 0xFFFFF) + (states >> 40 & 0xFFFFF)
            else:
                raise BadImageError(f"truncated or no LZFSE data: a block that begins with {magic!r}")
            if raw == 0:
                raise BadImageError("damaged LZFSE data: an empty block")
            blocks.append((raw, matches))
    except struct.error as error:
        raise BadImageError(f"truncated LZFSE data: {error}") from error
    if not blocks:
        raise BadImageError("LZFSE data of no content")
    return blocks


def _image_size(source: CaptureSource, images: Mapping[int, str]) -> Size:
    first = images[min(images)]
    try:
        return load_image(source.read(first), upright=False).size
    except BadImageError as error:
        rule = "the first image must be readable where the metadata have no w and h"
        raise _changed(rule, str(error), source.where(first)) from error


def _guessed_depth_size(source: CaptureSource, depth: Mapping[int, str], size: Size) -> Size:
    """The size in the image's shape that fits the number of values: old metadata have no dw and dh."""
    name = depth[min(depth)]
    try:
        pixels = lzfse_size(source.read(name)) / 4
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
    _, up = _poses(source.read_model(listing.metadata, Metadata), source.where(listing.metadata))
    images = listing.images.values()
    parts = (images, listing.depth.values(), listing.confidence.values(), find_masks(source, images).values())
    files = [listing.metadata, *chain.from_iterable(parts)]
    return arkit_survey(files, len(images), depth=bool(listing.depth), gravity=up is not None)


def _values(source: CaptureSource, name: str, size: Size, kind: str) -> np.ndarray:
    """Values (H, W) of a packed image."""
    width, height = size
    data = unpacked(source.read(name), np.dtype(kind).itemsize * width * height, source.where(name))
    return np.frombuffer(data, kind).reshape(height, width)


def _depth(source: CaptureSource, name: str | None, size: Size | None) -> U16:
    if name is None:
        raise BadImageError("no depth for it")
    if size is None or name.lower().endswith(".exr"):
        return depth_of_exr(source.read(name), source.where(name), MAX_DEPTH_PIXELS)
    return millimetres(_values(source, name, size, "<f4"))


def _confidence(source: CaptureSource, name: str, size: Size) -> U8:
    return spread_levels(_values(source, name, size, "u1"), source.where(name), CONFIDENCE_LEVELS)


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listing = _complete(source)
    file, metadata = source.where(listing.metadata), source.read_model(listing.metadata, Metadata)
    poses, up = _poses(metadata, file)
    intrinsics = _intrinsics(metadata, len(poses), file)
    _check_counts(metadata, listing.images, file)
    times = metadata.stamps
    if not times and metadata.fps is not None and 0 < metadata.fps < 1000:
        times = [number / metadata.fps for number in range(len(poses))]
    size = (metadata.w, metadata.h) if metadata.w and metadata.h else _image_size(source, listing.images)
    depth_size = _depth_size(source, listing, metadata, size)
    files = FrameFiles(source, find_masks(source, listing.images.values()))

    def listed(number: int) -> ListedFrame:
        image, depth, confidence = listing.images[number], listing.depth.get(number), listing.confidence.get(number)
        fx, fy, cx, cy = intrinsics[number].tolist()
        camera = from_arkit(checked_camera((fx, fy, cx, cy), size, f"{file} (intrinsics, frame {number})"))
        return replace(
            files.frame(str(number), image, times[number] if times else None),
            camera=scaled_camera(camera, source.where(image)),
            source_time=times[number] if times else float(number),
            world_from_camera=poses[number],
            depth=(lambda: _depth(source, depth, depth_size)) if listing.depth else None,
            depth_name=depth or image,
            depth_camera=scaled_camera(camera, source.where(depth or image), "depth image"),
            confidence=partial(_confidence, source, confidence, depth_size) if confidence and depth_size else None,
        )

    frames = min(len(poses), len(intrinsics), len(times or poses))
    numbers = sorted(listing.images)
    posed = [number for number in numbers if number < frames]
    if times:
        check_increasing([times[n] for n in posed], [source.where(listing.images[n]) for n in posed])
    begins_at_camera = "poses begin at the first image: the app left out how it was tilted, so gravity is not known"
    notes = [begins_at_camera if up is None else "poses are in ARKit's world: y is up"]
    if len(metadata.coefficients or ()) < 2:
        notes.append("the first image's intrinsics serve all")
    return sensor_capture(
        READER,
        thinned([listed(number) for number in posed], params),
        source,
        out_dir,
        params,
        up_in_world=up,
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
