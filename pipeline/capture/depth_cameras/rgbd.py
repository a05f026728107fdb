"""Reader of 7-Scenes, and of RGB-D frames that are laid out like it: colour, 16-bit depth, poses, one intrinsics file.

Source: J. Shotton et al., Scene Coordinate Regression Forests, CVPR 2013, and the data set's readme.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.capture.checks import checked_pose
from pipeline.capture.depth_cameras.intrinsics import (
    DEPTH_CAMERA,
    INTRINSICS,
    REMEDY,
    IntrinsicsFiles,
    candidates,
    read_intrinsics,
)
from pipeline.capture.frames import FrameFiles, ListedFrame, sensor_capture, thinned
from pipeline.capture.images import find_masks
from pipeline.capture.model import Capture, Size
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import Reader, Survey, number_of, put_once, require_pairs
from pipeline.capture.source import CaptureSource
from pipeline.capture.trajectory import numbers
from pipeline.errors import CaptureError
from pipeline.geometry import Camera

SEVEN_SCENES = Camera(640, 480, 585.0, 585.0, 320.0, 240.0)
"""What its readme gives for all its Kinects; the recordings themselves have no intrinsics."""
ASSUMED = (
    f"no file of intrinsics lies next to the frames, and they are named like those of 7-Scenes: its readme's are taken "
    f"({SEVEN_SCENES.fx:g} px, centre {SEVEN_SCENES.cx:g}, {SEVEN_SCENES.cy:g}); if another camera took them, "
    f"write {INTRINSICS}"
)
_SEVEN_SCENES = re.compile(r"frame-\d{6}\.color\.png")
_PART = re.compile(r"(?P<id>[^/]+)\.(?P<part>color\.(?:jpg|jpeg|png)|depth\.png|pose\.txt)", re.IGNORECASE)


@dataclass(frozen=True)
class _Listing:
    """File names by frame id, and what files say of the intrinsics."""

    color: dict[str, str]
    depth: dict[str, str]
    pose: dict[str, str]
    intrinsics: IntrinsicsFiles

    @property
    def assumed(self) -> tuple[str, ...]:
        return () if self.intrinsics.color else (ASSUMED,)


def _folder(source: CaptureSource) -> str | None:
    """Where the frames lie: "" or, where there are intrinsics above the only folder of frames, that with its "/"."""
    if _has_frames(source.names):
        return ""
    below = [name for name in source.folders() if _has_frames(source.below(name).names)] if candidates(source) else []
    return f"{below[0]}/" if len(below) == 1 else None


def _has_frames(names: tuple[str, ...]) -> bool:
    parts = [match["part"].partition(".")[0].lower() for name in names if (match := _PART.fullmatch(name))]
    return "color" in parts and ("depth" in parts or "pose" in parts)


def _complete(source: CaptureSource) -> _Listing:
    folder = _folder(source) or ""
    files = [*candidates(source), *(candidates(source, folder) if folder else ())]
    listing = _Listing({}, {}, {}, read_intrinsics(source, files))
    for name in source.names:
        if name.startswith(folder) and (match := _PART.fullmatch(name[len(folder) :])):
            put_once(getattr(listing, match["part"].partition(".")[0].lower()), match["id"], name, source)
    require_pairs({"colour": listing.color, "depth": listing.depth, "pose": listing.pose}, source)
    if listing.intrinsics.color is None:
        if listing.intrinsics.depth is not None:
            raise _no_intrinsics(f"intrinsics of the depth only, in {listing.intrinsics.depth.file}", source)
        if not all(_SEVEN_SCENES.fullmatch(name.rpartition("/")[2]) for name in listing.color.values()):
            raise _no_intrinsics("no such file", source)
    return listing


def _no_intrinsics(found: str, source: CaptureSource) -> CaptureError:
    rule = f"RGB-D frames need {INTRINSICS}, a 3x3 matrix for images of their size; only those of 7-Scenes don't"
    return source.broken(INTRINSICS, rule, found, REMEDY)


def _survey(source: CaptureSource) -> Survey:
    listing = _complete(source)
    names = [*listing.intrinsics.names, *listing.color.values(), *listing.depth.values(), *listing.pose.values()]
    return Survey(
        sorted([*names, *find_masks(source, listing.color.values()).values()]),
        len(listing.color),
        has_poses=True,
        has_depth=True,
        has_scale=True,
        assumed=listing.assumed,
    )


def _seven_scenes(source: CaptureSource, what: str, size: Size) -> Camera:
    """The intrinsics of 7-Scenes' readme, for images and depth of its one size only."""
    if size != (SEVEN_SCENES.width, SEVEN_SCENES.height):
        raise _no_intrinsics(f"no such file, {what} of {size[0]} x {size[1]}; 7-Scenes has 640 x 480", source)
    return SEVEN_SCENES


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listing = _complete(source)
    given, files = listing.intrinsics, FrameFiles(source, find_masks(source, listing.color.values()))
    camera = given.color.camera if given.color else partial(_seven_scenes, source, "images")
    depth_camera = given.depth.camera if given.depth else None
    if given.color is None:
        depth_camera = partial(_seven_scenes, source, "depth")

    def listed(key: str) -> ListedFrame:
        color, depth, pose = listing.color[key], listing.depth[key], listing.pose[key]
        number, file = number_of(key)[0], source.where(pose)
        matrix = [numbers(row, 4, file, line) for line, row in enumerate(source.read_table(pose), 1)]
        return replace(
            files.frame(key, color, depth=depth),
            camera=camera,
            source_time=float(number) if number >= 0 else None,
            world_from_camera=checked_pose(matrix, file),
            depth_camera=depth_camera,
        )

    frames = thinned([listed(key) for key in sorted(listing.color, key=number_of)], params)
    notes = [f"intrinsics of {', '.join(given.names)}"] if given.color else []
    if depth_camera is None or given.color is None:
        notes.append("the same intrinsics serve colour and depth until calibrated")
    capture = sensor_capture(READER, frames, source, out_dir, params, notes=notes)
    return replace(capture, assumed=listing.assumed)


READER = Reader(
    kind="rgbd",
    form="a sequence of 7-Scenes, or RGB-D frames like it (folder or zip): *.color.jpg|png, *.depth.png, *.pose.txt, "
    f"{INTRINSICS}",
    yields="poses, depth, metric scale",
    recognise=lambda source: _folder(source) is not None,
    survey=_survey,
    read=_read,
    sensors=DEPTH_CAMERA,
)
