"""Reader of 3D Scanner App (Laan Labs), "All data": frames with ARKit's poses, LiDAR depth and confidence.

Layout and keys: the loaders for these exports in open-source projects (github.com/pengsongyou/openscene issue 12,
nerfstudio issue 3464). `cameraPoseARFrame` is ARKit's camera-to-world, row by row, in OpenGL camera axes; `intrinsics`
are for the image beside it. The app writes depth for every frame, and an image for some of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.capture.checks import checked_camera, checked_matrix, checked_pose
from pipeline.capture.frames import FrameFiles, ListedFrame, sensor_capture, thinned
from pipeline.capture.images import find_masks
from pipeline.capture.model import Capture, Size
from pipeline.capture.params import CaptureParams
from pipeline.capture.phones.arkit import ARKIT, ARKIT_UP, CONFIDENCE_LEVELS, arkit_survey, from_arkit
from pipeline.capture.reader import Reader, Survey, numbered_files, require_pairs
from pipeline.capture.source import CaptureSource
from pipeline.geometry import Camera

POSE, INTRINSICS = "cameraPoseARFrame", "intrinsics"


@dataclass(frozen=True)
class _Listing:
    """Files by frame number, of the frames that have an image; `depth` and `confidence` may be empty."""

    images: dict[int, str]
    cameras: dict[int, str]
    depth: dict[int, str]
    confidence: dict[int, str]
    without_image: int


def _list(source: CaptureSource) -> _Listing:
    images = numbered_files(source, r"frame_(\d+)\.(?:jpe?g|png)")
    patterns = (r"frame_(\d+)\.json", r"depth_(\d+)\.png", r"conf_(\d+)\.png")
    every = [numbered_files(source, pattern) for pattern in patterns]
    cameras, depth, confidence = ({key: name for key, name in part.items() if key in images} for part in every)
    parts = {"image": images, "camera": cameras, "depth": depth, "confidence": confidence}
    require_pairs({what: part for what, part in parts.items() if part or what == "camera"}, source)
    return _Listing(images, cameras, depth, confidence, without_image=len(every[0]) - len(cameras))


def _recognise(source: CaptureSource) -> bool:
    """By the camera files' keys."""
    cameras = numbered_files(source, r"frame_(\d+)\.json")
    return bool(cameras) and {POSE, INTRINSICS} <= source.read_object(cameras[min(cameras)]).keys()


def _survey(source: CaptureSource) -> Survey:
    listing = _list(source)
    parts = (listing.images, listing.cameras, listing.depth, listing.confidence)
    names = [name for part in parts for name in part.values()]
    files = sorted([*names, *find_masks(source, listing.images.values()).values()])
    return arkit_survey(files, len(listing.images), depth=bool(listing.depth))


def _camera(values: dict[str, object], file: str) -> Callable[[Size], Camera]:
    matrix = checked_matrix(values, INTRINSICS, ((3, 3),), file)
    numbers = float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2])
    return lambda size: from_arkit(checked_camera(numbers, size, file))


def _time(values: dict[str, object], file: str) -> float | None:
    """When the frame was taken [s], by the phone's clock; None where the file doesn't say."""
    return float(checked_matrix(values, "time", ((1, 1),), file)[0, 0]) if "time" in values else None


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listing = _list(source)
    files = FrameFiles(source, find_masks(source, listing.images.values()))

    def listed(number: int) -> ListedFrame:
        file = source.where(listing.cameras[number])
        values = source.read_object(listing.cameras[number])
        matrix = np.reshape(checked_matrix(values, POSE, ((4, 4),), file), (4, 4))
        confidence = listing.confidence.get(number)
        return replace(
            files.frame(f"{number:05d}", listing.images[number], _time(values, file), listing.depth.get(number)),
            camera=_camera(values, file),
            world_from_camera=checked_pose(matrix, file, axes="GL"),
            confidence=files.confidence(confidence, CONFIDENCE_LEVELS) if confidence else None,
        )

    frames = thinned([listed(number) for number in sorted(listing.images)], params)
    notes = [] if listing.depth else ["the export has no depth"]
    if listing.without_image:
        notes.append(f"{listing.without_image} frames have no image, as the app stores them: not used")
    return sensor_capture(READER, frames, source, out_dir, params, up_in_world=ARKIT_UP, notes=notes)


READER = Reader(
    kind="scanner_app",
    form='"All data" of 3D Scanner App (folder or zip): frame_*.jpg, frame_*.json, depth_*.png, conf_*.png',
    yields="poses, depth, confidence, gravity, metric scale",
    recognise=_recognise,
    survey=_survey,
    read=_read,
    sensors=ARKIT,
    spare=r"(?:thumb.*|(?:frame|depth|conf)_\d+|info|export.*|textured_output.*|points|annotations)\.\w+",
)
