"""The `sim` level of detail of a splat that comes without photos: fitted to images of the splat itself."""

from __future__ import annotations

import logging

import numpy as np

from pipeline.coverage.stage import horizontal_rotation
from pipeline.geometry import Camera, Gaussians, Pose
from pipeline.raster import render
from pipeline.regions.regions import Regions
from pipeline.splat.lod import make_sim_lod
from pipeline.splat.params import SIM_GAUSSIANS, SplatParams
from pipeline.splat.views import TrainingView, training_view
from pipeline.types import F64

logger = logging.getLogger(__name__)

CAMERA = Camera(160, 160, 80.0, 80.0, 80.0, 80.0)
"""Sees a quarter of the horizon; twice as many pixels across as robots' cameras have."""
OVERSAMPLING = 2
"""Factor of the size at which images are rendered, then averaged: Gaussians come out too bold where they are small."""
EYE_HEIGHT = 0.3
"""Height of a robot's camera over the floor [m]."""
MAX_POSITIONS = 24
"""Largest number of positions from which images are taken."""


def sim_lod_from_renders(gaussians: Gaussians, regions: Regions, max_gaussians: int = SIM_GAUSSIANS) -> Gaussians:
    """Make the level of detail that the splat stage makes from photos, from images of the splat (world frame) itself.

    The images are taken where robots are, all round: over the spawn poses (at least one), the goals and positions
    between.
    """
    params = SplatParams(sim_gaussians=max_gaussians, depth_weight=0)  # the images have no depth
    if len(gaussians) <= max_gaussians and gaussians.sh.shape[1] == 1:
        return gaussians
    logger.info("making the level of detail for small cameras from %d Gaussians", len(gaussians))
    rng = np.random.default_rng(params.seed)
    return make_sim_lod(gaussians, _views(gaussians, _eyes(regions, rng)), params, rng)


def _eyes(regions: Regions, rng: np.random.Generator) -> F64:
    """Positions (P, 3) of cameras [m]."""
    chosen = np.array([pose.position for pose in (*regions.spawn_poses, *regions.goals)])[:MAX_POSITIONS]
    cells = np.argwhere(regions.drivable)
    between = cells[rng.permutation(len(cells))[: MAX_POSITIONS - len(chosen)]]
    floor = np.column_stack([regions.centres()[tuple(between.T)], regions.height[tuple(between.T)]])
    return np.concatenate([chosen, floor]).astype(np.float64) + np.array([0, 0, EYE_HEIGHT])


def _views(gaussians: Gaussians, eyes: F64) -> list[TrainingView]:
    rotations = [horizontal_rotation(quarter * np.pi / 2) for quarter in range(4)]
    poses = [Pose(rotation, eye) for eye in eyes for rotation in rotations]
    width, height = CAMERA.width, CAMERA.height
    fine = CAMERA.resized(OVERSAMPLING * width, OVERSAMPLING * height)
    views = []
    for number, pose in enumerate(poses):
        rgb = np.clip(render(gaussians, fine, pose).rgb, 0, 1)
        photo = rgb.reshape(height, OVERSAMPLING, width, OVERSAMPLING, 3).mean((1, 3)) * 255
        views.append(training_view(f"render {number}", photo.round().astype(np.uint8), CAMERA, pose, None))
    return views
