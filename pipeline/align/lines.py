"""Gravity by lines: edges of doors, shelves, frames and corners are plumb, and their pictures meet in one point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.align.gravity import UpEstimate
from pipeline.align.surfaces import connected_parts, level_axes
from pipeline.depth.maps import load_depth_map
from pipeline.poses.scene import View, read_image
from pipeline.progress import track

Array = NDArray[np.float64]

MOST_VIEWS = 60
"""In which lines are sought, spread over the capture."""
LONGEST_SIDE_PX = 960
"""Of the pictures in which lines are sought."""
LEAST_LENGTH = 0.05
"""Of a segment, as a share of the picture's longer side."""
TOLERANCE_DEG = 1.5
"""Between a segment and the vertical through its place."""
VOTE_STEP_DEG = 0.5
RIVAL_DEG, MOST_RIVAL = 4.0, 0.8
"""A direction this far from the best one must have less than this share of its votes."""
LEAST_THINGS = 2
"""A single line near the vertical may be anything; that two agree by chance is rare."""
LEAST_VIEWS = 3
"""In which a thing must look plumb: in one or two, any line may."""
LEAST_SPREAD = 0.02
"""Of the planes' normals along their second axis: nearly parallel planes tell up about one axis only."""
THING_SIGMA_DEG = 1.5
"""How plumb one thing is: a door hardly errs, a picture on its cord leans by two degrees or more."""
THING_SIZE = 0.1
"""Lines that are less than this apart, in distances from the camera, belong to one thing."""

REACH = 20.0
"""Of what is counted, in distances from the camera."""


@dataclass(frozen=True, eq=False)
class Segments:
    """Straight segments of all views.

    Attributes:
        normals: (N, 3) unit, scene frame: of the plane through the camera and the line.
        lengths: (N,) in longer sides of the picture.
        views: (N,) number of the view.
        places: (N, 3) of their middles, scene frame; NaN where there is no depth.
        distance: Median, from the camera to the places [scene units].
    """

    normals: Array
    lengths: Array
    views: NDArray[np.intp]
    places: Array
    distance: float


def up_from_lines(
    views: Sequence[View], poses_folder: Path, depth_folder: Path, rough: UpEstimate
) -> UpEstimate | None:
    """The direction near a rough up that most segments' lines may have; None where no direction stands out.

    A segment and the camera's centre span a plane that holds the line, so up is at right angles to the planes' normals.
    All directions around the rough up are tried, then the best one is fitted (reweighted smallest eigenvector). What
    limits it is how plumb things are, so the sigma goes with the number of different things.

    Source: the Gaussian sphere of S. Barnard, Interpreting perspective images, Artificial Intelligence 21, 1983.
    """
    segments = _all_segments(views[:: max(1, -(-len(views) // MOST_VIEWS))], poses_folder, depth_folder)
    if len(segments.lengths) == 0:
        return None
    tried = _cone(rough.up, float(np.clip(3 * rough.sigma_deg, 5, 25)))
    votes = np.array([_weights(segments, up).sum() for up in tried])
    up = tried[np.argmax(votes)]
    far = tried @ up < np.cos(np.deg2rad(RIVAL_DEG))
    if votes[far].max(initial=0.0) >= MOST_RIVAL * votes.max():
        return None
    weights, spread = _weights(segments, up), 0.0
    for _ in range(10):
        scatter = (segments.normals * weights[:, None]).T @ segments.normals / weights.sum()
        values, vectors = np.linalg.eigh(scatter)
        up, spread = vectors[:, 0] * np.sign(vectors[:, 0] @ rough.up), float(values[1])
        weights = _weights(segments, up)
    things = _different_things(segments, weights, up)
    if len(things) < LEAST_THINGS or spread < LEAST_SPREAD:
        return None
    effective = things.sum() ** 2 / (things**2).sum()  # as many of equal size
    return UpEstimate("lines", up, THING_SIGMA_DEG / float(np.sqrt(effective * min(1.0, 2 * spread))))


def find_segments(picture: NDArray[np.uint8]) -> Array:
    """Straight segments (N, 4) as u1, v1, u2, v2 [px] in a picture (H, W, 3).

    Source: R. Grompone von Gioi et al., LSD: a fast line segment detector with a false detection control, TPAMI 2010.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    found = cv2.createLineSegmentDetector().detect(grey)[0]
    segments = np.zeros((0, 4)) if found is None else np.asarray(found, np.float64).reshape(-1, 4) + 0.5
    length = np.linalg.norm(segments[:, :2] - segments[:, 2:], axis=1)
    return segments[length > LEAST_LENGTH * max(grey.shape)]


def _all_segments(views: Sequence[View], poses_folder: Path, depth_folder: Path) -> Segments:
    normals, lengths, numbers, places, distances = [], [], [], [], []
    for number, view in enumerate(track(views, "looking for plumb lines")):
        longer = max(view.camera.width, view.camera.height)
        share = min(1.0, LONGEST_SIDE_PX / longer)
        camera = view.camera.resized(round(view.camera.width * share), round(view.camera.height * share))
        segments = find_segments(read_image(poses_folder, view, (camera.width, camera.height)))
        across = np.cross(camera.rays(segments[:, :2]), camera.rays(segments[:, 2:]))
        normals.append(view.world_from_camera.rotate(across / np.linalg.norm(across, axis=1, keepdims=True)))
        lengths.append(np.linalg.norm(segments[:, :2] - segments[:, 2:], axis=1) / longer / share)
        numbers.append(np.full(len(segments), number))
        middles = camera.rays((segments[:, :2] + segments[:, 2:]) / 2)
        depth = _depth(depth_folder, view, middles)
        places.append(view.world_from_camera.apply(middles * depth[:, None]))
        distances.append(depth)
    distance = np.concatenate(distances)
    known = distance[np.isfinite(distance)]
    typical = float(np.median(known)) if len(known) else 0.0
    joined = [np.concatenate(column) for column in (normals, lengths, numbers, places)]
    return Segments(joined[0], joined[1], joined[2], joined[3], typical)


def _depth(depth_folder: Path, view: View, rays: Array) -> Array:
    """Depth (N,) [scene units] along a view's rays (N, 3) in its own map, NaN without."""
    if not (depth_folder / f"{view.name}.npz").exists():
        return np.full(len(rays), np.nan)
    depth_map = load_depth_map(depth_folder, view.name)
    columns, rows = np.floor(depth_map.camera.project(rays)).astype(int).T
    height, width = depth_map.depth.shape
    depth = depth_map.depth[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)].astype(np.float64)
    return np.where(depth > 0, depth, np.nan)


def _cone(axis: Array, half_angle_deg: float) -> Array:
    """Unit directions (N, 3) all around an axis."""
    steps = np.arange(-half_angle_deg, half_angle_deg + VOTE_STEP_DEG / 2, VOTE_STEP_DEG)
    grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    grid = grid[np.linalg.norm(grid, axis=1) <= half_angle_deg]
    directions = axis + np.tan(np.deg2rad(grid)) @ level_axes(axis).T
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _weights(segments: Segments, up: Array) -> Array:
    """Lengths of the segments that may be plumb, by Tukey's biweight."""
    off = segments.normals @ up / np.sin(np.deg2rad(TOLERANCE_DEG))
    return np.where(np.abs(off) < 1, (1 - off**2) ** 2, 0) * segments.lengths


def _different_things(segments: Segments, weights: Array, up: Array) -> Array:
    """Weight (T,) of the lines of each thing that several views see as plumb."""
    used = (weights > 0) & np.isfinite(segments.places).all(1)
    middle = np.median(segments.places[used], 0) if used.any() else np.zeros(3)
    used &= np.linalg.norm(segments.places - middle, axis=1) < REACH * segments.distance
    if not used.any():
        return np.zeros(0)
    parts = connected_parts(segments.places[used] @ level_axes(up), THING_SIZE * segments.distance)
    seen_by = np.bincount(np.unique(np.stack([parts, segments.views[used]]), axis=1)[0], minlength=parts.max() + 1)
    return np.bincount(parts, weights[used]).astype(np.float64)[seen_by >= LEAST_VIEWS]
