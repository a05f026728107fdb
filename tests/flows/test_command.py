"""How commands are declared, and what options of several commands take."""

from __future__ import annotations

import argparse
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from flows.cli.command import Arg, Command, asked, command, count, seconds, size


@command()
def paint(
    walls: Annotated[tuple[str, ...], Arg("what is painted", "WALL")],
    *,
    color: Literal["red", "blue"] = "red",
    coats: Annotated[int | None, Arg("how often", "N", count)] = None,
    dry_run: Annotated[bool, Arg("paint nothing")] = False,
    notes: Annotated[tuple[str, ...], Arg(flag="--note")] = (),
    file: Annotated[Path | None, Arg(one_of="where to")] = None,
    screen: Annotated[bool, Arg(one_of="where to")] = False,
) -> int:
    """Paint walls.

    Twice if asked to.

    Examples:
        splatyard paint north
    """
    return len(walls) * (coats or 1) + 10 * len(notes) + 100 * (color == "blue") + 1000 * dry_run


@command("scrub")
@dataclass
class Scrub:
    """Scrub the floor."""

    floor: str = "ground"
    _: KW_ONLY
    liters: float

    def run(self) -> int:
        """Scrub."""
        return round(self.liters) if self.floor == "ground" else -1


def run(made: Command, line: str) -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    made.add_arguments(parser)
    values: dict[str, Any] = vars(parser.parse_args(line.split()))
    return made.run(values)


def test_parameters_are_arguments_and_options():
    """Before the star positional, behind it options; a dataclass is run."""
    assert run(paint, "north south --screen") == 2
    assert run(paint, "north --coats 3 --color blue --note a --note b --file x --dry-run") == 3 + 20 + 100 + 1000
    assert run(Scrub, "--liters 3.2") == 3
    assert run(Scrub, "first --liters 3.2") == -1


def test_the_docstring_is_the_help():
    """A line for the list, a description, examples."""
    assert (paint.name, paint.help) == ("paint", "paint walls")
    assert (paint.description, paint.examples) == ("Twice if asked to.", "  splatyard paint north")
    assert (Scrub.name, Scrub.help, Scrub.description) == ("scrub", "scrub the floor", "Scrub the floor.")


def test_a_request_takes_the_options_that_it_knows():
    """By their names; others are given, and win."""
    scrub = Scrub.function("attic", liters=2.0)
    assert asked(lambda floor, liters: (floor, liters), scrub) == ("attic", 2.0)
    assert asked(lambda floor, soap: (floor, soap), scrub, floor="hall", soap=True) == ("hall", True)


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (paint, "--screen"),
        (paint, "north"),
        (paint, "north --screen --file x"),
        (paint, "north --screen --coats 0"),
        (paint, "north --screen --color green"),
        (Scrub, ""),
        (Scrub, "--liters much"),
    ],
    ids=["no wall", "neither", "both", "no coat", "no such color", "required", "no number"],
)
def test_wrong_lines_are_refused(made: Command, line: str):
    """By argparse."""
    with pytest.raises((SystemExit, argparse.ArgumentError)):
        run(made, line)


@pytest.mark.parametrize(("text", "same"), [("4G", 2**32), ("1.5g", 3 * 2**29), ("500MiB", 500 * 2**20), ("7", 7)])
def test_sizes(text, same):
    """Units are powers of 1024."""
    assert size(text) == same


@pytest.mark.parametrize("text", ["0", "-1G", "4X", "G", ""])
def test_what_is_no_size(text):
    """Is refused."""
    with pytest.raises(ValueError):
        size(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_what_is_no_time(text):
    """Is refused."""
    with pytest.raises(ValueError):
        seconds(text)
