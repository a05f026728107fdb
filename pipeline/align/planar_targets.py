"""Scale by flat objects of known size: printed tags (AprilTag, ArUco) and sheets of paper, in several views."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.align.params import SHEETS, SheetFormat
from pipeline.align.scale import MAX_DISAGREEMENT, Scale, lowest_sigma
from pipeline.errors import ReconstructionError
from pipeline.poses.scene import PosedScene, View, read_image
from pipeline.progress import track
from pipeline.types import F64, U8

logger = logging.getLogger(__name__)

MAX_ERROR_PX = 2.0
"""Largest median reprojection error of the corners: above it the object moved, or there are several."""
CORNER_SIGMA_PX = 0.3
"""One sigma of a corner's position."""
MIN_SCALE_SIGMA = 0.002
"""Smallest relative sigma: accuracy of measuring and printing."""
PAIRS = np.array(list(combinations(range(4), 2)))
"""The six distances between four corners: two quads are congruent when all of them are equal."""

FAMILIES = {
    "AprilTag 36h11": cv2.aruco.DICT_APRILTAG_36h11,
    "AprilTag 25h9": cv2.aruco.DICT_APRILTAG_25h9,
    "ArUco 4x4": cv2.aruco.DICT_4X4_50,
    "ArUco 5x5": cv2.aruco.DICT_5X5_100,
    "ArUco 6x6": cv2.aruco.DICT_6X6_250,
}
"""Dictionaries by family; of one tag size, smaller ones are part of larger ones: 50 of 4x4 are the first 50 of 1000."""
MAX_TAG_UNEVENNESS = 0.05
"""Largest relative scatter of a tag's sides and diagonals: above it the views' directions are too similar."""


Tag = tuple[str, int]
"""Family and number of a tag."""

GREY_THRESHOLDS = range(245, 69, -16)
"""Grey values at which bright regions are segmented: at one of them a sheet is separate from its surroundings."""
MIN_SIDE_PX = 24
"""Shortest side of a quad: the corners of smaller ones are too uncertain."""
MAX_QUADS = 15
"""Largest number of quads per image: tiles and bricks would take hours."""
MARGIN_PX = 4
"""Margin at the image's border, where quads are cropped."""
STRAIGHT = 0.01
"""Largest deviation of a region's outline from its four sides, as a share of its length."""
MAX_SHEET_UNEVENNESS = 0.01
"""Largest relative scatter of a sheet's sides and diagonals: 4:3 differs from letter by 0.012, from A4 by 0.024."""
MIN_SHEET_SIGMA = 0.004
"""Smallest relative sigma of a sheet: paper curls, and ISO 216 allows 2 mm."""
MAX_GAP_PX = 3.0
"""Largest distance between two views' rays to a corner."""
MIN_PARALLAX = np.sin(np.deg2rad(3.0))
MIN_VIEWS = 3
MAX_OFF = 0.2
"""Largest relative difference to another scale, beyond its sigma: the object is a lamp or a poster, not a sheet."""


@dataclass(frozen=True, eq=False)
class Sighting:
    """The corners (4, 2) of a quad in the object's order, in pixels of a view's undistorted image."""

    view: View
    corners: F64


@dataclass(frozen=True, eq=False)
class Measured:
    """A quad measured from several views: corners (4, 3) in the scene's frame, and the scale by their six distances.

    `sigma` is the scale's relative one sigma by the corners' noise and the disagreement of the distances.
    """

    corners: F64
    metres_per_unit: float
    sigma: float


def rectangle(width: float, height: float) -> F64:
    """The six distances [m] between the corners of a rectangle, its first side being the width."""
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    return np.linalg.norm(corners[PAIRS[:, 0]] - corners[PAIRS[:, 1]], axis=1)


def distances(corners: F64) -> F64:
    """The six distances (..., 6) between corners (..., 4, 3), in the order of `rectangle`."""
    return np.linalg.norm(corners[..., PAIRS[:, 0], :] - corners[..., PAIRS[:, 1], :], axis=-1)


def unevenness(measured: F64, expected: F64) -> F64:
    """Relative scatter (...) of the ratios of distances (..., 6) to those of the object, (6,) [m]."""
    factors = measured / expected
    return factors.std(-1) / factors.mean(-1)


def measure(sightings: list[Sighting], expected: F64, max_unevenness: float) -> Measured | None:
    """Triangulate a quad and compare it with the object's distances (6,) [m]; None if it is not reliable."""
    if len(sightings) < 2:
        return None
    origins = np.array([sighting.view.world_from_camera.translation for sighting in sightings])
    rays = np.array([s.view.world_from_camera.rotate(s.view.camera.rays(s.corners)) for s in sightings])
    corners = np.array([nearest_point(origins, rays[:, k]) for k in range(4)])
    if not np.isfinite(corners).all():
        return None
    errors, pixel = [], []
    for sighting in sightings:
        local = sighting.view.world_from_camera.inverse().apply(corners)
        if (local[:, 2] <= 0).any():
            return None
        errors.append(np.linalg.norm(sighting.view.camera.project(local) - sighting.corners, axis=1))
        pixel.append(local[:, 2].mean() / sighting.view.camera.fx)
    measured = distances(corners)
    uneven = float(unevenness(measured, expected))
    if np.median(errors) > MAX_ERROR_PX or uneven > max_unevenness:
        return None
    own = CORNER_SIGMA_PX * float(np.mean(pixel)) / np.sqrt(len(sightings)) / float(measured.mean())
    return Measured(corners, 1 / float((measured / expected).mean()), float(np.hypot(own, uneven / 2)))


def combined(measured: list[Measured]) -> tuple[float, float]:
    """Metres per scene unit by several quads, and its relative sigma."""
    values = np.array([quad.metres_per_unit for quad in measured])
    weights = np.array([1 / quad.sigma**2 for quad in measured])
    value = float((weights * values).sum() / weights.sum())
    scatter = np.sqrt((weights * (values / value - 1) ** 2).sum() / weights.sum())
    return value, max(MIN_SCALE_SIGMA, float(weights.sum() ** -0.5), float(scatter) / len(values) ** 0.5)


def nearest_point(origins: F64, rays: F64) -> F64:
    """The point (3,) nearest to all lines through origins (N, 3) along rays (N, 3); NaN if they are parallel."""
    directions = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    matrix = across.sum(0)
    if np.linalg.cond(matrix) > 1e6:
        return np.full(3, np.nan)
    return np.linalg.solve(matrix, np.einsum("nij,nj->i", across, origins))


def scale_from_tags(size: float, scene: PosedScene, poses_folder: Path) -> Scale:
    """Scale by all tags, with black squares of this size [m], that at least two views show.

    Raises:
        ReconstructionError: When no tag can be measured.
    """
    by_tag: dict[Tag, list[Sighting]] = {}
    for view in track(scene.views, "looking for tags"):
        for tag, sighting in find_tags(view, read_image(poses_folder, view)):
            by_tag.setdefault(tag, []).append(sighting)
    square = rectangle(size, size)
    measured = {tag: quad for tag, seen in by_tag.items() if (quad := measure(seen, square, MAX_TAG_UNEVENNESS))}
    if not measured:
        listed = ", ".join(f"{family} {number} in {len(seen)}" for (family, number), seen in by_tag.items())
        raise ReconstructionError(
            "a tag size needs a tag that several sharp views show",
            found=f"{listed} views" if listed else f"no tag in {len(scene.views)} views",
            remedy=f"show a flat, unmoved tag of {', '.join(FAMILIES)} in three views or more",
        )
    names = ", ".join(f"{family} {number}" for family, number in measured)
    logger.info("scale by %d tags of %g m: %s", len(measured), size, names)
    value, sigma = combined(list(measured.values()))
    return Scale(value, sigma, "fiducials")


def find_tags(view: View, image: U8) -> Iterator[tuple[Tag, Sighting]]:
    """All tags of the known families in a view's image (H, W, 3)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    for family, dictionary in FAMILIES.items():
        detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(dictionary), parameters)
        corners, numbers, _ = detector.detectMarkers(grey)
        for quad, number in zip(corners, numbers if numbers is not None else (), strict=False):
            points = np.asarray(quad, np.float64).reshape(4, 2) + 0.5  # OpenCV's integers are pixel centres
            if np.linalg.norm(points - np.roll(points, 1, 0), axis=1).min() >= MIN_SIDE_PX:
                yield (family, int(np.ravel(number)[0])), Sighting(view, points)


@dataclass(frozen=True, eq=False)
class Sheet:
    """A sheet of paper, and its quads in the views."""

    measured: Measured
    sightings: list[Sighting]


def scale_from_sheets(kind: SheetFormat, scene: PosedScene, poses_folder: Path, others: Sequence[Scale]) -> Scale:
    """Scale by all sheets of one format that at least three views show.

    Rectangles of the same shape but several sizes (an A3 poster next to an A4 sheet) contradict each other; then only
    those are used that agree with the other scales.

    Raises:
        ReconstructionError: When there is none, or several sizes remain.
    """
    width, height = SHEETS[kind]
    seen = [
        Sighting(view, corners)
        for view in track(scene.views, "looking for sheets of paper")
        for corners in find_quads(read_image(poses_folder, view))
    ]
    sheets = match_sheets(seen, rectangle(width, height))
    if not sheets:
        raise ReconstructionError(
            f"--known-length '{kind} sheet' needs a sheet that three sharp views show",
            found=f"{len(seen)} bright quads in {len(scene.views)} views, none of them of that shape in three",
            remedy="lay a white, flat, unmoved sheet on something darker and show all four corners from several sides, "
            "or give METRES@PHOTO:U,V:U,V",
        )
    chosen = _of_one_size(kind, sheets, others)
    value, sigma = combined([sheet.measured for sheet in chosen])
    logger.info("scale by %d sheets of %s, one in %d views", len(chosen), kind, len(chosen[0].sightings))
    return Scale(value, max(sigma, MIN_SHEET_SIGMA), "sheet")


def find_quads(image: U8) -> list[F64]:
    """Corners (4, 2) [px] of the largest convex bright quads of an image (H, W, 3), all in one sense of rotation."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    limit = np.array([grey.shape[1], grey.shape[0]]) - MARGIN_PX
    quads: list[F64] = []
    for threshold in GREY_THRESHOLDS:
        outlines, nesting = cv2.findContours(
            (grey > threshold).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
        )
        parents = np.zeros(0) if nesting is None else np.asarray(nesting)[0, :, 3]
        for outline, parent in zip(outlines, parents, strict=True):
            if parent >= 0 or cv2.contourArea(outline) < MIN_SIDE_PX**2:  # those with a parent are holes
                continue
            quad = cv2.approxPolyDP(outline, max(1.5, STRAIGHT * cv2.arcLength(outline, True)), True)
            if len(quad) != 4 or not cv2.isContourConvex(quad):
                continue
            corners = np.asarray(quad, np.float32).reshape(4, 2)
            sides = np.linalg.norm(corners - np.roll(corners, 1, 0), axis=1)
            if sides.min() < MIN_SIDE_PX or (corners < MARGIN_PX).any() or (corners > limit).any():
                continue
            stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 40, 0.01)
            refined = cv2.cornerSubPix(grey, corners[:, None].copy(), (5, 5), (-1, -1), stop)
            quad = np.asarray(refined, np.float64).reshape(4, 2) + 0.5
            if not any(_same(quad, other) for other in quads):
                quads.append(quad)
    by_size = sorted(quads, key=lambda quad: -cv2.contourArea(quad.astype(np.float32)))
    return by_size[:MAX_QUADS]


def match_sheets(seen: Sequence[Sighting], expected: F64) -> list[Sheet]:
    """Quads of several views that are one rectangle of the sheet's shape, those in most views first.

    Each quad is matched with all quads of other views, in four rotations; those that agree on its position are a group,
    and the largest group is used first. `expected` are the sheet's six distances [m], see `rectangle`.
    """
    if not seen:
        return []
    views = np.array([sighting.view.name for sighting in seen])
    origins = np.array([sighting.view.world_from_camera.translation for sighting in seen])
    rays = np.array([s.view.world_from_camera.rotate(s.view.camera.rays(s.corners)) for s in seen])
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    pixels = np.array([1 / sighting.view.camera.fx for sighting in seen])  # [rad]
    groups = [
        _group(anchor, turn, views, origins, rays, pixels, expected) for anchor in range(len(seen)) for turn in (0, 1)
    ]
    sheets: list[Sheet] = []
    while len(best := max(groups, key=len, default={})) >= MIN_VIEWS:
        sightings = [Sighting(seen[i].view, np.roll(seen[i].corners, -turn, 0)) for i, turn in best.items()]
        measured = measure(sightings, expected, MAX_SHEET_UNEVENNESS)
        if measured is None:
            groups.remove(best)
            continue
        if not any(_same(measured.corners, sheet.measured.corners) for sheet in sheets):
            sheets.append(Sheet(measured, sightings))
        groups = [
            {i: turn for i, turn in group.items() if i not in best} for group in groups if next(iter(group)) not in best
        ]
    return sheets


def _group(
    anchor: int, turn: int, views: NDArray[np.str_], origins: F64, rays: F64, pixels: F64, expected: F64
) -> dict[int, int]:
    """The anchor and, of each other view, the quad of the same sheet: shift of its corners by index."""
    others = np.flatnonzero(views != views[anchor])
    if len(others) == 0:
        return {anchor: turn}
    own = np.roll(rays[anchor], -turn, 0)
    theirs = np.stack([np.roll(rays[others], -shift, 1) for shift in range(4)], 1)  # (N, 4 turns, 4 corners, 3)
    between = (origins[anchor] - origins[others])[:, None, None]
    # the nearest points of two lines
    along = (own * theirs).sum(-1)
    a, b = (own * between).sum(-1), (theirs * between).sum(-1)
    across = np.maximum(1 - along**2, 1e-12)
    s, t = (along * b - a) / across, (b - along * a) / across
    nearest = origins[anchor] + s[..., None] * own
    corners = (nearest + origins[others][:, None, None] + t[..., None] * theirs) / 2
    pixel = np.maximum(s, 1e-12) * np.hypot(pixels[anchor], pixels[others])[:, None, None]
    gap = 2 * np.linalg.norm(nearest - corners, axis=-1) / pixel
    good = (s > 0) & (t > 0) & (gap < MAX_GAP_PX) & (across > MIN_PARALLAX**2)
    fits = good.all(-1) & (unevenness(distances(corners), expected) < 2 * MAX_SHEET_UNEVENNESS)
    rows, turns = np.nonzero(fits)
    if len(rows) == 0:
        return {anchor: turn}
    centres = corners[rows, turns].mean(1)
    size = np.linalg.norm(corners[rows, turns, 0] - corners[rows, turns, 2], axis=-1)
    near = np.linalg.norm(centres - np.median(centres, 0), axis=1) < 0.1 * np.median(size)
    best_first = np.argsort(gap[rows, turns].max(-1))
    best_first = best_first[near[best_first]]
    _, first = np.unique(views[others[rows[best_first]]], return_index=True)
    return {anchor: turn} | {int(others[rows[k]]): int(turns[k]) for k in best_first[first]}


def _same(a: F64, b: F64) -> bool:
    """Whether two quads (4, 2 or 3) have the same position and size: one object at two grey thresholds."""
    size, other = np.linalg.norm(a[0] - a[2]), np.linalg.norm(b[0] - b[2])
    return bool(np.linalg.norm(a.mean(0) - b.mean(0)) < size / 50 and abs(size - other) < size / 50)


def _of_one_size(kind: SheetFormat, sheets: list[Sheet], others: Sequence[Scale]) -> list[Sheet]:
    """The sheets if they agree, otherwise those that agree with the other scales, if these are of one size."""

    def fits(scale: Scale) -> bool:
        return all(abs(np.log(scale.value / o.value)) < MAX_OFF or scale.off(o) <= MAX_DISAGREEMENT for o in others)

    fitting = [sheet for sheet in sheets if fits(_scale(sheet))]
    if fitting and all(_scale(sheet).off(_scale(fitting[0])) <= MAX_DISAGREEMENT for sheet in fitting[1:]):
        return fitting
    doubtful = fitting or sheets
    known = lowest_sigma(others) if others else _scale(doubtful[0])
    reference = known.source if others else "the first"
    listed = []  # the size by another scale, and the ends of the longer side in the photo that shows it largest
    for sheet in doubtful:
        times = known.value / sheet.measured.metres_per_unit
        best = max(sheet.sightings, key=lambda sighting: cv2.contourArea(sighting.corners.astype(np.float32)))
        rays = best.view.camera.rays(best.corners[1:3])  # expected distances go from the shorter side to the longer one
        ends = ":".join(f"{u:.0f},{v:.0f}" for u, v in (best.view.source_camera or best.view.camera).project(rays))
        listed.append(f"{times:.2f} times the sheet's size by {reference}, {best.view.name}:{ends}")
    raise ReconstructionError(
        f"--known-length '{kind} sheet' needs sheets of one size that fits what else is known of the scale",
        found=f"{len(doubtful)} rectangles of that shape: {'; '.join(listed)}",
        remedy="name the right one: --known-length METRES@PHOTO:U,V:U,V with two of these pixels",
    )


def _scale(sheet: Sheet) -> Scale:
    return Scale(sheet.measured.metres_per_unit, max(sheet.measured.sigma, MIN_SHEET_SIGMA), "sheet")
