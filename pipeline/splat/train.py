"""Training: from the shared cloud, photos and depth to Gaussians, by a schedule of iterations.

Everything that changes over the run depends on the share of iterations done, never on the clock, and every kernel sums
in a fixed order: the same seed gives the same Gaussians, with any number of threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.geometry import Gaussians, PointCloud
from pipeline.progress import bar
from pipeline.splat.background import far_shell
from pipeline.splat.budget import START_SHARE, Clock, budget_within, planned_budget, timed
from pipeline.splat.checkpoint import Checkpoint
from pipeline.splat.exposure import Exposures
from pipeline.splat.free_space import FreeSpace
from pipeline.splat.holes import cover_holes
from pipeline.splat.known import Enforcement, KnownPlace
from pipeline.splat.params import SplatParams
from pipeline.splat.pose_tuning import PoseTuning
from pipeline.splat.schedule import Schedule, small_every
from pipeline.splat.start import initial_gaussians
from pipeline.splat.state import TrainingState
from pipeline.splat.trainer import Trainer
from pipeline.splat.unseen import guess_unseen, joined
from pipeline.splat.views import TrainingView

logger = logging.getLogger(__name__)

SHELL_SHARE = 0.02
"""Of the largest number of Gaussians, at most, for sky and background: too few to change the scene's radius."""
HOLE_SHARE = 0.1
"""Of the largest number of Gaussians, for what the cloud lacks."""
GUESS_SHARE = 0.04
"""Of the largest number of Gaussians, for backs of thin things, and as many for holes no photo shows."""
START_OPACITY, START_FLATNESS = 0.5, 0.3
EXPOSURE_FROM, POSES_FROM = 0.1, 0.6
"""Shares of the iterations from which exposures and poses follow the pictures: once these are more than blobs."""
SH_VIEWS, LEAST_SH_REST = 200, 0.2
"""Views from which on view-dependent colour learns at the full rate, and its least rate: many views of a place tell its
gloss and the camera's exposure from chance, few don't."""
MIN_EXTENT = 0.1
"""Least extent of the cameras, as a share of the scene's radius: a phone that hardly moved still sees a whole room."""
TRIAL_ITERATIONS = 1000
"""Length of the imagined run of which single steps are timed for a budget of seconds."""
LATER_COST = 1.08
"""Of a step, relative to one with as many Gaussians as they start: trained ones overlap more (1.06 to 1.12 on fox)."""
REPORT_EVERY = 50
"""Iterations between two figures in the progress bar."""


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training gives.

    Attributes:
        gaussians: The splat, guesses first.
        views: The views with the exposures and poses that were found.
        iterations: Steps made.
        largest: Gaussians at most, the guesses included.
        fixed: Guesses, which training left as they are.
        exposures: Of the views.
        poses: How those of the views changed.
        background: Gaussians that it started with on a far shell.
        about: What else the report tells of it.
    """

    gaussians: Gaussians
    views: list[TrainingView]
    iterations: int
    largest: int
    fixed: int
    exposures: Exposures
    poses: PoseTuning
    background: int = 0
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Start:
    """What a training starts from.

    Attributes:
        gaussians: Guesses first.
        fixed: How many of them are guesses.
        background: How many lie on a far shell.
        free: The space that the views see through.
    """

    gaussians: Gaussians
    fixed: int
    background: int
    free: FreeSpace


def train(
    views: Sequence[TrainingView],
    cloud: PointCloud,
    params: SplatParams,
    rng: np.random.Generator,
    observe: Callable[[int, Gaussians], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train a splat.

    Args:
        views: Photos with poses in the world frame, with or without depth, in the order of time.
        cloud: The shared cloud in the world frame, where the Gaussians start.
        params: What the user chose.
        rng: Draws starting points and the order of views.
        observe: Called with (iterations done, Gaussians) now and then; must not change them.
        checkpoint: Where an earlier run left off, if it did, and where this one saves itself.

    Raises:
        ValueError: When there is no view or hardly a point.
    """
    clock = Clock.start(params.seconds) if params.seconds else None
    budget = planned_budget(params, views)
    if params.seconds and views:
        budget = budget_within(params.seconds, params, views, _step_clock(views, cloud, params))
    begun = start(cloud, views, budget.gaussians, params, rng)
    schedule = Schedule(
        budget.iterations,
        budget.gaussians - begun.fixed,
        small_every=small_every(params),
        sh_rest=sh_rest(views),
        exposure_from=EXPOSURE_FROM,
        poses_from=poses_from(params),
    )
    place = KnownPlace(cloud, begun.free) if params.lay_flat else None
    trained = fit(
        begun.gaussians, views, schedule, params, rng, "splat", observe, checkpoint, place, begun.fixed, clock
    )
    return replace(trained, background=begun.background)


def start(
    cloud: PointCloud,
    views: Sequence[TrainingView],
    largest: int,
    params: SplatParams,
    rng: np.random.Generator,
    share: float = START_SHARE,
) -> Start:
    """Gaussians on the shared cloud, for the far background, for holes of the cloud and for what no view shows.

    Args:
        cloud: In the world frame.
        views: The training views.
        largest: Number of Gaussians that training may reach.
        params: What the user chose.
        rng: Draws the points.
        share: Of the largest number, drawn from the cloud.
    """
    gaussians = _on_cloud(cloud, int(share * largest), params, rng)
    near = len(gaussians)
    if views:
        limit = max(1, int(SHELL_SHARE * largest))
        gaussians = joined(gaussians, far_shell(gaussians, views, scene_size(views, gaussians)[1], limit))
    background = len(gaussians) - near
    gaussians = cover_holes(gaussians, views, int(HOLE_SHARE * largest))
    fixed, free = 0, FreeSpace(views)
    if params.guess_unseen:
        guessed = guess_unseen(gaussians, cloud, free, views, int(GUESS_SHARE * largest), rng).gaussians
        gaussians, fixed = joined(guessed, gaussians), len(guessed)
    return Start(replace(gaussians, antialiased=params.antialiased), fixed, background, free)


def sh_rest(views: Sequence[TrainingView]) -> float:
    """How fast view-dependent colour learns, relative to plain colour."""
    return min(1.0, max(LEAST_SH_REST, len(views) / SH_VIEWS))


def poses_from(params: SplatParams) -> float | None:
    """Share of the iterations from which poses are tuned; None where they are to stay."""
    return POSES_FROM if params.tune_poses else None


def _on_cloud(cloud: PointCloud, count: int, params: SplatParams, rng: np.random.Generator) -> Gaussians:
    count = max(100, min(len(cloud), count))
    coefficients = (params.sh_degree + 1) ** 2
    return initial_gaussians(cloud, count, coefficients, rng, opacity=START_OPACITY, flatness=START_FLATNESS)


def _step_clock(views: Sequence[TrainingView], cloud: PointCloud, params: SplatParams) -> Callable[[float, int], float]:
    """(share of the run, number of Gaussians) to the CPU-seconds of a step, on Gaussians of its own."""
    schedule = Schedule(TRIAL_ITERATIONS, growth=None, exposure_from=EXPOSURE_FROM, poses_from=poses_from(params))

    def seconds(share: float, count: int) -> float:
        rng = np.random.default_rng(params.seed)
        gaussians = replace(_on_cloud(cloud, count, params, rng), antialiased=params.antialiased)
        extent, radius = scene_size(views, gaussians)
        trainer = Trainer(views, schedule, params, extent, radius)
        state = TrainingState.start(gaussians, views, schedule, extent, radius, rng)
        state.iteration = int(share * TRIAL_ITERATIONS)
        return LATER_COST * timed(lambda: trainer.step(state))

    return seconds


def fit(
    gaussians: Gaussians,
    views: Sequence[TrainingView],
    schedule: Schedule,
    params: SplatParams,
    rng: np.random.Generator,
    description: str,
    observe: Callable[[int, Gaussians], None] | None = None,
    checkpoint: Checkpoint | None = None,
    place: KnownPlace | None = None,
    fixed: int = 0,
    clock: Clock | None = None,
) -> Trained:
    """Fit Gaussians to views by gradient descent.

    Args:
        gaussians: Where to start; not changed.
        views: What to fit to, in the order of time.
        schedule: What changes when.
        params: Weights.
        rng: Draws the order of views.
        description: For the progress bar.
        observe: Called with (iterations done, Gaussians) now and then; must not change them.
        checkpoint: Where an earlier run left off, if it did, and where this one saves itself.
        place: What is known of surfaces and free space; None leaves the Gaussians free to ignore it.
        fixed: So many of the first Gaussians are left as they are.
        clock: What is left of a budget of seconds shortens the schedule.

    Raises:
        ValueError: When there is no view.
    """
    if not views:
        raise ValueError("training a splat needs at least one view that is not held out, got none")
    extent, radius = scene_size(views, gaussians)
    state = TrainingState.start(gaussians, views, schedule, extent, radius, rng, fixed)
    restored = checkpoint is not None and checkpoint.restore(state)
    extent, radius = state.extent, state.radius  # a restored run started with Gaussians of its own
    known = Enforcement(place, radius, state.gaussians[np.arange(state.fixed)]) if place is not None else None
    if clock is not None and not restored:
        copy = state.gaussians[np.arange(len(state.gaussians))]
        rounds = schedule.surface_rounds * timed(lambda: known.apply(copy, fixed)) if known is not None else 0.0
        state.iterations = max(1, round(clock.share_left(rounds) * schedule.iterations))
    schedule = replace(schedule, iterations=state.iterations, gaussians=state.largest_count)
    trainer = Trainer(views, schedule, params, extent, radius, known)
    recent: list[float] = []
    with bar(schedule.iterations, description) as shown:
        shown.update(state.iteration)
        while state.iteration < schedule.iterations:
            figures = trainer.step(state)
            recent += [] if figures.psnr is None else [figures.psnr]
            if state.iteration % REPORT_EVERY == 0:
                shown.set_postfix_str(
                    f"{np.mean(recent):.1f} dB, {len(state.gaussians)} Gaussians, loss {figures.loss:.3f}"
                )
                recent.clear()
                if observe is not None:
                    observe(state.iteration, state.gaussians)
            shown.update(1)
            if checkpoint is not None:
                checkpoint.save_when_due(state)
    if checkpoint is not None:
        checkpoint.save(state)
    return Trained(
        state.gaussians,
        state.tuned_views(views),
        state.iteration,
        state.largest_count + state.fixed,
        state.fixed,
        state.exposures,
        state.poses,
    )


def scene_size(views: Sequence[TrainingView], gaussians: Gaussians) -> tuple[float, float]:
    """How far the cameras and the Gaussians lie from the cameras' middle [world units].

    Returns:
        Radius of the cameras, from which positions get their learning rate; radius of nearly all Gaussians.
    """
    centers = np.array([view.world_from_camera.translation for view in views])
    middle = centers.mean(0)
    radius = float(np.percentile(np.linalg.norm(gaussians.means - middle, axis=1), 95))
    return max(1.1 * float(np.linalg.norm(centers - middle, axis=1).max()), MIN_EXTENT * radius), radius
