"""The coverage stage: photos, mesh and splat to `coverage.npz`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.align.alignment import load_world_scene
from pipeline.coverage.map import TRUSTED, CoverageMap
from pipeline.coverage.params import CoverageParams
from pipeline.coverage.prediction import TrainingPhotos, expected_error, image_terms, load_photos
from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Gaussians, Mesh, Pose
from pipeline.mesh.params import WalkableParams
from pipeline.mesh.walkable import find_walkable
from pipeline.points.completion import Completion
from pipeline.progress import track
from pipeline.raster import contiguous
from pipeline.splat.ply import load_splat
from pipeline.types import F32, F64, Floats

logger = logging.getLogger(__name__)

SEED = 0
IMAGE_WIDTH, IMAGE_HEIGHT = 160, 120
"""Size of the robot's images [px]."""
FREE = 0.1
"""Free room round a position [m]: a camera in a wall sees nothing."""


def run(inputs: Mapping[str, Path], params: CoverageParams, out_dir: Path) -> None:
    """Read poses, align, points, mesh and splat; write the map, empty where nobody can stand."""
    scene = load_world_scene(inputs["poses"], inputs["align"])
    track_points = np.array([view.world_from_camera.translation for view in scene.training]).reshape(-1, 3)
    positions, cell = find_positions(Mesh.load(inputs["mesh"] / "collision.ply"), track_points, params)
    errors = np.zeros((0, params.headings), np.float32)
    if len(positions):
        mesh, splat = Mesh.load(inputs["mesh"] / "mesh.ply"), contiguous(load_splat(inputs["splat"] / "splat.ply"))
        mirrors = Completion.load(inputs["points"]).mirrors
        photos = load_photos(scene.training, inputs["poses"], mesh, splat, mirrors)
        errors = look_around(photos, splat, positions, params)
    coverage = CoverageMap(positions, errors, cell, params.camera_height, float(np.deg2rad(params.field_of_view)))
    coverage.save(out_dir)
    if len(positions):
        share = float((coverage.heading_trust(positions) >= TRUSTED).mean())
        logger.info("coverage: %d positions, %.0f %% of their images trusted", len(positions), 100 * share)


def find_positions(collision: Mesh, cameras: Floats, params: CoverageParams) -> tuple[F32, float]:
    """Positions (P, 3) spread over the floor that can be reached from under the cameras (N, 3), and their distance [m].

    None where there is no floor.
    """
    try:
        grid = find_walkable(collision, cameras, WalkableParams(), np.random.default_rng(SEED))
    except ReconstructionError as error:
        logger.warning("no floor to judge images from: %s", error.found)
        return np.zeros((0, 3), np.float32), params.cell
    fine = WalkableParams().cell
    index = np.argwhere(np.isfinite(grid.height) & (grid.clearance > FREE))
    points = np.column_stack([grid.origin + (index + 0.5) * fine, grid.height[tuple(index.T)]]).astype(np.float32)
    cell = max(params.cell, float(np.sqrt(len(points) * fine**2 / params.places)))
    while True:
        coarse = np.floor(points[:, :2] / cell)
        off_middle = np.abs(points[:, :2] / cell - coarse - 0.5).max(1)
        order = np.lexsort((off_middle, coarse[:, 1], coarse[:, 0]))
        first = np.diff(coarse[order], axis=0, prepend=np.nan).any(1)
        if first.sum() <= params.places:
            return points[order[first]], cell
        cell *= 1.1


def look_around(evidence: TrainingPhotos, splat: Gaussians, positions: Floats, params: CoverageParams) -> F32:
    """Expected errors (P, headings) of the slices of the horizon seen from positions (P, 3) on the floor."""
    focal = IMAGE_WIDTH / 2 / np.tan(np.deg2rad(params.field_of_view) / 2)
    width = max(1, round(2 * focal * np.tan(np.pi / params.headings)))
    camera = Camera(width, IMAGE_HEIGHT, focal, focal, width / 2, IMAGE_HEIGHT / 2)
    rotations = [horizontal_rotation(2 * np.pi * k / params.headings) for k in range(params.headings)]
    errors = np.empty((len(positions), params.headings), np.float32)
    for index, position in enumerate(track(positions, "coverage: looking around")):
        eye = position.astype(np.float64) + np.array([0, 0, params.camera_height])
        for heading, rotation in enumerate(rotations):
            errors[index, heading] = expected_error(image_terms(evidence, splat, camera, Pose(rotation, eye)))
    return errors


def horizontal_rotation(heading: float) -> F64:
    """World-from-camera rotation of a level camera that looks along a heading about +Z [rad]."""
    c, s = np.cos(heading), np.sin(heading)
    return np.array([[s, 0, c], [-c, 0, s], [0, -1.0, 0]])
