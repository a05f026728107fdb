"""The page of an evaluation in a suite: figures with intervals, maps, films of failures, and reality."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.io.pages import render
from train.files import write_atomically
from train.runs.report import COLORS, DONE, Ending, episode_map, line_chart, share_bar
from train.runs.results import Interval, wilson
from train.suites.real import Reality
from train.suites.results import Comparison, Film, Row, SuiteResults, rows_of
from train.suites.suite import SOLVED, Rung, Suite

FILE = "report.html"


def write_page(
    suite: Suite,
    results: SuiteResults,
    folder: Path,
    *,
    comparisons: Sequence[Comparison] = (),
    real: Reality | None = None,
    films: Sequence[Film] = (),
) -> Path:
    """Write report.html into a folder, which is made; films are relative to it.

    Raises:
        TrainError: When there is no room or no permission.
    """
    endings = endings_of(results)
    page = render(
        "train",
        "suite.html",
        title=f"{results.policy.name}: {results.task}",
        suite=suite,
        results=results,
        rows=rows_of(results),
        fingerprint=[(rung, *rung_figures(rung)) for rung in suite.fingerprint],
        comparisons=comparisons,
        real=real,
        films=films,
        endings=endings,
        maps=_maps(suite, results, [*endings]),
        share_bar=share_bar,
        figures=figures,
        versions=results.made_with,
        chart=_scatter(real) if real else "",
    )
    write_atomically(folder / FILE, page.encode())
    return folder / FILE


def rung_figures(rung: Rung) -> tuple[Interval, float]:
    """Success and mean score of a driver of the fingerprint."""
    scores = [*rung.scores.values()]
    return wilson(sum(score == SOLVED for score in scores), len(scores)), float(np.mean(scores))


def endings_of(results: SuiteResults) -> dict[str, Ending]:
    """What ended episodes, success first, with its colour."""
    found = {one.episode.ended_by: one.episode.success for one in results.attempts}
    others = itertools.cycle(COLORS)
    names = sorted(found, key=lambda name: (not found[name], name))
    return {name: Ending(found[name], DONE if found[name] else next(others)) for name in names}


def _maps(suite: Suite, results: SuiteResults, endings: Sequence[str]) -> list[tuple[str, str]]:
    """Name and map of each scene."""
    maps = []
    for scene in suite.scenes:
        episodes = [attempt.episode for attempt in results.attempts if attempt.scene == scene.label]
        held_out = scene.starts == "held_out"
        plan = results.plans[scene.reference]
        maps.append((scene.label, episode_map(plan, episodes, endings, f"paths in {scene.label}", held_out=held_out)))
    return maps


def _scatter(real: Reality) -> str:
    """Real success over simulated success: a cross of both intervals for each policy in each scene."""
    curves = list[tuple[str, list[tuple[float, float]]]]()
    for point in real.points:
        x = point.simulated.value
        curves.append((f"{point.policy}, {point.scene}", [(x, point.real.low), (x, point.real.high)]))
    return line_chart("real success", [("equal", [(0.0, 0.0), (1.0, 1.0)]), *curves], across="simulated", bounds=(0, 1))


def figures(row: Row) -> tuple[str, str, str, str, str]:
    """A row of the table as texts: name, success, score, episodes, endings."""
    score = f"{row.score:.2f}" + (f" [{row.interval.low:.2f}, {row.interval.high:.2f}]" if row.interval else "")
    return row.name, str(row.success), score, str(row.episodes), row.ended
