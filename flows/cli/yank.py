"""`splatyard yank`: a version that nobody should begin with any more."""

from __future__ import annotations

import argparse

HELP = "hide a published version: lists and ranges pass it over"
DESCRIPTION = """\
Says of a published version that nobody should begin with it any more, and why. Lists, "latest" and ranges pass it over
from then on; who names it exactly, or has it in scenes.lock, still gets it, with a warning. Nothing is removed."""
EXAMPLES = """\
  splatyard yank hall@1.0.0 --why 'its scale is 4 % off, see 1.0.1'
  splatyard yank s3://bucket/yard/hall@1.0.0 --why 'somebody is to be seen in it'
  splatyard yank hf://owner/scenes/hall@1.0.0 --why 'its scale is 4 % off, see 1.0.1'"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `yank`."""
    command.add_argument("bundle", metavar="BUNDLE", help="[ADDRESS/]NAME@VERSION")
    command.add_argument("--why", required=True, metavar="TEXT", help="what is wrong with it, for those who use it")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from rich.markup import escape

    from flows.cli import tables
    from pipeline.publish.registry import open_registry
    from pipeline.publish.versions import Reference

    reference = Reference.parse(options.bundle)
    registry = open_registry(reference.address)
    registry.yank(reference, options.why)
    tables.say(f"yanked     {reference.name}@{reference.wanted} in {escape(registry.address)}: {escape(options.why)}")
    registry = open_registry(reference.address)  # as it is now
    left = [version for version, well in registry.versions(reference.name).items() if well]
    if left:
        tables.say(f"latest     is {reference.name}@{left[-1]} now")
    else:
        tables.say(f"latest     no version of {reference.name} is left that isn't yanked")
    return 0
