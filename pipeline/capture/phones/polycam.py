"""Reader of Polycam raw exports (LiDAR, Space and Room mode), as a folder or zip.

Layout and pitfalls: the README and reader of github.com/PolyCam/polyform; cropping of the corrected images'
black borders: nerfstudio's Polycam processor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.capture.checks import checked_camera, checked_pose
from pipeline.capture.frames import FrameFiles, ListedFrame, declared_camera, sensor_capture, thinned
from pipeline.capture.images import find_masks
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.phones.arkit import ARKIT, ARKIT_UP, from_arkit
from pipeline.capture.reader import Reader, Survey, put_once, require_pairs
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.geometry import CV_FROM_GL
from pipeline.image_files import MAX_PIXELS
from pipeline.types import F64

BORDER = 15 / 1024
"""Black border of corrected (undistorted) images, by their width (nerfstudio crops 15 px of 1024)."""
_POSE_KEYS = [[f"t_{row}{column}" for column in range(4)] for row in range(3)]
_CAMERA_KEYS = ("fx", "fy", "cx", "cy", "width", "height")
_FILE = re.compile(r"(\d+)\.(jpg|jpeg|png|json)", re.IGNORECASE)  # leaves out "<time>.Clean.png"


@dataclass(frozen=True)
class _Listing:
    """File names by time [us]; images and cameras are both raw or both corrected, never mixed."""

    corrected: bool
    images: dict[int, str]
    cameras: dict[int, str]
    sensor_cameras: dict[int, str]
    depth: dict[int, str]
    confidence: dict[int, str]
    unplaced: dict[int, str]

    def names(self) -> list[str]:
        """All files of the frames that have a camera."""
        used = [self.images, self.cameras, self.depth, self.confidence]
        sensor = {key: name for key, name in self.sensor_cameras.items() if key in self.cameras}
        return sorted({name for part in (*used, sensor) for key, name in part.items() if key in self.cameras})


def _part(source: CaptureSource, folder: str) -> dict[int, str]:
    files: dict[int, str] = {}
    for name in source.names:
        inner, _, file = name.rpartition("/")
        if inner == f"keyframes/{folder}" and (match := _FILE.fullmatch(file)):
            put_once(files, int(match[1]), name, source)
    return files


def _list(source: CaptureSource) -> _Listing:
    raw_images, raw_cameras = _part(source, "images"), _part(source, "cameras")
    images, cameras = _part(source, "corrected_images"), _part(source, "corrected_cameras")
    corrected = bool(images and cameras)
    if not corrected:
        images, cameras = raw_images, raw_cameras
    if not cameras or not images:
        raise CaptureError(
            "a Polycam export must hold keyframes/cameras and keyframes/images (or both corrected_)",
            found=f"{len(images)} images and {len(cameras)} cameras",
            remedy="switch on developer mode before the capture, scan with LiDAR or Space mode and export raw data",
            file=source.folder,
        )
    corrected_depth = _part(source, "corrected_depth") if corrected else {}
    return _Listing(
        corrected=corrected,
        images={key: name for key, name in images.items() if key in cameras},
        cameras=cameras,
        sensor_cameras=raw_cameras,
        depth=corrected_depth or _part(source, "depth"),
        confidence=_part(source, "confidence"),
        unplaced={key: name for key, name in images.items() if key not in cameras},
    )


def _complete(source: CaptureSource) -> _Listing:
    listing = _list(source)
    ids = set(listing.cameras)
    parts = {"camera": ids, "image": set(listing.images)}
    for name, files in (("depth", listing.depth), ("confidence", listing.confidence)):
        if files:  # frames without a camera may have depth: they are not used
            parts[name] = set(files) & ids
    require_pairs({name: {str(key) for key in keys} for name, keys in parts.items()}, source)
    return listing


def _recognise(source: CaptureSource) -> bool:
    """By the camera files' keys; images under keyframes/ without cameras are an incomplete export."""
    cameras = [name for name in source.names if re.fullmatch(r"keyframes/(corrected_)?cameras/\d+\.json", name)]
    if not cameras:
        return any(name.startswith(("keyframes/images/", "keyframes/corrected_images/")) for name in source.names)
    return {"t_00", "fx"} <= source.read_object(cameras[0]).keys()


def _survey(source: CaptureSource) -> Survey:
    listing = _complete(source)
    names = listing.names()
    return Survey(
        [*names, *find_masks(source, names).values()],
        len(listing.images),
        has_poses=True,
        has_depth=bool(listing.depth),
        has_gravity=True,
        has_scale=True,
    )


def _number(values: Mapping[str, Any], key: str, file: str) -> float:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CaptureError(
            f"a Polycam camera file must hold the numbers t_00 .. t_23, {', '.join(_CAMERA_KEYS)}",
            found=f"{key} = {value!r}",
            remedy="export raw data with a recent version of Polycam",
            file=file,
        )
    return float(value)


def _gravity(values: Mapping[str, Any], file: str) -> F64 | None:
    """The optional "gravity" (unit, camera's OpenGL axes) in CV axes."""
    if "gravity" not in values:
        return None
    try:
        gravity = np.asarray(values["gravity"], np.float64)
    except (TypeError, ValueError):
        gravity = np.full(3, np.nan)
    length = float(np.linalg.norm(gravity)) if gravity.shape == (3,) else np.nan
    if not abs(length - 1) < 1e-2:
        raise CaptureError(
            "gravity must be a unit direction of three numbers",
            found=repr(values["gravity"])[:80],
            remedy="remove the key or write a unit vector in the camera's axes",
            file=file,
        )
    return CV_FROM_GL @ gravity / length


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listing = _complete(source)
    files = FrameFiles(source, find_masks(source, listing.images.values()))

    def listed(key: int) -> ListedFrame:
        image, file = listing.images[key], source.where(listing.cameras[key])
        values = source.read_object(listing.cameras[key])
        sensor = listing.sensor_cameras.get(key)
        if "gravity" not in values and sensor:  # corrected cameras drop the sensor's fields
            values = {**source.read_object(sensor), **values}
        matrix = [[_number(values, name, file) for name in row] for row in _POSE_KEYS]
        fx, fy, cx, cy, width, height = (_number(values, name, file) for name in _CAMERA_KEYS)
        columns, rows = (round(pixels) if 0 < pixels < MAX_PIXELS else 0 for pixels in (width, height))
        camera = from_arkit(checked_camera((fx, fy, cx, cy), (columns, rows), file))
        depth, confidence = listing.depth.get(key), listing.confidence.get(key)
        return ListedFrame(
            key=str(key),
            name=image,
            image=files.image(image),
            camera=declared_camera(camera, source.where(image)),
            time=key * 1e-6,
            source_time=float(key),
            world_from_camera=checked_pose(matrix, file, axes="GL"),
            depth=files.depth(depth) if depth else None,
            depth_name=depth or "",
            confidence=files.confidence(confidence) if confidence else None,
            gravity=_gravity(values, file),
            mask=files.mask(image),
            border=int(np.ceil(BORDER * camera.width)) if listing.corrected else 0,
        )

    frames = thinned([listed(key) for key in sorted(listing.images)], params)
    notes = [f"{'corrected' if listing.corrected else 'raw ARKit'} images and poses"]
    return sensor_capture(
        READER,
        frames,
        source,
        out_dir,
        params,
        up_in_world=ARKIT_UP,
        skipped=[Skipped(name, "the app optimised no camera for it") for name in listing.unplaced.values()],
        notes=notes if listing.depth else [*notes, "the export has no depth"],
    )


READER = Reader(
    kind="polycam",
    form="a Polycam raw export (folder or zip): keyframes/{images/*.jpg, cameras/*.json, depth/*.png}",
    yields="poses, depth, confidence, gravity, metric scale",
    recognise=_recognise,
    survey=_survey,
    read=_read,
    sensors=ARKIT,
)
