"""Reader of RGB-D sequences in the layout of Open3D's reconstruction system and the Redwood data set.

Layout: Open3D's tutorial "Capture your own dataset", its realsense_recorder.py, and SampleRedwoodRGBDImages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.checks import read_object
from pipeline.capture.depth_cameras.open3d_files import (
    INTRINSICS_REMEDY,
    LOG_HEAD,
    json_cameras,
    json_poses,
    log_poses,
    open3d_camera,
)
from pipeline.capture.depth_images import depth_of_png
from pipeline.capture.frames import ListedFrame, declared_camera, sensor_capture, thinned
from pipeline.capture.masks import find_masks
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.phones.phone_depth import scaled_camera
from pipeline.capture.pictures import Picture, load_picture
from pipeline.capture.reader import Reader, put_once, require_pairs
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose
from pipeline.stage import Traits

SCALE_SIGMA = 0.015
"""As of every structured-light camera."""
MAX_CANDIDATES = 16
"""Most .json and .log files that are looked into."""
TRAJECTORIES = ("trajectory.log", "scene/trajectory.log", "trajectory.json")
"""Their usual names."""
_HEAD_BYTES = 4096
_PICTURE = re.compile(r"(?:colors?|images?|rgb)/(?P<stem>[^/]*)\.(?:jpg|jpeg|png)", re.IGNORECASE)
_DEPTH = re.compile(r"depth/(?P<stem>[^/]*)\.png", re.IGNORECASE)
_LOG = re.compile(r"(?:scene/)?[^/]+\.log")


@dataclass(frozen=True)
class _Listing:
    """Names of pictures and depth images, in step, and of the files that say more."""

    pictures: list[str]
    depths: list[str]
    intrinsics: str | None
    trajectory: str | None


def _described(source: CaptureSource) -> tuple[list[str], list[str]]:
    """Names of intrinsics files and of trajectories, by their content."""
    intrinsics, trajectories = [], []
    for name in [name for name in source.names if _LOG.fullmatch(name)][:MAX_CANDIDATES]:
        with source.local(name) as path, path.open("rb") as file:
            is_one = name in TRAJECTORIES or LOG_HEAD.match(file.read(_HEAD_BYTES))  # a damaged one is named later
        trajectories += [name] if is_one else []
    for name in [name for name in source.names if "/" not in name and name.endswith(".json")][:MAX_CANDIDATES]:
        try:
            content = read_object(source.read(name), source.where(name))
        except CaptureError:
            continue
        intrinsics += [name] if "intrinsic_matrix" in content else []
        trajectories += [name] if content.get("class_name") == "PinholeCameraTrajectory" else []
    return intrinsics, trajectories


def _recognise(source: CaptureSource) -> bool:
    """Pictures and depth in folders, and a file of Open3D's beside them."""
    if not all(any(map(part.fullmatch, source.names)) for part in (_PICTURE, _DEPTH)):
        return False
    return any(_described(source))


def _by_number(source: CaptureSource, part: re.Pattern[str]) -> dict[str, str]:
    """File names by the first number in their stem, the frame's; a time may follow it."""
    found: dict[str, str] = {}
    for name in source.names:
        if match := part.fullmatch(name):
            digits = re.search(r"\d+", match["stem"])
            put_once(found, str(int(digits[0])) if digits else match["stem"], name, source)
    return found


def _only(candidates: Sequence[str], usual: Sequence[str], what: str, source: CaptureSource) -> str | None:
    """The one with a usual name, else the only one.

    Raises:
        CaptureError: When there are several.
    """
    known = [name for name in usual if name in candidates]
    if not known and len(candidates) > 1:
        raise CaptureError(
            f"a sequence needs one {what}",
            found=", ".join(candidates[:4]),
            remedy=f"name the right one {usual[0]}",
            file=source.path / source.prefix,
        )
    return next(iter([*known, *candidates]), None)


def _list(source: CaptureSource) -> _Listing:
    pictures, depths = _by_number(source, _PICTURE), _by_number(source, _DEPTH)
    require_pairs({"picture": set(pictures), "depth": set(depths)}, source, ("picture", "depth"))
    numbers = sorted(pictures, key=lambda number: (len(number), number))
    intrinsics, trajectories = _described(source)
    return _Listing(
        [pictures[number] for number in numbers],
        [depths[number] for number in numbers],
        _only(intrinsics, ("camera_intrinsic.json", "intrinsic.json"), "intrinsics file", source),
        _only(trajectories, TRAJECTORIES, "trajectory", source),
    )


def _object(source: CaptureSource, name: str) -> dict[str, Any]:
    return read_object(source.read(name), source.where(name))


def _poses(source: CaptureSource, listing: _Listing) -> list[Pose | None]:
    """World from camera for each frame; None where the trajectory has none."""
    count, name = len(listing.pictures), listing.trajectory
    if name is None:
        return [None] * count
    if name.endswith(".log"):
        return log_poses(source.read(name), count, source.where(name))
    return json_poses(_object(source, name), count, source.where(name))


def _cameras(source: CaptureSource, listing: _Listing) -> list[Camera]:
    """Of each frame: by the intrinsics file, else by a .json trajectory.

    The file goes first: Open3D fills in a PrimeSense's intrinsics where it converts a .log trajectory.
    """
    count, name = len(listing.pictures), listing.trajectory
    if listing.intrinsics:
        return [open3d_camera(_object(source, listing.intrinsics), source.where(listing.intrinsics))] * count
    if name is None or name.endswith(".log"):
        raise CaptureError(
            "an RGB-D sequence needs the camera's intrinsics",
            found="no .json file with intrinsic_matrix",
            remedy=INTRINSICS_REMEDY,
            file=source.path / source.prefix,
        )
    return json_cameras(_object(source, name), count, source.where(name))


def _picture(source: CaptureSource, name: str) -> Picture:
    return load_picture(source.read(name), upright=False)


def _depth(source: CaptureSource, name: str) -> NDArray[np.uint16]:
    return depth_of_png(source.read(name), source.where(name))


def _traits(source: CaptureSource) -> Traits:
    listing = _list(source)
    count, posed = len(listing.pictures), listing.trajectory is not None
    return Traits("redwood", count, has_poses=posed, has_depth=True, has_gravity=False, ordered=True, has_scale=True)


def _files(source: CaptureSource) -> list[str]:
    listing = _list(source)
    named = [name for name in (listing.intrinsics, listing.trajectory) if name]
    masks = find_masks(source, listing.pictures).values()
    return sorted({*listing.pictures, *listing.depths, *named, *masks})


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listing = _list(source)
    poses, cameras = _poses(source, listing), _cameras(source, listing)
    masks = find_masks(source, listing.pictures)
    listed, skipped = [], []
    every = zip(listing.pictures, listing.depths, poses, cameras, strict=True)
    for index, (picture, depth, pose, camera) in enumerate(every):
        if pose is None and listing.trajectory:
            skipped.append(Skipped(picture, f"{listing.trajectory} has no pose for it"))
            continue
        listed.append(
            ListedFrame(
                key=f"{index:06d}",
                name=picture,
                picture=partial(_picture, source, picture),
                camera=declared_camera(camera, source.where(picture)),
                source_time=float(index),
                world_from_camera=pose,
                depth=partial(_depth, source, depth),
                depth_name=depth,
                depth_camera=scaled_camera(camera, source.where(depth), "depth image"),
                mask=partial(source.read, masks[picture]) if picture in masks else None,
            )
        )
    notes = [f"poses of {listing.trajectory}" if listing.trajectory else "there is no trajectory"]
    return sensor_capture(
        "redwood",
        thinned(listed, params),
        source,
        out_dir,
        params,
        scale_sigma=SCALE_SIGMA,
        skipped=skipped,
        notes=notes,
    )


READER = Reader(
    kind="redwood",
    form="an RGB-D sequence of Open3D (folder or zip): color/, depth/, camera_intrinsic.json, trajectory.log",
    yields="poses where there is a trajectory, depth, metric scale",
    recognise=_recognise,
    traits=_traits,
    files=_files,
    read=_read,
)
