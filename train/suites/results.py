"""What a policy reached in a suite: results.json, its figures, and two policies side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from pipeline.errors import TrainError
from train.files import read_model, write_atomically
from train.runs.results import Episode, FloorPlan, Interval, wilson
from train.suites.statistics import Estimate, mean_difference, mean_of, paired_difference
from train.suites.suite import (
    LEVELS,
    MAX_CONDITIONS,
    MAX_SCENES,
    SOLVED,
    Id,
    Name,
    Rung,
    Score,
    Sha,
    Strict,
    Suite,
    Text,
    digest_of,
)

FILE = "results.json"
MAX_BYTES = 512 * 2**20
ALL = "all"
FARTHEST = 1e5
"""Positions are nearer to the origin of their scene [m]."""


class PolicyId(Strict):
    """Whose results they are.

    Attributes:
        about: What it is: a run with its checkpoint, a file, a script, a server.
        sha256: Hash of its weights or its source; None where nobody can tell: of servers and scripts.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    about: Text
    sha256: Sha | None = None


class Attempt(Strict):
    """An episode from a suite's condition; `scene` is the scene's name in tables."""

    condition: Id
    scene: Text
    level: Text
    score: Score
    episode: Episode

    @model_validator(mode="after")
    def _check(self) -> Attempt:
        episode = self.episode
        xy = np.array([*episode.path, episode.start[:2], *([episode.goal] if episode.goal else [])], np.float64)
        if not episode.path or not (np.abs(xy) < FARTHEST).all():
            raise ValueError(f"an episode has a path, within {FARTHEST:g} m of the scene's origin")
        if not np.isfinite([episode.reward, episode.start[2], *(episode.way or ())]).all():
            raise ValueError("an episode has finite numbers")
        if (self.score == SOLVED) != self.episode.success:
            raise ValueError("a solved episode scores 5, and no other does")
        return self


class SuiteResults(Strict):
    """The whole of results.json.

    Attributes:
        suite: Hash of the suite.
        bundles: Hashes of the bundles' manifests, by reference.
        plans: Floors, by reference.
        made_with: Versions of packages, and the machine.
        sha256: Hash of suite, bundles, policy, engine and every attempt.
    """

    format: Literal["splatyard.suite-results"] = "splatyard.suite-results"
    format_version: Literal[1] = 1
    suite: Sha
    task: Name
    engine: Name
    policy: PolicyId
    bundles: Annotated[dict[Text, Sha], Field(max_length=MAX_SCENES)]
    attempts: Annotated[tuple[Attempt, ...], Field(min_length=1, max_length=MAX_SCENES * MAX_CONDITIONS)]
    plans: dict[Text, FloorPlan] = Field(default_factory=dict)
    made_with: dict[Text, Text] = Field(default_factory=dict)
    sha256: Sha | None = None

    def digest(self) -> str:
        """Hash of suite, bundles, policy, engine and every attempt."""
        return digest_of(self.model_dump(mode="json", exclude={"plans", "made_with", "sha256"}))

    @property
    def scenes(self) -> list[str]:
        """Names of the scenes in tables."""
        return [*dict.fromkeys(attempt.scene for attempt in self.attempts)]

    def by_condition(self) -> dict[str, Attempt]:
        """The attempts by their conditions."""
        return {attempt.condition: attempt for attempt in self.attempts}


@dataclass(frozen=True)
class Film:
    """A film of a failed attempt.

    Attributes:
        file: Relative to the page.
        again: What ended it this time: alone, last bits of images differ, and now and then so does the end.
    """

    file: str
    attempt: Attempt
    again: str


@dataclass(frozen=True)
class Row:
    """Figures of some attempts.

    Attributes:
        score: The mean.
        interval: It with its interval; None where all scores are alike.
        ended: What ended them with its number.
    """

    name: str
    success: Interval
    score: float
    interval: Estimate | None
    episodes: int
    ended: str


def rows_of(results: SuiteResults) -> list[Row]:
    """Figures of all attempts, of each scene if there are several, and of each level of difficulty."""
    scenes, levels = results.scenes, {attempt.level for attempt in results.attempts if attempt.level}
    rows = [_row(ALL, results.attempts)]
    if len(scenes) > 1:
        rows += [_row(name, (one for one in results.attempts if one.scene == name)) for name in scenes]
    return rows + [_row(name, (one for one in results.attempts if one.level == name)) for name in in_order(levels)]


def in_order(levels: Iterable[str]) -> list[str]:
    """Levels from near to far, then kinds of episodes by name."""
    return sorted(levels, key=lambda name: (LEVELS.index(name) if name in LEVELS else len(LEVELS), name))


def _row(name: str, attempts: Iterable[Attempt]) -> Row:
    chosen = [*attempts]
    ended = Counter(attempt.episode.ended_by for attempt in chosen).most_common()
    scores = np.array([attempt.score for attempt in chosen], np.float64)
    return Row(
        name,
        wilson(sum(attempt.episode.success for attempt in chosen), len(chosen)),
        float(scores.mean()),
        mean_of(scores, 0, SOLVED),
        len(chosen),
        ", ".join(f"{ending} {count}" for ending, count in ended),
    )


@dataclass(frozen=True)
class Comparison:
    """One policy against another from the same initial conditions, in a scene or in all.

    Attributes:
        success: Difference of the success rates.
        score: Difference of the mean scores.
        better: Conditions that only the first solved.
        worse: Those that only the other one solved.
    """

    one: str
    other: str
    scene: str
    success: Estimate
    score: Estimate | None
    better: int
    worse: int
    episodes: int


def compared(one: SuiteResults, other: SuiteResults) -> list[Comparison]:
    """Both side by side, in all scenes, then in each if there are several.

    Raises:
        TrainError: When they are of different suites.
    """
    if one.suite != other.suite or one.by_condition().keys() != other.by_condition().keys():
        raise TrainError(
            "policies are compared from the same initial conditions",
            found=f"{one.policy.name} in suite {one.suite[:12]}, {other.policy.name} in {other.suite[:12]}",
            remedy="evaluate both with the same suite",
        )
    theirs, scenes = other.by_condition(), one.scenes
    pairs = [(attempt, theirs[attempt.condition]) for attempt in one.attempts]
    chosen = [(ALL, pairs)]
    if len(scenes) > 1:
        chosen += [(scene, [pair for pair in pairs if pair[0].scene == scene]) for scene in scenes]
    names = one.policy.name, other.policy.name
    return [comparison(*names, scene, [(a.score, b.score) for a, b in some]) for scene, some in chosen]


def beside(results: SuiteResults, rung: Rung) -> Comparison:
    """A driver of a suite's fingerprint here, such as in another engine, against what the suite has."""
    pairs = [(attempt.score, rung.scores.get(attempt.condition, 0)) for attempt in results.attempts]
    return comparison(f"{results.policy.name} in {results.engine}", f"fingerprint in {rung.engine}", ALL, pairs)


def comparison(one: str, other: str, scene: str, pairs: Sequence[tuple[int, int]]) -> Comparison:
    """Of pairs of scores, each from one initial condition."""
    ours, theirs = np.array(pairs).T
    mine, yours = ours == SOLVED, theirs == SOLVED
    success, score = paired_difference(mine.tolist(), yours.tolist()), mean_difference(ours.tolist(), theirs.tolist())
    better, worse = int((mine & ~yours).sum()), int((yours & ~mine).sum())
    return Comparison(one, other, scene, success, score, better, worse, len(pairs))


def differences(published: SuiteResults, again: SuiteResults) -> list[str]:
    """What isn't the same, bit for bit, in two results; empty where all is."""
    names = ("suite", "task", "engine", "bundles")
    found = [name for name in names if getattr(published, name) != getattr(again, name)]
    if published.policy.sha256 != again.policy.sha256:
        found.append("the policy's hash")
    ours = again.by_condition()
    for attempt in published.attempts:
        mine = ours.get(attempt.condition)
        if mine != attempt:
            found.append(f"{attempt.condition}: {_told(attempt)}, here {_told(mine)}")
    return found


def _told(attempt: Attempt | None) -> str:
    if attempt is None:
        return "nothing"
    episode = attempt.episode
    return f"{episode.ended_by} after {episode.steps} steps, score {attempt.score}, reward {episode.reward!r}"


def check_fit(suite: Suite, results: SuiteResults, file: Path | None = None) -> None:
    """Check that results are of a suite: its bundles and conditions, once each, with scores by its rubric.

    Raises:
        TrainError: When they are of another one, or were not made from them.
    """
    found, known = "", results.by_condition()
    labels = {condition.id: scene.label for scene in suite.scenes for condition in scene.conditions}
    if results.suite != suite.digest():
        found = f"suite {results.suite[:12]}, not {suite.digest()[:12]}"
    elif results.bundles != {scene.reference: scene.sha256 for scene in suite.scenes}:
        found = "hashes of other bundles"
    elif len(known) < len(results.attempts) or {one: done.scene for one, done in known.items()} != labels:
        found = "other initial conditions"
    else:
        for condition in suite.conditions.values():
            attempt = known[condition.id]
            if not condition.begins(attempt.episode):
                found = f"{condition.id} begins elsewhere"
            elif (score := suite.score(attempt.episode)) != attempt.score:
                found = f"{condition.id} has score {attempt.score}, by the rubric {score}"
    if found:
        raise TrainError(
            "results are compared within one suite", found=found, remedy="evaluate that policy in this suite", file=file
        )


def write_results(results: SuiteResults, folder: Path) -> Path:
    """Write results.json into a folder, which is made.

    Raises:
        TrainError: When there is no room or no permission.
    """
    write_atomically(folder / FILE, results.model_dump_json().encode())
    return folder / FILE


def read_results(path: Path) -> SuiteResults:
    """Read results that anybody may have written, from their folder or their file.

    Raises:
        TrainError: When there are none, they are damaged, or were changed.
    """
    file = path if path.is_file() else path / FILE
    rule, remedy = "results are a results.json as it was written", "`splatyard policy evaluate --suite DIR` writes it"
    results = read_model(SuiteResults, file, rule, remedy, MAX_BYTES)
    if results.sha256 != results.digest():
        raise TrainError(rule, found="its hash is of something else", remedy=f"{remedy} again", file=file)
    return results
