"""`splatyard runs`: what was trained."""

from __future__ import annotations

import argparse
import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from train.run import Run

from flows.cli.options import add_runs

HELP = "list what was trained"
DESCRIPTION = """\
Lists all runs of a folder, the newest first: where they train, how far they came, their success at the end - of the
last 200 episodes of training, by the policy that explores - and the evaluated success with its 95 % interval."""
EXAMPLES = """\
  splatyard runs
  splatyard runs --runs elsewhere/runs"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `runs`."""
    add_runs(command)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from flows.cli import tables
    from train.run import list_runs

    runs = list_runs(options.runs)
    if not runs:
        tables.say(f"no runs in {tables.quoted(options.runs)}; splatyard train makes them")
        return 0
    now = datetime.datetime.now(datetime.UTC)
    columns = ["run", "task", "robot", "scenes", ">iterations", ">success", "evaluated", ">age"]
    rows = [_row(one, age(now - one.record.started)) for one in runs]
    tables.show(tables.plain_table(f"runs in {tables.quoted(options.runs)}", columns, rows))
    return 0


def _row(one: Run, old: str) -> tuple[str, ...]:
    from rich.markup import escape

    from pipeline.errors import TrainError
    from train.compare import evaluated

    try:
        rows = one.curve.read()
        last = rows[-1] if rows else {"iteration": 0}
        share = evaluated(one).get("none")
        ending = one.ending
        early = ending and ending.early
        done = f"{last['iteration']:.0f}/{ending.planned if ending and early else one.preset.iterations}"
        done += f" ({'time limit' if ending and ending.by == 'minutes' else 'interrupted'})" if early else ""
        success = f"{last['success']:.0%}" if "success" in last else "-"
        measured = "-" if share is None else str(share)
    except TrainError as error:
        done, success, measured = "-", "-", f"[red]{escape(error.found)}[/]"
    scenes = ", ".join(lock.reference for lock in one.locks[:3]) + (", …" if len(one.locks) > 3 else "")
    return (escape(one.name), one.preset.task, escape(one.preset.robot), escape(scenes), done, success, measured, old)


def age(passed: datetime.timedelta) -> str:
    """How long ago, in the largest unit of which there are two."""
    seconds = passed.total_seconds()
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(0, seconds):.0f} s"
