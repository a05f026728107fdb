"""Trajectories: poses at times of their own, asked at the times of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from pipeline.capture.checks import FARTHEST
from pipeline.capture.source import check_text
from pipeline.errors import CaptureError
from pipeline.geometry import Pose

QUATERNION_TOLERANCE = 1e-2
"""How far a quaternion's length may be from 1 before it counts as wrong; it is normalised."""
MIN_INSIDE = 0.5
"""Least share of pictures between the first and the last pose; below it the clocks differ."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses over time.

    Attributes:
        times: (N,) float64, increasing [s].
        poses: World from body (or camera), one for each time.
    """

    times: NDArray[np.float64]
    poses: tuple[Pose, ...]

    def at(self, times: NDArray[np.float64], max_gap: float) -> list[Pose | None]:
        """Poses at other times, between the two around each; None before the first, after the last and in gaps.

        Args:
            times: (M,) [s].
            max_gap: Largest distance of the two poses around a time [s]; a pose at that very time needs no other.
        """
        at = np.asarray(times, np.float64)
        last = len(self.times) - 1
        after = np.searchsorted(self.times, at)
        exact = self.times[np.minimum(after, last)] == at
        before, after = np.clip(after - 1, 0, last), np.minimum(after, last)
        gap = self.times[after] - self.times[before]
        between = ~exact & (self.times[before] < at) & (at < self.times[after]) & (gap <= max_gap)
        found = [self.poses[index] if same else None for index, same in zip(after, exact, strict=True)]
        if between.any():
            slerp = Slerp(self.times, Rotation.from_matrix(np.stack([pose.rotation for pose in self.poses])))
            positions = np.stack([pose.translation for pose in self.poses])
            share = ((at - self.times[before])[between] / gap[between])[:, None]
            positions = (1 - share) * positions[before[between]] + share * positions[after[between]]
            rotations = slerp(at[between]).as_matrix()
            for index, rotation, position in zip(np.flatnonzero(between), rotations, positions, strict=True):
                found[index] = Pose(rotation, position)
        return found

    def of_camera(self, body_from_camera: Pose, max_gap: float) -> Callable[[NDArray[np.float64]], list[Pose | None]]:
        """What gives world from camera at times (M,) [s], as `at` gives world from body."""
        return lambda times: [pose and pose @ body_from_camera for pose in self.at(times, max_gap)]


def nearest(times: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices (M,) of the times nearest to `at` (M,), of increasing `times` (N,), N > 0; of equals the earlier."""
    after = np.clip(np.searchsorted(times, at), 1, max(len(times) - 1, 1))
    before = after - 1
    if len(times) == 1:
        return np.zeros(len(at), np.intp)
    return np.where(at - times[before] <= times[after] - at, before, after)


def check_clocks(times: NDArray[np.float64], trajectory: Trajectory, file: str) -> None:
    """Check that pictures and poses were recorded at the same time by the same clock.

    Args:
        times: (N,) of the pictures [s].
        trajectory: Their poses.
        file: The trajectory's, for messages.

    Raises:
        CaptureError: When most pictures were taken before the first or after the last pose.
    """
    first, last = trajectory.times[0], trajectory.times[-1]
    inside = float(((times >= first) & (times <= last)).mean()) if len(times) else 1.0
    if inside < MIN_INSIDE:
        raise CaptureError(
            "pictures and poses must have times of one clock, in seconds",
            found=f"pictures from {times.min():.3f} to {times.max():.3f}, poses from {first:.3f} to {last:.3f}: "
            f"{inside:.0%} of the pictures lie between",
            remedy="take the trajectory of this recording, with the pictures' clock",
            file=file,
        )


def pose_of(position: NDArray[np.float64], quaternion_xyzw: NDArray[np.float64], file: str) -> Pose:
    """World from body from a position (3,) [m] and a quaternion with its scalar last.

    Raises:
        CaptureError: When a number is not finite or the quaternion's length is not 1.
    """
    length = float(np.linalg.norm(quaternion_xyzw)) if (np.abs(quaternion_xyzw) < 2).all() else np.inf
    if not ((np.abs(position) < FARTHEST).all() and abs(length - 1) < QUATERNION_TOLERANCE):
        raise CaptureError(
            "a pose must have finite numbers of a place on earth and a unit quaternion",
            found=f"position {position.tolist()}, quaternion {quaternion_xyzw.tolist()} of length {length:.4g}",
            remedy="remove the line, or export the trajectory again",
            file=file,
        )
    return Pose(Rotation.from_quat(quaternion_xyzw).as_matrix(), position)


def read_table(data: bytes, file: str, separator: str | None = None) -> list[list[str]]:
    """Lines of a text file cut into fields; empty lines and those that begin with "#" are left out.

    Raises:
        CaptureError: When it is no text, or too large.
    """
    check_text(data, file)
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise CaptureError("the file must be text", found=str(error), remedy="export it again", file=file) from error
    wanted = (line.strip() for line in lines)
    return [[field.strip() for field in line.split(separator)] for line in wanted if line and not line.startswith("#")]


def numbers(fields: list[str], count: int, file: str, line: int) -> NDArray[np.float64]:
    """The first `count` fields as numbers.

    Raises:
        CaptureError: When there are fewer or one is no number; the message names the line.
    """
    try:
        values = np.array([float(field) for field in fields[:count]])
    except ValueError:
        values = np.zeros(0)
    if len(values) != count:
        raise CaptureError(
            f"each line must begin with {count} numbers",
            found=f"line {line}: {' '.join(fields)[:80]!r}",
            remedy="remove the line, or export the file again",
            file=file,
        )
    return values


def tum_trajectory(data: bytes, file: str) -> Trajectory:
    """A trajectory of lines "time x y z qx qy qz qw", separated by blanks [s, m].

    Raises:
        CaptureError: When a line is malformed, a pose is none or time runs backwards.
    """
    times, poses = [], []
    for line, fields in enumerate(read_table(data, file), 1):
        values = numbers(fields, 8, file, line)
        times.append(values[0])
        poses.append(pose_of(values[1:4], values[4:], file))
    return ordered_trajectory(np.array(times), poses, file)


def ordered_trajectory(times: NDArray[np.float64], poses: list[Pose], file: str) -> Trajectory:
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
