"""`splatyard check`: re-verify a bundle's hashes and gates."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline import Bundle

HELP = "re-verify a bundle's hashes and gates"
DESCRIPTION = """\
Reads every file of a bundle again, compares it with the manifest's hashes, and judges every gate's figure against its
threshold again. Also says which of the capture's pictures were left out, and why. Exit code 1 when a hash differs or a
gate fails."""
EXAMPLES = """\
  splatyard check bundles/hall/1.0.0
  splatyard check hall@1.0.0 && echo usable"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `check`."""
    command.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, name@version, or name for its newest")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from rich.markup import escape

    from flows.cli import tables
    from pipeline import Bundle
    from pipeline.capture.left_out import lines

    bundle = Bundle.open(options.bundle)
    problems = bundle.verify()
    if not problems:  # figures of damaged files would mean nothing
        problems = gate_problems(bundle)
        tables.show(tables.gates_table(bundle.quality.gates))
    for name, text in lines(bundle.manifest.report.get("capture", {})):
        tables.say(f"{name}: {escape(text)}")
    for problem in problems:
        tables.say(f"[bold red]failed:[/] {escape(problem)}")
    if not problems:
        count = len(bundle.manifest.files)
        tables.say(f"[bold green]all {count} files are as the manifest says, and no gate fails[/]")
    return 1 if problems else 0


def gate_problems(bundle: Bundle) -> list[str]:
    """Gates that fail, and a manifest that says otherwise than its gates."""
    quality, manifest = bundle.quality, bundle.manifest
    problems = [f"gate {name}" for name in quality.failed]
    if (manifest.quality_passed, set(manifest.failed_gates)) != (quality.passed, set(quality.failed)):
        said = ", ".join(manifest.failed_gates) or "none"
        problems.append(f"bundle.json names other failed gates ({said}) than quality.json")
    return problems
