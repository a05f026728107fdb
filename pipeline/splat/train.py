"""Training: from the shared cloud, photos and depth to Gaussians, by a schedule of iterations.

Everything that changes over the run depends on the share of iterations done, never on the clock, and every kernel sums
in a fixed order: the same seed gives the same Gaussians, with any number of threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Gaussians, PointCloud
from pipeline.progress import bar
from pipeline.splat.grow import Growth
from pipeline.splat.holes import cover_holes
from pipeline.splat.loss import depth_loss, photometric_loss
from pipeline.splat.optimizer import SparseAdam
from pipeline.splat.params import SplatParams
from pipeline.splat.raster import contiguous, rasterize, rasterize_backward
from pipeline.splat.start import initial_gaussians
from pipeline.splat.views import Level, TrainingView

logger = logging.getLogger(__name__)

Float = NDArray[np.float32]

PIXELS_IN_ALL = 2.8e8
"""Pixels that a training goes through when the number of iterations is left to it: a minute on one core."""
VISITS = 50
"""Least number of times that each view is trained on: large captures hold more to learn."""
MIN_ITERATIONS, MAX_ITERATIONS = 1500, 10_000
START_SHARE = 0.5
"""Of the largest number of Gaussians, drawn from the cloud at the start."""
HOLE_SHARE = 0.1
"""Of the largest number of Gaussians, for what the cloud lacks."""
START_OPACITY, START_FLATNESS = 0.5, 0.3
REPORT_EVERY = 50
"""Iterations between two figures in the progress bar."""


@dataclass(frozen=True)
class Schedule:
    """What changes over a run; shares are of its iterations.

    Attributes:
        iterations: Steps, one view each.
        half_from: Share from which pictures of half the size are used; quarter size before.
        whole_from: Share from which whole pictures are used.
        sh_from: Shares from which the SH degrees 1, 2, 3 are used.
        growth: First and last share in which Gaussians are added; None keeps the number.
        growth_rounds: How often they are.
        position_rate: Learning rate of positions at the start, relative to the extent of the cameras.
        position_decay: Factor of that rate over the whole run.
        rate_decay: Factor of the other rates over the second half.
    """

    iterations: int
    half_from: float = 0.14
    whole_from: float = 0.45
    sh_from: tuple[float, float, float] = (0.25, 0.5, 0.6)
    growth: tuple[float, float] | None = (0.04, 0.75)
    growth_rounds: int = 50
    position_rate: float = 6.4e-4
    position_decay: float = 0.01
    rate_decay: float = 0.2

    def level(self, share: float) -> int:
        """Pyramid level: 2 is a quarter of the size."""
        return 0 if share >= self.whole_from else 1 if share >= self.half_from else 2

    def sh_degree(self, share: float) -> int:
        """Highest SH degree in use."""
        return sum(share >= start for start in self.sh_from)


RATES = {"log_scales": 2e-2, "quaternions": 4e-3, "opacity_logits": 1e-1, "sh": 1e-2}
"""Learning rates at the start: two to four times those of the 3DGS reference code, which takes ten times the steps."""
SH_REST_FACTOR = 0.2
"""Of the SH rate, for the coefficients above degree 0."""
MAX_SCALE = 0.5
"""Gaussians with a standard deviation above this share of the scene's radius are pruned."""
MIN_EXTENT = 0.1
"""Least extent of the cameras, as a share of the scene's radius: a phone that hardly moved still sees a whole room."""


def train(
    views: Sequence[TrainingView],
    cloud: PointCloud,
    params: SplatParams,
    rng: np.random.Generator,
    observe: Callable[[int, Gaussians], None] | None = None,
) -> Gaussians:
    """Train a splat.

    Args:
        views: Photos with poses in the world frame, with or without depth.
        cloud: The shared cloud in the world frame, where the Gaussians start.
        params: What the user chose.
        rng: Draws starting points and the order of views.
        observe: Called with (iterations done, Gaussians) now and then; must not change them.

    Raises:
        ValueError: When there is no view or hardly a point.
    """
    count = max(100, min(len(cloud), int(START_SHARE * params.gaussians)))
    gaussians = initial_gaussians(
        cloud, count, (params.sh_degree + 1) ** 2, rng, opacity=START_OPACITY, flatness=START_FLATNESS
    )
    gaussians = cover_holes(gaussians, views, int(HOLE_SHARE * params.gaussians))
    schedule = Schedule(iteration_count(params, views))
    return fit(gaussians, views, schedule, params, rng, "splat", observe)


def iteration_count(params: SplatParams, views: Sequence[TrainingView]) -> int:
    """The iterations asked for, or as many as the size of the pictures allows."""
    if params.iterations or not views:
        return params.iterations
    pixels = np.mean([view.levels[0].photo[0].size for view in views])
    return int(np.clip(max(PIXELS_IN_ALL / pixels, VISITS * len(views)), MIN_ITERATIONS, MAX_ITERATIONS))


def fit(
    gaussians: Gaussians,
    views: Sequence[TrainingView],
    schedule: Schedule,
    params: SplatParams,
    rng: np.random.Generator,
    description: str,
    observe: Callable[[int, Gaussians], None] | None = None,
) -> Gaussians:
    """Fit Gaussians to views by gradient descent.

    Args:
        gaussians: Where to start; not changed.
        views: What to fit to.
        schedule: What changes when.
        params: Weights, the largest number of Gaussians.
        rng: Draws the order of views.
        description: For the progress bar.
        observe: Called with (iterations done, Gaussians) now and then; must not change them.

    Raises:
        ValueError: When there is no view.
    """
    if not views:
        raise ValueError("training a splat needs at least one view that is not held out, got none")
    extent, radius = scene_size(views, gaussians)
    optimizer = SparseAdam(_copy(gaussians))
    growth, start_count = Growth(len(gaussians)), len(gaussians)
    grow_at = _growth_iterations(schedule)
    rounds = len(grow_at)
    order: list[int] = []
    recent: list[float] = []
    with bar(schedule.iterations, description) as shown:
        for iteration in range(schedule.iterations):
            share = iteration / schedule.iterations
            if not order:
                order = rng.permutation(len(views)).tolist()
            view = views[order.pop()]
            level = view.levels[schedule.level(share)]
            sh_count = min((schedule.sh_degree(share) + 1) ** 2, gaussians.sh.shape[1])
            raster = rasterize(optimizer.gaussians, level.camera, view.world_from_camera, sh_count=sh_count)
            by_planes, by_transmittance = np.zeros_like(raster.planes), np.zeros_like(raster.transmittance)
            loss = photometric_loss(raster.planes, level.photo, params.ssim_weight, by_planes)
            if level.depth is not None and params.depth_weight > 0:
                depth_loss(
                    raster.planes,
                    raster.transmittance,
                    level.depth.depth,
                    level.depth.tolerance,
                    params.depth_weight,
                    by_planes,
                    by_transmittance,
                )
            gradients = rasterize_backward(raster, optimizer.gaussians, by_planes, by_transmittance)
            if grow_at:
                growth.observe(gradients, max(level.photo.shape))
            optimizer.step(gradients, _rates(schedule, share, extent, gaussians.sh.shape[1]))
            if grow_at and iteration == grow_at[0]:
                grow_at.pop(0)
                done = 1 - len(grow_at) / rounds
                growth.grow(optimizer, round(start_count + done * (params.gaussians - start_count)), MAX_SCALE * radius)
            recent.append(_psnr(raster.planes, level) if (iteration + 1) % 10 == 0 else np.nan)
            if (iteration + 1) % REPORT_EVERY == 0:
                shown.set_postfix_str(
                    f"{np.nanmean(recent):.1f} dB, {len(optimizer.gaussians)} Gaussians, loss {loss:.3f}"
                )
                recent.clear()
                if observe is not None:
                    observe(iteration + 1, optimizer.gaussians)
            shown.update(1)
    return optimizer.gaussians


def scene_size(views: Sequence[TrainingView], gaussians: Gaussians) -> tuple[float, float]:
    """How far the cameras and the Gaussians lie from the cameras' middle [world units].

    Returns:
        Radius of the cameras, from which positions get their learning rate; radius of nearly all Gaussians.
    """
    centers = np.array([view.world_from_camera.translation for view in views])
    middle = centers.mean(0)
    radius = float(np.percentile(np.linalg.norm(gaussians.means - middle, axis=1), 95))
    return max(1.1 * float(np.linalg.norm(centers - middle, axis=1).max()), MIN_EXTENT * radius), radius


def _growth_iterations(schedule: Schedule) -> list[int]:
    if schedule.growth is None:
        return []
    first, last = schedule.growth
    iterations = np.linspace(first, last, schedule.growth_rounds) * schedule.iterations
    return np.unique(iterations.astype(int)).tolist()


def _rates(schedule: Schedule, share: float, extent: float, sh_count: int) -> dict[str, Float]:
    """Learning rate of each number of a Gaussian."""
    decay = schedule.rate_decay ** max(0.0, 2 * share - 1)
    position = schedule.position_rate * extent * schedule.position_decay**share
    sh = np.full((sh_count, 3), RATES["sh"] * decay, np.float32)
    sh[1:] *= SH_REST_FACTOR
    widths = {"log_scales": 3, "quaternions": 4, "opacity_logits": 1}
    rates = {name: np.full(width, RATES[name] * decay, np.float32) for name, width in widths.items()}
    return rates | {"means": np.full(3, position, np.float32), "sh": sh.reshape(-1)}


def _psnr(planes: Float, level: Level) -> float:
    height, width = level.photo.shape[1:]
    difference = planes[:3, :height, :width] - level.photo / np.float32(255)
    return float(-10 * np.log10(max(float(np.mean(difference**2)), 1e-12)))


def _copy(gaussians: Gaussians) -> Gaussians:
    return contiguous(gaussians[np.arange(len(gaussians))])
