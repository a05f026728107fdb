"""Scans dropped in a folder become bundles by themselves: a Prefect flow that looks once and is started often."""

from __future__ import annotations

import glob
import os
import time
from pathlib import Path
from typing import Annotated

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # must be set before Prefect is imported

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows import inbox
from flows.inbox import Inbox
from flows.ingest import Address, ingest_batch
from pipeline.batch import FOLDER as BATCHES
from pipeline.batch import SceneOutcome, load_batches
from pipeline.errors import BusyError, CaptureError, CardError, ReconstructionError, SplatyardError

BAD_INPUT = {error.__name__ for error in (CaptureError, CardError, ReconstructionError)}
"""Trying again would fail again, until the scan or its card changes."""


@flow(name="watch-folder", flow_run_name="look-{folder}", persist_result=False)
def watch_folder(
    folder: Path = Path("inbox"),
    out: Path = Path("bundles"),
    settle_seconds: Annotated[float, Field(ge=0, le=3600)] = 60.0,
    store: Address | None = None,
) -> State[list[str]]:
    """Ingest each scan that was dropped in a folder, once.

    A scan is a file or a folder; it is taken as it is when it has not changed for a while, under the name that it has
    there. Its card is the file of that name with .yaml behind it; one with defaults is written where there is none.
    What can't be used is left alone until it or its card changes; what the machine failed at is tried again.

    Args:
        folder: The folder to look at; it is made when it is not there.
        out: Folder of bundles.
        settle_seconds: A scan that changes within so many seconds is still being copied, and left for the next look.
        store: Folder or bucket (s3://bucket/path) that machines share results through; without any password.

    Returns:
        Names of the scans that were ingested.
    """
    logger = get_run_logger()
    watched = Inbox(folder, out)
    try:
        with watched.locked():
            fresh = watched.fresh()
            if not fresh:
                return Completed(message="nothing new", data=[])
            logger.info("new: %s; looking again in %g s", ", ".join(fresh), settle_seconds)
            time.sleep(settle_seconds)
            settled = [name for name, stamp in fresh.items() if watched.stamp(name) == stamp]
            _ingest(watched, settled, out, store)
    except BusyError:
        return Completed(message="another look at this folder is not done yet", data=[])
    if settled:
        rows = [{"scan": name} | watched.record.scans[name].model_dump(exclude={"stamp"}) for name in settled]
        create_table_artifact(rows, key="inbox", description=f"what became of the scans in {watched.folder}")
    ingested = [name for name in settled if watched.record.scans[name].state == "ingested"]
    failed, changing = len(settled) - len(ingested), len(fresh) - len(settled)
    return Completed(message=f"{len(ingested)} ingested, {failed} failed, {changing} still changing", data=ingested)


def _ingest(watched: Inbox, names: list[str], out: Path, store: str | None) -> None:
    """Build the bundles of scans as one batch, and note what became of each."""
    cards: dict[str, Path] = {}
    for name in names:
        try:
            cards[name] = watched.begin(name)
        except SplatyardError as error:
            watched.end(name, _verdict(type(error).__name__), str(error))
    if not cards:
        return
    patterns = [glob.escape(str(card)) for card in cards.values()]
    earlier = {file.stem for file in (out / BATCHES).glob("*.json")}  # told by name: the clock may jump
    state = ingest_batch(patterns, out, store=store, return_state=True)
    batch = next((one for one in load_batches(out) if one.cards == tuple(patterns) and one.id not in earlier), None)
    for name, card in cards.items():
        scene = batch.scenes.get(str(card)) if batch else None
        if scene is None:
            watched.end(name, "trouble", state.message or "")
        else:
            watched.end(name, *_noted(scene))


def _noted(scene: SceneOutcome) -> tuple[inbox.State, str]:
    if scene.state in ("built", "cached"):
        return "ingested", ""
    if scene.reason is None:
        return "trouble", scene.state
    return _verdict(scene.reason.kind), f"{scene.stage}: {scene.reason}"


def _verdict(kind: str) -> inbox.State:
    return "failed" if kind in BAD_INPUT else "trouble"
