"""Scans dropped in a folder become bundles by themselves: a Prefect flow that looks once and is started often."""

from __future__ import annotations

import glob
import time
from pathlib import Path
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows.ingest import Options, build_cards
from flows.lab.inbox import Inbox, ScanState
from flows.stage import Address
from flows.verdicts import of_scenes
from pipeline.errors import BusyError, CaptureError, CardError, ReconstructionError, SplatyardError
from pipeline.running.records import Scene

BAD_INPUT = {error.__name__ for error in (CaptureError, CardError, ReconstructionError)}
"""Errors that come again until the scan or its card changes."""


@flow(name="watch-folder", flow_run_name="look-{folder}", persist_result=False)
def watch_folder(
    folder: Path = Path("inbox"),
    out: Path = Path("bundles"),
    settle_seconds: Annotated[float, Field(ge=0, le=3600)] = 60.0,
    store: Address | None = None,
) -> State[None]:
    """Ingest each scan that was dropped in a folder, once.

    A scan is a file or a folder; it is ingested when it has not changed for a while, under the name that it has there.
    Its card is the file of that name with the suffix .yaml; one with defaults is written where there is none. A scan
    that can't be used is left alone until it or its card changes; after a fault of the machine it is tried again.

    Args:
        folder: The folder; it is made when it is not there.
        out: Folder of bundles.
        settle_seconds: A scan that changes within this time is still being copied, and left for the next run.
        store: Folder or bucket (s3://bucket/path) that machines share results through; without any password.
    """
    logger = get_run_logger()
    watched = Inbox(folder, out)
    try:
        with watched.locked():
            fresh = watched.fresh()
            if not fresh:
                return Completed(message="nothing new")
            logger.info("new: %s; checked for changes in %g s", ", ".join(fresh), settle_seconds)
            time.sleep(settle_seconds)
            settled = [name for name, stamp in fresh.items() if watched.stamp(name) == stamp]
            built = _ingest(watched, settled, out, store)
    except BusyError:
        return Completed(message="another run for this folder is not done yet")
    if settled:
        rows = [{"scan": name} | watched.record.scans[name].model_dump(exclude={"stamp"}) for name in settled]
        create_table_artifact(rows, key="inbox", description=f"what became of the scans in {watched.folder}")
    ingested = sum(watched.record.scans[name].state == "ingested" for name in settled)
    failed, changing = len(settled) - ingested, len(fresh) - len(settled)
    state = of_scenes(built, f"{ingested} ingested, {failed} failed, {changing} still changing")
    if failed and state.is_completed():  # before there was anything to build
        return Failed(message=state.message)
    return state


def _ingest(watched: Inbox, names: list[str], out: Path, store: str | None) -> list[Scene]:
    """Build the bundles of scans as one batch, and record what became of each; returns what was built."""
    cards: dict[str, Path] = {}
    for name in names:
        try:
            cards[name] = watched.begin(name)
        except SplatyardError as error:
            watched.end(name, _verdict(type(error).__name__), str(error))
    if not cards:
        return []
    try:
        patterns = [glob.escape(str(card)) for card in cards.values()]
        built = {scene.card: scene for scene in build_cards(patterns, out, Options(store=store))}
    except Exception as error:
        get_run_logger().exception("the batch failed")
        for name in cards:
            watched.end(name, "trouble", str(error))
        return []
    for name, card in cards.items():
        scene = built[card]
        if scene.state in ("built", "cached"):
            watched.end(name, "ingested")
        elif scene.reason is None:
            watched.end(name, "trouble", scene.state)
        else:
            watched.end(name, _verdict(scene.reason.kind), f"{scene.stage}: {scene.reason}")
    return [*built.values()]


def _verdict(kind: str) -> ScanState:
    return "failed" if kind in BAD_INPUT else "trouble"
