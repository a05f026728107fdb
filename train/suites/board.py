"""Leaderboards for the gallery, of a folder of suites and results: only of what hashes hold together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    """A policy, or a scripted driver of a fingerprint: its scores in the order of the suite's conditions."""

    name: str
    about: str
    scores: tuple[int, ...]
    policy: str = ""
    results: str = ""
    version: str = ""

    @property
    def rank(self) -> tuple[int, int, str]:
        """Sorts by success, then by score, the best first."""
        return -self.scores.count(SOLVED), -sum(self.scores), self.name


def boards_of(folder: Path) -> tuple[list[Board], dict[str, str]]:
    """The leaderboards of the suites anywhere below a folder, and which files were left out and why.

    Each has results whose hashes are of themselves, of the suite and its bundles, and of a policy; there is one for
    each physics engine that there are such results in.

    Raises:
        TrainError: When there is no suite.
    """
    left_out, suites, found = dict[str, str](), dict[str, Suite](), dict[tuple[str, str], dict[str, SuiteResults]]()
    for file, suite in _readable(folder, suite_file.FILE, read_suite, left_out):
        if suites.setdefault(suite.digest(), suite).fingerprint != suite.fingerprint:
            left_out[file] = "its fingerprint isn't that of the same suite in another file"
    if not suites:
        raise TrainError(
            "a leaderboard is made of suites and of results in them",
            found=f"no suite.json in it or below{''.join(f'; {name}: {why}' for name, why in left_out.items())}",
            remedy="put the folders of `splatyard policy suite` and `splatyard policy evaluate` into it",
            file=folder,
        )
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
            found.setdefault((results.suite, results.engine), {})[results.digest()] = results
    return [_board(suites[suite], engine, those) for (suite, engine), those in sorted(found.items())], left_out


def _readable(folder: Path, name: str, read: Callable[[Path], T], left_out: dict[str, str]) -> Iterator[tuple[str, T]]:
    """Files of a name in or below a folder that can be read; the others go to `left_out`, with the reason."""
    total = 0
    for number, path in enumerate(sorted(islice(folder.rglob(name), MAX_FILES + 1))):
        file = path.relative_to(folder).as_posix()
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


def _board(suite: Suite, engine: str, found: dict[str, SuiteResults]) -> Board:
    """Of results by their hash, at least one."""
    ids, digest = [*suite.conditions], suite.digest()
    policies, files = list[Line](), {f"suites/{digest}/{suite_file.FILE}": suite.model_dump_json(indent=1)}
    for sha256, results in found.items():
        scores = {attempt.condition: attempt.score for attempt in results.attempts}
        who, version = results.policy, results.made_with.get("splatyard", "")
        own = tuple(scores[one] for one in ids)
        policies.append(Line(who.name, who.about, own, str(who.sha256), sha256, version))
        slim = results.model_copy(update={"plans": {}})  # their hash is not of the floors
        files[f"suites/{digest}/{sha256}/{results_file.FILE}"] = slim.model_dump_json()
    drivers = [
        Line(rung.driver, f"scripted: {rung.about}", tuple(rung.scores[one] for one in ids))
        for rung in suite.fingerprint
        if rung.engine == engine
    ]
    best = min(policies, key=lambda line: line.rank)
    lines = sorted([*policies, *drivers], key=lambda line: line.rank)
    return Board(
        suite=digest,
        task=suite.task,
        robot=suite.robot,
        engine=engine,
        episodes=len(ids),
        bundles={scene.reference: scene.sha256 for scene in suite.scenes},
        standings=tuple(_standing(line, best) for line in lines),
        files=files,
    )


def _standing(line: Line, best: Line) -> Standing:
    success, score = (
        wilson(line.scores.count(SOLVED), len(line.scores)),
        mean_of(np.array(line.scores, np.float64), 0, SOLVED),
    )
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
