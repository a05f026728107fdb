"""Reader of Polycam raw exports (LiDAR, Space and Room mode), as a folder or zip.

Layout and pitfalls: the README and reader of github.com/PolyCam/polyform; cropping of the corrected images'
black borders: nerfstudio's Polycam processor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.capture.checks import checked_array, checked_camera, checked_pose
from pipeline.capture.frames import FrameFiles, ListedFrame, declared_camera, sensor_capture, thinned
from pipeline.capture.images import find_masks
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.phones.arkit import ARKIT, ARKIT_UP, arkit_survey, from_arkit
from pipeline.capture.reader import Reader, Survey, numbered_files, require_pairs
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.geometry import CV_FROM_GL
from pipeline.io.image_files import MAX_PIXELS
from pipeline.types import F64

BORDER = 15 / 1024
"""Black border of corrected (undistorted) images, by their width (nerfstudio crops 15 px of 1024)."""
_POSE_KEYS = [[f"t_{row}{column}" for column in range(4)] for row in range(3)]
_CAMERA_KEYS = ("fx", "fy", "cx", "cy", "width", "height")


@dataclass(frozen=True)
class _Listing:
    """Files by time [us] of frames with a camera; images and cameras are both raw or both corrected, never mixed."""

    corrected: bool
    cameras: dict[int, str]
    images: dict[int, str]
    depth: dict[int, str]
    confidence: dict[int, str]
    sensor_cameras: dict[int, str]
    unplaced: list[str]


def _list(source: CaptureSource) -> _Listing:
    """The export's files."""

    def files(folder: str) -> dict[int, str]:
        return numbered_files(source, rf"keyframes/{folder}/(\d+)\.(?:jpe?g|png|json)")  # not "<time>.Clean.png"

    def placed(part: dict[int, str]) -> dict[int, str]:
        return {key: name for key, name in part.items() if key in cameras}

    sensor_cameras = files("cameras")
    images, cameras = files("corrected_images"), files("corrected_cameras")
    corrected = bool(images and cameras)
    if not corrected:
        images, cameras = files("images"), sensor_cameras
    if not cameras or not images:
        rule = "a Polycam export must hold keyframes/cameras and keyframes/images (or both corrected_)"
        remedy = "switch on developer mode before the capture, scan with LiDAR or Space mode and export raw data"
        raise source.broken("", rule, f"{len(images)} images and {len(cameras)} cameras", remedy)
    depth = (files("corrected_depth") if corrected else {}) or files("depth")
    confidence = files("confidence")
    parts = {"camera": cameras, "image": images, "depth": depth, "confidence": confidence}
    require_pairs({what: placed(part) for what, part in parts.items() if part}, source)
    return _Listing(
        corrected,
        cameras,
        placed(images),
        placed(depth),
        placed(confidence),
        placed(sensor_cameras),
        unplaced=[name for key, name in images.items() if key not in cameras],
    )


def _recognise(source: CaptureSource) -> bool:
    """By the camera files' keys; images under keyframes/ without cameras are an incomplete export."""
    cameras = [name for name in source.names if re.fullmatch(r"keyframes/(corrected_)?cameras/\d+\.json", name)]
    if not cameras:
        return any(name.startswith(("keyframes/images/", "keyframes/corrected_images/")) for name in source.names)
    return {"t_00", "fx"} <= source.read_object(cameras[0]).keys()


def _survey(source: CaptureSource) -> Survey:
    listing = _list(source)
    parts = (listing.cameras, listing.images, listing.depth, listing.confidence, listing.sensor_cameras)
    names = sorted({name for part in parts for name in part.values()})
    files = [*names, *find_masks(source, names).values()]
    return arkit_survey(files, len(listing.images), depth=bool(listing.depth))


def _number(values: Mapping[str, object], key: str, file: str) -> float:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CaptureError(
            f"a Polycam camera file must hold the numbers t_00 .. t_23, {', '.join(_CAMERA_KEYS)}",
            found=f"{key} = {value!r}",
            remedy="export raw data with a recent version of Polycam",
            file=file,
        )
    return float(value)


def _gravity(values: Mapping[str, object], file: str) -> F64 | None:
    """The optional "gravity" (unit, camera's OpenGL axes) in CV axes."""
    if "gravity" not in values:
        return None
    gravity = checked_array(values["gravity"], "gravity", file)
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
    listing = _list(source)
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
        confidence = listing.confidence.get(key)
        return replace(
            files.frame(str(key), image, key * 1e-6, listing.depth.get(key)),
            camera=declared_camera(camera, source.where(image)),
            source_time=float(key),
            world_from_camera=checked_pose(matrix, file, axes="GL"),
            confidence=files.confidence(confidence) if confidence else None,
            gravity=_gravity(values, file),
            border=int(np.ceil(BORDER * camera.width)) if listing.corrected else 0,
        )

    notes = [f"{'corrected' if listing.corrected else 'raw ARKit'} images and poses"]
    return sensor_capture(
        READER,
        thinned([listed(key) for key in sorted(listing.images)], params),
        source,
        out_dir,
        params,
        up_in_world=ARKIT_UP,
        skipped=[Skipped(name, "the app optimised no camera for it") for name in listing.unplaced],
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
    spare=r"raw\.glb|mesh_info\.json|sfm_stats\.json|thumbnail\.\w+|.*\.Clean\.png",
)
