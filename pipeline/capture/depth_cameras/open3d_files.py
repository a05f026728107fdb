"""Open3D's intrinsics and trajectories.

Trajectories: redwood-data.org/indoor/fileformat.html and Open3D's FileLOG.cpp; intrinsics and .json trajectories:
Open3D's PinholeCameraIntrinsic.cpp and PinholeCameraTrajectory.cpp. Eigen writes matrices column by column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.checks import checked_camera, checked_pose
from pipeline.capture.trajectory import numbers, read_table
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose

LOG_HEAD = re.compile(rb"\s*(?:#[^\n]*\n\s*)*-?\d+[ \t]+-?\d+[ \t]+-?\d+[ \t\r]*\n")
"""How a .log trajectory begins: three whole numbers on a line."""
MAX_SIDE = 100_000
"""Longer sides of a picture are no sizes [px]."""
INTRINSICS_REMEDY = (
    'write camera_intrinsic.json, the matrix column by column; a PrimeSense or Kinect has {"width": 640, '
    '"height": 480, "intrinsic_matrix": [525, 0, 0, 0, 525, 0, 319.5, 239.5, 1]}'
)


def open3d_camera(values: Any, file: str) -> Camera:
    """Intrinsics {"width", "height", "intrinsic_matrix"}; a pixel's centre is an integer there, +0.5 here.

    Raises:
        CaptureError: When something is missing or can't be.
    """
    values = values if isinstance(values, dict) else {}
    matrix = _matrix(values.get("intrinsic_matrix"), 3, file, "intrinsic_matrix")
    zeros = [*matrix[2], matrix[0, 1], matrix[1, 0]]
    if np.abs(np.subtract(zeros, [0, 0, 1, 0, 0])).max() > 1e-9:
        found = f"{matrix.T.ravel().tolist()}{': that is row by row' if matrix[2, 0] else ''}"
        raise CaptureError(
            "intrinsic_matrix must be fx 0 0 0 fy 0 cx cy 1", found=found, remedy=INTRINSICS_REMEDY, file=file
        )
    width, height = values.get("width"), values.get("height")
    if not all(isinstance(side, int) and 0 < side < MAX_SIDE for side in (width, height)):
        found = f"{width!r} and {height!r}"
        raise CaptureError("intrinsics must name width and height", found=found, remedy=INTRINSICS_REMEDY, file=file)
    fx, fy, cx, cy = (float(value) for value in (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]))
    camera = checked_camera((fx, fy, cx, cy), (width, height), file)
    return replace(camera, cx=camera.cx + 0.5, cy=camera.cy + 0.5)


def log_poses(data: bytes, count: int, file: str) -> list[Pose | None]:
    """World from camera of `count` frames by a .log trajectory; None where it has none.

    The third number of an item is the frame's, from 1. Where tools write something else, items and frames are in step.

    Raises:
        CaptureError: When the file is not made of items of five lines, a pose is none, or it is of other frames.
    """
    rows = read_table(data, file)
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


def json_poses(content: dict[str, Any], count: int, file: str) -> list[Pose | None]:
    """World from camera of `count` frames by a PinholeCameraTrajectory; its "extrinsic" is camera from world.

    Raises:
        CaptureError: When a pose is none, or it is of other frames.
    """
    entries = _entries(content, count, file)
    matrices = [_matrix(entry.get("extrinsic"), 4, file, "extrinsic") for entry in entries]
    return [checked_pose(matrix, f"{file}: parameters[{i}]").inverse() for i, matrix in enumerate(matrices)]


def json_cameras(content: dict[str, Any], count: int, file: str) -> list[Camera]:
    """Intrinsics of `count` frames by a PinholeCameraTrajectory.

    Raises:
        CaptureError: When one is none, or it is of other frames.
    """
    entries = _entries(content, count, file)
    return [open3d_camera(entry.get("intrinsic"), f"{file}: parameters[{i}]") for i, entry in enumerate(entries)]


def _entries(content: dict[str, Any], count: int, file: str) -> Sequence[dict[str, Any]]:
    entries = content.get("parameters")
    if not isinstance(entries, list) or len(entries) != count or not all(isinstance(e, dict) for e in entries):
        found = f"{len(entries)} poses" if isinstance(entries, list) else f"parameters = {entries!r:.40}"
        raise _of_other_frames(found, count, file)
    return entries


def _of_other_frames(found: str, count: int, file: str) -> CaptureError:
    return CaptureError(
        f"a trajectory must say whose its poses are: one for each of the {count} pictures, or items n n n+1 (.log)",
        found=found,
        remedy="take the trajectory of this sequence",
        file=file,
    )


def _matrix(values: Any, size: int, file: str, what: str) -> NDArray[np.float64]:
    """A square matrix that is written column by column."""
    try:
        matrix = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.shape != (size * size,):
        raise CaptureError(
            f"{what} must be {size * size} numbers, column by column",
            found=repr(values)[:80],
            remedy="write it as Open3D does",
            file=file,
        )
    return matrix.reshape(size, size).T
