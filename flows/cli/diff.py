"""`splatyard diff`: what differs between two bundles."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.check.quality import Gate
    from pipeline.publish.diff import Difference

HELP = "show what differs between two bundles"
DESCRIPTION = """\
Compares two bundles: files, Gaussians, meshes, frame and the figures of their gates; and says what the newer one's
version must be. From a registry only what is compared comes over."""
EXAMPLES = """\
  splatyard diff hall@1.0.0 hall@1.1.0
  splatyard diff bundles/hall/1.0.0 registry:./yard/hall@latest
  splatyard diff hf://owner/scenes/hall@1.0.0 hf://owner/scenes/hall@1.1.0"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `diff`."""
    command.add_argument("before", metavar="BUNDLE", help="a folder, name@version, or one in a registry")
    command.add_argument("after", metavar="BUNDLE", help="the newer one")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from flows.cli import tables
    from pipeline import Bundle
    from pipeline.publish.diff import difference

    before, after = Bundle.open(options.before), Bundle.open(options.after)
    names = [f"{bundle.manifest.name}@{bundle.manifest.version}" for bundle in (before, after)]
    found = difference(before, after)
    if not found.files:
        tables.say(f"{names[0]} and {names[1]} have the same files")
    _show(found, names)
    tables.say(f"{names[1]} is at least a {found.change} version after {names[0]}: {found.why}")
    return 0


def _show(found: Difference, names: list[str]) -> None:
    from rich.markup import escape

    from flows.cli import tables

    rows = [(escape(name), *map(_bytes, pair), _verb(pair)) for name, pair in found.files.items()]
    counts = {level: pair for level, pair in found.gaussians.items() if pair[0] != pair[1]}
    rows += [(f"splat {level}", *map(_gaussians, pair), _verb(pair)) for level, pair in counts.items()]
    rows += [(f"size of {name}", *map(_mesh, pair), _verb(pair)) for name, pair in found.meshes.items()]
    rows += [
        (f"frame {name}", escape(str(pair[0])), escape(str(pair[1])), _verb(pair)) for name, pair in found.frame.items()
    ]
    tables.show(tables.plain_table("what differs", ["what", f">{names[0]}", f">{names[1]}", ""], rows))
    gates = [_gate_row(*pair) for pair in found.gates.values()]
    tables.show(tables.plain_table("quality", ["gate", f">{names[0]}", f">{names[1]}", ""], gates))


def _verb(pair: tuple[Any, Any]) -> str:
    if pair[0] == pair[1]:
        return ""
    return "added" if pair[0] is None else "removed" if pair[1] is None else "changed"


def _bytes(entry: Any) -> str:
    from flows.cli import tables

    return "-" if entry is None else tables.size(entry.bytes)


def _gaussians(count: int | None) -> str:
    return "-" if count is None else f"{count:,} Gaussians"


def _mesh(size: tuple[int, int] | None) -> str:
    return "-" if size is None else f"{size[0]:,} vertices, {size[1]:,} triangles"


def _gate_row(before: Gate | None, after: Gate | None) -> tuple[str, str, str, str]:
    from rich.markup import escape

    from flows.cli import tables

    told = after or before
    assert told is not None
    figures = ["-" if gate is None else tables.figure(gate.value, gate.unit) for gate in (before, after)]
    verdict = {True: "[green]passes[/]", False: "[bold red]FAILS[/]", None: "[dim]not measured[/]"}[told.passed]
    if before and after and before.passed != after.passed:
        verdict += ", unlike before"
    return escape(told.title), figures[0], figures[1], verdict
