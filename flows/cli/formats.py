"""`splatyard formats`: what captures can be read, and what each one yields."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

HELP = "which captures can be read, and what each one yields"
DESCRIPTION = """\
Lists the forms of captures that `splatyard build` takes as they lie on disk, what they look like, and what they yield
besides pictures. With a path: which form lies there, and what it holds."""
EXAMPLES = """\
  splatyard formats
  splatyard formats scans/kitchen.zip"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `formats`."""
    command.add_argument("capture", nargs="?", type=Path, metavar="PATH", help="a capture: say what it is")
    command.add_argument("--json", action="store_true", help="for machines")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from dataclasses import asdict

    from pipeline.capture.detect import READERS, probe

    if options.capture is not None:
        found = asdict(probe(options.capture))
        rows = [(name.replace("_", " "), str(value)) for name, value in found.items()]
        return _show(found, ["", "found"], rows, as_json=options.json)
    listed = [{"kind": reader.kind, "form": reader.form, "yields": reader.yields} for reader in READERS]
    rows = [(reader["kind"], reader["yields"], reader["form"]) for reader in listed]
    return _show(listed, ["kind", "yields besides pictures", "what lies on disk"], rows, as_json=options.json)


def _show(content: object, columns: list[str], rows: list[tuple[str, ...]], *, as_json: bool) -> int:
    from rich.markup import escape

    from flows.cli import tables

    if as_json:
        print(json.dumps(content, indent=1))
    else:
        tables.show(tables.plain_table("captures", columns, [tuple(map(escape, row)) for row in rows]))
    return 0
