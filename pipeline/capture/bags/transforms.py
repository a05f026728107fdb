"""ROS frames: a tree of poses over time (tf and tf_static), which gives the pose of one frame in another.

Source: geometry_msgs/TransformStamped (the pose of `child_frame_id` in `header.frame_id`) and REP 105.
"""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.capture.trajectory import QUATERNION_TOLERANCE, Trajectory
from pipeline.errors import CaptureError
from pipeline.geometry import Pose
from pipeline.types import F64

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation

MIN_APART = 0.004
"""Poses nearer in time than this are dropped [s]: joints at 1 kHz would fill the memory for nothing."""
Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


class PoseSamples:
    """Poses of one frame in another over time, 64 bytes each; a static one is the same at all times."""

    def __init__(self, name: str, *, static: bool = False) -> None:
        self.name, self.static = name, static
        self._rows = array("d")
        self._table: F64 | None = None

    def __len__(self) -> int:
        return len(self._rows) // 8

    def add(self, time: float, position: Vector, quaternion_xyzw: Quaternion) -> None:
        """Add a pose at a time [s], [m]; a static one is replaced."""
        if self.static:
            del self._rows[:]
        elif self._rows and abs(time - self._rows[-8]) < MIN_APART:
            return
        self._rows.extend((time, *position, *quaternion_xyzw))
        self._table = None

    def table(self, *, in_order: bool = False) -> F64:
        """Rows (N, 8) of time, position and quaternion xyzw by increasing time.

        Raises:
            CaptureError: When a pose is invalid, or they were not added in that order though they must be.
        """
        if self._table is None:
            rows = np.array(self._rows).reshape(-1, 8)
            length = np.linalg.norm(rows[:, 4:], axis=1)
            bad = np.flatnonzero(~(np.isfinite(rows).all(1) & (np.abs(length - 1) < QUATERNION_TOLERANCE)))
            if len(bad):
                raise CaptureError(
                    "a pose must have finite numbers and a unit quaternion (x y z w)",
                    found=f"{rows[bad[0], 1:].tolist()} at {rows[bad[0], 0]:.6f} s",
                    remedy="correct what publishes it, or remove these messages from the bag",
                    file=self.name,
                )
            times = rows[:, 0]
            back = np.flatnonzero(np.diff(times) < 0)
            if in_order and len(back):
                raise CaptureError(
                    "a trajectory's times must increase",
                    found=f"{times[back[0] + 1]:.6f} after {times[back[0]]:.6f}",
                    remedy="cut the bag where its clock was set back, or record again",
                    file=self.name,
                )
            self._table = rows[np.unique(times, return_index=True)[1]]
        return self._table

    def at(self, time: float, max_gap: float) -> Pose | None:
        """The pose at a time, between the two around it, which may be `max_gap` apart [s]; None outside."""
        rows = self.table()
        if self.static:
            return _pose(rows[-1])
        after = int(np.searchsorted(rows[:, 0], time))
        near = rows[max(after - 1, 0) : after + 1]
        if not len(near):
            return None
        return Trajectory(near[:, 0], tuple(map(_pose, near))).at(np.array([time]), max_gap)[0]


def _pose(row: F64) -> Pose:
    from scipy.spatial.transform import Rotation

    return Pose(Rotation.from_quat(row[4:]).as_matrix(), row[1:4])


@dataclass(frozen=True, eq=False)
class Chain:
    """Steps from one frame to another: samples of parent from child, and whether to invert them, outermost first."""

    steps: tuple[tuple[PoseSamples, bool], ...]

    def then(self, inner: Chain) -> Chain:
        """The chain from the outermost frame to the innermost of another chain that begins where this one ends."""
        return Chain((*self.steps, *inner.steps))

    @property
    def moves(self) -> bool:
        """Whether some step changes with time."""
        return any(not samples.static for samples, _ in self.steps)

    def samples(self) -> tuple[F64, Rotation, F64]:
        """Times (N,) [s], rotations and positions (N, 3) where the fastest step has poses and no other ends.

        Unlike `at` it doesn't look at gaps.
        """
        from scipy.spatial.transform import Rotation, Slerp

        moving = [samples.table()[:, 0] for samples, _ in self.steps if not samples.static]
        times = max(moving, key=len, default=np.zeros(0))
        for other in moving:
            times = times[(times >= other[0]) & (times <= other[-1])]
        rotations, positions = Rotation.identity(len(times)), np.zeros((len(times), 3))
        for samples, inverted in self.steps if len(times) > 1 else ():
            rows = samples.table()
            rotation, position = Rotation.from_quat(rows[-1, 4:]), rows[-1, 1:4]
            if not samples.static:
                rotation = Slerp(rows[:, 0], Rotation.from_quat(rows[:, 4:]))(times)
                position = np.stack([np.interp(times, rows[:, 0], column) for column in rows[:, 1:4].T], 1)
            if inverted:
                rotation, position = rotation.inv(), -rotation.inv().apply(position)
            rotations, positions = rotations * rotation, positions + rotations.apply(position)
        return times, rotations, positions

    def at(self, time: float, max_gap: float) -> Pose | None:
        """The pose at a time [s]; None where some step has no pose near enough."""
        total = Pose.identity()
        for samples, inverted in self.steps:
            pose = samples.at(time, max_gap)
            if pose is None:
                return None
            total = total @ (pose.inverse() if inverted else pose)
        return total


class TransformTree:
    """All frames of a recording and their transforms; names without the leading "/" that ROS 1 had."""

    def __init__(self) -> None:
        self._edges: dict[tuple[str, str], PoseSamples] = {}

    def add(
        self, parent: str, child: str, time: float, position: Vector, quaternion_xyzw: Quaternion, *, static: bool
    ) -> None:
        """Add the pose of `child` in `parent` [s, m]; for a pair in both, tf_static wins over tf."""
        parent, child = parent.lstrip("/"), child.lstrip("/")
        samples = self._edges.get((parent, child))
        if samples is None or (static and not samples.static):
            samples = PoseSamples(f"transform {parent} from {child}", static=static)
            self._edges[parent, child] = samples
        if samples.static == static:
            samples.add(time, position, quaternion_xyzw)

    def chain(self, target: str, source: str) -> Chain | None:
        """`target_from_source` by the fewest steps, or None where nothing connects the two frames."""
        neighbours: dict[str, list[tuple[str, PoseSamples, bool]]] = {}
        for (parent, child), samples in self._edges.items():
            neighbours.setdefault(parent, []).append((child, samples, False))
            neighbours.setdefault(child, []).append((parent, samples, True))
        target, source = target.lstrip("/"), source.lstrip("/")
        reached: dict[str, tuple[tuple[PoseSamples, bool], ...]] = {target: ()}
        waiting = deque([target])
        while waiting:
            frame = waiting.popleft()
            if frame == source:
                return Chain(reached[frame])
            for other, samples, inverted in neighbours.get(frame, []):
                if other not in reached:
                    reached[other] = (*reached[frame], (samples, inverted))
                    waiting.append(other)
        return None

    def root(self, frame: str) -> str:
        """The outermost frame above `frame`: the world, where the robot's motion is published."""
        parents = {child: parent for parent, child in self._edges}
        frame, seen = frame.lstrip("/"), set()
        while frame in parents and frame not in seen:
            seen.add(frame)
            frame = parents[frame]
        return frame

    def children(self, frame: str) -> list[str]:
        """Frames directly below."""
        return sorted(child for parent, child in self._edges if parent == frame.lstrip("/"))
