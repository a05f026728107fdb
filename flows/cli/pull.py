"""`splatyard pull`: bundles from a registry or the hub."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

HELP = "bring bundles over from a registry or the hub, and pin them"
DESCRIPTION = """\
Brings bundles over, every file checked against its hash, to bundles/<name>/<version>, where all commands find them by
name. A bundle is named exactly, by "latest" (or nothing), or by a range: hall@1 is the newest that begins so, hall@^1.2
the newest from 1.2.0 on with the same major number.

With --only sim just what training reads comes over, and is kept in the cache for when that bundle is named again.

With --lock, scenes.lock keeps which version and bytes that was. `splatyard sim` and `splatyard train` take what it
names from then on: the same next year, whatever is published meanwhile. Check it in beside your code."""
EXAMPLES = """\
  splatyard pull hall@1.0.0                            of the registry ./yard, or what SPLATYARD_REGISTRY names
  splatyard pull registry:/mnt/team/yard/hall@^1.2 s3://bucket/yard/stairs --lock
  splatyard pull hf://owner/scenes/hall@1.0.0 --out bundles
  splatyard pull hf://owner/scenes/hall --only sim     small splat, collision mesh and floor: to train on"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `pull`."""
    command.add_argument(
        "bundles",
        nargs="+",
        metavar="BUNDLE",
        help="[ADDRESS/]NAME[@VERSION or RANGE]; on the hub the address is hf://owner/repository",
    )
    command.add_argument("--only", choices=["sim"], help="bring only what training reads, and keep it in the cache")
    command.add_argument("--lock", action="store_true", help="write into scenes.lock what they stand for")
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="the folder of bundles; default: SPLATYARD_BUNDLES or bundles"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from rich.markup import escape

    from flows.cli import tables
    from pipeline import Bundle
    from pipeline.bundle.bundle import REGISTRY_VARIABLE
    from pipeline.publish.lock import LOCK_FILE, resolve, write_pin
    from pipeline.publish.pulling import pull, pull_for_training

    out = options.out or Path(os.environ.get(REGISTRY_VARIABLE, "bundles"))
    for reference in options.bundles:
        exact = resolve(reference)
        bundle = Bundle.open(exact)
        if options.only:
            brought = pull_for_training(bundle)
            size = tables.size(sum(path.stat().st_size for path in brought))
            tables.say(f"kept       {escape(exact)}  {len(brought)} files to train on, {size}")
        else:
            folder = pull(bundle, out)
            size = tables.size(sum(entry.bytes for entry in bundle.manifest.files.values()))
            tables.say(f"pulled     {tables.quoted(folder)}  {len(bundle.manifest.files)} files, {size}")
        if bundle.manifest.failed_gates:
            tables.say(f"quality    [bold red]FAILED: {escape(', '.join(bundle.manifest.failed_gates))}[/]")
        if options.lock:
            pin = write_pin(reference)
            tables.say(f"{LOCK_FILE} {escape(reference)} is {escape(pin.bundle)}, {pin.sha256[:12]}")
    return 0
