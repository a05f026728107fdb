"""`splatyard batch`: many scene cards to bundles."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.options import count, seconds, size

if TYPE_CHECKING:
    from pipeline.batch import Batch

HELP = "turn the captures of many scene cards into bundles"
DESCRIPTION = """\
Builds the bundle of each card, several at the same time. A bad card or capture stops no other; run again, only what is
missing is done. The scenes are told as they end, and `splatyard status` shows them then and later. Exit code 0: all
bundles are there, 1: some are not."""
EXAMPLES = """\
  splatyard batch 'scene_cards/*.yaml'
  splatyard batch 'scene_cards/*.yaml' --dry-run            what would be built, what is there, which cards are wrong
  splatyard batch 'scene_cards/*.yaml' --workers 4 --stage-memory 8G --stage-seconds 7200
  splatyard batch 'scene_cards/*.yaml' --captures /data/scans    captures may lie there besides the cards' folders
  splatyard batch 'scene_cards/*.yaml' --runner dask --address tcp://head:8786 --workers 32
  splatyard batch 'scene_cards/*.yaml' --store s3://yard/results   take and give what machines share"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `batch`."""
    command.add_argument(
        "cards", metavar="CARDS", nargs="+", help="scene cards: files, or patterns such as 'cards/*.yaml'"
    )
    command.add_argument("--out", type=Path, default=Path("bundles"), metavar="DIR", help="default: %(default)s")
    command.add_argument(
        "--captures", type=Path, metavar="DIR", help="captures may lie there besides the cards' folders"
    )
    command.add_argument("--dry-run", action="store_true", help="show what would be built, and build nothing")
    command.add_argument("--max-failures", type=count, metavar="N", help="begin no further scene after so many failed")
    where = command.add_argument_group("where scenes are built")
    where.add_argument(
        "--workers", type=count, metavar="N", help="scenes at the same time (default: what fits this machine)"
    )
    where.add_argument(
        "--runner", choices=("processes", "dask", "ray"), default="processes", help="default: %(default)s"
    )
    where.add_argument("--address", help="of a running Dask scheduler or Ray cluster; without, one is started here")
    where.add_argument(
        "--store",
        metavar="ADDRESS",
        help="results that machines share: a folder, s3://bucket/path; keys and passwords go in the environment",
    )
    limits = command.add_argument_group("limits of a stage", "one that goes beyond is ended, and its scene has failed")
    limits.add_argument("--stage-seconds", type=seconds, metavar="S", help="wall time")
    limits.add_argument("--stage-memory", type=size, metavar="SIZE", help="memory, such as 4G or 500M")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from flows.cli import tables
    from pipeline.batch import plan_batch

    batch = plan_batch(options.cards, options.out, options.captures)
    if options.dry_run:
        _show_plan(batch)
        return 1 if batch.those("failed") else 0
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")  # what goes wrong is told here, once
    logging.getLogger("flows").propagate = False  # Prefect hangs a console on the root logger
    tables.say(f"{len(batch.scenes)} scenes: {batch.counts}; splatyard status --out {tables.quoted(options.out)}")
    _build(batch, options)
    tables.say(f"[bold]{batch.counts}[/]")
    bad = batch.those("failed", "stopped")
    if bad:
        from flows.cli.status import outcomes_table

        tables.show(outcomes_table("not built", bad))
    return 1 if bad else 0


def _build(batch: Batch, options: argparse.Namespace) -> None:
    if not batch.those("waiting"):
        batch.end()
        return
    from flows.ingest import Orders
    from flows.ingest import run as run_flow

    orders = Orders(
        runner=options.runner,
        workers=options.workers,
        address=options.address,
        max_failures=options.max_failures,
        captures=options.captures,
        stage_seconds=options.stage_seconds,
        stage_memory=options.stage_memory,
        store=options.store,
    )
    run_flow(batch, orders)


def _show_plan(batch: Batch) -> None:
    from rich.markup import escape

    from flows.cli import tables
    from flows.cli.status import outcomes_table
    from pipeline.disk import room_for
    from pipeline.usage import readable

    rows = [
        (escape(scene.name), "cached" if scene.state == "cached" else "[bold]runs[/]", tables.quoted(scene.card))
        for scene in batch.those("cached", "waiting")
    ]
    if rows:
        tables.show(tables.plain_table("plan", ["scene", "state", "card"], rows))
    if bad := batch.those("failed"):
        tables.show(outcomes_table("cards that can't be built", bad))
    tables.say(f"{len(batch.scenes)} scenes: {batch.counts}")
    if batch.sources:
        room = room_for(batch.sources.values(), batch.out)
        tables.say(f"disk: {readable(room.needed)} needed ({room.basis}), {readable(room.free)} free")
