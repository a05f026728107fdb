"""What success in simulation says of other policies and of reality: differences, correlations, intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.types import F64, Floats, Mask
from train.runs.results import CONFIDENCE, wilson
from train.suites.suite import SOLVED

FEWEST_POLICIES = 3
"""With fewer points there is no rank and no correlation worth the name."""
FEWEST_PAIRS, FEWEST_OF_EACH = 20, 5
"""Pairs of a real and a simulated trial for an interval, and real successes and failures among them: with fewer the
normal approximation covers less than it says (measured: tests/train/suites/test_statistics.py)."""


UNSEEN = np.array([1.0, -1.0])
"""What real outcomes of two further pairs would be more than simulated ones."""


class Estimate(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def pearson(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Pearson's correlation; None with fewer than `FEWEST_POLICIES` points, or where all are alike."""
    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if len(x) < FEWEST_POLICIES or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def pearson_interval(r: float, count: int) -> tuple[float, float] | None:
    """Its 95 % interval by Fisher's transformation, as if the points themselves were exact; None below four points."""
    if count < 4:
        return None
    middle, reach = math.atanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)), _normal() / math.sqrt(count - 3)
    return math.tanh(middle - reach), math.tanh(middle + reach)


def rank_violation(simulated: Sequence[float], real: Sequence[float]) -> float | None:
    """Mean maximum rank violation, MMRV; 0 is best, None with fewer than `FEWEST_POLICIES` policies.

    For each policy the largest real difference to another one whose rank simulation gets wrong; of that the mean.
    Source: Li et al., Evaluating real-world robot manipulation policies in simulation (SIMPLER), CoRL 2024, eq. 2.
    """
    x, y = np.asarray(simulated, np.float64), np.asarray(real, np.float64)
    if len(x) < FEWEST_POLICIES:
        return None
    wrong = (x[:, None] > x) != (y[:, None] > y)
    return float((np.abs(y[:, None] - y) * wrong).max(1).mean())


def paired_difference(one: Sequence[bool], other: Sequence[bool]) -> Estimate:
    """By how much more often the first succeeds than the second, each in the same trials as the other.

    Source: method 10 of Newcombe, Improved confidence intervals for the difference between binomial proportions based
    on paired data, Statistics in Medicine 17, 1998.

    Raises:
        ValueError: When there are no trials, or not as many of each.
    """
    a, b = np.asarray(one, bool), np.asarray(other, bool)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} trials and {len(b)} are no pairs")
    both, first, second = int((a & b).sum()), int((a & ~b).sum()), int((b & ~a).sum())
    neither, count = len(a) - both - first - second, len(a)
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    excess = both * neither - first * second
    excess = max(excess - count / 2, 0) if excess > 0 else excess
    return _difference(both + first, count, both + second, count, excess / math.sqrt(product) if product else 0.0)


def difference(successes: int, count: int, other_successes: int, other_count: int) -> Estimate:
    """By how much more often one succeeds than another, in trials of their own.

    Source: method 10 of Newcombe, Interval estimation for the difference between independent proportions, Statistics
    in Medicine 17, 1998.
    """
    return _difference(successes, count, other_successes, other_count, 0.0)


def _difference(successes: int, count: int, others: int, other_count: int, phi: float) -> Estimate:
    """Wilson's intervals joined; phi is the correlation of the trials."""
    one, two = wilson(successes, count), wilson(others, other_count)
    value = one.value - two.value

    def reach(low: float, high: float) -> float:
        return math.sqrt(max(low * low - 2 * phi * low * high + high * high, 0.0))

    below = reach(one.value - one.low, two.high - two.value)
    above = reach(two.value - two.low, one.high - one.value)
    return Estimate(value, max(value - below, -1.0), min(value + above, 1.0))


def mean_difference(one: Sequence[float], other: Sequence[float]) -> Estimate | None:
    """By how much more the first scores than the second in the same trials; None where there is no interval."""
    return mean_of(np.asarray(one, np.float64) - np.asarray(other, np.float64), -SOLVED, SOLVED)


def mean_of(values: Floats, low: float, high: float) -> Estimate | None:
    """Mean of values (n,) between bounds, by Student's t; None below two values, or where all are alike."""
    from scipy.stats import t

    if len(values) < 2 or np.ptp(values) == 0:
        return None
    mean = float(values.mean())
    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return Estimate(mean, max(mean - reach, low), min(mean + reach, high))


class Powered(NamedTuple):
    """Real success by few real trials and many simulated ones.

    Attributes:
        weight: How much simulation counts, 0..1: 0 where it says nothing about the real trials.
        pairs: Real trials that have a simulated one from the same initial conditions.
        simulated: Further simulated trials.
    """

    estimate: Estimate
    weight: float
    pairs: int
    simulated: int


def too_few(real: Floats, more: Floats) -> str:
    """Why there is no prediction-powered interval for real outcomes (n,) with further simulated ones (N,); "" if none.

    Outcomes are 0 or 1.
    """
    least = min(int(real.sum()), int(len(real) - real.sum()))
    if len(real) < FEWEST_PAIRS:
        return f"{len(real)} real trials from the suite's conditions, at least {FEWEST_PAIRS} are needed"
    if least < FEWEST_OF_EACH:
        return f"{least} of the rarer real outcome, at least {FEWEST_OF_EACH} are needed"
    return "" if len(more) >= FEWEST_PAIRS else f"{len(more)} further simulated trials, {FEWEST_PAIRS} are needed"


def powered(real: Sequence[bool] | Mask, paired: Sequence[bool] | Mask, more: Sequence[bool] | Mask) -> Powered | None:
    """Real success from n real trials, the simulated ones of the same conditions (n,), and N further simulated ones.

    None where there are too few (`too_few`). The variance is as if two further pairs had disagreed, once either way:
    otherwise, where hardly any pair disagrees, the interval is too short. Sources: Angelopoulos et al.,
    Prediction-powered inference, Science 382, 2023; the weight of simulation by Angelopoulos, Duchi and Zrnic, PPI++,
    2023, section 6; Student's t instead of the normal quantile, for few trials.
    """
    from scipy.stats import t

    y, f, unpaired = (np.asarray(values, np.float64) for values in (real, paired, more))
    if too_few(y, unpaired):
        return None
    count, further = len(y), len(unpaired)
    weight = _weight(y, f, unpaired)
    value = float(weight * unpaired.mean() + (y - weight * f).mean())
    gaps = np.concatenate([y - weight * f, weight * UNSEEN])  # a few pairs that agree don't show that all do
    variance = weight**2 * unpaired.var(ddof=1) / further + gaps.var(ddof=1) / count
    reach = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * math.sqrt(variance)
    estimate = Estimate(float(np.clip(value, 0, 1)), max(value - reach, 0.0), min(value + reach, 1.0))
    return Powered(estimate, weight, count, further)


def _weight(real: F64, paired: F64, more: F64) -> float:
    """The weight of simulated trials with the least variance."""
    spread = np.concatenate([paired, more]).var(ddof=1)
    if spread == 0:
        return 0.0
    shared = float(np.cov(real, paired, ddof=1)[0, 1])
    return float(np.clip(shared / ((1 + len(real) / len(more)) * spread), 0, 1))


def _normal() -> float:
    from scipy.stats import norm

    return float(norm.ppf((1 + CONFIDENCE) / 2))
