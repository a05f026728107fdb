"""Gravity by vertical lines: edges of doors, shelves, frames and corners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.align.gravity import UpEstimate
from pipeline.align.surfaces import connected_parts, horizontal_axes
from pipeline.depth.maps import load_depth_map
from pipeline.poses.scene import View, read_image
from pipeline.progress import track
from pipeline.types import F64, U8

MAX_VIEWS = 60
"""Largest number of views in which lines are detected, spread over the capture."""
LONGEST_SIDE_PX = 960
"""Longer side of the images in which lines are detected."""
MIN_LENGTH = 0.05
"""Shortest segment, as a share of the image's longer side."""
TOLERANCE_DEG = 1.5
"""Largest angle between a segment and the vertical through it."""
VOTE_STEP_DEG = 0.5
"""Angle between candidate directions."""
RIVAL_DEG, MAX_RIVAL = 4.0, 0.8
"""A direction this far from the best one must have less than this share of its votes."""
MIN_OBJECTS, MIN_VIEWS = 2, 3
"""Least number of objects that agree, and of views in which each looks vertical: in one or two, any line may."""
MIN_SPREAD = 0.02
"""Least spread of the planes' normals along their second axis: nearly parallel planes constrain one axis only."""
OBJECT_SIGMA_DEG = 1.5
"""How vertical one object is: doors are accurate, a picture on a cord leans by two degrees or more."""
OBJECT_SIZE, REACH = 0.1, 20.0
"""Largest distance between lines of one object, and from the median of all [median distances from the camera]."""


@dataclass(frozen=True, eq=False)
class Segments:
    """Straight segments of all views, with lengths (N,) in longer sides of the image and their views' numbers (N,).

    In the scene's frame: unit normals (N, 3) of the planes through camera and line, midpoints (N, 3), NaN without
    depth, and the median distance from the camera.
    """

    normals: F64
    lengths: F64
    views: NDArray[np.intp]
    positions: F64
    distance: float


def up_from_lines(
    views: Sequence[View], poses_folder: Path, depth_folder: Path, rough: UpEstimate
) -> UpEstimate | None:
    """The direction near a rough up that most segments' lines can have; None without a distinct one.

    A segment and the camera's centre span a plane that contains the line, so up is perpendicular to the plane's normal.
    Of all directions around the rough up the best one is refined (reweighted smallest eigenvector). The sigma depends
    on the number of different objects, because objects are not exactly vertical.

    Source: the Gaussian sphere of S. Barnard, Interpreting perspective images, Artificial Intelligence 21, 1983.
    """
    segments = _all_segments(views[:: max(1, -(-len(views) // MAX_VIEWS))], poses_folder, depth_folder)
    if len(segments.lengths) == 0:
        return None
    radius = float(np.clip(3 * rough.sigma_deg, 5, 25))
    steps = np.arange(-radius, radius + VOTE_STEP_DEG / 2, VOTE_STEP_DEG)
    grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    grid = grid[np.linalg.norm(grid, axis=1) <= radius]
    candidates = rough.up + np.tan(np.deg2rad(grid)) @ horizontal_axes(rough.up).T
    candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
    votes = np.array([_weights(segments, up).sum() for up in candidates])
    up = candidates[np.argmax(votes)]
    far = candidates @ up < np.cos(np.deg2rad(RIVAL_DEG))
    if votes[far].max(initial=0.0) >= MAX_RIVAL * votes.max():
        return None
    weights, spread = _weights(segments, up), 0.0
    for _ in range(10):
        scatter = (segments.normals * weights[:, None]).T @ segments.normals / weights.sum()
        values, vectors = np.linalg.eigh(scatter)
        up, spread = vectors[:, 0] * np.sign(vectors[:, 0] @ rough.up), float(values[1])
        weights = _weights(segments, up)
    objects = _object_weights(segments, weights, up)
    if len(objects) < MIN_OBJECTS or spread < MIN_SPREAD:
        return None
    effective = objects.sum() ** 2 / (objects**2).sum()  # number of equal ones
    return UpEstimate(("lines",), up, OBJECT_SIGMA_DEG / float(np.sqrt(effective * min(1.0, 2 * spread))))


def _find_segments(image: U8) -> F64:
    """Straight segments (N, 4) as u1, v1, u2, v2 [px] in an image (H, W, 3).

    Source: R. Grompone von Gioi et al., LSD: a fast line segment detector with a false detection control, TPAMI 2010.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    lines = cv2.createLineSegmentDetector().detect(grey)[0]
    segments = np.zeros((0, 4)) if lines is None else np.asarray(lines, np.float64).reshape(-1, 4) + 0.5
    length = np.linalg.norm(segments[:, :2] - segments[:, 2:], axis=1)
    return segments[length > MIN_LENGTH * max(grey.shape)]


def _all_segments(views: Sequence[View], poses_folder: Path, depth_folder: Path) -> Segments:
    normals, lengths, numbers, positions, distances = [], [], [], [], []
    for number, view in enumerate(track(views, "looking for vertical lines")):
        longer = max(view.camera.width, view.camera.height)
        share = min(1.0, LONGEST_SIDE_PX / longer)
        camera = view.camera.resized(round(view.camera.width * share), round(view.camera.height * share))
        segments = _find_segments(read_image(poses_folder, view, (camera.width, camera.height)))
        across = np.cross(camera.rays(segments[:, :2]), camera.rays(segments[:, 2:]))
        normals.append(view.world_from_camera.rotate(across / np.linalg.norm(across, axis=1, keepdims=True)))
        lengths.append(np.linalg.norm(segments[:, :2] - segments[:, 2:], axis=1) / longer / share)
        numbers.append(np.full(len(segments), number))
        middles = camera.rays((segments[:, :2] + segments[:, 2:]) / 2)
        depth = _depth(depth_folder, view, middles)
        positions.append(view.world_from_camera.apply(middles * depth[:, None]))
        distances.append(depth)
    distance = np.concatenate(distances)
    known = distance[np.isfinite(distance)]
    distance = float(np.median(known)) if len(known) else 0.0
    return Segments(*map(np.concatenate, (normals, lengths, numbers, positions)), distance=distance)


def _depth(depth_folder: Path, view: View, rays: F64) -> F64:
    """Depth (N,) [scene units] along a view's rays (N, 3) in its depth map; NaN without."""
    if not (depth_folder / f"{view.name}.npz").exists():
        return np.full(len(rays), np.nan)
    depth_map = load_depth_map(depth_folder, view.name)
    columns, rows = np.floor(depth_map.camera.project(rays)).astype(int).T
    height, width = depth_map.depth.shape
    depth = depth_map.depth[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)].astype(np.float64)
    return np.where(depth > 0, depth, np.nan)


def _weights(segments: Segments, up: F64) -> F64:
    """Lengths of the segments that may be vertical, with Tukey's biweight."""
    off = segments.normals @ up / np.sin(np.deg2rad(TOLERANCE_DEG))
    return np.where(np.abs(off) < 1, (1 - off**2) ** 2, 0) * segments.lengths


def _object_weights(segments: Segments, weights: F64, up: F64) -> F64:
    """Sum of the lines' weights (T,) of each object that looks vertical in several views."""
    used = (weights > 0) & np.isfinite(segments.positions).all(1)
    middle = np.median(segments.positions[used], 0) if used.any() else np.zeros(3)
    used &= np.linalg.norm(segments.positions - middle, axis=1) < REACH * segments.distance
    if not used.any():
        return np.zeros(0)
    parts = connected_parts(segments.positions[used] @ horizontal_axes(up), OBJECT_SIZE * segments.distance)
    seen_by = np.bincount(np.unique(np.stack([parts, segments.views[used]]), axis=1)[0], minlength=parts.max() + 1)
    return np.bincount(parts, weights[used]).astype(np.float64)[seen_by >= MIN_VIEWS]
