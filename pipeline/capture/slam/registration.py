"""How well images, poses and depth of a capture fit together, measured on the images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.capture.model import Capture, Frame
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose
from pipeline.io.working_images import load_written
from pipeline.types import F64, U8

logger = logging.getLogger(__name__)

MIN_FITTING, GOOD_FITTING = 0.35, 0.6
"""Share of corners whose depth, triangulated from two images, is the depth image's within `_ALIKE_DEPTH`: refused
below the first, warned of below the second."""
MIN_FILLED = 0.02
"""Least median share of known pixels of depth images."""
_PAIRS, _POINTS = 12, 120
_PATCH, _SEARCH = 7, 12  # half sides [px]
_ALIKE = 0.8  # normalised cross-correlation of patches that show the same
_ALIKE_DEPTH = 0.1  # relative
_MAX_ROTATION_DEG = 15.0
_MIN_BASELINE, _MAX_BASELINE = 0.04, 0.15  # by distance: nearer views tell no depth, farther ones look different
_MIN_JUDGED = 40  # points; fewer say nothing
_SHIFTS = 6  # px of the depth image, how far it is moved to find out where it fits best
_CLEARLY = 0.75  # a shift counts where the disagreement falls below this share of what it is unshifted


@dataclass(frozen=True, eq=False)
class _Matches:
    """Corners of one image that were found in another: M of `points`.

    Attributes:
        offset: (M,) distances from the prediction [px].
        triangulated: (M,) depths [m].
        measured: (M, 2 _SHIFTS + 1, 2 _SHIFTS + 1) depth image around the corners [m], 0 = unknown.
        pixel_deg: Angle of a pixel of the depth image [deg].
    """

    points: int
    offset: F64
    triangulated: F64
    measured: F64
    pixel_deg: float


def check_registration(capture: Capture, source: Path, remedy: str) -> Capture:
    """The capture with a note on how well its depth fits its images.

    Depth of corners is triangulated from pairs of images and compared with the depth image. An error of pose, time or
    mounting makes corners land elsewhere than predicted; depth of another part of the image is off where surfaces are
    slanted or end. What all views share (a wrong scale of poses and depth) stays hidden.

    Raises:
        CaptureError: When depth and images contradict each other, with the given remedy.
    """

    def refused(rule: str, found: str) -> CaptureError:
        return CaptureError(rule, found=found, remedy=remedy, file=source)

    names = [frame.depth for frame in capture.frames if frame.depth]
    some = [_depth(capture.root / name) for name in names[:: max(1, len(names) // _PAIRS)]]
    filled = float(np.median([(depth != 0).mean() for depth in some]))
    if filled < MIN_FILLED:
        found = f"depth images of which {filled:.1%} is known, in the median"
        raise refused("the points must lie in view of the images", found)
    pairs = _pairs(capture.root, capture.frames)
    matches = [found for one, other in pairs if (found := _compare(capture.root, one, other))]
    points = sum(found.points for found in matches)
    if points < _MIN_JUDGED:
        note = "registration of depth and images not measured: too little texture with depth in pairs of views"
        return replace(capture, notes=(*capture.notes, note))
    triangulated = np.concatenate([found.triangulated for found in matches])
    measured = np.concatenate([found.measured for found in matches])
    with np.errstate(divide="ignore"):
        off = np.abs(np.log(np.where(measured > 0, measured, np.nan) / triangulated[:, None, None]))
    here = off[:, _SHIFTS, _SHIFTS]
    fitting = float((here < _ALIKE_DEPTH).sum() / points)
    if fitting < MIN_FITTING:
        found = f"only {fitting:.0%} of {points} corners are where depth and poses predict them"
        raise refused("depth, poses and images must fit together", found)
    error_px, error_depth = np.median(np.concatenate([found.offset for found in matches])), np.median(here)
    note = (
        f"depth fits the images: {fitting:.0%} of {points} corners, {error_px:.1f} px and {error_depth:.1%} of the "
        "distance off in the median"
    )
    cost = np.nanmean(np.minimum(off, _ALIKE_DEPTH), axis=0)
    row, column = np.unravel_index(np.nanargmin(cost), cost.shape)
    rotation_deg = float(np.hypot(row - _SHIFTS, column - _SHIFTS)) * max(found.pixel_deg for found in matches)
    rotated = rotation_deg > 0 and cost[row, column] < _CLEARLY * cost[_SHIFTS, _SHIFTS]
    if rotated:
        note += f"; rotated by {rotation_deg:.1f} degrees it would fit better"
    if fitting < GOOD_FITTING or rotated:
        logger.warning("%s; %s", note, remedy)
    return replace(capture, notes=(*capture.notes, note))


def _depth(path: Path) -> F64:
    """A depth image (H, W) [mm]."""
    return np.asarray(load_written(path, cv2.IMREAD_UNCHANGED), np.float64)


def _pairs(root: Path, frames: Sequence[Frame]) -> list[tuple[Frame, Frame]]:
    """Frames spread over the capture, each with the farthest later one that looks in much the same direction."""
    usable = [frame for frame in frames if frame.depth and frame.depth_camera and frame.world_from_camera]
    pairs = []
    for i in np.unique(np.linspace(0, max(len(usable) - 2, 0), _PAIRS).astype(int)):
        depth = _depth(root / str(usable[i].depth))
        distance = float(np.median(depth[depth > 0])) / 1000 if (depth > 0).any() else 0.0
        best = None
        for j in range(i + 1, min(i + 60, len(usable))):
            one, other = usable[i].world_from_camera, usable[j].world_from_camera
            assert one and other
            angle = np.rad2deg(np.arccos(np.clip(one.rotation[:, 2] @ other.rotation[:, 2], -1, 1)))
            baseline = np.linalg.norm(one.translation - other.translation)
            if angle > _MAX_ROTATION_DEG or baseline > _MAX_BASELINE * distance:
                break
            best = usable[j] if baseline > _MIN_BASELINE * distance else best
        if best:
            pairs.append((usable[i], best))
    return pairs


def _compare(root: Path, one: Frame, other: Frame) -> _Matches | None:
    assert one.world_from_camera and other.world_from_camera and one.depth_camera
    images = (load_written(root / frame.image, cv2.IMREAD_GRAYSCALE) for frame in (one, other))
    first, second = (np.asarray(image, np.uint8) for image in images)
    depth = _depth(root / str(one.depth)) / 1000
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
    for positions, image in ((pixels[usable], first), (predicted, second)):
        within &= ((positions > margin) & (positions < np.array(image.shape[::-1]) - margin)).all(1)
    usable, predicted = usable[within][:_POINTS], predicted[within][:_POINTS]
    offset = np.array([_offset(first, second, pixels[i], p) for i, p in zip(usable, predicted, strict=True)])
    found = np.isfinite(offset.reshape(-1, 2)).all(1)
    if not found.any():
        empty = np.zeros(0)
        return _Matches(len(usable), empty, empty, np.zeros((0, 2 * _SHIFTS + 1, 2 * _SHIFTS + 1)), 0.0)
    positions = predicted[found] + offset[found]
    depths = _triangulated(rays[usable[found]], _rays(other.camera, positions), other_from_one)
    around = np.pad(depth, _SHIFTS)
    span = np.arange(2 * _SHIFTS + 1)
    rows, columns = row[usable[found]], column[usable[found]]
    measured = around[rows[:, None, None] + span[:, None], columns[:, None, None] + span]
    ahead = np.isfinite(depths) & (depths > 0)
    pixel_deg = float(np.rad2deg(1 / one.depth_camera.fx))
    distance = np.linalg.norm(offset[found], axis=1)
    return _Matches(len(usable), distance[ahead], depths[ahead], measured[ahead], pixel_deg)


def _triangulated(rays: F64, seen: F64, other_from_one: Pose) -> F64:
    """Depth (M,) along rays (M, 3) of one camera whose points the other sees along `seen` (M, 3), z = 1 each."""
    rotated, shift = rays @ other_from_one.rotation.T, other_from_one.translation
    slope = rotated[:, :2] - seen[:, :2] * rotated[:, 2:]
    constant = seen[:, :2] * shift[2] - shift[:2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((slope * constant).sum(1) / (slope**2).sum(1), np.float64)


def _rays(camera: Camera, pixels: F64) -> F64:
    """Camera-frame directions (N, 3) with z = 1, lens distortion undone."""
    flat = cv2.undistortPoints(pixels.reshape(-1, 1, 2), camera.matrix, np.array(camera.distortion)).reshape(-1, 2)
    return np.column_stack([flat, np.ones(len(flat))]).astype(np.float64)


def _offset(first: U8, second: U8, pixel: F64, predicted: F64) -> F64:
    """Offset (2,) from the prediction to the best match of the first image's patch [px]; NaN where none matches."""
    u, v = np.floor(pixel).astype(int)
    column, row = np.floor(predicted).astype(int)
    patch = first[v - _PATCH : v + _PATCH + 1, u - _PATCH : u + _PATCH + 1]
    reach = _PATCH + _SEARCH
    window = second[row - reach : row + reach + 1, column - reach : column + reach + 1]
    likeness = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
    _, best, _, (dx, dy) = cv2.minMaxLoc(likeness)
    if best < _ALIKE:
        return np.full(2, np.nan)
    position = np.array([column + dx + _peak(likeness[dy], dx), row + dy + _peak(likeness[:, dx], dy)])
    return position - _SEARCH + 0.5 - predicted


def _peak(values: NDArray[np.generic], at: int) -> float:
    """Offset of the peak of the parabola through the largest value and its neighbours, at most half a pixel."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = (float(values[at + k]) for k in (-1, 0, 1))
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
