"""The tables that commands print."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.cli.command import plain

if TYPE_CHECKING:
    from pipeline import Bundle, Plan
    from pipeline.check.quality import Gate

WIDTH_WITHOUT_TERMINAL = 160
"""Columns when the output goes to a file or pipe, so that metrics are not cut there."""


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
    """Every gate's metric, threshold, verdict and how it was measured."""
    return plain_table("quality", ["gate", ">metric", ">threshold", "verdict", "how"], map(_gate_row, gates))


def _gate_row(gate: Gate) -> tuple[str, str, str, str, str]:
    sign = {"<=": "≤", ">=": "≥"}[gate.comparison]
    verdict = {True: "[green]passed[/]", False: "[bold red]FAILED[/]", None: "[dim]not measured[/]"}[gate.passed]
    threshold = f"{sign} {metric(gate.threshold, gate.unit)}"
    return escape(gate.title), metric(gate.value, gate.unit), threshold, verdict, escape(gate.how)


def metric(value: float | None, unit: str) -> str:
    """A metric with three or four digits and its unit."""
    if value is None:
        return "-"
    return f"{value:.4g} {unit}".strip()


def shown(path: Path) -> Path:
    """The path as a user would type it: relative where it lies below the present folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def age(passed: datetime.timedelta) -> str:
    """How long ago, in the largest unit of which there are two."""
    seconds = passed.total_seconds()
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(0, seconds):.0f} s"


def show_quality(bundle: Bundle, not_measured: str = "") -> None:
    """A new bundle's gates, where it lies, and how to look at it.

    Args:
        bundle: What was built or imported.
        not_measured: What follows "no gate fails".
    """
    show(gates_table(bundle.quality.gates))
    if bundle.quality.passed:
        say(f"[bold green]no gate fails[/]{not_measured}")
    else:
        failed = ", ".join(bundle.quality.failed)
        say(f"[bold red]failed gates: {failed}.[/] The bundle is made, and marked as failed.")
    root = shown(bundle.root)
    say(f"bundle     {quoted(root)}")
    say(f"quality    {quoted(root / 'quality.html')}")
    say(f"look       splatyard view {quoted(root)}")


def say_failed(gates: Sequence[str]) -> None:
    """A line on the gates that a bundle failed; none where there are none."""
    if gates:
        say(f"quality    [bold red]FAILED: {escape(', '.join(gates))}[/]")


def show_endings(task: str, ended: Mapping[str, int]) -> None:
    """How many episodes ended by what."""
    rows = [(name, str(count)) for name, count in sorted(ended.items())]
    show(plain_table(f"{task}: how episodes ended", ["by", "episodes"], rows))
