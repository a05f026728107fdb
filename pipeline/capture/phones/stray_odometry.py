"""The tables of a Stray Scanner recording: odometry.csv and camera_matrix.csv.

Source: as in `stray_scanner`; the columns fx .. cy of newer versions of the app as its users' readers have them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.checks import check_increasing
from pipeline.capture.trajectory import numbers, pose_of, read_table
from pipeline.errors import CaptureError
from pipeline.geometry import Pose

Intrinsics = tuple[float, float, float, float]

_POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")
_COEFFICIENTS = ("fx", "fy", "cx", "cy")
_HALF = np.array([0, 0, 0.5, 0.5])
"""ARKit counts pixels from the centre of the upper left one."""


@dataclass(frozen=True, eq=False)
class Row:
    """A line of odometry.csv.

    Attributes:
        number: Of the frame, from 0.
        time: [s] since the phone was switched on, or None (before August 2021).
        pose: World from camera, CV axes as they are written; the world is ARKit's, y up.
        intrinsics: fx, fy, cx, cy [px], the upper left pixel's centre at 0.5; None in recordings without them.
    """

    number: int
    time: float | None
    pose: Pose
    intrinsics: Intrinsics | None


def read_odometry(data: bytes, file: str) -> list[Row]:
    """The lines of odometry.csv, by the names of its columns.

    Raises:
        CaptureError: When a column is missing, or a line malformed, repeated or back in time.
    """
    header, *lines = read_table(data, file, ",") or [[]]
    column = {name: index for index, name in enumerate(header)}
    if missing := [name for name in _POSE if name not in column]:
        raise CaptureError(
            "odometry.csv must begin with the names of its columns: timestamp, frame, x, y, z, qx, qy, qz, qw",
            found=f"no {', '.join(missing)} in {', '.join(header)[:80]!r}",
            remedy="export the recording again",
            file=file,
        )
    rows: list[Row] = []
    for index, fields in enumerate(lines):
        row = _row(fields, column, index, file)
        if rows and row.number <= rows[-1].number:
            raise CaptureError(
                "frames must be numbered in order, each once",
                found=f"line {index + 2}: frame {row.number} after {rows[-1].number}",
                remedy="export the recording again",
                file=file,
            )
        rows.append(row)
    if not rows:
        raise CaptureError("odometry.csv must hold poses", found="none", remedy="record again", file=file)
    stamps = [(row.time, f"{file} (frame {row.number})") for row in rows if row.time is not None]
    check_increasing([time for time, _ in stamps], [where for _, where in stamps])
    return rows


def _row(fields: Sequence[str], column: Mapping[str, int], index: int, file: str) -> Row:
    line = index + 2

    def given(name: str) -> bool:
        return name in column and column[name] < len(fields) and fields[column[name]] != ""

    def values(names: Sequence[str]) -> NDArray[np.float64]:
        found = numbers([fields[column[name]] if given(name) else "" for name in names], len(names), file, line)
        if not np.isfinite(found).all():
            raise CaptureError(
                "numbers must be finite",
                found=f"line {line}: {', '.join(names)} = {found.tolist()}",
                remedy="remove the line: tracking was lost here",
                file=file,
            )
        return found

    pose = values(_POSE)
    number = float(values(["frame"])[0]) if "frame" in column else index
    if not 0 <= number < 1e9 or number != int(number):
        raise CaptureError(
            "frames must be numbered from 0 on",
            found=f"line {line}: frame {number:g}",
            remedy="export the recording again",
            file=file,
        )
    intrinsics = None
    if all(map(given, _COEFFICIENTS)):
        fx, fy, cx, cy = (values(_COEFFICIENTS) + _HALF).tolist()
        intrinsics = fx, fy, cx, cy
    return Row(
        number=int(number),
        time=float(values(["timestamp"])[0]) if "timestamp" in column else None,
        pose=pose_of(pose[:3], pose[3:], f"{file} (line {line})"),
        intrinsics=intrinsics,
    )


def read_camera_matrix(data: bytes, file: str) -> Intrinsics:
    """fx, fy, cx, cy [px] of camera_matrix.csv, the last frame's at the video's size.

    Raises:
        CaptureError: When it is no such matrix, row by row.
    """
    lines = read_table(data, file, ",")
    matrix = np.array([numbers(fields, 3, file, line) for line, fields in enumerate(lines, 1)])
    if matrix.shape != (3, 3) or np.abs(matrix[[0, 1, 2, 2], [1, 0, 0, 1]]).max() > 1e-6 or matrix[2, 2] != 1:
        raise CaptureError(
            "camera_matrix.csv must hold three rows: fx, 0, cx / 0, fy, cy / 0, 0, 1",
            found=str(matrix.tolist()) if matrix.size else "no such matrix",
            remedy="copy the whole folder of the recording from the phone",
            file=file,
        )
    fx, fy, cx, cy = (matrix[[0, 1, 0, 1], [0, 1, 2, 2]] + _HALF).tolist()
    return fx, fy, cx, cy
