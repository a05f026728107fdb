"""How long a training is and how many Gaussians it gets: asked for, derived from the pictures, or what fits in seconds.

A budget of seconds becomes a number of iterations before the first one: a few steps of each picture size, with few and
with many Gaussians, on a copy that is thrown away, tell what a step costs. From there on nothing looks at the clock,
and asking for that number of iterations repeats the run exactly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.splat.params import SplatParams
from pipeline.splat.schedule import Schedule, small_every
from pipeline.splat.views import TrainingView

logger = logging.getLogger(__name__)

PIXELS_IN_ALL = 4.6e8
"""Pixels that a training goes through when the number of iterations is left to it: a minute on one core."""
VISITS = 55
"""Least number of times that each view is trained on: large captures hold more to learn."""
MIN_ITERATIONS, MAX_ITERATIONS = 1500, 14_000
GAUSSIANS, GAUSSIANS_EXPONENT = 40_000, 0.3
"""Gaussians of a training through `PIXELS_IN_ALL` pixels, and the power of the pixels with which they grow."""
MIN_GAUSSIANS, MAX_GAUSSIANS = 10_000, 200_000
START_SHARE = 0.5
"""Of the largest number of Gaussians, drawn from the cloud at the start."""
SHARES = 100
"""Into which a run is cut to add up what it costs."""
LEAST_SHARE = 0.1
"""Of the seconds that is left for steps even when all are spent before them."""
TRIAL_STEPS = 4
"""Steps timed for one picture size and number of Gaussians; the first of them is not counted."""


@dataclass(frozen=True)
class Clock:
    """CPU-seconds of this process that a training may take.

    Attributes:
        seconds: In all.
        begun: Of the process when it began.
    """

    seconds: float
    begun: float

    @classmethod
    def start(cls, seconds: float) -> Clock:
        """From now on."""
        return cls(seconds, time.process_time())

    def share_left(self, reserved: float) -> float:
        """Share of the seconds that is left for steps when so many are kept for something else."""
        return max(LEAST_SHARE, 1 - (time.process_time() - self.begun + reserved) / self.seconds)


@dataclass(frozen=True)
class Budget:
    """How much a training may use.

    Attributes:
        iterations: Steps, one view each.
        gaussians: Largest number.
    """

    iterations: int
    gaussians: int


def planned_budget(params: SplatParams, views: Sequence[TrainingView]) -> Budget:
    """The iterations and Gaussians asked for, or as many as the size and number of the pictures suggest."""
    return _budget(params, views, params.iterations or _usual_iterations(views))


def budget_within(
    seconds: float,
    params: SplatParams,
    views: Sequence[TrainingView],
    step_seconds: Callable[[float, int], float],
) -> Budget:
    """The longest training that stays within a time.

    Args:
        seconds: CPU-seconds of this process.
        params: Number of Gaussians, if asked for.
        views: The training views.
        step_seconds: (share of the run, number of Gaussians) to the CPU-seconds of a step.
    """
    schedule = Schedule(1, small_every=small_every(params))
    many = planned_budget(params, views).gaussians
    few = many // 2
    shares = (np.arange(SHARES) + 0.5) / SHARES
    # a step late in each picture size: all SH degrees that it ever uses are in use
    late = {schedule.level(share): share for share in shares}
    costs = {level: (step_seconds(share, few), step_seconds(share, many)) for level, share in late.items()}

    def duration(iterations: int) -> float:
        largest = _budget(params, views, iterations).gaussians
        total = 0.0
        for share in shares:
            count = largest * (START_SHARE + (1 - START_SHARE) * schedule.grown(share))
            for level, part in schedule.level_shares(share).items():
                cost, cost_of_many = costs[level]
                total += part * max(cost + (cost_of_many - cost) * (count - few) / (many - few), cost / 4)
        return total / SHARES * iterations

    low, high = 1, 1_000_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if duration(middle) <= seconds else (low, middle)
    logger.info("%.0f CPU-s are enough for %d iterations", seconds, low)
    return _budget(params, views, low)


def timed(step: Callable[[], object]) -> float:
    """CPU-seconds of a step: the mean of a few, after one that is not counted."""
    step()
    begun = time.process_time()
    for _ in range(TRIAL_STEPS - 1):
        step()
    return (time.process_time() - begun) / (TRIAL_STEPS - 1)


def _budget(params: SplatParams, views: Sequence[TrainingView], iterations: int) -> Budget:
    if params.gaussians or not views:
        return Budget(iterations, params.gaussians or GAUSSIANS)
    work = iterations * _pixels(views) / PIXELS_IN_ALL
    return Budget(iterations, int(np.clip(GAUSSIANS * work**GAUSSIANS_EXPONENT, MIN_GAUSSIANS, MAX_GAUSSIANS)))


def _usual_iterations(views: Sequence[TrainingView]) -> int:
    if not views:
        return MIN_ITERATIONS
    return int(np.clip(max(PIXELS_IN_ALL / _pixels(views), VISITS * len(views)), MIN_ITERATIONS, MAX_ITERATIONS))


def _pixels(views: Sequence[TrainingView]) -> float:
    return float(np.mean([view.levels[0].photo[0].size for view in views]))
