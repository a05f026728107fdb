"""Reader of RGB-D sequences in the layout of Open3D's reconstruction system and the Redwood data set.

Layout: Open3D's tutorial "Capture your own dataset", its realsense_recorder.py, and SampleRedwoodRGBDImages.
Trajectories: redwood-data.org/indoor/fileformat.html and Open3D's FileLOG.cpp and PinholeCameraTrajectory.cpp;
intrinsics: its PinholeCameraIntrinsic.cpp. Eigen writes matrices column by column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field

from pipeline.capture.checks import checked_pose
from pipeline.capture.depth_cameras.intrinsics import DEPTH_CAMERA, OPEN3D_REMEDY, open3d_camera
from pipeline.capture.frames import FrameFiles, declared_camera, scaled_camera, sensor_capture, thinned, with_poses
from pipeline.capture.images import find_masks
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import Reader, Survey, numbered_files, require_pairs
from pipeline.capture.source import CaptureSource
from pipeline.capture.texts import parse_table
from pipeline.capture.trajectory import numbers
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose
from pipeline.parameters import checked

LOG_HEAD = re.compile(rb"\s*(?:#[^\n]*\n\s*)*-?\d+[ \t]+-?\d+[ \t]+-?\d+[ \t\r]*\n")
"""How a .log trajectory begins: three whole numbers on a line."""

MAX_CANDIDATES = 16
"""Largest number of .json and .log files that are opened."""
TRAJECTORIES = ("trajectory.log", "scene/trajectory.log", "trajectory.json")
"""Usual names of trajectories."""
_HEAD_BYTES = 4096
_IMAGE = r"(?:colors?|images?|rgb)/[^/\d]*(\d+)[^/]*\.(?:jpg|jpeg|png)"
_DEPTH = r"depth/[^/\d]*(\d+)[^/]*\.png"
"""The first number is the frame's; a time may follow it."""
_LOG = re.compile(r"(?:scene/)?[^/]+\.log")


def log_poses(data: bytes, count: int, file: str) -> list[Pose | None]:
    """World from camera of `count` frames by a .log trajectory; None where it has none.

    The third number of an item is the frame's, from 1. Where tools write something else, items and frames are in step.

    Raises:
        CaptureError: When the file is not made of items of five lines, a pose is invalid, or it is of other frames.
    """
    rows = parse_table(data, file)
    if len(rows) % 5 or not rows:
        raise CaptureError(
            "a .log trajectory has five lines for each pose: three numbers, then four rows of four",
            found=f"{len(rows)} lines",
            remedy="export the trajectory again; this one may be cut off",
            file=file,
        )
    heads = [numbers(rows[line], 3, file, line + 1).tolist() for line in range(0, len(rows), 5)]
    found = [
        checked_pose([numbers(row, 4, file, line + 1) for row in rows[line : line + 4]], f"{file}: line {line}")
        for line in range(1, len(rows), 5)
    ]
    first, third = [head[0] for head in heads], [head[2] - 1 for head in heads]
    if first == third and len(set(first)) == len(first) and min(first) >= 0 and max(first) < count:
        poses: list[Pose | None] = [None] * count
        for frame, pose in zip(first, found, strict=True):
            poses[int(frame)] = pose
        return poses
    if len(found) != count:
        raise _of_other_frames(f"{len(found)} poses, the last begins {' '.join(rows[-5])}", count, file)
    return list(found)


class _Extrinsic(BaseModel):
    """A matrix (4, 4), column by column."""

    extrinsic: Annotated[list[float], Field(min_length=16, max_length=16)]


def json_poses(content: dict[str, object], count: int, file: str) -> list[Pose | None]:
    """World from camera of `count` frames by a PinholeCameraTrajectory; its "extrinsic" is camera from world.

    Raises:
        CaptureError: When a pose is invalid, or it is of other frames.
    """
    poses: list[Pose | None] = []
    for i, entry in enumerate(_entries(content, count, file)):
        camera_from_world = checked(_Extrinsic, entry, f"parameters.{i}", CaptureError, file)
        matrix = np.reshape(camera_from_world.extrinsic, (4, 4)).T
        poses.append(checked_pose(matrix, f"{file}: parameters[{i}]").inverse())
    return poses


def json_cameras(content: dict[str, object], count: int, file: str) -> list[Camera]:
    """Intrinsics of `count` frames by a PinholeCameraTrajectory.

    Raises:
        CaptureError: When one is invalid, or it is of other frames.
    """
    entries = _entries(content, count, file)
    return [open3d_camera(entry.get("intrinsic"), f"{file}: parameters[{i}]") for i, entry in enumerate(entries)]


def _entries(content: dict[str, object], count: int, file: str) -> Sequence[dict[str, object]]:
    entries = content.get("parameters")
    if not isinstance(entries, list) or len(entries) != count or not all(isinstance(e, dict) for e in entries):
        found = f"{len(entries)} poses" if isinstance(entries, list) else f"parameters = {entries!r:.40}"
        raise _of_other_frames(found, count, file)
    return entries


def _of_other_frames(found: str, count: int, file: str) -> CaptureError:
    return CaptureError(
        f"a trajectory must say whose its poses are: one for each of the {count} images, or items n n n+1 (.log)",
        found=found,
        remedy="take the trajectory of this sequence",
        file=file,
    )


@dataclass(frozen=True)
class _Listing:
    """Names of images and their depth images, of the intrinsics file and of the trajectory."""

    images: list[str]
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
            content = source.read_object(name)
        except CaptureError:
            continue
        intrinsics += [name] if "intrinsic_matrix" in content else []
        trajectories += [name] if content.get("class_name") == "PinholeCameraTrajectory" else []
    return intrinsics, trajectories


def _only(candidates: Sequence[str], usual: Sequence[str], what: str, source: CaptureSource) -> str | None:
    """The one with a usual name, else the only one."""
    known = [name for name in usual if name in candidates]
    if not known and len(candidates) > 1:
        raise source.broken("", f"a sequence needs one {what}", ", ".join(candidates[:4]), f"name one {usual[0]}")
    return next(iter([*known, *candidates]), None)


def _list(source: CaptureSource) -> _Listing:
    images, depths = numbered_files(source, _IMAGE), numbered_files(source, _DEPTH)
    require_pairs({"image": images, "depth": depths}, source)
    numbers = sorted(images)
    intrinsics, trajectories = _described(source)
    return _Listing(
        [images[number] for number in numbers],
        [depths[number] for number in numbers],
        _only(intrinsics, ("camera_intrinsic.json", "intrinsic.json"), "intrinsics file", source),
        _only(trajectories, TRAJECTORIES, "trajectory", source),
    )


def _cameras(source: CaptureSource, listing: _Listing) -> list[Camera]:
    """Intrinsics of each frame, by the intrinsics file, else by a .json trajectory.

    The file goes first: Open3D fills in a PrimeSense's intrinsics where it converts a .log trajectory.
    """
    count, name = len(listing.images), listing.trajectory
    if listing.intrinsics:
        return [open3d_camera(source.read_object(listing.intrinsics), source.where(listing.intrinsics))] * count
    if name is None or name.endswith(".log"):
        rule = "an RGB-D sequence needs the camera's intrinsics"
        raise source.broken("", rule, "no .json file with intrinsic_matrix", OPEN3D_REMEDY)
    return json_cameras(source.read_object(name), count, source.where(name))


def _survey(source: CaptureSource) -> Survey:
    listing = _list(source)
    described = [name for name in (listing.intrinsics, listing.trajectory) if name]
    masks = find_masks(source, listing.images).values()
    return Survey(
        sorted({*listing.images, *listing.depths, *described, *masks}),
        len(listing.images),
        has_poses=listing.trajectory is not None,
        has_depth=True,
        has_scale=True,
    )


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listing = _list(source)
    cameras = _cameras(source, listing)
    files = FrameFiles(source, find_masks(source, listing.images))
    listed = [
        replace(
            files.frame(f"{index:06d}", image, depth=depth),
            camera=declared_camera(camera, source.where(image)),
            source_time=float(index),
            depth_camera=scaled_camera(camera, source.where(depth), "depth image"),
        )
        for index, (image, depth, camera) in enumerate(zip(listing.images, listing.depths, cameras, strict=True))
    ]
    skipped: list[Skipped] = []
    if name := listing.trajectory:
        if name.endswith(".log"):
            poses = log_poses(source.read(name), len(listed), source.where(name))
        else:
            poses = json_poses(source.read_object(name), len(listed), source.where(name))
        listed, skipped = with_poses(listed, poses, f"{name} has no pose for it")
    notes = [f"poses of {name}" if name else "there is no trajectory"]
    frames = thinned(listed, params)
    return sensor_capture(READER, frames, source, out_dir, params, skipped=skipped, notes=notes)


READER = Reader(
    kind="redwood",
    form="an RGB-D sequence of Open3D (folder or zip): color/, depth/, camera_intrinsic.json, trajectory.log",
    yields="poses where there is a trajectory, depth, metric scale",
    recognise=lambda source: (
        all(any(re.fullmatch(part, name, re.IGNORECASE) for name in source.names) for part in (_IMAGE, _DEPTH))
        and any(_described(source))
    ),
    survey=_survey,
    read=_read,
    sensors=DEPTH_CAMERA,
)
