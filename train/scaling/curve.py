"""Success over the number of places: all trainings, and how much it grows with each doubling of the places."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from scipy.special import stdtrit

from train.runs.results import CONFIDENCE, Interval, wilson

FILE = "curve.json"


@dataclass(frozen=True)
class Point:
    """A training: in so many places, drawn and learned by a seed.

    Attributes:
        own: Success in the places that it trains in, from starts held out of it.
        unseen: Success in places never trained in, by what they are for.
        controls: Success in held-out places with spoilt images.
    """

    count: int
    seed: int
    run: str
    own: Interval
    unseen: dict[str, Interval]
    controls: dict[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Slope:
    """How much success grows each time that the number of places doubles, with its 95 % interval.

    By least squares of the trainings' success over the logarithm of their number of places; the interval is that of
    Student's t, by how far they lie from the line.
    """

    value: float
    low: float
    high: float

    @staticmethod
    def of(points: Sequence[tuple[int, float]]) -> Slope | None:
        """Of numbers of places and success; None for fewer than three, or one number only."""
        if len(points) < 3 or len({count for count, _ in points}) < 2:
            return None
        x, y = np.log2([count for count, _ in points]), np.array([share for _, share in points])
        across = x - x.mean()
        value = float(across @ y / (across @ across))
        left = y - y.mean() - value * across
        error = math.sqrt(float(left @ left) / (len(points) - 2) / float(across @ across))
        wide = float(stdtrit(len(points) - 2, (1 + CONFIDENCE) / 2)) * error
        return Slope(value, value - wide, value + wide)

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} points [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


@dataclass(frozen=True)
class ScalingCurve:
    """Success over the number of places.

    Attributes:
        steps: Steps of each training.
        held_out: Places of each kind that none trains in.
    """

    task: str
    encoder: str
    iterations: int
    steps: int
    held_out: dict[str, list[str]]
    points: tuple[Point, ...]

    @property
    def counts(self) -> list[int]:
        """Numbers of places, the smallest first."""
        return sorted({point.count for point in self.points})

    def pooled(self, kind: str, count: int) -> Interval | None:
        """Success of all seeds together, with the interval of all their episodes; kind is own, or what places are for.

        Further kinds are the controls. None where nothing was measured.
        """
        found = [shares[kind] for point in self.points if point.count == count and kind in (shares := shares_of(point))]
        return wilson(sum(one.successes for one in found), sum(one.count for one in found)) if found else None

    def slope(self, kind: str) -> Slope | None:
        """How success grows with each doubling of the places."""
        shares = [(point.count, shares_of(point)) for point in self.points]
        return Slope.of([(count, found[kind].value) for count, found in shares if kind in found])

    @property
    def kinds(self) -> list[str]:
        """What success was measured of, own first, controls last."""
        return list(dict.fromkeys(kind for point in self.points for kind in shares_of(point)))

    def rows(self) -> list[list[str]]:
        """A table: a row for each number of places, then one for the slope."""
        kinds = self.kinds
        rows = [[str(count), *(str(self.pooled(kind, count) or "-") for kind in kinds)] for count in self.counts]
        return [*rows, ["each doubling", *(str(self.slope(kind) or "-") for kind in kinds)]]

    def json(self) -> str:
        """For programs."""
        slopes = {kind: slope and asdict(slope) for kind in self.kinds for slope in [self.slope(kind)]}
        pooled = {
            kind: {count: asdict(share) for count in self.counts if (share := self.pooled(kind, count))}
            for kind in self.kinds
        }
        return json.dumps({"schema_version": 1, **asdict(self), "pooled": pooled, "slopes": slopes}, indent=1)


def shares_of(point: Point) -> dict[str, Interval]:
    """Success of a training by what it was measured of: its own places, others, controls."""
    return {"own": point.own, **point.unseen, **point.controls}
