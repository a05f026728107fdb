"""`splatyard train`: a policy that sees, from published bundles."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.scene import SimScene
    from train.preset import Preset
    from train.run import Run

from flows.cli.options import add_runs, add_scenes, count

HELP = "train a policy in bundles"
DESCRIPTION = """\
Trains a policy that sees by PPO, in one bundle or many, and keeps all of it in a folder below runs/: what was trained,
how and where (run.json), the curve, TensorBoard's files and checkpoints. Ctrl-C ends it with a checkpoint; --resume
goes on as if it had never stopped."""
EXAMPLES = """\
  splatyard train navigate --scene hall@1.0.0 --robot rover
  splatyard train navigate --scene hall --seed 1 --iterations 150
  splatyard train navigate --scene hall --set ppo.rate=5e-4 --set policy.encoder=none --name blind
  splatyard train climb --scenes 'stairs-*@latest' --robot go2 --device cuda --num-gpus 4
  splatyard train my_preset.yaml --scene hall --log wandb
  splatyard train --resume navigate-hall-1 --iterations 200"""
INTERRUPTED = 130


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `train`."""
    command.add_argument("what", nargs="?", metavar="TASK", help="a task, a preset's name, or a preset's YAML file")
    add_scenes(command)
    command.add_argument("--preset", help="its name or file, where it isn't that of the task")
    command.add_argument("--robot", help="a name, or a URDF or MJCF file; default: the preset's")
    command.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one value of the preset, such as ppo.rate=5e-4; may be given more than once",
    )
    command.add_argument("--iterations", type=count, metavar="N", help="in all; default: the preset's")
    command.add_argument("--minutes", type=float, metavar="M", help="a limit: stop early after so many, and say so")
    command.add_argument("--seed", type=int, help="of everything random; default: 0")
    command.add_argument("--device", help="of network and pictures: cpu, cuda, cuda:1; default: cpu")
    command.add_argument("--num-gpus", type=count, metavar="N", help="train in N processes, each with a device")
    command.add_argument("--name", help="of the run; default: <task>-<scene>-<number>")
    add_runs(command)
    command.add_argument("--resume", metavar="RUN", help="go on with a run: its name or its folder")
    command.add_argument(
        "--log", action="append", default=[], metavar="NAME", help="besides TensorBoard: wandb, mlflow"
    )
    command.add_argument("--evaluate", type=count, metavar="N", help="episodes to show success by, before and after")
    command.add_argument("--allow-failed", action="store_true", help="take bundles that failed gates too")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from flows.cli import main
    from train.distributed import launch, processes_of_this_run

    there, scenes = _resumed(options) if options.resume else _begun(options)
    if there.record.processes > 1 and processes_of_this_run() is None:
        code = launch(main, _for_each_process(options, there), there.record.processes, there.record.device)
    else:
        code = _train(options, there, scenes)
    if options.evaluate and code == 0 and processes_of_this_run() is None:
        _evaluate(there, options.evaluate)
    return code


def _begun(options: argparse.Namespace) -> tuple[Run, list[SimScene]]:
    """A new run."""
    from pipeline.errors import TrainError
    from train.preset import load_preset
    from train.run import Run
    from train.scenes import find_scenes

    if options.what is None or not options.scenes:
        raise TrainError(
            "a training has a task and a scene",
            found=f"{'no task' if options.what is None else options.what!r}, {len(options.scenes)} scenes",
            remedy="such as splatyard train navigate --scene hall; or --resume RUN",
        )
    preset = load_preset(options.preset or options.what, _changes(options))
    sources = find_scenes(options.scenes)
    scenes = _opened(sources, allow_failed=options.allow_failed)
    there = Run.create(
        options.runs,
        preset,
        [scene.lock for scene in scenes],
        sources,
        options.seed or 0,
        device=options.device or "cpu",
        processes=options.num_gpus or 1,
        name=options.name,
    )
    return there, scenes


def _resumed(options: argparse.Namespace) -> tuple[Run, list[SimScene]]:
    """A run that there is; what is said of it on the command line must be so."""
    from pipeline.errors import TrainError
    from train.preset import change_preset, load_preset
    from train.run import Run
    from train.scenes import find_scenes

    there = Run.open(options.resume, options.runs)
    named = options.preset or options.what
    preset: Preset = load_preset(named, _changes(options)) if named else there.preset
    there.check_preset(preset if named else change_preset(preset, _changes(options), "--set"))
    record = there.record
    for option, given, then in (
        ("--seed", options.seed, record.seed),
        ("--device", options.device, record.device),
        ("--num-gpus", options.num_gpus, record.processes),
        ("--name", options.name, there.name),
    ):
        if given not in (None, then):
            raise TrainError(
                "a run goes on as it began",
                found=f"{option} {given} instead of {then}",
                remedy=f"leave {option} away, or train anew without --resume",
                file=there.folder,
            )
    allowed = options.allow_failed or any(lock.failed_gates for lock in there.locks)
    sources = find_scenes(options.scenes) if options.scenes else there.sources
    return there, _opened(sources, allow_failed=allowed)


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    """Of the preset's values."""
    from train.preset import parse_changes

    changes: dict[str, Any] = {}
    if options.preset and options.what:
        changes["task"] = options.what
    if options.robot:
        file = Path(options.robot)
        changes["robot"] = str(file.resolve()) if file.is_file() else options.robot
    if options.iterations and not options.resume:
        changes["iterations"] = options.iterations
    return changes | parse_changes(options.settings)


def _opened(sources: Sequence[str], *, allow_failed: bool) -> list[SimScene]:
    from sim.scene import open_scene

    return [open_scene(source, allow_failed=allow_failed) for source in sources]


def _for_each_process(options: argparse.Namespace, there: Run) -> list[str]:
    """The command line of processes that train a run together."""
    arguments = ["train", "--resume", str(there.folder.resolve())]
    for option in ("iterations", "minutes"):
        if getattr(options, option) is not None:
            arguments += [f"--{option}", str(getattr(options, option))]
    arguments += [f"--scene={scene}" for scene in options.scenes] + [f"--log={name}" for name in options.log]
    return arguments + ["--allow-failed"] * options.allow_failed


def _train(options: argparse.Namespace, there: Run, scenes: Sequence[SimScene]) -> int:
    from flows.cli import tables
    from flows.cli.build import shown
    from flows.cli.training_line import TrainingLine
    from train.distributed import first, processes_of_this_run
    from train.session import train_run

    iterations = options.iterations or there.preset.iterations
    writes = first(processes_of_this_run())
    folder = tables.quoted(shown(there.folder))
    if writes:
        tables.say(f"run        {folder}")
    try:
        line = TrainingLine(iterations, options.minutes, shows=writes)
        with _interruptible() as interrupted, contextlib.closing(line):
            done = train_run(
                there,
                scenes,
                iterations=iterations,
                minutes=options.minutes,
                loggers=options.log,
                watch=line.show,
                stop=interrupted,
            )
    except KeyboardInterrupt:
        print(f"\ninterrupted; go on from its last checkpoint with splatyard train --resume {folder}", file=sys.stderr)
        return INTERRUPTED
    if writes:
        _report(there, folder, done, iterations)
    return INTERRUPTED if interrupted() else 0


def _evaluate(there: Run, episodes: int) -> None:
    """Success from held-out starts, of the untrained policy and of the trained one."""
    from flows.cli import tables
    from train import checkpoint
    from train.evaluation import evaluate_run

    files = checkpoint.files(there.checkpoints)
    for name, file in (("before", files[0]), ("after", files[-1])):
        results = evaluate_run(there, episodes=episodes, controls=("none",), file=file, allow_failed=True)
        tables.say(f"{name:<10} success {results.evaluations[0].success()} in {episodes} episodes a scene")


def _report(there: Run, folder: str, done: int, iterations: int) -> None:
    """Where everything is, and what to do next."""
    from flows.cli import tables

    rows = there.curve.read()
    success = rows[-1].get("success") if rows else None
    ending = "no episode has ended yet" if success is None else f"{success:.0%} of its last episodes were successes"
    tables.say(f"trained    {done} iterations; {ending}, by the policy that explores: `eval` measures it")
    ending = there.ending
    if ending and ending.early:
        tables.say(f"[yellow]stopped early[/]  {ending.early}; what it reached is not what it was planned to")
    more = f" --iterations {2 * iterations}" if done >= iterations else ""
    for name, command in (
        ("go on", f"splatyard train --resume {folder}{more}"),
        ("measure", f"splatyard eval {folder}"),
        ("look", f"splatyard play {folder} --view"),
        ("export", f"splatyard export {folder} --onnx policy.onnx"),
        ("curves", f"tensorboard --logdir {folder}/tensorboard"),
    ):
        tables.say(f"{name:<10} {command}")


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Whether there was a Ctrl-C, or a SIGTERM; a second one raises KeyboardInterrupt."""
    told: list[int] = []

    def tell(number: int, _: object) -> None:
        if told:
            raise KeyboardInterrupt
        told.append(number)
        print("\nending with a checkpoint; once more to end at once", file=sys.stderr)

    before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(told)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
