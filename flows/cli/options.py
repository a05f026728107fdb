"""Options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path


def count(text: str) -> int:
    """A whole number from 1 on, for `type=`.

    Raises:
        ValueError: When it is none.
    """
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def add_scenes(command: argparse.ArgumentParser, default: str = "") -> None:
    """`--scene`, as often as one likes; `default` says what happens without."""
    command.add_argument(
        "--scene",
        "--scenes",
        dest="scenes",
        action="append",
        default=[],
        metavar="BUNDLE",
        help="a folder, name@version, name for its newest, or a pattern of these; may be given more than once"
        + (f"; default: {default}" if default else ""),
    )


def add_runs(command: argparse.ArgumentParser) -> None:
    """`--runs`, the folder of all runs."""
    command.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="default: %(default)s")
