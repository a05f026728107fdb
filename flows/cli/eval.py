"""`splatyard eval`: how good a trained policy is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train.results import Results
    from train.run import Run

from flows.cli.options import add_scenes

HELP = "how good a trained policy is, with intervals and controls"
DESCRIPTION = """\
Lets the policy of a run act without exploration: in the scenes that it was trained in from starts that were held out,
in others from any. Says how many episodes succeed, with 95 % intervals, with right pictures and with spoilt ones, and
writes evaluation.json and report.html into the run's folder. With --matrix it sets several runs against several scenes
and writes matrix.json and matrix.md."""
EXAMPLES = """\
  splatyard eval navigate-hall-1
  splatyard eval navigate-hall-1 --scene kitchen@2.1.0 --episodes 500
  splatyard eval navigate-hall-1 --blind navigate-hall-2           # beside one that was trained without sight
  splatyard eval navigate-hall-1 --checkpoint 000040 --controls none,black
  splatyard eval navigate-hall-1 navigate-kitchen-1 --matrix --scene hall@1.0.0 --scene kitchen@2.1.0"""
CONTROLS = ("none", "shuffled", "frozen", "black")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `eval`."""
    command.add_argument("runs", nargs="+", metavar="RUN", help="a run's name or folder")
    command.add_argument("--runs", type=Path, default=Path("runs"), dest="root", metavar="DIR", help="default: runs")
    add_scenes(command, "the run's own")
    command.add_argument("--episodes", type=int, default=200, help="in each scene; default: %(default)s")
    command.add_argument(
        "--controls",
        type=_controls,
        default=["none", "shuffled", "frozen"],
        metavar="NAME,NAME",
        help="what is done to pictures: none, shuffled, frozen, black; default: none,shuffled,frozen",
    )
    command.add_argument("--blind", metavar="RUN", help="one that was trained alike without sight")
    command.add_argument("--checkpoint", metavar="NAME", help="one of the run's checkpoints; default: the newest")
    command.add_argument("--matrix", action="store_true", help="all runs in all scenes")
    command.add_argument("--out", type=Path, default=Path("matrix"), help="folder for --matrix; default: %(default)s")
    command.add_argument("--seed", type=int, default=999, help="of the episodes; default: %(default)s")
    command.add_argument("--device", default="cpu", help="of networks and pictures; default: %(default)s")
    command.add_argument("--allow-failed", action="store_true", help="take bundles that failed gates too")


def _controls(text: str) -> list[str]:
    names = list(dict.fromkeys(["none", *text.split(",")]))
    if not set(names) <= set(CONTROLS):
        raise ValueError(text)
    return names


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from pipeline.errors import TrainError
    from train.run import Run
    from train.threads import use_one_thread

    use_one_thread()
    if options.episodes < 1:
        raise TrainError("there are episodes to evaluate in", found=f"{options.episodes}", remedy="--episodes 200")
    runs = [Run.open(name, options.root) for name in options.runs]
    if options.matrix:
        return _matrix(runs, options)
    if len(runs) > 1:
        raise TrainError("one run is evaluated at a time", found=f"{len(runs)}", remedy="add --matrix to compare them")
    return _one(runs[0], options)


def _one(policy: Run, options: argparse.Namespace) -> int:
    from flows.cli import tables
    from flows.cli.build import shown
    from train.evaluation import evaluate_run
    from train.report import write_report
    from train.results import write_results
    from train.run import Run
    from train.scenes import find_scenes

    blind = Run.open(options.blind, options.root) if options.blind else None
    file = policy.checkpoints / f"{options.checkpoint.removesuffix('.pt')}.pt" if options.checkpoint else None
    results = evaluate_run(
        policy, find_scenes(options.scenes), controls=options.controls, blind=blind, file=file, **_common(options)
    )
    written = write_results(results, policy.folder), write_report(policy, results)
    tables.show(_table(results))
    if results.stopped_early:
        command = f"splatyard train --resume {tables.quoted(shown(policy.folder))}"
        tables.say(f"stopped early: {results.stopped_early}; {command} goes on")
    for path in written:
        tables.say(f"written    {tables.quoted(shown(path))}")
    return 0


def _matrix(runs: list[Run], options: argparse.Namespace) -> int:
    from flows.cli import tables
    from train.evaluation import evaluate_run
    from train.files import write_atomically
    from train.matrix import Matrix
    from train.scenes import find_scenes

    scenes = find_scenes(options.scenes) or list(dict.fromkeys(source for one in runs for source in one.sources))
    matrix = Matrix.of([evaluate_run(one, scenes, controls=["none"], **_common(options)) for one in runs])
    tables.show(
        tables.plain_table(f"{matrix.task}: success (* trained there)", ["run", *matrix.scenes], matrix.texts())
    )
    options.out.mkdir(parents=True, exist_ok=True)
    for name, text in (("matrix.json", matrix.json()), ("matrix.md", matrix.markdown())):
        write_atomically(options.out / name, text.encode())
        tables.say(f"written    {tables.quoted(options.out / name)}")
    return 0


def _common(options: argparse.Namespace) -> dict[str, Any]:
    names = ("episodes", "seed", "device", "allow_failed")
    return {name: getattr(options, name) for name in names}


def _table(results: Results) -> Any:
    from rich.markup import escape

    from flows.cli import tables

    lines = results.lines()
    rows = [
        (line.control, escape(line.scene), *map(str, line.shares.values()), str(line.episodes), escape(line.ended))
        for line in lines
    ]
    columns = ["control", "scene", *(f">{name}" for name in lines[0].shares), ">episodes", "ended by"]
    title = f"{results.run}, {results.task}, checkpoint {results.checkpoint}; 95 % intervals"
    return tables.plain_table(escape(title), columns, rows)
