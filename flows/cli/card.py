"""`splatyard card`: a filled-in scene card for a capture."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write a filled-in scene card for a capture"
DESCRIPTION = """\
Looks at a capture and writes its card: a YAML file with name, source, licence, scale, recipe and gates, filled in as far
as the capture tells, the rest as comments. `splatyard build PATH --card CARD.yaml` builds by it."""
EXAMPLES = """\
  splatyard card photos/                            writes photos.yaml
  splatyard card photos/ --output scene_cards/kitchen.yaml --name kitchen"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `card`."""
    command.add_argument("path", metavar="PATH", type=Path, help="the capture: a folder")
    command.add_argument("--name", help="name of the bundle (default: made from the folder's name)")
    command.add_argument("--output", type=Path, metavar="FILE", help="default: NAME.yaml; never overwrites")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    raise NotImplementedError
