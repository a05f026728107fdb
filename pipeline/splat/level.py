"""The `sim` level of detail of a splat that comes without photos: made of pictures of the splat itself."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Gaussians, Pose, matrix_from_rotvec
from pipeline.regions.regions import Regions
from pipeline.splat.lod import make_sim_level
from pipeline.splat.params import SplatParams
from pipeline.splat.raster import render
from pipeline.splat.views import TrainingView, training_view

logger = logging.getLogger(__name__)

LOOKOUT = Camera(160, 160, 80.0, 80.0, 80.0, 80.0)
"""A quarter of the horizon; twice as many pixels across as robots' cameras have."""
FINER = 2
"""Pictures are drawn so many times as large and averaged: Gaussians come out too bold where they are small."""
EYE_HEIGHT = 0.3
"""Of a robot's camera over the floor [m]."""
MAX_PLACES = 24
WORLD_FROM_LEVEL_CAMERA = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
"""An OpenCV camera that looks along +X, upright."""


def make_level(gaussians: Gaussians, regions: Regions, most: int = SplatParams.sim_gaussians) -> Gaussians:
    """What the pipeline's splat stage makes of photos, made of pictures of the splat itself.

    The pictures are taken where robots are: over the spawn poses, the goals and places between, all round.

    Args:
        gaussians: All of the splat [world frame].
        regions: With at least one spawn pose.
        most: Gaussians that it may have.
    """
    params = SplatParams(sim_gaussians=most, depth_weight=0)  # the pictures have no depth
    if len(gaussians) <= most and gaussians.sh.shape[1] == 1:
        return gaussians
    logger.info("making the level of detail for small cameras from %d Gaussians", len(gaussians))
    rng = np.random.default_rng(params.seed)
    return make_sim_level(gaussians, _views(gaussians, _eyes(regions, rng)), params, rng)


def _eyes(regions: Regions, rng: np.random.Generator) -> NDArray[np.float64]:
    """Places (P, 3) of cameras [m]."""
    chosen = np.array([pose.position for pose in (*regions.spawn_poses, *regions.goals)])[:MAX_PLACES]
    cells = np.argwhere(regions.drivable)
    between = cells[rng.permutation(len(cells))[: MAX_PLACES - len(chosen)]]
    floor = np.column_stack([regions.centres()[tuple(between.T)], regions.height[tuple(between.T)]])
    return np.concatenate([chosen, floor]).astype(np.float64) + np.array([0, 0, EYE_HEIGHT])


def _views(gaussians: Gaussians, eyes: NDArray[np.float64]) -> list[TrainingView]:
    yaws = np.arange(4) * np.pi / 2
    turns = matrix_from_rotvec(np.column_stack([0 * yaws, 0 * yaws, yaws])) @ WORLD_FROM_LEVEL_CAMERA
    poses = [Pose(turn, eye) for eye in eyes for turn in turns]
    width, height = LOOKOUT.width, LOOKOUT.height
    fine = LOOKOUT.resized(FINER * width, FINER * height)
    views = []
    for number, pose in enumerate(poses):
        rgb = np.clip(render(gaussians, fine, pose).rgb, 0, 1)
        photo = rgb.reshape(height, FINER, width, FINER, 3).mean((1, 3)) * 255
        views.append(training_view(f"lookout {number}", photo.round().astype(np.uint8), LOOKOUT, pose, None))
    return views
