"""Leaderboards for the gallery, of a folder of suites and results: only of what hashes hold together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.errors import TrainError
from pipeline.gallery.board import Board, Standing
from pipeline.scenes.summary import one_line
from train.runs.results import wilson
from train.suites import results as results_file
from train.suites import suite as suite_file
from train.suites.results import Comparison, SuiteResults, check_fit, comparison, read_results
from train.suites.statistics import Estimate, mean_of
from train.suites.suite import SOLVED, Suite, read_suite

MAX_FILES, MAX_BYTES = 1000, 512 * 2**20
"""Most files of either kind, and most bytes of all results."""
T = TypeVar("T", Suite, SuiteResults)


@dataclass(frozen=True)
class Line:
    """A policy, or a scripted driver of a fingerprint.

    Attributes:
        scores: In the order of the suite's conditions.
        file: Content of its results.json, without the floors of scenes: hashes are not of those.
    """

    name: str
    about: str
    scores: tuple[int, ...]
    policy: str = ""
    results: str = ""
    version: str = ""
    file: str = ""

    @property
    def rank(self) -> tuple[int, int, str]:
        """Sorts by success, then by score, the best first."""
        return -self.scores.count(SOLVED), -sum(self.scores), self.name


def boards_of(folder: Path) -> tuple[list[Board], dict[str, str]]:
    """The leaderboards of the suites anywhere below a folder, and which files were left out and why.

    Each has results whose hashes are of themselves, of the suite and its bundles, and of a policy; there is one for
    each physics engine that there are such results in.

    Raises:
        TrainError: When there are no results.
    """
    left_out, suites, found = dict[str, str](), dict[str, Suite](), dict[tuple[str, str], dict[str, Line]]()
    for file, suite in _readable(folder, suite_file.FILE, read_suite, left_out):
        if suites.setdefault(str(suite.sha256), suite).fingerprint != suite.fingerprint:
            left_out[file] = "its fingerprint isn't that of the same suite in another file"
    for file, results in _readable(folder, results_file.FILE, read_results, left_out):
        try:
            suite = suites.get(results.suite)
            if suite is None or results.policy.sha256 is None:
                none = "its policy has no hash: a script or a server" if suite else "its suite isn't there"
                raise TrainError("results of a leaderboard have hashes", found=none, remedy="leave it out")
            check_fit(suite, results)
        except TrainError as error:
            left_out[file] = error.found
        else:
            line = _line(suite, results)
            found.setdefault((results.suite, results.engine), {})[line.results] = line
    if not found and not left_out:
        raise TrainError(
            "a leaderboard is made of suites and of results in them",
            found="no results.json in it or below",
            remedy="put the folders of `splatyard policy suite` and `splatyard policy evaluate` into it",
            file=folder,
        )
    boards = [_board(suites[suite], engine, [*found[suite, engine].values()]) for suite, engine in sorted(found)]
    return boards, left_out


def _readable(folder: Path, name: str, read: Callable[[Path], T], left_out: dict[str, str]) -> Iterator[tuple[str, T]]:
    """Files of a name in or below a folder that can be read; the others go to `left_out`, with the reason."""
    total = 0
    for number, path in enumerate(sorted(islice(folder.rglob(name), MAX_FILES + 1))):
        file = one_line(path.relative_to(folder).as_posix())
        try:
            total += path.stat().st_size
            if number == MAX_FILES or total > MAX_BYTES:
                left_out[file] = f"it and any after it: more than {MAX_FILES} files, or {MAX_BYTES} bytes"
                return
            yield file, read(path)
        except OSError as error:
            left_out[file] = str(error.strerror)
        except TrainError as error:
            left_out[file] = error.found


def _line(suite: Suite, results: SuiteResults) -> Line:
    """What is kept of results, which may be large."""
    who, attempts = results.policy, results.by_condition()
    return Line(
        who.name,
        who.about,
        tuple(attempts[one].score for one in suite.conditions),
        policy=str(who.sha256),
        results=str(results.sha256),
        version=results.made_with.get("splatyard", ""),
        file=results.model_copy(update={"plans": {}}).model_dump_json(),
    )


def _board(suite: Suite, engine: str, policies: Sequence[Line]) -> Board:
    """Of at least one policy."""
    ids, folder = [*suite.conditions], f"suites/{suite.sha256}"
    drivers = [
        Line(rung.driver, f"scripted: {rung.about}", tuple(rung.scores[one] for one in ids))
        for rung in suite.fingerprint
        if rung.engine == engine
    ]
    best = min(policies, key=lambda line: line.rank)
    lines = sorted([*policies, *drivers], key=lambda line: line.rank)
    return Board(
        suite=str(suite.sha256),
        task=suite.task,
        robot=suite.robot,
        engine=engine,
        episodes=len(ids),
        bundles={scene.reference: scene.sha256 for scene in suite.scenes},
        standings=tuple(_standing(line, best) for line in lines),
        files={
            f"{folder}/{suite_file.FILE}": suite.model_dump_json(indent=1),
            **{f"{folder}/{line.results}/{results_file.FILE}": line.file for line in policies},
        },
    )


def _standing(line: Line, best: Line) -> Standing:
    success = wilson(line.scores.count(SOLVED), len(line.scores))
    score = mean_of(np.array(line.scores, np.float64), 0, SOLVED)
    against = comparison(line.name, best.name, "", [*zip(line.scores, best.scores, strict=True)])
    mean = f"{sum(line.scores) / len(line.scores):.2f}"
    return Standing(
        name=one_line(line.name),
        about=one_line(line.about),
        policy=line.policy,
        results=line.results,
        share=(success.low, success.value, success.high),
        success=f"{success.successes} of {success.count}: {success}",
        score=f"{mean} [{score.low:.2f}, {score.high:.2f}]" if score else mean,
        difference="" if line is best else _points(against.success),
        score_difference=_points(against.score, 2) if against.score and line is not best else "",
        verdict="highest" if line is best else _verdict(against),
        version=one_line(line.version),
    )


def _points(estimate: Estimate, digits: int = 3) -> str:
    return "{:+.{n}f} [{:+.{n}f}, {:+.{n}f}]".format(*estimate, n=digits)


def _verdict(against: Comparison) -> str:
    """Whether success is told apart from that of the best policy."""
    if against.success.high < 0:
        return "worse"
    return "better" if against.success.low > 0 else "not told apart"
