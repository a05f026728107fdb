"""`splatyard list`: what a registry has."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.publish.entry import Entry

HELP = "list what a registry has"
DESCRIPTION = """\
Lists the scenes of a registry: of each the newest version that isn't yanked, and how many there are. Versions that were
published although gates fail are red; yanked ones show with --all."""
EXAMPLES = """\
  splatyard list                                   the registry ./yard, or what SPLATYARD_REGISTRY names
  splatyard list s3://bucket/yard --scene 'stairs-*'
  splatyard list hf://owner/scenes                 a repository on the Hugging Face Hub
  splatyard list registry:/mnt/team/yard --all     every version, yanked ones too
  splatyard list --json                            for machines"""
LONGEST = 250
"""Rows of a table; longer ones nobody reads."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `list`."""
    command.add_argument(
        "registry", nargs="?", default="", metavar="ADDRESS", help="registry:FOLDER, s3://..., hf://..."
    )
    command.add_argument("--scene", metavar="PATTERN", help="only scenes of that name, with * and ?")
    command.add_argument("--all", action="store_true", help="every version, and not just the newest of each scene")
    command.add_argument("--json", action="store_true", help="every version, for machines")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    import fnmatch

    from rich.markup import escape

    from flows.cli import tables
    from pipeline.publish.registry import open_registry

    registry = open_registry(options.registry)
    entries = [one for one in registry.entries() if fnmatch.fnmatchcase(one.name, options.scene or "*")]
    if options.json:
        import json

        print(json.dumps([entry.model_dump(mode="json") for entry in entries], indent=1))
        return 0
    counts: dict[str, int] = {}
    for entry in entries:
        counts[entry.name] = counts.get(entry.name, 0) + 1
    shown = entries if options.all else list({one.name: one for one in entries if one.yanked is None}.values())
    if not shown:
        like = f" like {escape(options.scene)}" if options.scene else ""
        tables.say(f"no scenes{like} in {escape(registry.address)}; splatyard publish puts them there")
        return 0
    _show(registry.address, shown[:LONGEST], counts, all_versions=options.all)
    if len(shown) > LONGEST:
        tables.say(f"... and {len(shown) - LONGEST:,} more: --scene 'stairs-*' shows fewer, --json all of them")
    return 0


def _show(address: str, shown: Sequence[Entry], counts: dict[str, int], *, all_versions: bool) -> None:
    import datetime

    from rich.markup import escape

    from flows.cli import tables
    from flows.cli.runs import age

    now = datetime.datetime.now(datetime.UTC)
    columns = ["bundle", *([] if all_versions else [">versions"]), "quality", ">Gaussians", ">size", "source"]
    rows = [
        (
            f"[dim strike]{one.reference}[/]" if one.yanked else f"[bold]{one.reference}[/]",
            *([] if all_versions else [str(counts[one.name])]),
            _quality(one),
            f"{one.gaussians:,}",
            tables.size(one.bytes),
            escape(one.kind if one.origin == "captured" else f"{one.kind} (generated)"),
            escape(one.licence),
            escape(one.description),
            age(now - one.published),
        )
        for one in shown
    ]
    title = f"{escape(address)}: {_count(len(counts), 'scene')}, {_count(sum(counts.values()), 'version')}"
    tables.show(tables.plain_table(title, [*columns, "licence", "what it is", ">age"], rows))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _quality(entry: Entry) -> str:
    from rich.markup import escape

    if entry.yanked is not None:
        return f"[dim]yanked: {escape(entry.yanked)}[/]"
    if entry.failed_gates:
        return f"[bold red]FAILED: {escape(', '.join(entry.failed_gates))}[/]"
    return "[green]passed[/]"
