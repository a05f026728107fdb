"""The schedule of a training: its length, its number of Gaussians, its learning rates, and what changes when.

Everything depends on the share of iterations done, never on the clock. A budget of seconds becomes a number of
iterations before the first one: a few steps of each image size, with few and with many Gaussians, on a copy that is
thrown away, show what a step costs. Asking for that number of iterations repeats the run exactly.

gsplat's interpreter imports this module, too, so it imports no more than that has.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pipeline.types import F32

if TYPE_CHECKING:
    from pipeline.splat.params import SplatParams
    from pipeline.splat.views import TrainingView

logger = logging.getLogger(__name__)

RATES = {"log_scales": 2e-2, "quaternions": 4e-3, "opacity_logits": 1e-1, "sh": 1e-2}
"""Learning rates at the start: two to four times those of the 3DGS reference code, which takes ten times the steps."""

SMALL_EVERY = 4
"""`Schedule.small_every` of anti-aliased Gaussians."""
EXPOSURE_FROM = 0.1
"""Share of the iterations from which exposures follow the images: once these are more than blobs."""
POSES_FROM = 0.6
"""The same for poses, where they are tuned."""
SH_VIEWS = 200
"""Views from which on view-dependent colour learns at the full rate: many views of a surface separate its gloss and the
camera's exposure from chance, few don't."""
MIN_SH_REST = 0.2
"""Lower bound of the rate with few views."""

PIXELS_IN_ALL = 4.6e8
"""Pixels that a training goes through when the number of iterations is left to it: a minute on one core."""
VISITS = 55
"""Lower bound of how often each view is trained on: large captures hold more to learn."""
MIN_ITERATIONS, MAX_ITERATIONS = 1500, 14_000
"""Bounds of the iterations of a room when they are left to the trainer."""
GAUSSIANS = 40_000
"""Gaussians of a training through `PIXELS_IN_ALL` pixels."""
GAUSSIANS_EXPONENT = 0.3
"""Power of the pixels with which the number of Gaussians grows."""
MIN_GAUSSIANS, MAX_GAUSSIANS = 10_000, 200_000
"""Bounds of the Gaussians of a room when they are left to the trainer."""
START_SHARE = 0.5
"""Share of the largest number of Gaussians that is drawn from the cloud at the start."""
SHARES = 100
"""Parts of a run of which the costs are summed up."""
MIN_SECONDS_SHARE = 0.1
"""Share of the seconds that is left for steps even when all are spent before them."""
TRIAL_STEPS = 4
"""Steps timed for one image size and number of Gaussians; the first of them is not counted."""


@dataclass(frozen=True)
class Schedule:
    """What changes over a run; shares are of its iterations.

    Once images are whole, one step in `small_every` is made at half the size or, in turn, at a quarter, so that small
    images stay as good as they were. That is for anti-aliased Gaussians: classic ones can't suit several sizes.
    """

    iterations: int  # number of steps, one view each
    gaussians: int = 0  # largest number of Gaussians, where densification ends
    half_from: float = 0.2  # share from which images of half the size are used; quarter size before
    whole_from: float = 0.6  # share from which whole images are used
    small_every: int = 0  # 0 makes no small steps
    sh_from: tuple[float, float, float] = (0.1, 0.2, 0.4)  # shares from which the SH degrees 1, 2, 3 are used
    sh_rest: float = 0.2  # learning rate of the SH coefficients above degree 0, relative to that of degree 0
    densify: tuple[float, float] | None = (0.04, 0.75)  # first and last share of growth; None keeps the number
    densify_rounds: int = 50
    prior_rounds: int = 20  # number of parts into which rounds of the priors cut the run
    exposure_from: float | None = None  # share from which views' exposures are estimated; None leaves them
    poses_from: float | None = None  # share from which the views' poses are tuned; None leaves them as they are
    position_rate: float = 1.3e-3  # learning rate of positions at the start, relative to the extent of the cameras
    position_decay: float = 0.02  # factor of that rate over the whole run
    rate_decay: float = 0.1  # factor of the other rates over the second half

    def level(self, share: float) -> int:
        """Level of the image pyramid: 0 is the full size, 2 a quarter."""
        return 0 if share >= self.whole_from else 1 if share >= self.half_from else 2

    def level_of(self, iteration: int) -> int:
        """Level of the image pyramid for a step, small ones between whole images included."""
        level = self.level(iteration / self.iterations)
        if level == 0 and self.small_every and iteration % self.small_every == self.small_every // 2:
            return 1 + iteration // self.small_every % 2
        return level

    def level_shares(self, share: float) -> dict[int, float]:
        """Levels of the image pyramid around a share of the run, and the share of the steps that each has there."""
        level = self.level(share)
        if level or not self.small_every:
            return {level: 1.0}
        return {0: 1 - 1 / self.small_every, 1: 0.5 / self.small_every, 2: 0.5 / self.small_every}

    def sh_degree(self, share: float) -> int:
        """Highest SH degree in use."""
        return sum(share >= start for start in self.sh_from)

    def densified(self, share: float) -> float:
        """Share of the densification that is done."""
        if self.densify is None:
            return 0.0
        first, last = self.densify
        return float(np.clip((share - first) / (last - first), 0, 1))

    def densify_iterations(self) -> list[int]:
        """Iterations after which Gaussians are added."""
        if self.densify is None:
            return []
        first, last = self.densify
        iterations = np.linspace(first, last, self.densify_rounds) * self.iterations
        return np.unique(iterations.astype(int)).tolist()

    def prior_iterations(self) -> list[int]:
        """Iterations after which the priors are imposed."""
        iterations = np.arange(1, self.prior_rounds) * self.iterations / max(self.prior_rounds, 1)
        return np.unique(iterations.astype(int)).tolist()

    def rates(self, share: float, extent: float, sh_count: int) -> dict[str, F32]:
        """Learning rate of each number of a Gaussian by field, for the cameras' extent [world units]."""
        decay = self.rate_decay ** max(0.0, 2 * share - 1)
        position = self.position_rate * extent * self.position_decay**share
        sh = np.full((sh_count, 3), RATES["sh"] * decay, np.float32)
        sh[1:] *= self.sh_rest
        widths = {"log_scales": 3, "quaternions": 4, "opacity_logits": 1}
        rates = {name: np.full(width, RATES[name] * decay, np.float32) for name, width in widths.items()}
        return rates | {"means": np.full(3, position, np.float32), "sh": sh.reshape(-1)}


def training_schedule(params: SplatParams, views: Sequence[TrainingView], budget: Budget) -> Schedule:
    """The schedule of a training on photos."""
    return Schedule(
        budget.iterations,
        budget.gaussians,
        small_every=SMALL_EVERY if params.antialiased else 0,
        sh_rest=min(1.0, max(MIN_SH_REST, len(views) / SH_VIEWS)),
        exposure_from=EXPOSURE_FROM,
        poses_from=poses_from(params),
    )


def poses_from(params: SplatParams) -> float | None:
    """Share of the iterations from which poses are tuned; None where they are to stay."""
    return POSES_FROM if params.tune_poses else None


@dataclass(frozen=True)
class Clock:
    """CPU-seconds of this process that a training may take, from now on."""

    seconds: float
    started_at: float = field(default_factory=time.process_time)

    def share_left(self, reserved: float) -> float:
        """Share of the seconds that is left for steps when `reserved` of them are kept for something else."""
        return max(MIN_SECONDS_SHARE, 1 - (time.process_time() - self.started_at + reserved) / self.seconds)


@dataclass(frozen=True)
class Budget:
    """Number of steps, one view each, and largest number of Gaussians."""

    iterations: int
    gaussians: int


def planned_budget(params: SplatParams, views: Sequence[TrainingView], rooms: float = 1.0) -> Budget:
    """The requested iterations and Gaussians, or as many as the size and number of the images suggest.

    A place of several `rooms` gets what each of them would get with its share of the images.
    """
    iterations = params.iterations or MIN_ITERATIONS
    if views and not params.iterations:
        suggested = max(rooms * PIXELS_IN_ALL / _pixels(views), VISITS * len(views))
        iterations = int(np.clip(suggested, rooms * MIN_ITERATIONS, rooms * MAX_ITERATIONS))
    return _budget(params, views, iterations, rooms)


def budget_within(
    seconds: float,
    params: SplatParams,
    views: Sequence[TrainingView],
    step_seconds: Callable[[float, int], float],
    rooms: float = 1.0,
) -> Budget:
    """The longest training within CPU-seconds; `step_seconds(share of the run, Gaussians)` is what a step takes."""
    schedule = Schedule(1, small_every=SMALL_EVERY if params.antialiased else 0)
    many = planned_budget(params, views, rooms).gaussians
    few = many // 2
    shares = (np.arange(SHARES) + 0.5) / SHARES
    # a step late in each image size: all SH degrees that it ever uses are in use
    late = {schedule.level(share): share for share in shares}
    costs = {level: (step_seconds(share, few), step_seconds(share, many)) for level, share in late.items()}

    def duration(iterations: int) -> float:
        largest = _budget(params, views, iterations, rooms).gaussians
        total = 0.0
        for share in shares:
            count = largest * (START_SHARE + (1 - START_SHARE) * schedule.densified(share))
            for level, part in schedule.level_shares(share).items():
                cost, cost_of_many = costs[level]
                total += part * max(cost + (cost_of_many - cost) * (count - few) / (many - few), cost / 4)
        return total / SHARES * iterations

    low, high = 1, 1_000_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if duration(middle) <= seconds else (low, middle)
    logger.info("%.0f CPU-s are enough for %d iterations", seconds, low)
    return _budget(params, views, low, rooms)


def timed(step: Callable[[], object]) -> float:
    """CPU-seconds of a step: the mean of a few, after one that is not counted."""
    step()
    start = time.process_time()
    for _ in range(TRIAL_STEPS - 1):
        step()
    return (time.process_time() - start) / (TRIAL_STEPS - 1)


def _budget(params: SplatParams, views: Sequence[TrainingView], iterations: int, rooms: float) -> Budget:
    if params.gaussians or not views:
        return Budget(iterations, params.gaussians or GAUSSIANS)
    work = iterations * _pixels(views) / PIXELS_IN_ALL / rooms
    of_each = np.clip(GAUSSIANS * work**GAUSSIANS_EXPONENT, MIN_GAUSSIANS, MAX_GAUSSIANS)
    return Budget(iterations, int(rooms * of_each))


def _pixels(views: Sequence[TrainingView]) -> float:
    """Mean number of pixels of a view."""
    return float(np.mean([view.levels[0].photo[0].size for view in views]))
