"""The tables that commands print."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipeline.plain import plain

if TYPE_CHECKING:
    from pipeline import Plan
    from pipeline.check.quality import Gate

WIDTH_WITHOUT_TERMINAL = 160
"""Columns when the output goes to a file or pipe, so that figures are not cut there."""


class PlainConsole(Console):
    """A console to which texts of others are nothing but text: all that commands print goes through here."""

    def render_str(self, text: str, *arguments: Any, **options: Any) -> Text:
        """As rich does, without what a terminal obeys."""
        return super().render_str(plain(text), *arguments, **options)


def console() -> Console:
    """A console on the present standard output."""
    probe = PlainConsole()
    return probe if probe.is_terminal else PlainConsole(width=WIDTH_WITHOUT_TERMINAL)


def show(table: RenderableType) -> None:
    """Print a table."""
    console().print(table)


def say(text: str) -> None:
    """Print one line, never wrapped; rich markup is understood."""
    console().print(text, soft_wrap=True, highlight=False)


def quoted(path: Path) -> str:
    """The path as one word of a shell and of rich markup."""
    return escape(shlex.quote(str(path)))


def plain_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of texts; columns that start with ">" are right-aligned."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        name = column.removeprefix(">")
        table.add_column(name, justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def plan_table(plan: Plan) -> Table:
    """What would run, what is cached, with which backend and why."""
    rows = [
        (
            stage.name,
            stage.backend,
            escape(stage.reason),
            "[dim]cached[/]" if stage.cached else "[bold]runs[/]",
            stage.key,
        )
        for stage in plan.stages
    ]
    return plain_table(f"plan of {escape(plan.name)}", ["stage", "backend", "why", "state", "key"], rows)


def times_table(executed: Sequence[str], seconds: Mapping[str, float]) -> Table:
    """How long the stages that ran took."""
    rows = [(name, f"{seconds[name]:.1f}") for name in executed]
    rows.append(("[bold]all[/]", f"[bold]{sum(seconds[name] for name in executed):.1f}[/]"))
    return plain_table("stages that ran", ["stage", ">seconds"], rows)


def gates_table(gates: Iterable[Gate]) -> Table:
    """Every gate's figure, threshold, verdict and how it was measured."""
    return plain_table("quality", ["gate", ">figure", ">threshold", "verdict", "how"], map(_gate_row, gates))


def _gate_row(gate: Gate) -> tuple[str, str, str, str, str]:
    sign = {"<=": "≤", ">=": "≥"}[gate.comparison]
    verdict = {True: "[green]passed[/]", False: "[bold red]FAILED[/]", None: "[dim]not measured[/]"}[gate.passed]
    threshold = f"{sign} {figure(gate.threshold, gate.unit)}"
    return escape(gate.title), figure(gate.value, gate.unit), threshold, verdict, escape(gate.how)


def figure(value: float | None, unit: str) -> str:
    """A figure with three or four digits and its unit."""
    if value is None:
        return "-"
    return f"{value:.4g} {unit}".strip()


def size(count: int) -> str:
    """A number of bytes for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
