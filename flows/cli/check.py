"""`splatyard check`: re-verify a bundle's hashes and gates."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.bundle import Gate

HELP = "re-verify a bundle's hashes and gates"
DESCRIPTION = """\
Reads every file of a bundle again, compares it with the manifest's hashes, and judges every gate's figure against its
threshold again. Exit code 1 when a hash differs or a gate fails."""
EXAMPLES = """\
  splatyard check bundles/hall/1.0.0
  splatyard check hall@1.0.0 && echo usable"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `check`."""
    command.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or name@version")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from rich.markup import escape

    from flows.cli import tables
    from pipeline.bundle import Bundle

    bundle = Bundle.open(options.bundle)
    problems = [str(problem) for problem in bundle.verify()]
    problems += [problem for gate in bundle.quality.gates if (problem := gate_problem(gate))]
    tables.show(tables.gates_table(bundle.quality.gates))
    for problem in problems:
        tables.say(f"[bold red]failed:[/] {escape(problem)}")
    if not problems:
        tables.say("[bold green]all files are as the manifest says, and all gates passed[/]")
    return 1 if problems else 0


def gate_problem(gate: Gate) -> str | None:
    """What is wrong with a gate, judged from its figure and threshold alone; None when it passes."""
    if gate.value is None:
        return f"gate {gate.name}: not measured"
    holds = gate.value <= gate.threshold if gate.comparison == "<=" else gate.value >= gate.threshold
    if gate.passed is not holds:
        return f"gate {gate.name}: quality.json says {gate.passed}, but its figure says {holds}"
    return None if holds else f"gate {gate.name}: {gate.value:.4g} {gate.unit}, must be {gate.comparison} {gate.threshold:.4g}"
