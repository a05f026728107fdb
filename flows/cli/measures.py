"""How good policies are: over the number of training scenes, and in suites with fixed initial conditions."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from flows.cli import tables
from flows.cli.command import (
    AllowFailed,
    Arg,
    AsJson,
    Checkpoint,
    Device,
    Engine,
    ReplanSteps,
    Runs,
    SceneNames,
    Scenes,
    Test,
    asked,
    command,
    count,
    names,
    runs_exist,
)
from flows.cli.training import INTERRUPTED, TrainingLine, interruptible

MAX_CHANGED = 10
"""Lines of what wasn't reproduced that are shown."""

if TYPE_CHECKING:
    from train.runs.places import Places
    from train.runs.run import Run
    from train.scaling.study import Study
    from train.suites.real import Reality
    from train.suites.request import Evaluated
    from train.suites.results import Comparison


def _counts(text: str) -> tuple[int, ...]:
    return tuple(map(count, text.split(",")))


@command("curve", resumes=True)
@dataclass(frozen=True)
class Curve:
    """Plot success in unseen scenes over the number of training scenes.

    Trains a preset once per number of scenes and seed, all equally long, and evaluates each policy in its training
    scenes, in held-out scenes and in test scenes. Reports the gain per doubling of the scenes, and writes curve.html
    and curve.json. Run the same command again to resume from the last checkpoint.

    Examples:
        splatyard policy curve find --scene 'yard/*' --counts 1,4,16,48 --out find-curve
        splatyard policy curve find --scene 'yard/*' --counts 1,2,4 --seeds 2 --test hall --out find-curve
    """

    what: Annotated[str, Arg("task, preset, or a preset's YAML file", "TASK")]
    _: KW_ONLY
    scenes: Scenes = ()
    counts: Annotated[tuple[int, ...], Arg("numbers of training scenes", "N,N,...", _counts)]
    seeds: Annotated[int, Arg("trainings per number of scenes", "N", count)] = 3
    hold_out: Annotated[str, Arg("share or number of scenes held out for evaluation", "20%|N")] = "20%"
    test: Test = ()
    episodes: Annotated[int, Arg("episodes per evaluation, spread over its scenes", "N", count)] = 200
    preset: Annotated[str | None, Arg("preset name or file, if it isn't the task's")] = None
    robot: Annotated[str | None, Arg("robot name, or a URDF or MJCF file; default: the preset's")] = None
    algorithm: Annotated[str | None, Arg("learning algorithm; default: the preset's", "NAME")] = None
    settings: Annotated[tuple[str, ...], Arg("set a preset value; repeatable", "KEY=VALUE", flag="--set")] = ()
    iterations: Annotated[int | None, Arg("iterations per training; default: the preset's", "N", count)] = None
    device: Device = "cpu"
    out: Annotated[Path, Arg("folder for the runs and the page", "DIR")]
    allow_failed: AllowFailed = False

    def run(self) -> int:
        """Train and measure what is missing, and show what there is."""
        from train.files import write_atomically
        from train.scaling.curve import FILE
        from train.scaling.page import page_of

        study = self._study()
        with interruptible() as interrupted:
            points = []
            for number, (places, seed) in enumerate(trainings := [*study.trainings()], 1):
                tables.say(f"training   {number} of {len(trainings)}: {places} scenes, seed {seed}")
                point = study.point(places, seed, partial(_learn, stop=interrupted))
                if point is None or interrupted():
                    print("interrupted; run the same command again to resume", file=sys.stderr)
                    return INTERRUPTED
                points.append(point)
        curve, failures = study.curve(points), study.failures()
        tables.table(
            f"{curve.task}: success; 95 % intervals", ["scenes", *(f">{kind}" for kind in curve.kinds)], curve.rows()
        )
        for name, text in ((FILE, curve.json()), ("curve.html", page_of(curve, failures))):
            write_atomically(self.out / name, text.encode())
            tables.say(f"written    {tables.quoted(tables.shown(self.out / name))}")
        return 0

    def _study(self) -> Study:
        """What is to be trained."""
        from train.distributed import use_one_thread
        from train.request import TrainRequest
        from train.scaling.study import Study

        use_one_thread()
        options = dict.fromkeys(("gait", "demos", "start_from", "seed", "processes", "name", "resume", "actors"))
        request = asked(TrainRequest, self, **options, runs=self.out / "runs", meets_at="")
        others = {"seeds": self.seeds, "out": self.out, "hold_out": self.hold_out, "device": self.device}
        return Study.of(*request.plan(), self.counts, episodes=self.episodes, **others)


def _learn(run: Run, places: Places, stop: Callable[[], bool]) -> None:
    """Train to the end of the preset, and show how that goes."""
    from train.session import train_run

    total = run.preset.iterations
    with contextlib.closing(TrainingLine(total, None)) as line:
        train_run(run, places.scenes, iterations=total, watch=line.show, stop=stop, unseen=places.unseen)


@command("suite")
@dataclass(frozen=True)
class MakeSuite:
    """Make a suite: fixed initial conditions of a task in bundles.

    Draws starts and goals once, on floor that training never starts on, and writes them to suite.json with seeds, a
    rubric for partial progress (0 to 5), a difficulty for each, and hashes of the bundles. Scripted drivers, from
    standing still to knowing everything, leave their results there as a fingerprint.

    Examples:
        splatyard policy suite kitchen hall --task navigate --out suite
        splatyard policy suite hall --task find --episodes 200 --variants empty,dark,bright --out suite
    """

    bundles: SceneNames
    _: KW_ONLY
    task: Annotated[str, Arg("task; `splatyard policy tasks` lists all")] = "navigate"
    robot: Annotated[str, Arg("robot of the catalogue, such as go2; default: the task's own")] = ""
    episodes: Annotated[int, Arg("initial conditions per bundle and variant", "N", count)] = 100
    variants: Annotated[
        tuple[str, ...],
        Arg("of each bundle: empty (as scanned), dark, bright, loose (its objects can be pushed)", "NAME,NAME", names),
    ] = ("empty",)
    engine: Engine = "sapien"
    seed: Annotated[int, Arg("random seed of the initial conditions")] = 0
    out: Annotated[Path, Arg("folder for suite.json", "DIR")]
    allow_failed: AllowFailed = False

    def run(self) -> int:
        """Make it."""
        tables.begin("loading the bundles")
        from train.suites.making import fingerprint, make_suite
        from train.suites.page import rung_figures
        from train.suites.suite import write_suite

        suite, scenes = asked(make_suite, self)
        suite = suite.model_copy(update={"fingerprint": fingerprint(suite, scenes)})
        file = write_suite(suite, self.out)
        figures = [(rung, *rung_figures(rung)) for rung in suite.fingerprint]
        rows = [(rung.driver, str(success), f"{score:.2f}", rung.about) for rung, success, score in figures]
        tables.table("fingerprint; 95 % intervals", ["driver", ">success", ">score, 0 to 5", "what it does"], rows)
        tables.say(f"suite      {tables.quoted(file)}, sha256 {suite.sha256}")
        tables.say(f"next       splatyard policy evaluate RUN --suite {tables.quoted(self.out)}")
        return 0


@command("evaluate")
@dataclass(frozen=True)
class EvaluateInSuite:
    """Evaluate a policy in a suite, and compare it with others and with reality.

    Lets a run's policy, or a driver, act once from each of the suite's initial conditions. Reports success and partial
    progress with 95 % intervals, and writes results.json and report.html, with films of failures. --against compares
    with other results from the same conditions; alone, without a policy, it compares results that are there. --real
    takes real trials. --check exits with 1 unless published results come out bit for bit.

    Examples:
        splatyard policy evaluate navigate-hall-1 --suite suite --out results/mine
        splatyard policy evaluate --driver ws://robot:8000 --suite suite --name pi0 --against results/mine --out pi0
        splatyard policy evaluate --suite suite --against results/mine --against pi0 --real results.csv
        splatyard policy evaluate --driver policy.onnx --suite suite --check published/results.json
        splatyard policy evaluate --driver colour --suite suite --engine mujoco    # the fingerprint in another engine
    """

    run_name: Annotated[str | None, Arg("name or folder of a run", "RUN")] = None
    _: KW_ONLY
    suite: Annotated[Path, Arg("folder of the suite", "DIR")]
    driver: Annotated[
        str | None,
        Arg("evaluate this instead of a run: any driver of `splatyard sim`, or one of the fingerprint", "DRIVER"),
    ] = None
    replan_steps: ReplanSteps = None
    name: Annotated[str, Arg("name of the policy in tables and in --real; default: that of run or driver")] = ""
    checkpoint: Checkpoint = None
    scenes: Scenes = ()
    engine: Annotated[str, Arg("another physics engine than the suite's")] = ""
    against: Annotated[
        tuple[Path, ...], Arg("results of another policy in this suite, to compare with; repeatable", "DIR")
    ] = ()
    real: Annotated[Path | None, Arg("real trials: policy, success, and condition or scene", "FILE.csv")] = None
    check: Annotated[Path | None, Arg("published results to reproduce", "FILE.json")] = None
    films: Annotated[int, Arg("failures to film", "N")] = 3
    out: Annotated[Path, Arg("folder for results, page and films", "DIR")] = Path("evaluation")
    runs: Runs = Path("runs")
    device: Device = "cpu"
    allow_failed: AllowFailed = False
    as_json: AsJson = False

    def run(self) -> int:
        """Evaluate."""
        runs_exist([self.run_name] if self.run_name else [], self.runs)
        tables.begin("loading suite and policy")
        from train.suites.request import SuiteRequest

        found = asked(SuiteRequest, self).evaluate()
        if self.as_json:
            tables.show_json(_values(found))
        else:
            _show(found)
        return 1 if found.changed else 0


def _values(found: Evaluated) -> dict[str, object]:
    """What came out, for programs."""
    from train.suites.results import rows_of

    results = found.results
    hashes = {"results": results.sha256, "suite": results.suite, "policy": results.policy.sha256, **results.bundles}
    known: dict[str, object] = {"policy": results.policy.name, "task": results.task, "engine": results.engine}
    known |= {"results": rows_of(results), "against": found.comparisons, "real": found.real}
    return known | {"changed": found.changed, "sha256": hashes, "written": found.written}


def _show(found: Evaluated) -> None:
    """What came out, on the screen."""
    from train.suites.page import figures
    from train.suites.results import rows_of

    results = found.results
    title = f"{results.policy.name}, {results.task}, {results.engine}; 95 % intervals"
    columns = ["", ">success", ">score, 0 to 5", ">episodes", "ended by"]
    tables.table(title, columns, map(figures, rows_of(results)))
    if found.comparisons:
        _show_comparisons(found.comparisons)
    if found.real:
        _show_reality(found.real)
    if found.changed:
        for line in found.changed[:MAX_CHANGED]:
            tables.say(("changed", "red"), f"    {line}")
        tables.say(f"{len(found.changed)} of the published results came out differently")
    elif found.changed is not None:
        tables.say(("reproduced", "green"), " bit for bit")
    for file in found.written:
        tables.say(f"written    {tables.quoted(tables.shown(file))}")


def _show_comparisons(comparisons: Sequence[Comparison]) -> None:
    columns = ["policies", "scene", ">success", ">score", ">only the first", ">only the other"]
    rows = [
        (f"{c.one} - {c.other}", c.scene, str(c.success), str(c.score or "-"), str(c.better), str(c.worse))
        for c in comparisons
    ]
    tables.table("differences, from the same initial conditions", columns, rows)


def _show_reality(real: Reality) -> None:
    rows = [
        (
            one.scene,
            str(one.policies),
            "-" if one.r is None else f"{one.r:.3f}",
            "-" if one.mmrv is None else f"{one.mmrv:.3f}",
            f"{one.bias:+.3f}",
            one.why_not,
        )
        for one in real.agreement
    ]
    tables.table("simulated against real", ["scene", ">policies", ">Pearson r", ">MMRV", ">bias", ""], rows)
    lines = [
        (one.policy, str(one.alone), str(one.with_simulation.estimate) if one.with_simulation else "none", one.why_not)
        for one in real.forecasts
    ]
    tables.table("real success", ["policy", ">real trials alone", ">prediction-powered", ""], lines)
