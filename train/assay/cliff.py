"""Where success falls by half as an error grows, with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from pipeline.types import F64, Floats, Mask

DRAWS = 400
"""Resamplings of the episodes."""
TAILS = (2.5, 97.5)
"""Percentiles of a 95 % interval."""


@dataclass(frozen=True)
class Cliff:
    """The error at which success is half of what it is without any, and its 95 % interval.

    Attributes:
        between: The neighbouring errors that were tried, between which it lies.
    """

    value: float
    low: float
    high: float
    between: tuple[float, float]


def find_cliff(errors: Floats, successes: Mask) -> Cliff | None:
    """Find it among errors (K,), ascending from 0, with the outcomes (K, N) of the same N episodes at each.

    Success may not rise with the error: what rises is noise, and pooled (isotonic regression; R. E. Barlow et al.,
    Statistical Inference under Order Restrictions, Wiley 1972). Between two errors it is interpolated. The interval is
    by resampling whole episodes, as they are paired (B. Efron, Annals of Statistics 7, 1979); of each resampling it has
    both neighbours, as nothing between them was tried. `high` is infinite where resamplings bear all errors.

    Returns:
        None where success stays above half.

    Raises:
        ValueError: When nothing succeeds without error.
    """
    errors, shares = np.asarray(errors, np.float64), np.asarray(successes, np.float64)
    if not shares[0].any():
        raise ValueError("without any success there is none to lose")
    found = _crossing(errors, shares.mean(1))
    if found is None:
        return None
    value, *between = found
    rng, ends = np.random.default_rng(0), list[tuple[float, float]]()
    for _ in range(DRAWS):
        drawn = shares[:, rng.integers(0, shares.shape[1], shares.shape[1])].mean(1)
        crossing = _crossing(errors, drawn) if drawn[0] else (0.0, 0.0, 0.0)
        ends.append(crossing[1:] if crossing else (float(errors[-1]), np.inf))
    low, high = np.array(ends).T
    limits = np.percentile(low, TAILS[0], method="lower"), np.percentile(high, TAILS[1], method="higher")
    return Cliff(value, float(limits[0]), float(limits[1]), (between[0], between[1]))


def _crossing(errors: F64, shares: F64) -> tuple[float, float, float] | None:
    """Where shares (K,) at errors (K,) fall to half of the first, and the two errors between which that is."""
    falling = isotonic_regression(shares, increasing=False).x
    half = falling[0] / 2
    below = np.flatnonzero(falling <= half)
    if not len(below):
        return None
    last = int(below[0])
    before, after = falling[last - 1], falling[last]
    low, high = float(errors[last - 1]), float(errors[last])
    return low + (high - low) * float((before - half) / (before - after)), low, high
