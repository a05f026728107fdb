"""The `sim` level of detail: few Gaussians, without view-dependent colour, for thousands of small images a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.geometry import Gaussians
from pipeline.raster import blending_weights, contiguous, grey, rasterize
from pipeline.splat.initialization import Initialization
from pipeline.splat.params import SplatParams
from pipeline.splat.schedule import Schedule
from pipeline.splat.train import fit
from pipeline.splat.views import TrainingView
from pipeline.types import F32

REFIT_POSITION_RATE = 3e-5
"""Learning rate of positions in the refit, relative to the extent of the cameras: they are nearly right."""


def make_sim_lod(
    gaussians: Gaussians,
    views: Sequence[TrainingView],
    params: SplatParams,
    rng: np.random.Generator,
    fixed: int = 0,
    rooms: float = 1.0,
) -> Gaussians:
    """Keep the Gaussians that the training views show most of, drop SH above degree 0, and fit the rest again.

    Gaussians trained at one size come out too bold at a smaller one (Z. Yu et al., Mip-Splatting, CVPR 2024, section
    4), so the refit sees the photos at half the training size too. The first `fixed`, inpainted ones, stay unchanged.
    Each of the place's `rooms` gets the parameters' steps.
    """
    importance = shown_weight(gaussians, views)
    importance[:fixed] = np.inf
    kept = np.sort(np.argsort(-importance, kind="stable")[: params.sim_gaussians])
    small = gaussians[kept]
    small = contiguous(replace(small, sh=small.sh[:, :1]))
    if params.sim_iterations == 0:
        return small
    schedule = Schedule(
        round(rooms * params.sim_iterations), half_from=0, whole_from=0, densify=None, position_rate=REFIT_POSITION_RATE
    )
    halves = [replace(view, levels=view.levels[1:]) for view in views]
    initial = Initialization(small, min(fixed, len(small)))
    views = [*views, *halves]
    return fit(initial, views, schedule, params, rng, rooms=rooms, description="sim level of detail").gaussians


def shown_weight(gaussians: Gaussians, views: Sequence[TrainingView]) -> F32:
    """Number of pixels (N,) that each Gaussian fills in all views together, at half the training size."""
    plain = grey(gaussians)
    total = np.zeros(len(gaussians), np.float32)
    for view in views:
        camera = view.levels[1].camera
        raster = rasterize(plain, camera, view.world_from_camera)
        total += blending_weights(raster, plain, np.ones((camera.height, camera.width), bool))
    return total
