"""`splatyard inspect`: what a bundle holds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.bundle.bundle import Bundle

HELP = "show what a bundle holds: figures, gates, sources, sizes"
DESCRIPTION = "Shows what a bundle holds: its figures and gates, where frame and scale come from, its files and their sizes."
EXAMPLES = """\
  splatyard inspect bundles/hall/1.0.0
  splatyard inspect hall@1.0.0 --json"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `inspect`."""
    command.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or name@version")
    command.add_argument("--json", action="store_true", help="manifest and quality as JSON, for machines")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    raise NotImplementedError
