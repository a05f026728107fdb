"""The `sim` level of detail: few Gaussians, without view-dependent colour, for thousands of small pictures a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Gaussians
from pipeline.splat.params import SplatParams
from pipeline.splat.raster import contiguous, rasterize
from pipeline.splat.schedule import Schedule
from pipeline.splat.train import fit
from pipeline.splat.views import TrainingView
from pipeline.splat.weights import add_weights, grey

REFIT_POSITION_RATE = 3e-5
"""Of the refit, relative to the extent of the cameras: positions are nearly right."""


def make_sim_level(
    gaussians: Gaussians,
    views: Sequence[TrainingView],
    params: SplatParams,
    rng: np.random.Generator,
    fixed: int = 0,
) -> Gaussians:
    """Keep the Gaussians that the training views show most of, drop SH above degree 0, and fit the rest again.

    A robot's pictures are smaller than the photos, and Gaussians trained at one size come out too bold at a smaller
    one: each is widened by the same share of a pixel. The refit therefore sees the photos at the training size and at
    half of it. Source of the problem: Z. Yu et al., Mip-Splatting, CVPR 2024, section 4.

    Args:
        gaussians: The trained splat.
        views: The training views.
        params: `sim_gaussians`, `sim_iterations` and the weights.
        rng: Draws the order of views.
        fixed: So many of the first Gaussians are guesses of what no view shows: they stay, as they are.
    """
    importance = shown_weight(gaussians, views)
    importance[:fixed] = np.inf
    kept = np.sort(np.argsort(-importance, kind="stable")[: params.sim_gaussians])
    small = gaussians[kept]
    small = contiguous(replace(small, sh=small.sh[:, :1]))
    if params.sim_iterations == 0:
        return small
    schedule = Schedule(
        params.sim_iterations, half_from=0, whole_from=0, growth=None, position_rate=REFIT_POSITION_RATE
    )
    halves = [replace(view, levels=view.levels[1:]) for view in views]
    return fit(small, [*views, *halves], schedule, params, rng, "sim level", fixed=min(fixed, len(small))).gaussians


def shown_weight(gaussians: Gaussians, views: Sequence[TrainingView]) -> NDArray[np.float32]:
    """How many pixels (N,) each Gaussian fills in all views together, at half the training size."""
    plain = grey(gaussians)
    total = np.zeros(len(gaussians), np.float32)
    for view in views:
        camera = view.levels[1].camera
        raster = rasterize(plain, camera, view.world_from_camera)
        add_weights(total, raster, plain, np.ones((camera.height, camera.width), bool))
    return total
