"""Whether depth images agree with the given poses, and which unit or convention would make them agree."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.capture.model import Capture, Frame
from pipeline.capture.trajectory import Trajectory
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose
from pipeline.geometry.conventions import hypotheses
from pipeline.io.working_images import load_written
from pipeline.types import F64, U16

logger = logging.getLogger(__name__)

MIN_MEDIAN_DEPTH = 50
"""A scene's median depth in millimetres is above this; metres stored as integers are far below."""
DEPTH_FACTORS = {
    1000.0: "metres",
    10.0: "centimetres",
    0.1: "tenths of a millimetre",
    0.25: "1/4000 m (RealSense L515's)",
    0.2: "1/5000 m (TUM's scale)",
    0.001: "micrometres",
}
WELL = 5000.0
"""Farther readings of depth cameras and phones are hardly better than guesses [mm]."""
_AGREE = 0.04  # relative depth difference that still counts as the same surface
_UNIT_REMEDY = "convert the depth from {} to millimetres; if it is in millimetres, the poses are not in metres"
_NOTHING_FITS = (
    "take depth, poses and intrinsics of one recording, each in this format's convention; without trustworthy poses "
    "give the images alone"
)
_UNCHECKED = "depth unit not checked: too few overlapping views"
_FAR_AWAY = 1e9  # depth so large that positions don't matter: smooth depth agrees with itself then, too
_FITS = 0.5  # least share of agreeing points: wrong poses reach 0.05 to 0.15, in bare small rooms 0.4
_NAMED = 0.6  # share from which another unit, convention or delay is named as the right one
_CONVINCES = 0.8  # share that needs no comparison with other units
_COMPARABLE = 0.1  # share of what both views see that must not be hidden in one, or nothing is known
_SAMPLES = 160  # most depth images that are read: some of each room of a floor
_MIN_PAIRS = 3
_MIN_SEEN = 100  # fewest points in the other view, of all pairs
_EDGE = 1.1  # farthest by nearest of neighbouring readings, from which on they aren't of one surface
_CONFIDENT = 100  # of 255; ARKit's lowest level is 0, the middle one 127
_DELAYS = np.arange(1, 10.1, 0.25)  # [s], in both directions; shorter ones are measured on the images and corrected
_PARALLAX = 0.15  # share by which what is named must beat depth without parallax: smooth depth agrees with itself
_CLEARLY = 0.8  # what is declared is wrong when it reaches less than this share of the best one's points


@dataclass(frozen=True, eq=False)
class DepthSample:
    """Points (N, 3) [mm as stored] of a depth image in camera axes, and the image itself (H, W) [mm].

    Both without untrusted readings (of no confidence, far, at edges): they are 0 in the image.
    """

    points: F64
    depth: U16
    camera: Camera
    pose: Pose
    time: float | None


def check_depth_unit(capture: Capture, source: Path, pairs: int = 16) -> str:
    """Compare depth images with each other through the given poses; returns a note.

    Back-projects depth of one frame into another that looks in the same direction from some distance: as declared, with
    units that people mix up, with every other convention and order of the poses (`geometry.conventions`), and with the
    poses of other times. Stops only where what is declared fails and something else clearly fits.

    Raises:
        CaptureError: Naming the unit, convention or delay that fits.
    """
    most = WELL if capture.depth_range is None else 1000 * capture.depth_range
    usable = [frame for frame in capture.frames if frame.depth and frame.depth_camera and frame.world_from_camera]
    spread = np.linspace(0, len(usable) - 1, min(len(usable), _SAMPLES)).round().astype(int)
    samples = [depth_sample(capture.root, usable[i], most) for i in spread]
    stored = np.concatenate([sample.points[:, 2] for sample in samples]) if samples else np.zeros(0)
    if not len(stored):
        raise CaptureError(
            "depth images must hold readings", found="only zeros", remedy="export the depth again", file=source
        )
    median = float(np.median(stored))
    rule = "depth must be 16-bit millimetres and agree with the poses: camera-to-world, in metres"
    if median < MIN_MEDIAN_DEPTH:
        found = f"a median depth of {median:g}: millimetres are {MIN_MEDIAN_DEPTH} or more, these look like metres"
        raise CaptureError(rule, found=found, remedy="write round(1000 * metres) as 16-bit PNG", file=source)
    poses = [sample.pose for sample in samples]
    chosen = _pairs(poses, pairs, median / 1000)
    if not chosen:
        return _UNCHECKED
    checked = _agreement(samples, chosen, 1.0)
    declared = checked or 0.0
    if declared > _CONVINCES:
        return _note(declared)
    share, name, remedy = max(
        max((_agreement(samples, chosen, factor) or 0.0, name, _UNIT_REMEDY) for factor, name in DEPTH_FACTORS.items()),
        _best_hypothesis(usable, spread.tolist(), samples, pairs, median / 1000),
    )
    if declared < _FITS and (delayed := _best_delay(samples, pairs, median / 1000))[0] > max(share, _NAMED):
        share, name, remedy = delayed
    without_parallax = _agreement(samples, chosen, _FAR_AWAY) or 0.0
    if share > _NAMED and declared < _CLEARLY * share and without_parallax < share - _PARALLAX:
        found = f"as declared {declared:.0%} of the compared points agree, as {name} {share:.0%}"
        raise CaptureError(rule, found=found, remedy=remedy.format(name), file=source)
    if checked is None:
        return _UNCHECKED
    if declared < _FITS:
        found = f"{declared:.0%} of the compared points agree, and no other unit, convention or clock makes them agree"
        raise CaptureError(rule, found=found, remedy=_NOTHING_FITS, file=source)
    logger.warning("depth and poses agree in only %.0f %% of the compared points", 100 * declared)
    return f"{_note(declared)}: less than {_CONVINCES:.0%}, the poses may drift or the depth be distorted"


def _note(share: float) -> str:
    return f"depth and poses agree within {_AGREE:.0%} in {share:.0%} of the compared points"


def depth_sample(root: Path, frame: Frame, most: float) -> DepthSample:
    """Some readings of a frame that has depth and a pose, at most `most` [mm] away."""
    assert frame.depth and frame.depth_camera and frame.world_from_camera
    depth = np.asarray(load_written(root / frame.depth, cv2.IMREAD_UNCHANGED), np.uint16).copy()
    if frame.confidence:
        depth[load_written(root / frame.confidence, cv2.IMREAD_UNCHANGED) < _CONFIDENT] = 0
    if np.count_nonzero(depth > most) < 0.5 * np.count_nonzero(depth):  # else the unit is another
        depth[depth > most] = 0
    neighbours = np.ones((3, 3), np.uint8)
    nearest = cv2.erode(np.where(depth > 0, depth, np.uint16(65535)), neighbours)
    farthest = cv2.dilate(depth, neighbours)
    depth[farthest > _EDGE * nearest.astype(np.float64)] = 0
    camera = frame.depth_camera
    step = max(1, camera.width // 32)
    v, u = np.mgrid[step // 2 : camera.height : step, step // 2 : camera.width : step].reshape(2, -1)
    z = depth[v, u].astype(np.float64)
    points = camera.rays(np.stack([u, v], -1) + 0.5)[z > 0] * z[z > 0, None]
    return DepthSample(points, depth, camera, frame.world_from_camera, frame.time)


def _pairs(poses: Sequence[Pose], count: int, median: float) -> list[tuple[int, int]]:
    """Pairs (from, to) that look within 25 degrees of each other; [] if there are hardly any.

    They lie about a fifth of the track apart: nearer ones don't tell units apart. Where that is more than the median
    depth [m], they would be in other rooms, or have nothing in common on a street: then pairs about that median apart
    that follow soon on each other, since the way between two visits may lead around a wall.
    """
    position = np.array([pose.translation for pose in poses])
    axis = np.array([pose.rotation[:, 2] for pose in poses])
    baseline = np.maximum(np.linalg.norm(position[:, None] - position[None], axis=-1), 1e-9)
    fifth = max(0.2 * float(np.linalg.norm(np.ptp(position, axis=0))), 1e-9)
    alike = axis @ axis.T >= np.cos(np.deg2rad(25))
    if median < fifth:
        gap = np.abs(np.arange(len(poses))[:, None] - np.arange(len(poses)))
        near = np.where(alike & (np.abs(np.log(baseline / median)) < np.log(2)), gap, len(poses))
        partner, later = near.argmin(1), near.min(1)
        paired = np.flatnonzero(later < len(poses))
        if len(paired) >= _MIN_PAIRS:
            soon = paired[later[paired] <= np.median(later[paired])]
            chosen = soon[np.linspace(0, len(soon) - 1, min(count, len(soon))).round().astype(int)]
            return [(int(i), int(partner[i])) for i in chosen]
    off = np.abs(np.log(baseline / fifth))
    off[~alike | (off > np.log(3))] = np.inf
    partner = off.argmin(1)
    least = off[np.arange(len(poses)), partner]
    best = [i for i in np.argsort(least, kind="stable")[:count] if np.isfinite(least[i])]
    return [(int(i), int(partner[i])) for i in best] if len(best) >= _MIN_PAIRS else []


def _agreement(samples: Sequence[DepthSample], pairs: Sequence[tuple[int, int]], factor: float) -> float | None:
    """Share of points of one depth image that lie on the surface of another, of those that can be compared.

    Those are in the other's view, where it has a trusted reading. A point behind that reading is hidden from the other
    view and isn't compared, unless the first view looked through what would hide it. None where the views hardly
    overlap, 0 where they do and all is hidden.
    """
    agreeing = compared = seen = 0
    for first, second in [*pairs, *((j, i) for i, j in pairs)]:
        one, other = samples[first], samples[second]
        other_from_one = other.pose.inverse() @ one.pose
        z, measured, rays = _measured(other, other_from_one.apply(one.points * factor / 1000), factor)
        on_surface = np.abs(measured - z) < _AGREE * z
        behind = z > (1 + _AGREE) * measured
        hiding = other_from_one.inverse().apply(rays[behind] * measured[behind, None])
        found, beyond, _ = _measured(one, hiding, factor)
        looked_through = int((beyond > (1 + _AGREE) * found).sum())
        agreeing += int(on_surface.sum())
        compared += int((~behind).sum()) + looked_through
        seen += len(z)
    if seen < _MIN_SEEN:
        return None
    return agreeing / compared if compared > _COMPARABLE * seen else 0.0


def _measured(sample: DepthSample, points: F64, factor: float) -> tuple[F64, F64, F64]:
    """Depth (M,) of the points (N, 3) [m, camera axes] where the image has a reading, that (M,), and their rays."""
    points = points[points[:, 2] > 1e-4]
    column, row = np.floor(sample.camera.project(points)).astype(np.int64).T
    inside = (column >= 0) & (row >= 0) & (column < sample.camera.width) & (row < sample.camera.height)
    points = points[inside]
    measured = sample.depth[row[inside], column[inside]] * (factor / 1000)
    known = measured > 0
    points, z = points[known], points[known, 2]
    return z, np.asarray(measured[known], np.float64), points / z[:, None]


def _best_hypothesis(
    frames: Sequence[Frame], rows: Sequence[int], samples: Sequence[DepthSample], pairs: int, median: float
) -> tuple[float, str, str]:
    """Share of agreeing points, text and remedy of what the poses of all frames may be instead of what is declared.

    The samples are of the frames `rows`.
    """
    best, given = (0.0, "", ""), [frame.world_from_camera for frame in frames if frame.world_from_camera]
    for one in hypotheses([frame.name for frame in frames]):
        converted = zip(samples, one.poses(given, rows), strict=True)
        share = _overlap_agreement([replace(sample, pose=pose) for sample, pose in converted], pairs, median)
        best = max(best, (share, one.text, one.remedy))
    return best


def _best_delay(samples: Sequence[DepthSample], pairs: int, median: float) -> tuple[float, str, str]:
    """Share of agreeing points, name and remedy of the delay with which the poses of other times agree best."""
    times = np.array([np.nan if sample.time is None else sample.time for sample in samples])
    best = (0.0, "", "")
    if not (np.diff(times) > 0).all():
        return best
    trajectory = Trajectory(times, tuple(sample.pose for sample in samples))
    for delay in (sign * delay for delay in _DELAYS if delay < 0.5 * (times[-1] - times[0]) for sign in (-1, 1)):
        poses = trajectory.at(times + delay, np.inf)
        moved = [replace(sample, pose=pose) for sample, pose in zip(samples, poses, strict=True) if pose is not None]
        name = f"poses of {abs(delay):.1f} s {'later' if delay > 0 else 'earlier'}"
        remedy = f"images and poses need one clock: add {-delay:.1f} s to the times of the poses"
        best = max(best, (_overlap_agreement(moved, pairs, median), name, remedy))
    return best


def _overlap_agreement(samples: Sequence[DepthSample], pairs: int, median: float) -> float:
    """Share of agreeing points between views that overlap; 0 where there are too few."""
    chosen = _pairs([sample.pose for sample in samples], pairs, median) if samples else []
    return _agreement(samples, chosen, 1.0) or 0.0
