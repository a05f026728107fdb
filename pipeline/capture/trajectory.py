"""Trajectories: poses at times of their own, interpolated at the times of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.checks import MAX_DISTANCE
from pipeline.capture.texts import parse_table
from pipeline.errors import CaptureError
from pipeline.geometry import Pose
from pipeline.types import F64

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation

QUATERNION_TOLERANCE = 1e-2
"""How far a quaternion's length may be from 1 before it counts as wrong; it is normalised."""
MIN_INSIDE = 0.5
"""Least share of images between the first and the last pose; below it the clocks differ."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses (world from body or camera) at increasing times (N,) [s]."""

    times: F64
    poses: tuple[Pose, ...]

    def samples(self) -> tuple[F64, Rotation, F64]:
        """Times (N,) [s], rotations, and positions (N, 3) [m]."""
        from scipy.spatial.transform import Rotation

        rotations = Rotation.from_matrix(np.stack([pose.rotation for pose in self.poses]))
        return self.times, rotations, np.stack([pose.translation for pose in self.poses])

    def at(self, times: F64, max_gap: float, snap: float = 0.0) -> list[Pose | None]:
        """Poses at other times (M,), between the two around each; None before the first, after the last and in gaps.

        Gaps are longer than `max_gap`; a pose nearer than `snap` is taken as it is, since exports round times [s].
        """
        from scipy.spatial.transform import Slerp

        at = np.asarray(times, np.float64)
        if snap:
            own = self.times[nearest(self.times, at)]
            at = np.where(np.abs(own - at) <= snap, own, at)
        last = len(self.times) - 1
        after = np.searchsorted(self.times, at)
        exact = self.times[np.minimum(after, last)] == at
        before, after = np.clip(after - 1, 0, last), np.minimum(after, last)
        gap = self.times[after] - self.times[before]
        between = ~exact & (self.times[before] < at) & (at < self.times[after]) & (gap <= max_gap)
        poses = [self.poses[index] if same else None for index, same in zip(after, exact, strict=True)]
        if between.any():
            _, rotations, positions = self.samples()
            share = ((at - self.times[before])[between] / gap[between])[:, None]
            positions = (1 - share) * positions[before[between]] + share * positions[after[between]]
            matrices = Slerp(self.times, rotations)(at[between]).as_matrix()
            for index, rotation, position in zip(np.flatnonzero(between), matrices, positions, strict=True):
                poses[index] = Pose(rotation, position)
        return poses

    def of_camera(self, body_from_camera: Pose, max_gap: float) -> Callable[[F64], list[Pose | None]]:
        """What gives world from camera at times (M,) [s], as `at` gives world from body."""
        return lambda times: [pose and pose @ body_from_camera for pose in self.at(times, max_gap)]


def nearest(times: F64, at: F64) -> NDArray[np.intp]:
    """Indices (M,) of the times nearest to `at` (M,), of increasing `times` (N,), N > 0; of equals the earlier."""
    after = np.clip(np.searchsorted(times, at), 1, max(len(times) - 1, 1))
    before = after - 1
    if len(times) == 1:
        return np.zeros(len(at), np.intp)
    return np.where(at - times[before] <= times[after] - at, before, after)


def check_clocks(times: F64, trajectory: Trajectory, file: str) -> None:
    """Check that images (of times (N,) [s]) and poses were recorded at the same time by the same clock.

    Raises:
        CaptureError: When most images were taken before the first or after the last pose.
    """
    first, last = trajectory.times[0], trajectory.times[-1]
    inside = float(((times >= first) & (times <= last)).mean()) if len(times) else 1.0
    if inside < MIN_INSIDE:
        raise CaptureError(
            "images and poses must have times of one clock, in seconds",
            found=f"images from {times.min():.3f} to {times.max():.3f}, poses from {first:.3f} to {last:.3f}: "
            f"{inside:.0%} of the images lie between",
            remedy="take the trajectory of this recording, with the images' clock",
            file=file,
        )


def pose_of(position: F64, quaternion_xyzw: F64, file: str) -> Pose:
    """World from body from a position (3,) [m] and a quaternion with its scalar last.

    Raises:
        CaptureError: When a number is not finite or the quaternion's length is not 1.
    """
    from scipy.spatial.transform import Rotation

    length = float(np.linalg.norm(quaternion_xyzw)) if (np.abs(quaternion_xyzw) < 2).all() else np.inf
    if not ((np.abs(position) < MAX_DISTANCE).all() and abs(length - 1) < QUATERNION_TOLERANCE):
        raise CaptureError(
            "a pose must have finite numbers of a position on earth and a unit quaternion",
            found=f"position {position.tolist()}, quaternion {quaternion_xyzw.tolist()} of length {length:.4g}",
            remedy="remove the line, or export the trajectory again",
            file=file,
        )
    return Pose(Rotation.from_quat(quaternion_xyzw).as_matrix(), position)


def numbers(fields: list[str], count: int, file: str, line: int, *, finite: bool = False) -> F64:
    """The first `count` fields as numbers.

    Raises:
        CaptureError: When there are fewer, or one is no number or not as `finite`; the message names the line.
    """
    try:
        values = np.array([float(field) for field in fields[:count]])
    except ValueError:
        values = np.zeros(0)
    if len(values) != count or (finite and not np.isfinite(values).all()):
        raise CaptureError(
            f"each line must begin with {count} numbers{', all finite' if finite else ''}",
            found=f"line {line}: {' '.join(fields)[:80]!r}",
            remedy="remove the line, or export the file again",
            file=file,
        )
    return values


def number_table(data: bytes, columns: int, file: str, separator: str | None = None) -> F64:
    """The first `columns` fields of each line of a text file as finite numbers, (N, columns).

    Raises:
        CaptureError: As `numbers` and `parse_table`.
    """
    rows = enumerate(parse_table(data, file, separator), 1)
    return np.array([numbers(row, columns, file, line, finite=True) for line, row in rows]).reshape(-1, columns)


def tum_trajectory(data: bytes, file: str) -> Trajectory:
    """A trajectory of lines "time x y z qx qy qz qw", separated by blanks [s, m].

    Raises:
        CaptureError: When a line is malformed, a pose is invalid or time runs backwards.
    """
    rows = [numbers(fields, 8, file, line) for line, fields in enumerate(parse_table(data, file), 1)]
    poses = [pose_of(row[1:4], row[4:], file) for row in rows]
    return ordered_trajectory(np.array([row[0] for row in rows]), poses, file)


def ordered_trajectory(times: F64, poses: list[Pose], file: str) -> Trajectory:
    """A trajectory whose times increase.

    Raises:
        CaptureError: When they don't, or there is none.
    """
    found = "" if len(times) else "no pose"
    if not np.isfinite(times).all():
        found = f"a time of {times[~np.isfinite(times)][0]}"
    elif len(backwards := np.flatnonzero(np.diff(times) <= 0)):
        found = f"{times[backwards[0] + 1]:.6f} after {times[backwards[0]]:.6f}"
    if found:
        raise CaptureError(
            "a trajectory's times must increase", found=found, remedy="export the trajectory again", file=file
        )
    return Trajectory(times, tuple(poses))
