"""Reader of Record3D recordings: .r3d archives (or unpacked ones), and the app's export as EXR and JPG.

Layouts: issues 27, 33, 36, 53, 67, 83, 86 and 93 of github.com/marek-simonik/record3d, answered by the app's author;
RGBD video: README of github.com/marek-simonik/record3d-simple-wifi-streaming-demo, section 2.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.checks import check_increasing, checked_camera, read_object
from pipeline.capture.depth_images import millimetres, spread_levels
from pipeline.capture.frames import ListedFrame, Size, sensor_capture, thinned
from pipeline.capture.masks import find_masks
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.phones.arkit_camera import from_arkit
from pipeline.capture.phones.exr import depth_of_exr
from pipeline.capture.phones.lzfse import unpacked
from pipeline.capture.phones.phone_depth import scaled_camera
from pipeline.capture.phones.record3d_metadata import AS_EXPORTED, MAX_DEPTH_PIXELS, has_up, read_metadata
from pipeline.capture.pictures import BadPictureError, load_picture
from pipeline.capture.reader import Reader, put_once
from pipeline.capture.source import CaptureSource
from pipeline.capture.videos.containers import boxes_of
from pipeline.errors import CaptureError
from pipeline.stage import Traits

SCALE_SIGMA = 0.01
UP_SIGMA_DEG = 1.0
"""What ARKit reaches for scale and gravity on phones with LiDAR."""
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
            return {"K", "poses"} & read_object(source.read(_EXPORT), source.where(_EXPORT)).keys() != set()
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
        CaptureError: When it is an RGBD video, or has no pictures.
    """
    listing = _list(source)
    if not listing.images and (video := _rgbd_video(source)):
        raise CaptureError(
            "depth must be metric; a Record3D RGBD video has it as colours of a compressed picture, cut off at 3 m",
            found="an RGBD video",
            remedy=f"{AS_EXPORTED}; for the pictures alone: ffmpeg -i VIDEO -vf crop=iw/2:ih:iw/2:0 pictures.mp4",
            file=source.where(video),
        )
    if not listing.images:
        raise CaptureError(
            "a Record3D recording must hold pictures (rgbd/0.jpg or rgb/0.jpg ...)",
            found=source.summary(),
            remedy=AS_EXPORTED,
            file=source.path / source.prefix,
        )
    return listing


def _traits(source: CaptureSource) -> Traits:
    listing = _complete(source)
    return Traits(
        "record3d",
        len(listing.images),
        has_poses=True,
        has_depth=bool(listing.depth),
        has_gravity=has_up(source, listing.metadata),
        ordered=True,
        has_scale=True,
    )


def _files(source: CaptureSource) -> list[str]:
    listing = _complete(source)
    return [*listing.names(), *find_masks(source, listing.images.values()).values()]


def _depth(source: CaptureSource, name: str | None, size: Size | None) -> NDArray[np.uint16]:
    if name is None:
        raise BadPictureError("no depth for it")
    file = source.where(name)
    if size is None or name.lower().endswith(".exr"):
        return depth_of_exr(source.read(name), file, MAX_DEPTH_PIXELS)
    width, height = size
    metres = np.frombuffer(unpacked(source.read(name), 4 * width * height, file), "<f4").reshape(height, width)
    return millimetres(metres)


def _confidence(source: CaptureSource, name: str, size: Size) -> NDArray[np.uint8]:
    width, height = size
    levels = np.frombuffer(unpacked(source.read(name), width * height, source.where(name)), np.uint8)
    return spread_levels(levels.reshape(height, width), source.where(name), CONFIDENCE_LEVELS)


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listing = _complete(source)
    data = read_metadata(source, listing.metadata, listing.images, listing.depth)
    masks = find_masks(source, listing.images.values())
    frames = data.frames

    def listed(number: int) -> ListedFrame:
        image, depth, confidence = listing.images[number], listing.depth.get(number), listing.confidence.get(number)
        fx, fy, cx, cy = data.intrinsics[number if len(data.intrinsics) > 1 else 0].tolist()
        where = f"{source.where(listing.metadata)} (intrinsics, frame {number})"
        camera = from_arkit(checked_camera((fx, fy, cx, cy), data.size, where))
        time = None if data.times is None else float(data.times[number])
        read_confidence: Callable[[], NDArray[np.uint8]] | None = None
        if confidence is not None and (size := data.depth_size) is not None:
            read_confidence = lambda: _confidence(source, confidence, size)  # noqa: E731
        return ListedFrame(
            key=str(number),
            name=image,
            picture=lambda: load_picture(source.read(image), upright=False),
            camera=scaled_camera(camera, source.where(image)),
            time=time,
            source_time=float(number) if time is None else time,
            world_from_camera=data.poses[number],
            depth=(lambda: _depth(source, depth, data.depth_size)) if listing.depth else None,
            depth_name=depth or image,
            depth_camera=scaled_camera(camera, source.where(depth or image), "depth image"),
            confidence=read_confidence,
            mask=(lambda: source.read(masks[image])) if image in masks else None,
        )

    numbers = sorted(listing.images)
    if data.times is not None:
        posed = [number for number in numbers if number < frames]
        check_increasing([data.times[n] for n in posed], [source.where(listing.images[n]) for n in posed])
    begins_at_camera = "poses begin at the first picture: the app left out how it was tilted, so gravity is not known"
    notes = [begins_at_camera if data.up is None else "poses are in ARKit's world: y is up"]
    if len(data.intrinsics) == 1:
        notes.append("the first picture's intrinsics serve all")
    return sensor_capture(
        "record3d",
        thinned([listed(number) for number in numbers if number < frames], params),
        source,
        out_dir,
        params,
        up_in_world=data.up,
        up_sigma_deg=None if data.up is None else UP_SIGMA_DEG,
        scale_sigma=SCALE_SIGMA,
        skipped=[Skipped(listing.images[number], "no pose") for number in numbers if number >= frames],
        notes=notes if listing.depth else [*notes, "the recording has no depth"],
    )


READER = Reader(
    kind="record3d",
    form="a Record3D recording: a .r3d file (metadata, rgbd/*.jpg|depth|conf) or the export as EXR + JPG",
    yields="poses, depth, confidence, times, metric scale; gravity where the app wrote it",
    recognise=_recognise,
    traits=_traits,
    files=_files,
    read=_read,
)
