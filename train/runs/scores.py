"""Success in places that a run never trains in, as its curve has it: the best checkpoint, and what to be warned of.

Nothing here needs torch, so that runs can be listed and compared quickly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from train.runs.results import Interval, wilson
from train.runs.run import Run

VALIDATION = "validation"
"""The kind of places by which checkpoints are compared."""
KINDS = VALIDATION, "test"
PREFIX, EPISODES = "unseen/", "_episodes"
"""A row of the curve has the share of successes as unseen/KIND, and their number as unseen/KIND_episodes."""
WIDE_GAP = 0.2
"""Success in its own places above that elsewhere, from which on a run is warned of."""


class Score(NamedTuple):
    """Success in places never trained in after an iteration."""

    iteration: int
    success: Interval


def scores(rows: Iterable[Mapping[str, float]], kind: str = VALIDATION) -> list[Score]:
    """What was measured in places of a kind, by the rows of a curve."""
    found = [(row, row[PREFIX + kind], round(row[PREFIX + kind + EPISODES])) for row in rows if PREFIX + kind in row]
    return [Score(int(row["iteration"]), wilson(round(share * count), count)) for row, share, count in found]


def best_of(found: Sequence[Score]) -> Score | None:
    """The best one; of equal ones the last, which was trained longest."""
    return max(found, key=lambda score: (score.success.value, score.iteration), default=None)


def waited(found: Sequence[Score]) -> int:
    """Number of the last ones of which none was better than what was reached before, by more than its 95 % interval."""
    since, high = 0, -1.0
    for score in found:
        since += 1
        if score.success.value > high:
            since, high = 0, score.success.high
    return since


def own_success(rows: Sequence[Mapping[str, float]]) -> Interval | None:
    """Success of the last episodes of training, by the policy that explores; None before any ended."""
    row = next((row for row in reversed(rows) if "success" in row), None)
    return None if row is None else wilson(round(row["success"] * row["episodes"]), round(row["episodes"]))


def gap(own: Interval | None, unseen: Interval) -> str:
    """Words for a policy that is much better where it was trained, and what to do about it; empty for others.

    It is, if their 95 % intervals don't touch and `WIDE_GAP` lies between them.
    """
    if own is None or own.low <= unseen.high or own.value - unseen.value <= WIDE_GAP:
        return ""
    return (
        f"success is {own} where it trains and {unseen} where it never did: it learns its places by heart; "
        "train it in more of them, which `splatyard scene rooms` draws and --scene takes"
    )


def best_iteration(run: Run) -> int | None:
    """The iteration of a run's best checkpoint, by success in validation; None without any."""
    best = best_of(scores(run.curve.read()))
    return best and best.iteration
