"""Real trials beside simulated ones: a CSV of others, and what simulation says of reality."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import TrainError
from pipeline.io.files import read_plain
from train.runs.results import Interval, wilson
from train.suites.results import SuiteResults
from train.suites.statistics import (
    FEWEST_POLICIES,
    Estimate,
    Powered,
    difference,
    paired_difference,
    pearson,
    pearson_interval,
    powered,
    rank_violation,
    too_few,
)

MAX_BYTES, MAX_ROWS, MAX_TEXT = 16 * 2**20, 200_000, 300
NEEDED, KNOWN = ("policy", "success"), ("policy", "success", "condition", "scene")
YES = {"0": False, "1": True, "false": False, "true": True}
RULE = "real results are a CSV with the columns policy, success (0 or 1), and condition or scene"


@dataclass(frozen=True)
class Trial:
    """A real trial; `condition` is "" where it began elsewhere than in one of the suite's."""

    policy: str
    scene: str
    condition: str
    success: bool


def read_trials(file: Path, results: SuiteResults) -> list[Trial]:
    """Read real trials that anybody may have written down, in the scenes of a suite.

    Raises:
        TrainError: When there is no such file, or a row is no trial of the suite.
    """
    try:
        text = read_plain(file, MAX_BYTES).decode("utf-8-sig")
        rows = [*csv.DictReader(io.StringIO(text), strict=True)]
    except (OSError, ValueError, csv.Error) as error:
        raise _wrong(file, str(error)[:MAX_TEXT]) from error
    if not rows or len(rows) > MAX_ROWS:
        raise _wrong(file, f"{len(rows)} rows")
    columns = {name: None for name in rows[0] if name}
    if missing := [name for name in NEEDED if name not in columns]:
        raise _wrong(file, f"no column {', '.join(missing)}, but {', '.join(columns)[:MAX_TEXT]}")
    scene_of = {attempt.condition: attempt.scene for attempt in results.attempts}
    scenes = {name: name for name in results.scenes} | {
        name.partition("@")[0]: name for name in reversed(results.scenes)
    }
    return [_trial(file, number, row, scene_of, scenes) for number, row in enumerate(rows, 2)]


def _trial(
    file: Path, number: int, row: Mapping[str, str | None], scene_of: Mapping[str, str], scenes: Mapping[str, str]
) -> Trial:
    policy, success, condition, scene = ((row.get(name) or "").strip() for name in KNOWN)
    if not policy or success.lower() not in YES:
        raise _wrong(file, f"row {number}: policy {policy[:80]!r}, success {success[:80]!r}")
    if condition and condition not in scene_of:
        raise _wrong(file, f"row {number}: {condition[:80]!r} is no condition of the suite")
    where = scene_of[condition] if condition else scenes.get(scene, "")
    if not where or (scene and scenes.get(scene) != where):
        raise _wrong(file, f"row {number}: {scene[:80]!r} is no scene of the suite, or not the condition's")
    return Trial(policy, where, condition, YES[success.lower()])


def _wrong(file: Path, found: str) -> TrainError:
    return TrainError(RULE, found=found, remedy="docs/evaluate.md has an example", file=file)


@dataclass(frozen=True)
class Point:
    """A policy in a scene, simulated and real; `bias` is by how much more often it succeeds in simulation."""

    policy: str
    scene: str
    simulated: Interval
    real: Interval
    bias: Estimate


@dataclass(frozen=True)
class Agreement:
    """How simulated and real success of several policies go together; None where there are too few policies.

    Attributes:
        scene: Where; or all, with the mean over the scenes of each policy.
        bias: Mean difference, simulated minus real.
        why_not: What is missing, in words.
    """

    scene: str
    policies: int
    r: float | None
    interval: tuple[float, float] | None
    mmrv: float | None
    bias: float
    why_not: str


@dataclass(frozen=True)
class Forecast:
    """Real success of a policy by real trials alone, and with the simulated ones; `why_not` says why there is none."""

    policy: str
    alone: Interval
    with_simulation: Powered | None
    why_not: str


@dataclass(frozen=True)
class Reality:
    """What simulated results say of real ones."""

    points: tuple[Point, ...]
    agreement: tuple[Agreement, ...]
    forecasts: tuple[Forecast, ...]


def reality(results: Sequence[SuiteResults], trials: Sequence[Trial]) -> Reality:
    """Compare simulated results of policies with real trials of the same policies, by their names.

    Raises:
        TrainError: When no trial is of any of the policies.
    """
    points, forecasts = list[Point](), list[Forecast]()
    for one in results:
        own = [trial for trial in trials if trial.policy == one.policy.name]
        points += [_point(one, scene, [trial for trial in own if trial.scene == scene]) for scene in one.scenes if
                   any(trial.scene == scene for trial in own)]  # fmt: skip
        if own:
            forecasts.append(_forecast(one, own))
    if not points:
        raise TrainError(
            "real trials are of policies that were simulated",
            found=f"trials of {', '.join(sorted({trial.policy for trial in trials}))[:MAX_TEXT]}, results of "
            f"{', '.join(one.policy.name for one in results)[:MAX_TEXT]}",
            remedy="name them alike (--name), and give the results of others with --against",
        )
    scenes = dict.fromkeys(point.scene for point in points)
    agreement = [_agreement(scene, [one for one in points if one.scene == scene]) for scene in scenes]
    if len(scenes) > 1:
        agreement.append(_agreement("all", points))
    return Reality(tuple(points), tuple(agreement), tuple(forecasts))


def _point(results: SuiteResults, scene: str, trials: Sequence[Trial]) -> Point:
    simulated = [attempt.episode.success for attempt in results.attempts if attempt.scene == scene]
    real = [trial.success for trial in trials]
    known = results.by_condition()
    pairs = [(known[trial.condition].episode.success, trial.success) for trial in trials if trial.condition]
    if len(pairs) == len(trials):
        bias = paired_difference([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    else:
        bias = difference(sum(simulated), len(simulated), sum(real), len(real))
    counted = [wilson(sum(some), len(some)) for some in (simulated, real)]
    return Point(results.policy.name, scene, counted[0], counted[1], bias)


def _agreement(scene: str, points: Sequence[Point]) -> Agreement:
    """Of policies, each with the mean over its scenes."""
    policies = dict.fromkeys(point.policy for point in points)
    sides = [
        [float(np.mean([getattr(point, side).value for point in points if point.policy == name])) for name in policies]
        for side in ("simulated", "real")
    ]
    r, bias = pearson(*sides), float(np.mean(sides[0]) - np.mean(sides[1]))
    why_not = ""
    if len(policies) < FEWEST_POLICIES:
        why_not = f"{len(policies)} of {FEWEST_POLICIES} policies that r and MMRV need"
    elif r is None:
        why_not = "all policies are alike, so there is no r"
    interval = None if r is None else pearson_interval(r, len(policies))
    return Agreement(scene, len(policies), r, interval, rank_violation(*sides), bias, why_not)


def _forecast(results: SuiteResults, trials: Sequence[Trial]) -> Forecast:
    known = results.by_condition()
    paired = [trial for trial in trials if trial.condition]
    tried = {trial.condition for trial in paired}
    scenes = {trial.scene for trial in paired}
    real = [trial.success for trial in paired]
    simulated = [known[trial.condition].episode.success for trial in paired]
    more = [
        attempt.episode.success
        for attempt in results.attempts
        if attempt.scene in scenes and attempt.condition not in tried
    ]
    found = powered(real, simulated, more)
    why_not = too_few(np.array(real, float), np.array(more, float))
    alone = wilson(sum(trial.success for trial in trials), len(trials))
    return Forecast(results.policy.name, alone, found, why_not)
