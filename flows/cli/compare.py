"""`splatyard compare`: what differs between runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from flows.cli.options import add_runs

HELP = "what differs between runs"
DESCRIPTION = """\
Shows what differs between runs - presets, scenes, seed, versions, machine - and their figures side by side; with
--picture also their curves of success."""
EXAMPLES = """\
  splatyard compare navigate-hall-1 blind
  splatyard compare navigate-hall-1 navigate-hall-2 navigate-hall-3 --picture seeds.svg"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `compare`."""
    command.add_argument("names", nargs="+", metavar="RUN", help="its name or its folder")
    add_runs(command)
    command.add_argument("--picture", type=Path, metavar="FILE.svg", help="write success against steps")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from rich.markup import escape

    from flows.cli import tables
    from train.compare import differences, figures, picture
    from train.files import write_atomically
    from train.run import Run

    runs = [Run.open(name, options.runs) for name in options.names]
    names = [escape(one.name) for one in runs]
    other = differences(runs)
    if other:
        rows = [(escape(name), *map(escape, values)) for name, values in other.items()]
        tables.show(tables.plain_table("what differs", ["", *names], rows))
    else:
        tables.say("they differ in nothing that their records know")
    went = [figures(one) for one in runs]
    rows = [(name, *(one.get(name, "-") for one in went)) for name in dict.fromkeys(key for one in went for key in one)]
    tables.show(tables.plain_table("how they went", ["", *(f">{name}" for name in names)], rows))
    if options.picture:
        write_atomically(options.picture, picture(runs).encode())
        tables.say(f"picture    {tables.quoted(options.picture)}")
    return 0
