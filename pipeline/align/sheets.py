"""Scale by sheets of paper: bright quads in the pictures whose corners meet in a rectangle of a sheet's shape."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.align.params import SHEETS, SheetFormat
from pipeline.align.quads import Measured, Sighting, combined, distances, measure, rectangle, unevenness
from pipeline.align.scale import MAX_DISAGREEMENT, Scale, most_certain
from pipeline.errors import ReconstructionError
from pipeline.poses.scene import PosedScene, read_image
from pipeline.progress import track

logger = logging.getLogger(__name__)
Array = NDArray[np.float64]

LEVELS = range(245, 69, -16)
"""Grey values at which bright regions are cut out: in one of them a sheet stands free of what is beside it."""
MIN_SIDE_PX = 24
MOST_QUADS = 15
"""Of a picture, the largest ones: tiles and bricks would cost hours."""
MARGIN_PX = 4
"""To the picture's border: a quad that touches it is cut off."""
STRAIGHT = 0.01
"""How far a region's outline may leave its four sides, as a share of its length."""
MAX_UNEVEN = 0.01
"""Largest relative scatter of a sheet's sides and diagonals: 4:3 differs from letter by 0.012, from A4 by 0.024."""
LEAST_SIGMA = 0.004
"""Relative: paper curls, and ISO 216 allows 2 mm."""
MAX_GAP_PX = 3.0
"""By which two views' rays to a corner may miss each other."""
LEAST_PARALLAX = np.sin(np.deg2rad(3.0))
LEAST_VIEWS = 3
MOST_OFF = 0.2
"""Relative, to another scale and beyond its sigma: what is further off is a lamp or a poster and no sheet."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """A sheet that was found.

    Attributes:
        measured: Its corners and what they tell.
        sightings: In the views.
    """

    measured: Measured
    sightings: list[Sighting]


def scale_from_sheets(kind: SheetFormat, scene: PosedScene, poses_folder: Path, others: Sequence[Scale]) -> Scale:
    """Scale by all sheets of one format that at least three views show.

    Rectangles of the same shape but of several sizes (an A3 poster beside an A4 sheet) contradict each other; then
    only those are taken that fit whatever else tells the scale.

    Args:
        kind: One of SHEETS.
        scene: Poses in scene units.
        poses_folder: Where the pictures lie.
        others: Scales known from elsewhere; hints are enough.

    Raises:
        ReconstructionError: When there is none, or nothing tells which of several sizes is the sheet's.
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
    return Scale(value, max(sigma, LEAST_SIGMA), "sheet")


def find_quads(picture: NDArray[np.uint8]) -> list[Array]:
    """Corners (4, 2) [px], in one sense of rotation, of the largest convex bright regions of a picture (H, W, 3)."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    limit = np.array([grey.shape[1], grey.shape[0]]) - MARGIN_PX
    found: list[Array] = []
    for level in LEVELS:
        outlines, nesting = cv2.findContours((grey > level).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
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
            if not any(_same(quad, other) for other in found):
                found.append(quad)
    by_size = sorted(found, key=lambda quad: -cv2.contourArea(quad.astype(np.float32)))
    return by_size[:MOST_QUADS]


def match_sheets(seen: Sequence[Sighting], expected: Array) -> list[Sheet]:
    """Quads of several views that are one rectangle of the sheet's shape, those of most views first.

    Each quad is tried against all quads of other views, turned four ways; partners that put it in the same place
    are one group, and the largest group is taken first.

    Args:
        seen: Quads of all views.
        expected: The sheet's six distances [m], as of `rectangle`.
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
    while len(best := max(groups, key=len, default={})) >= LEAST_VIEWS:
        sightings = [Sighting(seen[i].view, np.roll(seen[i].corners, -turn, 0)) for i, turn in best.items()]
        measured = measure(sightings, expected, MAX_UNEVEN)
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
    anchor: int, turn: int, views: NDArray[np.str_], origins: Array, rays: Array, pixels: Array, expected: Array
) -> dict[int, int]:
    """The anchor and, of each other view, the quad that makes the same sheet with it: index to its turn in corners."""
    others = np.flatnonzero(views != views[anchor])
    if len(others) == 0:
        return {anchor: turn}
    here = np.roll(rays[anchor], -turn, 0)
    there = np.stack([np.roll(rays[others], -shift, 1) for shift in range(4)], 1)  # (N, 4 turns, 4 corners, 3)
    between = (origins[anchor] - origins[others])[:, None, None]
    # the points of two lines that are nearest to each other
    along = (here * there).sum(-1)
    a, b = (here * between).sum(-1), (there * between).sum(-1)
    across = np.maximum(1 - along**2, 1e-12)
    s, t = (along * b - a) / across, (b - along * a) / across
    mine = origins[anchor] + s[..., None] * here
    corners = (mine + origins[others][:, None, None] + t[..., None] * there) / 2
    pixel = np.maximum(s, 1e-12) * np.hypot(pixels[anchor], pixels[others])[:, None, None]
    gap = 2 * np.linalg.norm(mine - corners, axis=-1) / pixel
    good = (s > 0) & (t > 0) & (gap < MAX_GAP_PX) & (across > LEAST_PARALLAX**2)
    fits = good.all(-1) & (unevenness(distances(corners), expected) < 2 * MAX_UNEVEN)
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


def _same(a: Array, b: Array) -> bool:
    """Whether two quads (4, 2 or 3) have the same place and size: one thing, cut out at two grey levels."""
    size, other = np.linalg.norm(a[0] - a[2]), np.linalg.norm(b[0] - b[2])
    return bool(np.linalg.norm(a.mean(0) - b.mean(0)) < size / 50 and abs(size - other) < size / 50)


def _of_one_size(kind: SheetFormat, sheets: list[Sheet], others: Sequence[Scale]) -> list[Sheet]:
    """The sheets, where they agree; else those that agree with the other scales.

    Raises:
        ReconstructionError: When none does, or sheets of several sizes remain.
    """
    fitting = [sheet for sheet in sheets if all(_is_near(_scale(sheet), other) for other in others)]
    if fitting and all(_scale(sheet).off(_scale(fitting[0])) <= MAX_DISAGREEMENT for sheet in fitting[1:]):
        return fitting
    doubtful = fitting or sheets
    known = most_certain(others) if others else replace(_scale(doubtful[0]), source="the first")
    listed = "; ".join(_described(sheet, known) for sheet in doubtful)
    raise ReconstructionError(
        f"--known-length '{kind} sheet' needs sheets of one size that fits what else is known of the scale",
        found=f"{len(doubtful)} rectangles of that shape: {listed}",
        remedy="name the right one: --known-length METRES@PHOTO:U,V:U,V with two of these pixels",
    )


def _is_near(scale: Scale, other: Scale) -> bool:
    off = abs(float(np.log(scale.value / other.value)))
    return off < MOST_OFF or scale.off(other) <= MAX_DISAGREEMENT


def _scale(sheet: Sheet) -> Scale:
    return Scale(sheet.measured.metres_per_unit, max(sheet.measured.sigma, LEAST_SIGMA), "sheet")


def _described(sheet: Sheet, known: Scale) -> str:
    """Its size by another scale, and the longer side's ends in the photo that shows it largest."""
    times = known.value / sheet.measured.metres_per_unit
    best = max(sheet.sightings, key=lambda sighting: cv2.contourArea(sighting.corners.astype(np.float32)))
    rays = best.view.camera.rays(best.corners[1:3])  # expected distances go from the shorter side to the longer one
    ends = ":".join(f"{u:.0f},{v:.0f}" for u, v in (best.view.source_camera or best.view.camera).project(rays))
    return f"{times:.2f} times the sheet's size by {known.source}, {best.view.name}:{ends}"
