"""Reader of 7-Scenes, and of RGB-D frames that are laid out like it: colour, 16-bit depth, poses, one intrinsics file.

Source: J. Shotton et al., Scene Coordinate Regression Forests, CVPR 2013, and the data set's readme.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.capture.checks import checked_camera, checked_pose
from pipeline.capture.depth_images import depth_of_png
from pipeline.capture.frames import ListedFrame, Size, sensor_capture, thinned
from pipeline.capture.masks import find_masks
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.pictures import load_picture
from pipeline.capture.reader import Reader, number_of, put_once, require_pairs
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.geometry import Camera
from pipeline.stage import Traits

INTRINSICS = "camera-intrinsics.txt"
SCALE_SIGMA = 0.015
"""Relative one sigma of the scale of a depth camera's poses (structured light: 1 to 2 %)."""
SEVEN_SCENES = Camera(640, 480, 585.0, 585.0, 320.0, 240.0)
"""What its readme gives for all its Kinects; the recordings themselves have no intrinsics."""
_SEVEN_SCENES = re.compile(r"frame-\d{6}\.color\.png")
_PART = re.compile(r"(?P<id>[^/]+)\.(?P<part>color\.(?:jpg|jpeg|png)|depth\.png|pose\.txt)", re.IGNORECASE)


@dataclass(frozen=True)
class _Listing:
    """File names by frame id."""

    color: dict[str, str]
    depth: dict[str, str]
    pose: dict[str, str]

    def ids(self) -> list[str]:
        return sorted(self.color, key=number_of)


def _list(source: CaptureSource) -> _Listing:
    listing = _Listing({}, {}, {})
    for name in source.names:
        if match := _PART.fullmatch(name):
            put_once(getattr(listing, match["part"].partition(".")[0].lower()), match["id"], name, source)
    return listing


def _recognise(source: CaptureSource) -> bool:
    parts = [match["part"].partition(".")[0].lower() for name in source.names if (match := _PART.fullmatch(name))]
    return "color" in parts and ("depth" in parts or "pose" in parts)


def _complete(source: CaptureSource) -> _Listing:
    listing = _list(source)
    parts = {"colour": set(listing.color), "depth": set(listing.depth), "pose": set(listing.pose)}
    require_pairs(parts, source, ("colour", "depth", "pose"))
    if INTRINSICS not in source.names and not all(map(_SEVEN_SCENES.fullmatch, listing.color.values())):
        raise _no_intrinsics("no such file", source)
    return listing


def _no_intrinsics(found: str, source: CaptureSource) -> CaptureError:
    return CaptureError(
        f"RGB-D frames need {INTRINSICS}, a 3x3 matrix for pictures of their size; only those of 7-Scenes don't",
        found=found,
        remedy="write it as three lines: fx 0 cx / 0 fy cy / 0 0 1 (Kinect v1: 585 0 320 / 0 585 240 / 0 0 1)",
        file=source.where(INTRINSICS),
    )


def _traits(source: CaptureSource) -> Traits:
    count = len(_complete(source).color)
    return Traits("rgbd", count, has_poses=True, has_depth=True, has_gravity=False, ordered=True, has_scale=True)


def _files(source: CaptureSource) -> list[str]:
    listing = _complete(source)
    given = [INTRINSICS] if INTRINSICS in source.names else []
    names = [*given, *listing.color.values(), *listing.depth.values(), *listing.pose.values()]
    return sorted([*names, *find_masks(source, listing.color.values()).values()])


def _numbers(data: bytes, file: str, shape: tuple[int, int]) -> np.ndarray:
    try:
        values = np.array([line.split() for line in data.decode().splitlines() if line.strip()], np.float64)
    except ValueError as error:
        values = np.array(str(error))
    if values.shape != shape:
        raise CaptureError(
            f"the file must hold {shape[0]} x {shape[1]} numbers",
            found=str(values) if not values.shape else f"shape {values.shape}",
            remedy="write them row by row, separated by blanks",
            file=file,
        )
    return values


def _camera(source: CaptureSource, given: np.ndarray | None, size: Size) -> Camera:
    """Intrinsics of pictures of some size by the matrix that is given, else those of 7-Scenes."""
    if given is not None:
        intrinsics = (float(given[0, 0]), float(given[1, 1]), float(given[0, 2]), float(given[1, 2]))
        return checked_camera(intrinsics, size, source.where(INTRINSICS))
    if size != (SEVEN_SCENES.width, SEVEN_SCENES.height):
        raise _no_intrinsics(f"no such file, pictures of {size[0]} x {size[1]}", source)
    return SEVEN_SCENES


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listing = _complete(source)
    given = None
    if INTRINSICS in source.names:
        given = _numbers(source.read(INTRINSICS), source.where(INTRINSICS), (3, 3))
    masks = find_masks(source, listing.color.values())

    def listed(key: str) -> ListedFrame:
        color, depth, pose = listing.color[key], listing.depth[key], listing.pose[key]
        number = number_of(key)[0]
        return ListedFrame(
            key=key,
            name=color,
            picture=lambda: load_picture(source.read(color), upright=False),
            camera=partial(_camera, source, given),
            source_time=float(number) if number >= 0 else None,
            world_from_camera=checked_pose(_numbers(source.read(pose), source.where(pose), (4, 4)), source.where(pose)),
            depth=lambda: depth_of_png(source.read(depth), source.where(depth)),
            depth_name=depth,
            mask=(lambda: source.read(masks[color])) if color in masks else None,
        )

    frames = thinned([listed(key) for key in listing.ids()], params)
    declared = "the intrinsics of 7-Scenes' readme" if given is None else "the declared intrinsics"
    notes = (f"{declared} serve colour and depth alike until calibrated",)
    return sensor_capture("rgbd", frames, source, out_dir, params, scale_sigma=SCALE_SIGMA, notes=notes)


READER = Reader(
    kind="rgbd",
    form="a sequence of 7-Scenes, or RGB-D frames like it (folder or zip): *.color.jpg|png, *.depth.png, *.pose.txt, "
    f"{INTRINSICS}",
    yields="poses, depth, metric scale",
    recognise=_recognise,
    traits=_traits,
    files=_files,
    read=_read,
)
