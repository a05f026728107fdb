"""One step of training: draw a view, compare it with photo and depth, carry the difference back, move the Gaussians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.splat.color_prior import pull_to_plain_color
from pipeline.splat.known import Enforcement
from pipeline.splat.loss import depth_loss, photometric_loss
from pipeline.splat.masks import cut_masked, hide_masked
from pipeline.splat.params import SplatParams
from pipeline.splat.raster import pose_gradient, rasterize, rasterize_backward
from pipeline.splat.schedule import Schedule
from pipeline.splat.smoothing import smooth
from pipeline.splat.state import TrainingState
from pipeline.splat.views import Level, TrainingView

Float = NDArray[np.float32]

MAX_SCALE = 0.5
"""Gaussians with a standard deviation above this share of the scene's radius are pruned."""
CALM_EXPOSURE = 0.01
"""Unrest of the exposure up to which colours are pulled to plain ones. A camera that adapts shows the same place in
another brightness from another direction, and only view-dependent colour can follow it: pulled to plain ones,
redkitchen loses more than 1 dB (at 160x120)."""
PSNR_EVERY = 10


@dataclass(frozen=True)
class StepFigures:
    """What one step tells: the loss, and every `PSNR_EVERY` steps the PSNR [dB] of the view."""

    loss: float
    psnr: float | None


class Trainer:
    """The step of a training and what stays the same in all of them.

    Args:
        views: What to fit to.
        schedule: What changes when.
        params: Weights.
        extent: Of the cameras [world units].
        radius: Of the scene [world units].
        known: What is put upon the Gaussians now and then, or None.
    """

    def __init__(
        self,
        views: Sequence[TrainingView],
        schedule: Schedule,
        params: SplatParams,
        extent: float,
        radius: float,
        known: Enforcement | None = None,
    ) -> None:
        self.views, self.schedule, self.params = views, schedule, params
        self.extent, self.radius = extent, radius
        self.known = known
        self._surface_rounds = set(schedule.surface_iterations())
        self._rounds = {iteration: k for k, iteration in enumerate(schedule.growth_iterations(), 1)}

    def step(self, state: TrainingState) -> StepFigures:
        """Train on one view."""
        schedule, share = self.schedule, state.iteration / self.schedule.iterations
        index = state.next_view()
        level = self.views[index].levels[schedule.level_of(state.iteration)]
        pose = state.poses.world_from_camera(index)
        sh_size = state.gaussians.sh.shape[1]
        sh_count = min((schedule.sh_degree(share) + 1) ** 2, sh_size)
        raster = rasterize(state.gaussians, level.camera, pose, sh_count=sh_count)
        by_planes, by_transmittance = np.zeros_like(raster.planes), np.zeros_like(raster.transmittance)
        exposed = raster.planes.copy()
        exposed[:3] *= state.exposures.gains[index, :, None, None]
        hide_masked(exposed, level.photo, level.mask)
        loss = photometric_loss(exposed, level.photo, self.params.ssim_weight, by_planes)
        cut_masked(by_planes, level.mask)
        by_planes[:3] *= state.exposures.gains[index, :, None, None]
        if level.depth is not None and self.params.depth_weight > 0:
            loss += depth_loss(
                raster.planes,
                raster.transmittance,
                level.depth.depth,
                level.depth.tolerance,
                self.params.depth_weight,
                by_planes,
                by_transmittance,
            )
        gradients = rasterize_backward(raster, state.gaussians, by_planes, by_transmittance)
        if schedule.growth is not None:
            state.growth.observe(gradients, max(level.photo.shape))
        round_ends = not state.order
        if schedule.exposure_from is not None and share >= schedule.exposure_from:
            height, width = level.photo.shape[1:]
            state.exposures.observe(index, raster.planes[:3, :height, :width], level.photo, level.mask)
            if round_ends:
                state.exposures.center()
        if schedule.poses_from is not None and share >= schedule.poses_from:
            rate = (1 - share) / (1 - schedule.poses_from)
            state.poses.step(index, pose_gradient(raster, state.gaussians, gradients), rate)
            if round_ends:
                state.poses.remove_common_motion()
        if state.exposures.unrest < CALM_EXPOSURE:
            pull_to_plain_color(gradients.visible, state.gaussians.sh, gradients.sh, level.photo[0].size)
        if state.fixed:
            gradients = replace(gradients, visible=gradients.visible[gradients.visible >= state.fixed])
        state.optimizer.step(gradients, schedule.rates(share, self.extent, sh_size))
        if state.iteration in self._rounds:
            done = self._rounds[state.iteration] / len(self._rounds)
            target = round(state.start_count + done * (schedule.gaussians - state.start_count))
            state.growth.grow(state.optimizer, state.fixed + target, MAX_SCALE * self.radius, state.fixed)
        if state.iteration in self._surface_rounds:
            if self.known is not None:
                self.known.apply(state.gaussians, state.fixed)
            if state.gaussians.antialiased:
                smooth(state.gaussians, self.views, state.fixed)
        state.iteration += 1
        return StepFigures(loss, _psnr(exposed, level) if state.iteration % PSNR_EVERY == 0 else None)


def _psnr(planes: Float, level: Level) -> float:
    height, width = level.photo.shape[1:]
    difference = planes[:3, :height, :width] - level.photo / np.float32(255)
    return float(-10 * np.log10(max(float(np.mean(difference**2)), 1e-12)))
