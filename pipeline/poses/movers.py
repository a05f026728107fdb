"""Masks of what is no part of the place: things that move, and what the camera carries along (operator, robot)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.capture.masks import save_mask
from pipeline.depth.parallel import map_in_order
from pipeline.depth.raw import read_depth
from pipeline.geometry import Camera
from pipeline.poses.carried import carried
from pipeline.poses.parallax import Still, moving
from pipeline.poses.scene import View, read_image, read_mask
from pipeline.progress import track

logger = logging.getLogger(__name__)

LONG_SIDE = 320
"""Pictures are compared at this size [px]."""
NEIGHBOURS = 2
"""Pictures before and after one, in the capture's order, that it is compared with; farther ones show too little."""
LEAST_POINTS = 10
"""A view in front of which fewer sparse points lie isn't looked at: the depth of its place is unknown."""
NEARER = 4.0
"""A thing may be so many times nearer than a view's nearest points."""
DEPTH_ERROR = 0.08
"""Relative error of a sensor's depth and its registration."""
LEAST_AREA = 0.004
"""A region has at least this share of its picture."""
LEAST_SURE = 0.2
"""Share of a region's pixels that must surely move."""
GAP, MARGIN = 0.03, 0.008
"""Gaps that are closed and the rim that is added [share of the long side]."""
MUCH = 0.05
"""Share of the pictures above which a warning says what is masked."""


def mask_movers(
    folder: Path,
    views: Sequence[View],
    cameras: Sequence[int],
    xyz: NDArray[np.float64],
    depth_folder: Path | None,
    threads: int,
) -> tuple[list[View], dict[str, Any]]:
    """Mask in every view what moves or is carried along; masks that views have already keep what they hide.

    Args:
        folder: The poses folder with the views' pictures and masks; gets the new masks.
        views: All registered views in the capture's order, held-out ones too.
        cameras: Which camera took each; only views of one camera are compared.
        xyz: (N, 3) sparse points.
        depth_folder: The capture, whose depth images then speak for themselves; None where their scale isn't known.
        threads: How many; 0 takes all cores. Results don't depend on it.

    Returns:
        The views with their masks; for the report, which shares of the pictures move and are carried, in which views.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)  # OpenCV's flow depends on it
    try:
        found = dict(enumerate(views))
        moved, along = [], []
        for camera in sorted(set(cameras)):
            own = [i for i, number in enumerate(cameras) if number == camera]
            training = [k for k, i in enumerate(own) if not views[i].held_out]
            if not training:
                continue
            stills = list(map_in_order(lambda i: _still(folder, views[i], depth_folder), own, threads or None))
            fixed = _carried([stills[k] for k in training])
            for i, mask in zip(own, _moving(stills, training, xyz, threads or None), strict=True):
                moved.append(float(mask.mean()))
                along.append(float(fixed.mean()))
                if (mask | fixed).any():
                    found[i] = replace(views[i], mask=_save(folder, views[i], mask | fixed))
    finally:
        cv2.setNumThreads(before)
    report = {
        "moving_share": float(np.mean(moved or [0.0])),
        "carried_share": float(np.mean(along or [0.0])),
        "views": [view.name for view, old in zip(found.values(), views, strict=True) if view is not old],
    }
    if report["moving_share"] + report["carried_share"] > MUCH:
        logger.warning(
            "masked: %.0f %% of the pictures moves by itself, %.0f %% is carried along with the camera",
            100 * report["moving_share"],
            100 * report["carried_share"],
        )
    return list(found.values()), report


def _moving(
    stills: Sequence[Still], training: Sequence[int], xyz: NDArray[np.float64], threads: int | None
) -> Iterator[NDArray[np.bool_]]:
    """What moves by itself (H, W) in each of the pictures, held against those of training views only."""

    def judge(index: int) -> NDArray[np.bool_]:
        limits = _limits(stills[index], xyz)
        if limits is None:
            return np.zeros(stills[index].grey.shape, bool)
        before, after = (
            [k for k in training if k < index][-NEIGHBOURS:],
            [k for k in training if k > index][:NEIGHBOURS],
        )
        return regions(*moving(stills[index], [stills[k] for k in before + after], limits))

    yield from track(map_in_order(judge, range(len(stills)), threads), "what moves", len(stills))


def _carried(stills: Sequence[Still]) -> NDArray[np.bool_]:
    """What the camera carries along (H, W), from its edges."""
    edges = carried(stills)
    return regions(edges, edges)


def regions(moves: NDArray[np.bool_], sure: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whole things (H, W) from single pixels that move: specks go, gaps are closed, a rim is added.

    Args:
        moves: (H, W), which pixels move.
        sure: (H, W), which of them surely do; flow alone is anything where a picture is smooth.
    """
    long_side = max(moves.shape)
    opened = cv2.morphologyEx(moves.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, _disc(GAP * long_side))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    kept = np.zeros(moves.shape, np.uint8)
    for label in range(1, count):
        part = labels == label
        share = (sure & part).sum() / stats[label, cv2.CC_STAT_AREA]
        if stats[label, cv2.CC_STAT_AREA] >= LEAST_AREA * moves.size and share >= LEAST_SURE:
            kept[part] = 1
    outlines, _ = cv2.findContours(kept, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(kept, outlines, -1, 1, cv2.FILLED)
    return cv2.dilate(kept, _disc(2 * MARGIN * long_side)) > 0


def _disc(diameter: float) -> NDArray[np.uint8]:
    size = 2 * round(diameter / 2) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def _still(folder: Path, view: View, depth_folder: Path | None) -> Still:
    """The view as it is compared, a sensor's depth projected into it."""
    factor = min(1.0, LONG_SIDE / max(view.camera.width, view.camera.height))
    camera = view.camera.resized(round(view.camera.width * factor), round(view.camera.height * factor))
    size = camera.width, camera.height
    grey = np.asarray(cv2.cvtColor(read_image(folder, view, size), cv2.COLOR_RGB2GRAY), np.uint8)
    depth = _inverse_depth(view, depth_folder, camera) if depth_folder and view.sensor_depth else None
    return Still(grey, camera, view.world_from_camera, read_mask(folder, view, size), depth)


def _inverse_depth(view: View, capture_folder: Path, camera: Camera) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lowest and highest inverse depth (H, W) that the sensor allows around every pixel; any where it saw nothing."""
    depth, _, lens = read_depth(view, capture_folder)
    points = lens.rays()[depth > 0] * depth[depth > 0][:, None]
    if view.camera_from_depth is not None:
        points = view.camera_from_depth.apply(points)
    points = points[points[:, 2] > 0]
    coarse = max(1, round(np.sqrt(camera.width * camera.height / max(depth.size, 1)))) + 1
    small = camera.resized(-(-camera.width // coarse), -(-camera.height // coarse))
    column, row = np.floor(small.project(points)).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < small.width) & (row < small.height)
    place, inverse = row[inside] * small.width + column[inside], (1 / points[inside, 2]).astype(np.float32)
    low, high = (
        np.full(small.width * small.height, np.inf, np.float32),
        np.zeros(small.width * small.height, np.float32),
    )
    np.minimum.at(low, place, inverse)
    np.maximum.at(high, place, inverse)
    shape = small.height, small.width
    nearest = cv2.dilate(np.where(high > 0, high, np.inf).astype(np.float32).reshape(shape), np.ones((3, 3), np.uint8))
    farthest = cv2.erode(np.where(high > 0, low, 0).astype(np.float32).reshape(shape), np.ones((3, 3), np.uint8))
    size = camera.width, camera.height
    lowest, highest = (
        np.asarray(cv2.resize(inverse * np.float32(error), size, interpolation=cv2.INTER_NEAREST), np.float32)
        for inverse, error in ((farthest, 1 - DEPTH_ERROR), (nearest, 1 + DEPTH_ERROR))
    )
    return lowest, highest


def _limits(still: Still, xyz: NDArray[np.float64]) -> tuple[float, float] | None:
    """Lowest and highest inverse depth that something in the view may have; None where too few points lie before it."""
    local = still.world_from_camera.inverse().apply(xyz)
    local = local[local[:, 2] > 0]
    pixel = still.camera.project(local)
    inside = ((pixel > 0) & (pixel < (still.camera.width, still.camera.height))).all(1)
    if inside.sum() < LEAST_POINTS:
        return None
    return 0.0, NEARER / float(np.percentile(local[inside, 2], 2))


def _save(folder: Path, view: View, hidden: NDArray[np.bool_]) -> str:
    """Write the view's mask at the picture's size; gives its path."""
    size = view.camera.width, view.camera.height
    large = cv2.resize(hidden.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    own = read_mask(folder, view)
    return save_mask(~large if own is None else own & ~large, folder, Path(view.image).stem)
