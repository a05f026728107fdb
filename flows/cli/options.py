"""Options that several commands have."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def count(text: str) -> int:
    """A whole number from 1 on, for `type=`.

    Raises:
        ValueError: When it is none.
    """
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def seconds(text: str) -> float:
    """Seconds above 0, for `type=`.

    Raises:
        ValueError: When it is no such number.
    """
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def size(text: str) -> int:
    """Bytes of "4G", "500M" or "1000000", for `type=`.

    Raises:
        ValueError: When it is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match or not float(match[1]):
        raise ValueError(text)
    return int(float(match[1]) * UNITS[match[2].upper()])


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
