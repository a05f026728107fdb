"""How well pictures, poses and depth of a capture fit together, measured on the pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.capture.model import Capture, Frame
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose

logger = logging.getLogger(__name__)
Array = NDArray[np.float64]
Grey = NDArray[np.uint8]

MIN_FITTING, GOOD_FITTING = 0.35, 0.6
"""Share of corners whose depth, triangulated from two pictures, is the depth image's within `_ALIKE_DEPTH`: refused
below the first, warned of below the second."""
MIN_FILLED = 0.02
"""Least median share of known pixels of depth images."""
_PAIRS, _POINTS = 12, 120
_PATCH, _SEARCH = 7, 12  # half sides [px]
_ALIKE = 0.8  # normalised cross-correlation of patches that show the same
_ALIKE_DEPTH = 0.1  # relative
_MAX_TURN_DEG = 15.0
_LEAST_BASELINE, _MOST_BASELINE = 0.04, 0.15  # by distance: nearer views tell no depth, farther ones look different
_LEAST_JUDGED = 40  # points; fewer say nothing
_SHIFTS = 6  # px of the depth image, how far it is moved to find out where it fits best
_CLEARLY = 0.75  # a shift counts where the disagreement falls below this share of what it is unshifted


@dataclass(frozen=True)
class Registration:
    """Agreement of depth images with depth triangulated from pairs of pictures, at corners.

    Attributes:
        points: Corners with depth that were looked for in another picture.
        fitting: Share of them found there, with the depth image's distance within 10 %.
        error_px: Median distance of those found from where depth and poses predict them [px].
        error_depth: Median relative difference of depth.
        turn_deg: How far depth images must turn to fit best [deg], 0 where that isn't clearly better.
    """

    points: int
    fitting: float
    error_px: float
    error_depth: float
    turn_deg: float

    @property
    def note(self) -> str:
        """For the capture's notes."""
        if self.points < _LEAST_JUDGED:
            return "registration of depth and pictures not measured: too little texture with depth in pairs of views"
        turned = f"; turned by {self.turn_deg:.1f} degrees it would fit better" if self.turn_deg else ""
        return (
            f"depth fits the pictures: {self.fitting:.0%} of {self.points} corners, {self.error_px:.1f} px and "
            f"{self.error_depth:.1%} of the distance off in the median{turned}"
        )


@dataclass(frozen=True, eq=False)
class _Matches:
    """Corners of one picture that were found in another: M of `points` looked for.

    Attributes:
        points: How many were looked for.
        offset: (M,) from the prediction [px].
        triangulated: (M,) depth [m].
        measured: (M, 2 _SHIFTS + 1, 2 _SHIFTS + 1) depth image's around there [m], 0 = unknown.
        pixel_deg: What a pixel of the depth image spans [deg].
    """

    points: int
    offset: Array
    triangulated: Array
    measured: Array
    pixel_deg: float


def check_registration(capture: Capture, source: Path, remedy: str) -> str:
    """Measure and judge; returns a note.

    Raises:
        CaptureError: When depth and pictures contradict each other, with the given remedy.
    """
    filled = _filled(capture)
    if filled < MIN_FILLED:
        raise CaptureError(
            "the points must lie in view of the pictures",
            found=f"depth images of which {filled:.1%} is known, in the median",
            remedy=remedy,
            file=source,
        )
    measured = measure_registration(capture)
    if measured.points >= _LEAST_JUDGED and measured.fitting < MIN_FITTING:
        raise CaptureError(
            "depth, poses and pictures must fit together",
            found=f"only {measured.fitting:.0%} of {measured.points} corners are where depth and poses predict them",
            remedy=remedy,
            file=source,
        )
    if measured.points >= _LEAST_JUDGED and (measured.fitting < GOOD_FITTING or measured.turn_deg):
        logger.warning("%s; %s", measured.note, remedy)
    return measured.note


def measure_registration(capture: Capture) -> Registration:
    """Triangulate corners of pictures from two poses, and compare with the depth image.

    An error of pose, time or mounting makes corners land elsewhere than predicted; depth of another place in the
    picture is off where surfaces are slanted or end. What all views share (a wrong scale of poses and depth) stays
    hidden.
    """
    pairs = _pairs(capture.root, capture.frames)
    matches = [found for one, other in pairs if (found := _compare(capture.root, one, other))]
    points = sum(found.points for found in matches)
    if not any(len(found.offset) for found in matches):
        return Registration(points, 0.0, 0.0, 0.0, 0.0)
    triangulated = np.concatenate([found.triangulated for found in matches])
    measured = np.concatenate([found.measured for found in matches])
    with np.errstate(divide="ignore"):
        off = np.abs(np.log(np.where(measured > 0, measured, np.nan) / triangulated[:, None, None]))
    here = off[:, _SHIFTS, _SHIFTS]
    fits = here < _ALIKE_DEPTH
    cost = np.nanmean(np.minimum(off, _ALIKE_DEPTH), axis=0)
    row, column = np.unravel_index(np.nanargmin(cost), cost.shape)
    moved = float(np.hypot(row - _SHIFTS, column - _SHIFTS)) * max(found.pixel_deg for found in matches)
    better = cost[row, column] < _CLEARLY * cost[_SHIFTS, _SHIFTS]
    return Registration(
        points,
        float(fits.sum() / points),
        float(np.median(np.concatenate([found.offset for found in matches]))),
        float(np.median(here)),
        moved if better else 0.0,
    )


def _filled(capture: Capture) -> float:
    names = [frame.depth for frame in capture.frames if frame.depth]
    some = names[:: max(1, len(names) // _PAIRS)]
    return float(np.median([(_load(capture.root / name, cv2.IMREAD_UNCHANGED) != 0).mean() for name in some]))


def _pairs(root: Path, frames: Sequence[Frame]) -> list[tuple[Frame, Frame]]:
    """Frames spread over the capture, each with the farthest of the next ones that still looks much the same way."""
    usable = [frame for frame in frames if frame.depth and frame.depth_camera and frame.world_from_camera]
    pairs = []
    for i in np.unique(np.linspace(0, max(len(usable) - 2, 0), _PAIRS).astype(int)):
        distance = _median_depth(root, usable[i])
        best = None
        for j in range(i + 1, min(i + 60, len(usable))):
            one, other = usable[i].world_from_camera, usable[j].world_from_camera
            assert one and other
            turn = np.rad2deg(np.arccos(np.clip(one.rotation[:, 2] @ other.rotation[:, 2], -1, 1)))
            baseline = np.linalg.norm(one.translation - other.translation)
            if turn > _MAX_TURN_DEG or baseline > _MOST_BASELINE * distance:
                break
            best = usable[j] if baseline > _LEAST_BASELINE * distance else best
        if best:
            pairs.append((usable[i], best))
    return pairs


def _median_depth(root: Path, frame: Frame) -> float:
    depth = np.asarray(_load(root / str(frame.depth), cv2.IMREAD_UNCHANGED), np.float64)
    return float(np.median(depth[depth > 0])) / 1000 if (depth > 0).any() else 0.0


def _compare(root: Path, one: Frame, other: Frame) -> _Matches | None:
    assert one.world_from_camera and other.world_from_camera and one.depth_camera
    first, second = (np.asarray(_load(root / frame.image, cv2.IMREAD_GRAYSCALE), np.uint8) for frame in (one, other))
    depth = np.asarray(_load(root / str(one.depth), cv2.IMREAD_UNCHANGED), np.float64) / 1000
    corners = cv2.goodFeaturesToTrack(first, 4 * _POINTS, 0.02, 2 * _PATCH)
    if corners is None:
        return None
    pixels = np.round(corners.reshape(-1, 2)).astype(np.float64) + 0.5  # pixel centres
    rays = _rays(one.camera, pixels)
    column, row = np.floor(one.depth_camera.project(rays)).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < depth.shape[1]) & (row < depth.shape[0])
    z = np.zeros(len(pixels))
    z[inside] = depth[row[inside], column[inside]]
    other_from_one = other.world_from_camera.inverse() @ one.world_from_camera
    points = other_from_one.apply(rays * z[:, None])
    usable = np.flatnonzero((z > 0) & (points[:, 2] > 0.1))
    predicted = other.camera.project(points[usable])
    margin = _PATCH + _SEARCH + 1
    within = np.ones(len(usable), bool)
    for places, picture in ((pixels[usable], first), (predicted, second)):
        within &= ((places > margin) & (places < np.array(picture.shape[::-1]) - margin)).all(1)
    usable, predicted = usable[within][:_POINTS], predicted[within][:_POINTS]
    offset = np.array([_offset(first, second, pixels[i], p) for i, p in zip(usable, predicted, strict=True)])
    found = np.isfinite(offset.reshape(-1, 2)).all(1)
    if not found.any():
        empty = np.zeros(0)
        return _Matches(len(usable), empty, empty, np.zeros((0, 2 * _SHIFTS + 1, 2 * _SHIFTS + 1)), 0.0)
    places = predicted[found] + offset[found]
    depths = _triangulated(rays[usable[found]], _rays(other.camera, places), other_from_one)
    around = np.pad(depth, _SHIFTS)
    span = np.arange(2 * _SHIFTS + 1)
    rows, columns = row[usable[found]], column[usable[found]]
    measured = around[rows[:, None, None] + span[:, None], columns[:, None, None] + span]
    ahead = np.isfinite(depths) & (depths > 0)
    pixel_deg = float(np.rad2deg(1 / one.depth_camera.fx))
    distance = np.linalg.norm(offset[found], axis=1)
    return _Matches(len(usable), distance[ahead], depths[ahead], measured[ahead], pixel_deg)


def _triangulated(rays: Array, found: Array, other_from_one: Pose) -> Array:
    """Depth (M,) along rays (M, 3) of one camera whose points the other sees along `found` (M, 3), z = 1 each."""
    turned, shift = rays @ other_from_one.rotation.T, other_from_one.translation
    slope = turned[:, :2] - found[:, :2] * turned[:, 2:]
    level = found[:, :2] * shift[2] - shift[:2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((slope * level).sum(1) / (slope**2).sum(1), np.float64)


def _load(path: Path, mode: int) -> NDArray[np.generic]:
    image = cv2.imread(str(path), mode)
    if image is None:
        raise FileNotFoundError(f"{path} is missing or no picture")
    return np.asarray(image)


def _rays(camera: Camera, pixels: Array) -> Array:
    """Camera-frame directions (N, 3) with z = 1, lens distortion undone."""
    flat = cv2.undistortPoints(pixels.reshape(-1, 1, 2), camera.matrix, np.array(camera.distortion)).reshape(-1, 2)
    return np.column_stack([flat, np.ones(len(flat))]).astype(np.float64)


def _offset(first: Grey, second: Grey, pixel: Array, predicted: Array) -> Array:
    """From the prediction to the best place (2,) for the first picture's patch [px]; NaN where none is alike."""
    u, v = np.floor(pixel).astype(int)
    column, row = np.floor(predicted).astype(int)
    patch = first[v - _PATCH : v + _PATCH + 1, u - _PATCH : u + _PATCH + 1]
    reach = _PATCH + _SEARCH
    window = second[row - reach : row + reach + 1, column - reach : column + reach + 1]
    likeness = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
    _, best, _, (dx, dy) = cv2.minMaxLoc(likeness)
    if best < _ALIKE:
        return np.full(2, np.nan)
    place = np.array([column + dx + _peak(likeness[dy], dx), row + dy + _peak(likeness[:, dx], dy)])
    return place - _SEARCH + 0.5 - predicted


def _peak(values: NDArray[np.generic], at: int) -> float:
    """Where the parabola through the largest value and its neighbours peaks, from there, at most half a pixel."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = (float(values[at + k]) for k in (-1, 0, 1))
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
