"""How sure one can be of a share that was counted."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import binomtest

CONFIDENCE = 0.95
WINDOW = 200
"""Episodes, the last that ended, that figures of training are means over."""


@dataclass(frozen=True)
class Interval:
    """A share that was counted, and between what it may lie.

    Attributes:
        successes: How many.
        count: Of how many.
        low: Bound of the confidence interval, 0..1.
        high: The other.
    """

    successes: int
    count: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself, 0..1."""
        return self.successes / self.count

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def wilson(successes: int, count: int) -> Interval:
    """A share with its 95 % score interval; true shares of 0 and 1 have one too. Source: Wilson, JASA 22, 1927.

    Raises:
        ValueError: When nothing was counted, or more successes than cases.
    """
    bounds = binomtest(successes, count).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(successes, count, float(bounds.low), float(bounds.high))
