"""`splatyard card`: a filled-in scene card for a capture."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pipeline.errors import CardError

HELP = "write a filled-in scene card for a capture"
DESCRIPTION = """\
Looks at a capture and writes its card: a YAML file with name, source, licence, scale, recipe and gates, filled in as
far as the capture tells, the rest as comments. `splatyard build PATH --card CARD.yaml` builds by it."""
EXAMPLES = """\
  splatyard card photos/                            writes photos.yaml
  splatyard card photos/ --output scene_cards/kitchen.yaml"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `card`."""
    command.add_argument("path", metavar="PATH", type=Path, help="the capture: a folder or a zip of it")
    command.add_argument("--output", type=Path, metavar="FILE", help="default: NAME.yaml here; never overwrites")


def run(options: argparse.Namespace) -> int:
    """Run the command.

    Raises:
        CaptureError: When the capture is none that can be read.
        CardError: When the file is there already.
        MachineError: When it can't be written.
    """
    import yaml

    from flows.cli import tables
    from pipeline.capture.detect import probe
    from pipeline.card import write_card
    from pipeline.engine import machine_errors

    folder = options.output.parent if options.output else Path()
    text = write_card(Path(os.path.relpath(options.path, folder)), probe(options.path))
    output = options.output or Path(f"{yaml.safe_load(text)['name']}.yaml")
    with machine_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            with output.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise CardError(
                "a card is never overwritten",
                found="there is one already",
                remedy="choose another file with --output, or remove this one first",
                file=output,
            ) from None
    tables.say(f"wrote {tables.quoted(output)}; fill in what only you know, then:")
    capture, here = options.path.resolve(), output.resolve().parent
    if not capture.is_relative_to(here):
        tables.say("note: the capture lies outside the card's folder, where `splatyard batch` reads no captures:")
        tables.say(f"      give it --captures {tables.quoted(capture.parent)}, or move the card there")
    tables.say(f"splatyard build {tables.quoted(options.path)} --card {tables.quoted(output)}")
    return 0
