"""Training: from the shared cloud, photos and depth to Gaussians, by a schedule of iterations.

Everything that changes over the run depends on the share of iterations done, never on the clock, and every kernel sums
in a fixed order: the same seed gives the same Gaussians, with any number of threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.geometry import Gaussians, Mesh, PointCloud
from pipeline.progress import bar
from pipeline.raster import pose_gradient, rasterize, rasterize_backward
from pipeline.splat.exposure import Exposures
from pipeline.splat.initialization import Initialization, initialize, on_cloud, scene_size
from pipeline.splat.loss import depth_loss, photometric_loss, plain_color_pull, psnr
from pipeline.splat.params import SplatParams
from pipeline.splat.pose_tuning import PoseTuning
from pipeline.splat.priors import Priors, imposed
from pipeline.splat.schedule import (
    EXPOSURE_FROM,
    Clock,
    Schedule,
    budget_within,
    planned_budget,
    poses_from,
    timed,
    training_schedule,
)
from pipeline.splat.state import Checkpoint, TrainingState
from pipeline.splat.views import TrainingView

logger = logging.getLogger(__name__)

Observer = Callable[[int, Gaussians], None]
"""Called with (iterations done, Gaussians) at intervals; must not change them."""

MAX_SCALE = 0.5
"""Gaussians with a standard deviation above this share of the scene's radius are pruned."""
MAX_CALM_EXPOSURE = 0.01
"""Variation of the exposure up to which colours are pulled to plain ones. A camera that adapts shows the same surface
in another brightness from another direction, and only view-dependent colour can follow it."""
PSNR_EVERY = 10
"""Steps between two measurements of the PSNR."""
REPORT_EVERY = 50
"""Iterations between two reports in the progress bar."""
TRIAL_ITERATIONS = 1000
"""Length of the imagined run of which single steps are timed for a budget of seconds."""
LATER_COST = 1.08
"""Cost of a step relative to one with as many initial Gaussians: trained ones overlap more (1.06 to 1.12 on fox)."""


@dataclass(frozen=True, eq=False)
class Trained:
    """The result of a training."""

    gaussians: Gaussians  # the splat, inpainted Gaussians first
    views: list[TrainingView]  # the views with the exposures and poses that were found
    iterations: int  # number of steps made
    max_gaussians: int  # largest number of Gaussians, the inpainted ones included
    fixed: int  # number of inpainted Gaussians, which training left as they are
    exposures: Exposures  # exposures of the views
    poses: PoseTuning  # changes of the views' poses
    background: int = 0  # number of Gaussians that the skybox started with
    backend_report: dict[str, object] = field(default_factory=dict)  # what only the backend reports


class Trainer:
    """The step of a training and what stays the same in all of them; priors are imposed at intervals.

    Where Gaussians of an earlier training are among the fixed ones, `held` says that these have the mean exposure.
    """

    def __init__(
        self,
        views: Sequence[TrainingView],
        schedule: Schedule,
        params: SplatParams,
        priors: Priors | None = None,
        *,
        held: bool = False,
    ) -> None:
        self.views, self.schedule, self.params, self.priors, self._held = views, schedule, params, priors, held
        self._prior_rounds = set(schedule.prior_iterations())
        self._densify_rounds = {iteration: k for k, iteration in enumerate(schedule.densify_iterations(), 1)}

    def step(self, state: TrainingState) -> tuple[float, float | None]:
        """Train on one view; gives the loss, and every `PSNR_EVERY` steps the view's PSNR [dB]."""
        schedule, share = self.schedule, state.iteration / self.schedule.iterations
        index = state.next_view()
        level = self.views[index].levels[schedule.level_of(state.iteration)]
        pose = state.poses.world_from_camera(index)
        sh_count = min((schedule.sh_degree(share) + 1) ** 2, state.gaussians.sh.shape[1])
        raster = rasterize(state.gaussians, level.camera, pose, sh_count=sh_count)
        by_planes, by_transmittance = np.zeros_like(raster.planes), np.zeros_like(raster.transmittance)
        gain = state.exposures.gains[index]
        loss, exposed = photometric_loss(
            raster.planes, level.photo, self.params.ssim_weight, by_planes, gain, level.mask
        )
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
        if schedule.densify is not None:
            state.densification.observe(gradients, max(level.photo.shape))
        round_ends = not state.order
        if schedule.exposure_from is not None and share >= schedule.exposure_from:
            height, width = level.photo.shape[1:]
            state.exposures.observe(index, raster.planes[:3, :height, :width], level.photo, level.mask)
            if round_ends and not self._held:
                state.exposures.center()
        if schedule.poses_from is not None and share >= schedule.poses_from:
            rate = (1 - share) / (1 - schedule.poses_from)
            state.poses.step(index, pose_gradient(raster, state.gaussians, gradients), rate)
            if round_ends:
                state.poses.remove_common_motion()
        if state.fixed:
            gradients = replace(gradients, visible=gradients.visible[gradients.visible >= state.fixed])
        calm = state.exposures.variation < MAX_CALM_EXPOSURE
        pulls = {"sh": plain_color_pull(sh_count, level.photo[0].size)} if calm else {}
        state.optimizer.step(gradients, schedule.rates(share, state.extent, sh_count), pulls)
        if state.iteration in self._densify_rounds:
            done = self._densify_rounds[state.iteration] / len(self._densify_rounds)
            target = round(state.start_count + done * (schedule.gaussians - state.start_count))
            state.densification.densify(state.optimizer, state.fixed + target, MAX_SCALE * state.radius, state.fixed)
        if state.iteration in self._prior_rounds:
            state.optimizer.gaussians = imposed(state.gaussians, self.priors, self.views, state.fixed)
        state.iteration += 1
        if state.iteration % PSNR_EVERY:
            return loss, None
        return loss, psnr(exposed, level.photo / np.float32(255))


def train(
    views: Sequence[TrainingView],
    cloud: PointCloud,
    params: SplatParams,
    rng: np.random.Generator,
    observe: Observer | None = None,
    checkpoint: Checkpoint | None = None,
    guessed: Mesh | None = None,
    rooms: float = 1.0,
) -> Trained:
    """Train a splat on views in the order of time, with or without depth, from the shared cloud [world frame].

    Guessed faces that close a mesh are lined. The checkpoint is where an earlier run left off, if it did, and where
    this one saves itself. `rooms` is how many rooms' budget the place gets.

    Raises:
        ValueError: When there is no view or hardly a point.
    """
    clock = Clock(params.seconds) if params.seconds else None
    budget = planned_budget(params, views, rooms)
    if params.seconds and views:
        budget = budget_within(params.seconds, params, views, _step_clock(views, cloud, params, rooms), rooms)
    logger.info("%d iterations, at most %d Gaussians, as for %.1f rooms", budget.iterations, budget.gaussians, rooms)
    initial = initialize(cloud, views, budget.gaussians, params, rng, guessed=guessed, rooms=rooms)
    schedule = training_schedule(params, views, replace(budget, gaussians=budget.gaussians - initial.fixed))
    trained = fit(
        initial, views, schedule, params, rng, rooms=rooms, observe=observe, checkpoint=checkpoint, clock=clock
    )
    return replace(trained, background=initial.background)


def _step_clock(
    views: Sequence[TrainingView], cloud: PointCloud, params: SplatParams, rooms: float
) -> Callable[[float, int], float]:
    """Function from (share of the run, number of Gaussians) to the CPU-seconds of a step."""
    schedule = Schedule(TRIAL_ITERATIONS, densify=None, exposure_from=EXPOSURE_FROM, poses_from=poses_from(params))

    def seconds(share: float, count: int) -> float:
        rng = np.random.default_rng(params.seed)
        gaussians = replace(on_cloud(cloud, count, params, rng), antialiased=params.antialiased)
        trainer = Trainer(views, schedule, params)
        state = TrainingState.start(gaussians, views, schedule, *scene_size(views, gaussians, rooms), rng)
        state.iteration = int(share * TRIAL_ITERATIONS)
        return LATER_COST * timed(lambda: trainer.step(state))

    return seconds


def fit(
    initial: Initialization,
    views: Sequence[TrainingView],
    schedule: Schedule,
    params: SplatParams,
    rng: np.random.Generator,
    *,
    rooms: float = 1.0,
    description: str = "splat",
    observe: Observer | None = None,
    checkpoint: Checkpoint | None = None,
    clock: Clock | None = None,
) -> Trained:
    """Fit Gaussians to views by gradient descent.

    The initial Gaussians are copied; views come in the order of time; `params` gives the weights of the losses, and
    `description` the name in the progress bar. The place is as large as so many `rooms`. What the clock leaves of a
    budget of seconds shortens the schedule.

    Raises:
        ValueError: When there is no view.
    """
    if not views:
        raise ValueError("training a splat needs at least one view that is not held out, got none")
    size = scene_size(views, initial.gaussians, rooms)
    state = TrainingState.start(initial.gaussians, views, schedule, *size, rng, initial.fixed)
    restored = checkpoint is not None and checkpoint.restore(state)
    priors = None
    if initial.cloud is not None and initial.free is not None:
        priors = Priors(
            initial.cloud, initial.free, state.radius, state.gaussians[np.arange(state.fixed - initial.earlier)]
        )
    if clock is not None and not restored:
        reserved = 0.0
        if priors is not None:
            reserved = schedule.prior_rounds * timed(lambda: priors.apply(state.gaussians, state.fixed))
        state.iterations = max(1, round(clock.share_left(reserved) * schedule.iterations))
    schedule = replace(schedule, iterations=state.iterations, gaussians=state.final_count)
    _run(Trainer(views, schedule, params, priors, held=initial.earlier > 0), state, description, observe, checkpoint)
    return Trained(
        state.gaussians,
        tuned(views, state.exposures, state.poses),
        state.iteration,
        state.final_count + state.fixed,
        state.fixed,
        state.exposures,
        state.poses,
    )


def tuned(views: Sequence[TrainingView], exposures: Exposures, poses: PoseTuning) -> list[TrainingView]:
    """The views with the exposures and poses that were found."""
    return [
        replace(view, gain=exposures.gains[index], world_from_camera=poses.world_from_camera(index))
        for index, view in enumerate(views)
    ]


def _run(
    trainer: Trainer, state: TrainingState, description: str, observe: Observer | None, checkpoint: Checkpoint | None
) -> None:
    """Make all steps that are left, and save the last state."""
    recent: list[float] = []
    with bar(state.iterations, description, state.iteration) as shown:
        while state.iteration < state.iterations:
            loss, quality = trainer.step(state)
            recent += [] if quality is None else [quality]
            if state.iteration % REPORT_EVERY == 0:
                shown.set_postfix_str(f"{np.mean(recent):.1f} dB, {len(state.gaussians)} Gaussians, loss {loss:.3f}")
                recent.clear()
                if observe is not None:
                    observe(state.iteration, state.gaussians)
            shown.update(1)
            if checkpoint is not None:
                checkpoint.save_when_due(state)
    if checkpoint is not None:
        checkpoint.save(state)
