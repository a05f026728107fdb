"""What is asked of policies in a suite: to be evaluated, compared, reproduced, and held against reality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import TrainError
from train.distributed import use_one_thread
from train.runs import checkpoint
from train.runs.run import Run
from train.suites.contestants import Contestant, driver, scripted, trained
from train.suites.films import write_films
from train.suites.ladder import LADDER
from train.suites.page import write_page
from train.suites.real import Reality, read_trials, reality
from train.suites.results import (
    Comparison,
    Film,
    SuiteResults,
    beside,
    check_fit,
    compared,
    differences,
    read_results,
    write_results,
)
from train.suites.running import open_scenes, run_suite
from train.suites.suite import Suite, read_suite


@dataclass(frozen=True)
class Evaluated:
    """All that came out.

    Attributes:
        changed: What isn't as in the published results; None where none were to be reproduced.
        written: Files.
    """

    suite: Suite
    results: SuiteResults
    comparisons: list[Comparison]
    real: Reality | None
    films: list[Film]
    changed: list[str] | None
    written: list[Path]


@dataclass(frozen=True, kw_only=True)
class SuiteRequest:
    """An evaluation in a suite, of a run or of a driver.

    Attributes:
        run_name: Name or folder of the run.
        driver: A script, one of the suite's own (`LADDER`), or a policy from elsewhere, see `open_driver`.
        name: What the policy is called in tables and in real results; by default the run's or the driver's name.
        scenes: Bundles of the suite that aren't in the folder of bundles.
        engine: Another physics engine than the suite's; "" for that.
        against: Results of other policies in the same suite.
        real: Real results, a CSV.
        check: Results to reproduce bit for bit.
        films: Number of failures that are filmed.
        out: Folder for results, page and films.
    """

    suite: Path
    run_name: str | None = None
    driver: str | None = None
    replan_steps: int | None = None
    name: str = ""
    checkpoint: str | None = None
    scenes: Sequence[str] = ()
    engine: str = ""
    against: Sequence[Path] = ()
    real: Path | None = None
    check: Path | None = None
    films: int = 3
    out: Path = Path("evaluation")
    runs: Path = Path("runs")
    device: str = "cpu"
    allow_failed: bool = False

    def evaluate(self, watch: Callable[[str], object] = lambda _: None) -> Evaluated:
        """Evaluate; `watch` is called with the name of each scene.

        Raises:
            TrainError: When there is nobody to evaluate, or files of others are damaged or of another suite.
            SimError: When the policy doesn't fit, or a scene can't be simulated.
            BundleError: When a bundle of the suite isn't here.
        """
        use_one_thread()
        suite, published = read_suite(self.suite), read_results(self.check) if self.check else None
        others = [_of(suite, file) for file in self.against]
        who = self._who(others)
        if who:
            scenes = open_scenes(suite, self.scenes, allow_failed=self.allow_failed)
            results = run_suite(suite, scenes, who, engine=self.engine, watch=watch)
            written = [write_results(results, self.out)]
            films = write_films(suite, scenes, who, results, self.out, self.films)
        else:
            results, *others = others
            written, films = [], []
        comparisons = [line for other in others for line in compared(results, other)]
        comparisons += [beside(results, rung) for rung in suite.fingerprint if rung.driver == results.policy.name]
        real = reality([results, *others], read_trials(self.real, results)) if self.real else None
        page = write_page(suite, results, self.out, comparisons=comparisons, real=real, films=films)
        changed = differences(published, results) if published else None
        return Evaluated(suite, results, comparisons, real, films, changed, [*written, page])

    def _who(self, others: Sequence[SuiteResults]) -> Contestant | None:
        """Who is to act; None where results are there already, and nobody is named."""
        if (bool(self.run_name) and bool(self.driver)) or not (self.run_name or self.driver or others):
            raise TrainError(
                "a run is evaluated in a suite, or a driver, or results that are there are compared",
                found="both a run and a driver" if self.run_name else "neither",
                remedy="`splatyard policy evaluate RUN --suite DIR`, or with --driver auto instead of RUN",
            )
        if self.run_name:
            run = Run.open(self.run_name, self.runs)
            return trained(run, self.name, checkpoint.file_of(run, self.checkpoint), self.device)
        if self.driver in LADDER:
            return scripted(self.driver, LADDER[self.driver])
        if self.driver:
            return driver(self.driver, self.name, self.replan_steps or 0, self.device)
        return None


def _of(suite: Suite, file: Path) -> SuiteResults:
    """Results of others that are of a suite."""
    results = read_results(file)
    check_fit(suite, results, file)
    plans = {scene.reference for scene in suite.scenes}
    if plans - results.plans.keys():
        raise TrainError("results have the floors of their scenes", found="none", remedy="evaluate again", file=file)
    return results
