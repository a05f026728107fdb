"""All that changes while a splat is trained: what a checkpoint must hold so that a run goes on bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.geometry import Gaussians
from pipeline.splat.exposure import Exposures
from pipeline.splat.grow import Growth
from pipeline.splat.optimizer import SparseAdam
from pipeline.splat.pose_tuning import PoseTuning
from pipeline.splat.raster import contiguous
from pipeline.splat.schedule import Schedule
from pipeline.splat.views import TrainingView


@dataclass(eq=False)
class TrainingState:
    """A training between two steps.

    Attributes:
        iteration: Steps done.
        iterations: Steps in all; fixed once a budget of seconds was turned into steps.
        largest_count: Gaussians at the end, without the guesses; fixed as well.
        start_count: Gaussians at the start, from which growth goes to its budget.
        extent: Of the cameras [world units], from which positions get their learning rate.
        radius: Of the scene [world units].
        fixed: So many of the first Gaussians are guesses that training leaves as they are.
        optimizer: The Gaussians with their moments.
        growth: What it has seen of the loss's pull since the last round.
        exposures: Gain of every view.
        poses: Correction of every view's pose.
        rng: Draws the order of views.
        order: Indices of the views still to come in this round, from its end.
    """

    iteration: int
    iterations: int
    largest_count: int
    start_count: int
    extent: float
    radius: float
    fixed: int
    optimizer: SparseAdam
    growth: Growth
    exposures: Exposures
    poses: PoseTuning
    rng: np.random.Generator
    order: list[int]

    @classmethod
    def start(
        cls,
        gaussians: Gaussians,
        views: Sequence[TrainingView],
        schedule: Schedule,
        extent: float,
        radius: float,
        rng: np.random.Generator,
        fixed: int = 0,
    ) -> TrainingState:
        """Before the first step; the Gaussians are copied."""
        own = contiguous(gaussians[np.arange(len(gaussians))])
        exposures = Exposures.start(views)
        poses = PoseTuning(np.array([view.world_from_camera.matrix for view in views]), radius)
        optimizer, growth = SparseAdam(own), Growth(len(own))
        return cls(
            iteration=0,
            iterations=schedule.iterations,
            largest_count=schedule.gaussians,
            start_count=len(own) - fixed,
            extent=extent,
            radius=radius,
            fixed=fixed,
            optimizer=optimizer,
            growth=growth,
            exposures=exposures,
            poses=poses,
            rng=rng,
            order=[],
        )

    @property
    def gaussians(self) -> Gaussians:
        """As they are now."""
        return self.optimizer.gaussians

    def next_view(self) -> int:
        """Index of the view to train on; every view comes once before any comes again."""
        if not self.order:
            self.order = self.rng.permutation(len(self.exposures.gains)).tolist()
        return self.order.pop()

    def tuned_views(self, views: Sequence[TrainingView]) -> list[TrainingView]:
        """The views with the exposures and poses that were found."""
        return [
            replace(view, gain=self.exposures.gains[index], world_from_camera=self.poses.world_from_camera(index))
            for index, view in enumerate(views)
        ]
