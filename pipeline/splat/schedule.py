"""The schedule of a training: what changes when, and the learning rates.

Everything depends on the share of iterations done, never on the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pipeline.splat.params import SplatParams

Float = NDArray[np.float32]

RATES = {"log_scales": 2e-2, "quaternions": 4e-3, "opacity_logits": 1e-1, "sh": 1e-2}
"""Learning rates at the start: two to four times those of the 3DGS reference code, which takes ten times the steps."""

SMALL_EVERY = 4


def small_every(params: SplatParams) -> int:
    """`Schedule.small_every` of a training."""
    return SMALL_EVERY if params.antialiased else 0


@dataclass(frozen=True)
class Schedule:
    """What changes over a run; shares are of its iterations.

    Attributes:
        iterations: Steps, one view each.
        gaussians: Largest number of Gaussians, where growth ends.
        half_from: Share from which pictures of half the size are used; quarter size before.
        whole_from: Share from which whole pictures are used.
        small_every: From then on, every so many steps one is made at half the size or, in turn, at a quarter, so that
            small pictures stay as good as they were; 0 makes none. For Gaussians drawn on pixels that are areas:
            classic ones can't suit several sizes.
        sh_from: Shares from which the SH degrees 1, 2, 3 are used.
        sh_rest: Learning rate of the SH coefficients above degree 0, relative to that of degree 0.
        growth: First and last share in which Gaussians are added; None keeps the number.
        growth_rounds: How often they are.
        surface_rounds: How often Gaussians are laid flat on known surfaces and fade in known free space; the last time
            leaves as many steps to the end as between two.
        exposure_from: Share from which each view's exposure is estimated; None leaves them as they are.
        poses_from: Share from which the views' poses are tuned; None leaves them as they are.
        position_rate: Learning rate of positions at the start, relative to the extent of the cameras.
        position_decay: Factor of that rate over the whole run.
        rate_decay: Factor of the other rates over the second half.
    """

    iterations: int
    gaussians: int = 0
    half_from: float = 0.2
    whole_from: float = 0.6
    small_every: int = 0
    sh_from: tuple[float, float, float] = (0.1, 0.2, 0.4)
    sh_rest: float = 0.2
    growth: tuple[float, float] | None = (0.04, 0.75)
    growth_rounds: int = 50
    surface_rounds: int = 20
    exposure_from: float | None = None
    poses_from: float | None = None
    position_rate: float = 1.3e-3
    position_decay: float = 0.02
    rate_decay: float = 0.1

    def level(self, share: float) -> int:
        """Pyramid level: 2 is a quarter of the size."""
        return 0 if share >= self.whole_from else 1 if share >= self.half_from else 2

    def level_of(self, iteration: int) -> int:
        """Pyramid level of a step, small ones between whole pictures included."""
        level = self.level(iteration / self.iterations)
        if level == 0 and self.small_every and iteration % self.small_every == self.small_every // 2:
            return 1 + iteration // self.small_every % 2
        return level

    def level_shares(self, share: float) -> dict[int, float]:
        """Pyramid levels about a share of the run, and the share of the steps that each has there."""
        level = self.level(share)
        if level or not self.small_every:
            return {level: 1.0}
        return {0: 1 - 1 / self.small_every, 1: 0.5 / self.small_every, 2: 0.5 / self.small_every}

    def sh_degree(self, share: float) -> int:
        """Highest SH degree in use."""
        return sum(share >= start for start in self.sh_from)

    def grown(self, share: float) -> float:
        """Share of the growth that is done."""
        if self.growth is None:
            return 0.0
        first, last = self.growth
        return float(np.clip((share - first) / (last - first), 0, 1))

    def growth_iterations(self) -> list[int]:
        """After which iterations Gaussians are added."""
        if self.growth is None:
            return []
        first, last = self.growth
        iterations = np.linspace(first, last, self.growth_rounds) * self.iterations
        return np.unique(iterations.astype(int)).tolist()

    def surface_iterations(self) -> list[int]:
        """After which iterations the known surfaces are enforced."""
        iterations = np.arange(1, self.surface_rounds) * self.iterations / max(self.surface_rounds, 1)
        return np.unique(iterations.astype(int)).tolist()

    def rates(self, share: float, extent: float, sh_count: int) -> dict[str, Float]:
        """Learning rate of each number of a Gaussian.

        Args:
            share: Of the iterations done.
            extent: Of the cameras [world units].
            sh_count: SH coefficients that the Gaussians have.
        """
        decay = self.rate_decay ** max(0.0, 2 * share - 1)
        position = self.position_rate * extent * self.position_decay**share
        sh = np.full((sh_count, 3), RATES["sh"] * decay, np.float32)
        sh[1:] *= self.sh_rest
        widths = {"log_scales": 3, "quaternions": 4, "opacity_logits": 1}
        rates = {name: np.full(width, RATES[name] * decay, np.float32) for name, width in widths.items()}
        return rates | {"means": np.full(3, position, np.float32), "sh": sh.reshape(-1)}
