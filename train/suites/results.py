"""What a policy reached in a suite: results.json, its figures, and two policies side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from pipeline.errors import TrainError
from train.files import read_model, write_atomically
from train.runs.results import Episode, FloorPlan, Interval, wilson
from train.suites.statistics import Estimate, mean_difference, paired_difference
from train.suites.suite import MAX_CONDITIONS, MAX_SCENES, Id, Name, Score, Sha, Strict, Text, digest_of

FILE = "results.json"
MAX_BYTES = 512 * 2**20
ALL = "all"


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
class Row:
    """Figures of some attempts; `score` is the mean score, `ended` what ended them with its number."""

    name: str
    success: Interval
    score: Estimate | None
    episodes: int
    ended: str


def rows_of(results: SuiteResults) -> list[Row]:
    """Figures of all attempts, of each scene if there are several, and of each level of difficulty."""
    scenes, levels = results.scenes, dict.fromkeys(attempt.level for attempt in results.attempts if attempt.level)
    rows = [_row(ALL, results.attempts)]
    if len(scenes) > 1:
        rows += [_row(name, (one for one in results.attempts if one.scene == name)) for name in scenes]
    return rows + [_row(name, (one for one in results.attempts if one.level == name)) for name in levels]


def _row(name: str, attempts: Iterable[Attempt]) -> Row:
    chosen = [*attempts]
    ended = Counter(attempt.episode.ended_by for attempt in chosen).most_common()
    scores = [float(attempt.score) for attempt in chosen]
    return Row(
        name,
        wilson(sum(attempt.episode.success for attempt in chosen), len(chosen)),
        mean_difference(scores, [0.0] * len(scores)),
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
    return [_comparison(one.policy.name, other.policy.name, scene, some) for scene, some in chosen]


def _comparison(one: str, other: str, scene: str, pairs: Sequence[tuple[Attempt, Attempt]]) -> Comparison:
    ours, theirs = (np.array([pair[side].episode.success for pair in pairs]) for side in (0, 1))
    scores = [[float(pair[side].score) for pair in pairs] for side in (0, 1)]
    better, worse = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    success = paired_difference(ours.tolist(), theirs.tolist())
    return Comparison(one, other, scene, success, mean_difference(*scores), better, worse, len(pairs))


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
