"""Offset between the clocks of images and poses, from the motion that both recorded.

Points are followed from image to image. Poses of the same times, shifted by a trial offset, give the line on which
each point must reappear; where the camera's rotation changes, a wrong offset misses it.
Sources: J.-Y. Bouguet, Pyramidal Implementation of the Lucas Kanade Feature Tracker, 2000; R. Hartley and A. Zisserman,
Multiple View Geometry, 2nd edition, section 11.4.3 (Sampson distance).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.capture.frames import ListedFrame
from pipeline.capture.images import image_mask
from pipeline.geometry import Pose
from pipeline.io.image_files import BadImageError
from pipeline.io.working_images import fitting
from pipeline.types import F64, U8

PosesAt = Callable[[F64], Sequence[Pose | None]]
"""World from camera at times (N,) [s]; None where it isn't known."""

REACH, STEP = 0.5, 0.01
"""Largest offset that is tried in both directions, and step [s]."""
MIN, SURE = 0.01, 5.0
"""Smallest offset that is applied [s], also in its sigmas."""
STRETCH, APART, MAX_APART = 16.0, 0.08, 0.35
"""Length of the stretch that is used; smallest and largest time between its images [s]."""
MIN_PAIRS, MIN_TRACKS, TRACKS = 24, 15, 120
FITS, CLEARLY = 2.0, 0.6
"""Median distance of the points from their lines at the best offset [px], and its cost by that of a usual one: beyond,
poses and images don't agree, or the motion is too even to tell."""
_SIDE = 480  # px, longer side of the images that are compared
_PROBES = 2000  # poses that are sampled to find where the camera rotates most unevenly
_GROUPS = 10  # number of groups of pairs that are left out one after the other, which gives sigma
_SMOOTH = 11  # steps over which poses are averaged: between two noisy poses there is less noise than at one
_BACK = 0.5  # px, between a point and where it is followed back to


@dataclass(frozen=True)
class TimeOffset:
    """The poses of an image are those of `seconds` after its time, on the poses' clock; one sigma [s]."""

    seconds: float
    sigma: float

    @property
    def sure(self) -> bool:
        """Whether it is worth correcting."""
        return abs(self.seconds) > max(MIN, SURE * self.sigma)

    @property
    def note(self) -> str:
        """For people."""
        side = "early" if self.seconds > 0 else "late"
        return (
            f"images are stamped {1000 * abs(self.seconds):.0f} ms too {side} for the poses "
            f"(one sigma {1000 * self.sigma:.1f} ms), by the motion that both show: corrected"
        )


@dataclass(frozen=True, eq=False)
class _Tracks:
    """Points followed between two images: directions (N, 2) in both, times [s], focal length [px]."""

    before: F64
    after: F64
    start: float
    end: float
    focal: float


def find_time_offset(frames: Sequence[ListedFrame], poses_at: PosesAt) -> TimeOffset | None:
    """The offset between images (one camera's, in the order of time) and its poses, where it is sure, else None."""
    times = np.array([frame.time for frame in frames if frame.time is not None])
    stretch = lively_stretch(times[0], times[-1], poses_at) if len(times) > MIN_PAIRS else None
    if stretch is None:
        return None
    start, end = stretch
    found = measure_time_offset((f for f in frames if f.time is not None and start <= f.time <= end), poses_at)
    return found if found is not None and found.sure else None


def lively_stretch(start: float, end: float, poses_at: PosesAt) -> tuple[float, float] | None:
    """The 16 seconds between two times in which the camera's rotation changes most; None where there are no poses."""
    from scipy.spatial.transform import Rotation

    if not 0 < end - start < np.inf:  # times that no later check lets through
        return None
    step = max(0.1, (end - start) / _PROBES)
    times = np.arange(start, end, step)
    poses = poses_at(times)
    between = {i: one.rotation.T @ other.rotation for i, (one, other) in enumerate(pairwise(poses)) if one and other}
    if len(between) < 2:
        return None
    rotations = np.zeros((len(times), 3))
    rotations[[*between]] = [Rotation.from_matrix(rotation).as_rotvec() for rotation in between.values()]
    change = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(rotations, axis=0), axis=1))])
    width = min(len(change) - 1, max(1, round(STRETCH / step)))
    first = int(np.argmax(change[width:] - change[:-width]))
    return float(times[first]), float(min(times[first] + STRETCH, end))


def measure_time_offset(frames: Iterable[ListedFrame], poses_at: PosesAt) -> TimeOffset | None:
    """The offset and its sigma, sure or not; None where images or poses don't tell it.

    The frames are some seconds of one camera's, in the order of time; taken one by one.
    """
    from scipy.ndimage import uniform_filter1d
    from scipy.spatial.transform import Rotation, Slerp

    tracks = list(_followed(frames))
    if len(tracks) < MIN_PAIRS:
        return None
    reach = REACH + _SMOOTH * STEP
    grid = np.arange(tracks[0].start - reach - STEP, tracks[-1].end + reach + 2 * STEP, STEP)
    poses = poses_at(grid)
    known = np.array([pose is not None for pose in poses])
    missing = np.concatenate([[0], np.cumsum(~known)])
    ends = np.array([(pair.start - reach, pair.end + reach) for pair in tracks])
    first, last = np.searchsorted(grid, ends[:, 0]) - 1, np.searchsorted(grid, ends[:, 1]) + 1
    tracks = [pair for pair, a, b in zip(tracks, first, last, strict=True) if missing[a] == missing[b]]
    if len(tracks) < MIN_PAIRS:
        return None
    seen = [pose for pose in poses if pose is not None]
    quaternions = Rotation.from_matrix(np.array([pose.rotation for pose in seen])).as_quat()
    flips = np.where((quaternions[1:] * quaternions[:-1]).sum(1) < 0, -1.0, 1.0)
    quaternions[1:] *= np.cumprod(flips)[:, None]
    rotations = Slerp(grid[known], Rotation.from_quat(uniform_filter1d(quaternions, _SMOOTH, axis=0)))
    positions = uniform_filter1d(np.array([pose.translation for pose in seen]), _SMOOTH, axis=0)

    def at(times: F64) -> tuple[F64, F64]:
        position = np.stack([np.interp(times, grid[known], positions[:, axis]) for axis in range(3)], 1)
        return rotations(times).as_matrix(), position

    offsets = np.linspace(-REACH, REACH, 2 * round(REACH / STEP) + 1)
    pair = np.repeat(np.arange(len(tracks)), [len(t.before) for t in tracks])
    errors = [_errors(tracks, pair, at, offset) for offset in offsets]
    cost = np.stack([np.bincount(pair, np.log1p(error**2)) / np.bincount(pair) for error in errors], 1)
    total = cost.sum(0)
    best = int(np.argmin(total))
    unclear = total[best] > CLEARLY * np.median(total) or np.median(errors[best]) > FITS
    if unclear or not 1 < best < len(offsets) - 2:
        return None
    parts = np.array([part.sum(0) for part in np.array_split(cost, _GROUPS)])
    without = np.array([_lowest(offsets, total - part) for part in parts])
    sigma = np.sqrt((_GROUPS - 1) / _GROUPS * ((without - without.mean()) ** 2).sum())  # jackknife
    return TimeOffset(_lowest(offsets, total), float(sigma))


def _followed(frames: Iterable[ListedFrame]) -> Iterable[_Tracks]:
    last: tuple[float, U8, U8 | None] | None = None
    for frame in frames:
        if frame.time is None or (last is not None and frame.time - last[0] < APART):
            continue
        try:
            image = frame.image()
            kept = image_mask(image, frame.mask() if frame.mask else None)
        except BadImageError:
            continue
        size = fitting(*image.image.size, _SIDE)
        camera = frame.camera(image.size).resized(*size)
        grey = cv2.resize(np.asarray(image.image.convert("L"), np.uint8), size, interpolation=cv2.INTER_AREA)
        mask = None if kept is None else cv2.resize(kept.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        now = frame.time, np.asarray(grey, np.uint8), None if mask is None else np.asarray(mask, np.uint8)
        if last is not None and now[0] - last[0] < MAX_APART and last[1].shape == now[1].shape:
            points = _follow(last[1], now[1], last[2])
            if len(points) >= MIN_TRACKS:
                lens = camera.matrix - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]  # OpenCV's pixels have integer centres
                flat = cv2.undistortPoints(points.reshape(-1, 1, 2), lens, np.array(camera.distortion))
                before, after = np.asarray(flat, np.float64).reshape(-1, 2, 2).transpose(1, 0, 2)
                yield _Tracks(before, after, last[0], now[0], camera.fx)
        last = now


def _follow(before: U8, after: U8, mask: U8 | None) -> F64:
    """Positions (N, 2, 2) [px] of points in both images that are followed back to where they began."""
    corners = cv2.goodFeaturesToTrack(before, TRACKS, 0.01, 8, mask=mask)
    if corners is None:
        return np.zeros((0, 2, 2))
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, np.empty_like(corners), maxLevel=4)
    back, _, _ = cv2.calcOpticalFlowPyrLK(after, before, moved, np.empty_like(corners), maxLevel=4)
    same = (found[:, 0] > 0) & (np.linalg.norm(back - corners, axis=2)[:, 0] < _BACK)
    return np.concatenate([corners, moved], 1)[same].astype(np.float64)


def _errors(
    tracks: Sequence[_Tracks], pair: NDArray[np.intp], at: Callable[[F64], tuple[F64, F64]], offset: float
) -> F64:
    """Sampson distances of all points (of the tracks numbered `pair`) with the poses `offset` later [px]."""
    (rotation0, position0), (rotation1, position1) = (
        at(np.array([getattr(pair, name) for pair in tracks]) + offset) for name in ("start", "end")
    )
    rotation = rotation1.transpose(0, 2, 1) @ rotation0
    move = np.einsum("nji,nj->ni", rotation1, position0 - position1)
    length = np.linalg.norm(move, axis=1, keepdims=True)
    move = np.where(length > 1e-6, move / np.maximum(length, 1e-6), [1.0, 0.0, 0.0])
    cross = np.zeros((len(tracks), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -move[:, 2], move[:, 1], -move[:, 0]
    essential = (cross - cross.transpose(0, 2, 1)) @ rotation
    one, other = (
        np.column_stack([rays, np.ones(len(rays))])
        for rays in (np.concatenate([t.before for t in tracks]), np.concatenate([t.after for t in tracks]))
    )
    line, back = np.einsum("nij,nj->ni", essential[pair], one), np.einsum("nij,ni->nj", essential[pair], other)
    slope = np.hypot(np.linalg.norm(line[:, :2], axis=1), np.linalg.norm(back[:, :2], axis=1))
    focal = np.array([t.focal for t in tracks])[pair]
    return np.asarray(focal * np.abs((other * line).sum(1)) / np.maximum(slope, 1e-12), np.float64)


def _lowest(offsets: F64, cost: F64) -> float:
    """Minimum of the parabola through the lowest value and its neighbours."""
    at = int(np.clip(np.argmin(cost), 1, len(cost) - 2))
    before, here, after = cost[at - 1 : at + 2]
    bend = before - 2 * here + after
    return float(offsets[at] + STEP * np.clip(0.5 * (before - after) / bend, -1, 1)) if bend > 0 else float(offsets[at])
