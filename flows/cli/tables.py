"""What commands print: lines and tables of texts, which may come from others, some of them in colour; or JSON."""

from __future__ import annotations

import contextlib
import datetime
import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from flows.cli.command import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from pipeline import Bundle
    from pipeline.changes.differences import Difference
    from pipeline.check.quality import Gate

WIDTH_WITHOUT_TERMINAL = 160
"""Columns when the output goes to a file or pipe, so that metrics are not cut there."""

Part = str | tuple[str, str]
"""A text, or a text and its style such as "bold red"; neither is markup."""
_json_goes_to: ContextVar[TextIO | None] = ContextVar("_json_goes_to", default=None)


def begin(text: str) -> None:
    """Say on stderr what takes its time from now on."""
    say((f"{text} ...", "dim"), stderr=True)


@contextlib.contextmanager
def only_json() -> Iterator[None]:
    """Within, nothing but what `show_json` prints goes to stdout: lines, tables and what libraries print to stderr."""
    token = _json_goes_to.set(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _json_goes_to.reset(token)


def show_json(content: object) -> None:
    """Print values as JSON: also paths, times, dataclasses and models by their fields; what is no number is null."""
    from pydantic_core import to_jsonable_python

    values = to_jsonable_python(content, inf_nan_mode="null")
    print(json.dumps(values, indent=1), file=_json_goes_to.get() or sys.stdout, flush=True)


def say(*parts: Part, stderr: bool = False) -> None:
    """Print one line, never wrapped."""
    _console(stderr=stderr).print(_text(*parts), soft_wrap=True, highlight=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Part]]) -> None:
    """Print a table; columns that start with ">" are right-aligned."""
    from rich.markup import escape
    from rich.table import Table

    made = Table(title=escape(plain(title)), title_justify="left", title_style="bold")
    for column in columns:
        justify = "right" if column.startswith(">") else "left"
        made.add_column(_text(column.removeprefix(">")), justify=justify, overflow="fold")
    for row in rows:
        made.add_row(*map(_text, row))
    _console().print(made)


def side_by_side(title: str, columns: Sequence[str], things: Sequence[Mapping[str, object]]) -> None:
    """Print a table with a column for each thing and a row for each name that any of them has; "-" is none."""
    names = dict.fromkeys(name for thing in things for name in thing)
    table(title, ["", *columns], [(name, *(str(thing.get(name, "-")) for thing in things)) for name in names])


def _text(*parts: Part) -> Text:
    from rich.text import Text

    return Text.assemble(*(plain(part) if isinstance(part, str) else (plain(part[0]), part[1]) for part in parts))


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=WIDTH_WITHOUT_TERMINAL)


def quoted(path: Path) -> str:
    """The path as one word of a shell."""
    return shlex.quote(str(path))


def shown(path: Path) -> Path:
    """The path as a user would type it: relative where it lies below the present folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def metric(value: float | None, unit: str) -> str:
    """A metric with three or four digits and its unit."""
    return "-" if value is None else f"{value:.4g} {unit}".strip()


def age(passed: datetime.timedelta) -> str:
    """How long ago, in the largest unit of which there are two."""
    seconds = passed.total_seconds()
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(0, seconds):.0f} s"


def gate_values(gate: Gate) -> dict[str, object]:
    """A gate's metric, threshold and verdict, for JSON."""
    return {**gate.model_dump(mode="json"), "passed": gate.passed}


def show_gates(gates: Iterable[Gate]) -> None:
    """Every gate's metric, threshold, verdict and how it was measured."""
    signs = {"<=": "≤", ">=": "≥"}
    verdicts: dict[bool | None, Part] = {
        True: ("passed", "green"),
        False: ("FAILED", "bold red"),
        None: ("not measured", "dim"),
    }
    rows = [
        (
            gate.title,
            metric(gate.value, gate.unit),
            f"{signs[gate.comparison]} {metric(gate.threshold, gate.unit)}",
            verdicts[gate.passed],
            gate.how,
        )
        for gate in gates
    ]
    table("quality", ["gate", ">metric", ">threshold", "verdict", "how"], rows)


def show_quality(bundle: Bundle, not_measured: str = "") -> None:
    """A new bundle's gates, where it lies, and how to view it; `not_measured` follows "all gates passed"."""
    show_gates(bundle.quality.gates)
    if bundle.quality.passed:
        say(("all gates passed", "bold green"), not_measured)
    else:
        failed = ", ".join(bundle.quality.failed)
        say((f"failed gates: {failed}.", "bold red"), " The bundle exists, marked as failed.")
    root = shown(bundle.root)
    say(f"bundle     {quoted(root)}")
    say(f"quality    {quoted(root / 'quality.html')}")
    say(f"view       splatyard view {quoted(root)}")


def say_failed(gates: Sequence[str]) -> None:
    """A line on the gates that a bundle failed; none where there are none."""
    if gates:
        say("quality    ", (f"FAILED: {', '.join(gates)}", "bold red"))


def show_differences(names: tuple[str, str], found: Sequence[Difference]) -> None:
    """What differs between two scans of a place."""
    from pipeline.changes.differences import COLUMNS, table_rows

    table(f"what differs between {names[0]} and {names[1]}", COLUMNS, table_rows(found))


def show_endings(task: str, ended: Mapping[str, int]) -> None:
    """How many episodes ended by what."""
    rows = [(name, str(count)) for name, count in sorted(ended.items())]
    table(f"{task}: how episodes ended", ["ending", "episodes"], rows)
