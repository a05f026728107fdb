"""The assay: a task repeated with errors of known size, and whether the bundle's own errors are smaller."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from pipeline.check.quality import Gate, Quality
from pipeline.errors import TrainError
from pipeline.types import Mask
from train.assay.cliff import Cliff, find_cliff
from train.assay.perturbations import PERTURBATIONS
from train.runs.results import Episode, Interval, wilson
from train.suites.statistics import Estimate, paired_difference

HALVINGS = 3
"""How often the gap in which success falls by half is halved."""

Trial = Callable[[str, float], Sequence[Episode]]
"""Episodes with an error: the perturbation's name, and the size with its sign. At all errors they begin alike."""


@dataclass(frozen=True)
class Level:
    """What became of the episodes at one error.

    Attributes:
        size: With its sign, in the perturbation's unit.
        lost: Episodes that succeed without the error, and fail with it.
        won: The reverse.
        change: Difference of both rates, with its 95 % interval.
    """

    size: float
    success: Interval
    lost: int
    won: int
    change: Estimate


@dataclass(frozen=True)
class Own:
    """The bundle's own error of a kind: so large that only one in twenty is larger."""

    size: float
    how: str


@dataclass(frozen=True)
class Response:
    """How success depends on the errors of one kind.

    Attributes:
        levels: By size, that without an error among them.
        cliffs: Of each direction, by its sign; None where success stays above half.
    """

    name: str
    levels: tuple[Level, ...]
    cliffs: Mapping[int, Cliff | None]
    own: Own | None

    @property
    def without(self) -> Interval:
        """Success without an error."""
        return next(level.success for level in self.levels if not level.size)

    def tried(self, sign: int) -> float:
        """The largest error that was tried in a direction."""
        return max(level.size * sign for level in self.levels)

    @property
    def reach(self) -> float:
        """The largest error that was tried in all directions."""
        return min(self.tried(sign) for sign in self.cliffs)

    @property
    def bears(self) -> float:
        """An error that is surely borne: the lower end of the nearest cliff's interval, or all that was tried."""
        return min([self.reach, *(cliff.low for cliff in self.cliffs.values() if cliff)])

    @property
    def gate(self) -> Gate:
        """Whether the bundle's own error is borne; not known where it has none, or it is larger than what was tried."""
        kind, own = PERTURBATIONS[self.name], self.own
        falls = any(self.cliffs.values())
        known = own is not None and (falls or own.size <= self.reach)
        how = own.how if own else "the bundle states no error of this kind"
        if own and not known:
            how += "; more than was tried"
        return Gate(
            name=self.name,
            title=kind.title,
            value=round(own.size, 4) if own else None,
            unit=kind.unit,
            threshold=round(self.bears, 4),
            comparison="<=",
            applies=known,
            how=how,
        )


@dataclass(frozen=True)
class Assay:
    """An assay of a policy in a bundle."""

    policy: str
    task: str
    seed: int
    responses: tuple[Response, ...]

    @property
    def without(self) -> Interval:
        """Success without an error."""
        return self.responses[0].without

    @property
    def quality(self) -> Quality:
        """The verdicts."""
        return Quality(gates=tuple(response.gate for response in self.responses))

    def values(self) -> dict[str, object]:
        """All figures, as plain JSON values."""
        rows = [
            {
                "name": one.name,
                "unit": PERTURBATIONS[one.name].unit,
                "passed": one.gate.passed,
                "bears": one.bears,
                "own": one.own and asdict(one.own),
                "cliffs": {("-", "", "+")[sign + 1]: cliff and _plain(cliff) for sign, cliff in one.cliffs.items()},
                "levels": [asdict(level) for level in one.levels],
            }
            for one in self.responses
        ]
        about = {"policy": self.policy, "task": self.task, "seed": self.seed}
        return {**about, "passed": self.quality.passed, "without": asdict(self.without), "perturbations": rows}


def _plain(cliff: Cliff) -> dict[str, object]:
    """With null for an end that isn't known."""
    return {**asdict(cliff), "high": cliff.high if math.isfinite(cliff.high) else None}


def respond(name: str, without: Sequence[Episode], trial: Trial, own: Own | None = None) -> Response:
    """Try errors of one kind: those of the list, more where all are borne, and finer ones where success falls.

    Raises:
        TrainError: When nothing succeeds without an error, or episodes begin otherwise with it.
    """
    kind, before, cliffs = PERTURBATIONS[name], _outcomes(without), dict[int, Cliff | None]()
    if not before.any():
        raise TrainError(
            "an assay asks what takes success away",
            found=f"0 of {len(before)} episodes succeed without any error",
            remedy="take a policy that does the task, or more episodes (--episodes)",
        )
    levels = [_level(0.0, before, before)]
    for sign in kind.signs:
        tried = {0.0: before}

        def one(size: float, sign: int = sign, tried: dict[float, Mask] = tried) -> Cliff | None:
            episodes = trial(name, sign * size)
            _check_pairs(without, episodes)
            tried[size] = _outcomes(episodes)
            levels.append(_level(sign * size, before, tried[size]))
            sizes = sorted(tried)
            return find_cliff(np.array(sizes), np.array([tried[size] for size in sizes]))

        cliff = None
        for size in kind.levels:
            cliff = one(size)
        for size in kind.further:
            cliff = cliff if cliff and math.isfinite(cliff.high) else one(size)
        for _ in range(HALVINGS):
            cliff = cliff and one(sum(cliff.between) / 2)
        cliffs[sign] = cliff
    return Response(name, tuple(sorted(levels, key=lambda level: level.size)), cliffs, own)


def _outcomes(episodes: Sequence[Episode]) -> Mask:
    return np.array([episode.success for episode in episodes], bool)


def _check_pairs(before: Sequence[Episode], after: Sequence[Episode]) -> None:
    """Refuse to compare episodes that don't begin alike."""
    begun = [[(one.scene, one.seed, one.env, one.start, one.goal) for one in some] for some in (before, after)]
    if begun[0] != begun[1]:
        raise TrainError(
            "with and without an error, episodes begin alike",
            found="other starts or goals",
            remedy="take a driver whose task draws starts before all else",
        )


def _level(size: float, before: Mask, after: Mask) -> Level:
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    success = wilson(int(after.sum()), len(after))
    return Level(size, success, lost, won, paired_difference(after.tolist(), before.tolist()))
