"""`splatyard gc`: remove from the work folders what is no longer wanted."""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.options import size

if TYPE_CHECKING:
    from pipeline.cleaning import Piece

HELP = "remove stage results that are no longer wanted"
DESCRIPTION = """\
Shows and removes what earlier builds left in the work folders: results of stages, and what interrupted runs kept to go
on with. Each rule that is given narrows the choice; without one, only the half results of killed runs go. Bundles and
what is being built are never touched, and a build whose results were removed makes them again."""
EXAMPLES = """\
  splatyard gc --dry-run                            half results of killed runs, and how much is there in all
  splatyard gc --unreachable --older-than 7         what no bundle was made from and nobody made this week
  splatyard gc --keep-below 200G                    the oldest results, until the rest has 200 GiB
  splatyard gc --older-than 30 --out elsewhere/bundles"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `gc`."""
    command.add_argument("--out", type=Path, default=Path("bundles"), metavar="DIR", help="default: %(default)s")
    command.add_argument("--dry-run", action="store_true", help="show what would go, and remove nothing")
    rules = command.add_argument_group("what is no longer wanted")
    rules.add_argument("--older-than", type=days, metavar="DAYS", help="made longer ago than that")
    rules.add_argument("--keep-below", type=size, metavar="SIZE", help="the oldest, until the rest has 200G, 500M ...")
    rules.add_argument("--unreachable", action="store_true", help="what no bundle in the same folder was made from")


def days(text: str) -> float:
    """Days from 0 on, for `type=`.

    Raises:
        ValueError: When it is no such number.
    """
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError(text)
    return number


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from flows.cli import tables
    from pipeline.cleaning import DAY, Rules, pieces, remove, unwanted

    seconds = None if options.older_than is None else options.older_than * DAY
    rules = Rules(seconds, options.keep_below, options.unreachable)
    there, now = pieces(options.out), time.time()
    chosen = unwanted(there, rules, options.out, now)
    total = tables.size(_bytes(there))
    if not chosen:
        tables.say(f"nothing to remove; {total} in the work folders of {tables.quoted(options.out)}")
        return 0
    _show(chosen, now)
    if options.dry_run:
        tables.say(f"would free {tables.size(_bytes(chosen))} of {total}")
        return 0
    gone = remove(chosen)
    tables.say(f"freed {tables.size(_bytes(gone))} of {total}")
    if len(gone) < len(chosen):
        tables.say(f"{len(chosen) - len(gone)} of them got into use meanwhile and stay")
    return 0


def _show(chosen: Sequence[Piece], now: float) -> None:
    from rich.markup import escape

    from flows.cli import tables
    from flows.cli.runs import age

    kinds = {"result": "result", "resume": "kept to go on with", "partial": "half result"}
    columns = ["scene", "stage", "what", "key", ">size", ">age"]
    rows = [
        (
            escape(piece.scene),
            escape(piece.stage),
            kinds[piece.kind],
            piece.result.name,
            tables.size(piece.bytes),
            age(datetime.timedelta(seconds=now - piece.made)),
        )
        for piece in chosen
    ]
    tables.show(tables.plain_table("no longer wanted", columns, rows))


def _bytes(some: Sequence[Piece]) -> int:
    return sum(piece.bytes for piece in some)
