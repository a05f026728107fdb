"""Scans to bundles as Prefect flows: one card, or all that a pattern names."""

from __future__ import annotations

import contextvars
import glob
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from flows.runners import Crew, RunnerName, crew, default_workers
from flows.scene import SceneFailedError, attach, named_for
from flows.server import require_api
from pipeline.batch import SAVE_SECONDS, Batch, Reason, SceneOutcome, plan_batch
from pipeline.disk import check_room
from pipeline.engine import locked
from pipeline.errors import MachineError
from pipeline.packing import Packing, pack
from pipeline.progress import bar
from pipeline.store import SECRET, open_store, refuse_secrets

logger = logging.getLogger(__name__)

BUSY_SECONDS = 5.0
"""Between two looks whether another process is done with a scene."""
MOST_ROWS = 200
"""Of a batch's table in Prefect."""

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Bytes = Annotated[int, Field(gt=0)]
Address = Annotated[str, Field(json_schema_extra={"not": {"pattern": SECRET.pattern}})]
"""Refused by Prefect's server when it holds a password, which would be shown from then on."""


@dataclass(frozen=True)
class Orders:
    """How a batch is built.

    Attributes:
        runner: Where.
        workers: So many scenes at the same time; None for what fits this machine.
        address: Of a running Dask scheduler or Ray cluster.
        max_failures: No further scene is begun after so many failed.
        captures: Folder that captures may lie in besides their cards' own.
        stage_seconds: Most wall time of a stage [s].
        stage_memory: Most memory of a stage [bytes].
        store: Address of a store that results are shared through.

    Raises:
        MachineError: When the store's address holds a password.
    """

    runner: RunnerName = "processes"
    workers: int | None = None
    address: str | None = None
    max_failures: int | None = None
    captures: Path | None = None
    stage_seconds: float | None = None
    stage_memory: int | None = None
    store: str | None = None

    def __post_init__(self) -> None:
        if self.store is not None:
            refuse_secrets(self.store)


@flow(name="ingest-scene", flow_run_name="ingest-{card}", persist_result=False)
def ingest_scene(
    card: Path,
    out: Path = Path("bundles"),
    captures: Path | None = None,
    stage_seconds: Seconds | None = None,
    stage_memory: Bytes | None = None,
    store: Address | None = None,
) -> State[Any]:
    """Build the bundle of one scene card, and attach its quality.

    Args:
        card: The card, a YAML file; its source.path leads to the capture.
        out: Folder of bundles.
        captures: Folder that the capture may lie in besides the card's own.
        stage_seconds: Most wall time of a stage in seconds.
        stage_memory: Most memory of a stage in bytes.
        store: Folder or bucket (s3://bucket/path) that machines share results through; without any password.
    """
    orders = Orders(workers=1, captures=captures, stage_seconds=stage_seconds, stage_memory=stage_memory, store=store)
    batch = plan_batch([glob.escape(str(card))], out, captures)
    return _ingest(batch, orders)


def _run_name() -> str:
    cards = flow_run.parameters["cards"]
    return f"ingest-{cards}" if isinstance(cards, str) else f"ingest-{len(cards)}-patterns"


@flow(name="ingest-batch", flow_run_name=_run_name, persist_result=False)
def ingest_batch(
    cards: str | list[str],
    out: Path = Path("bundles"),
    captures: Path | None = None,
    runner: RunnerName = "processes",
    workers: Count | None = None,
    address: str | None = None,
    max_failures: Count | None = None,
    stage_seconds: Seconds | None = None,
    stage_memory: Bytes | None = None,
    store: Address | None = None,
) -> State[Any]:
    """Build the bundles of many scene cards; what is there is not made again, and a bad one stops no other.

    Args:
        cards: The cards: a file or a pattern such as scene_cards/*.yaml, or a list of these.
        out: Folder of bundles.
        captures: Folder that captures may lie in besides their cards' own.
        runner: What builds the scenes: processes of this machine, a Dask cluster or a Ray cluster.
        workers: So many scenes are built at the same time; by default what fits this machine.
        address: Of a running Dask scheduler or Ray cluster; without, one is started on this machine.
        max_failures: No further scene is begun after so many failed.
        stage_seconds: Most wall time of a stage in seconds.
        stage_memory: Most memory of a stage in bytes.
        store: Folder or bucket (s3://bucket/path) that machines share results through; without any password.
    """
    orders = Orders(runner, workers, address, max_failures, captures, stage_seconds, stage_memory, store)
    batch = plan_batch([cards] if isinstance(cards, str) else cards, out, captures)
    return _ingest(batch, orders)


def run(batch: Batch, orders: Orders) -> None:
    """Build a planned batch through Prefect; when nothing is left to do, no flow is started.

    Raises:
        SplatyardError: When no scene can be built at all; what to do is in its text.
    """
    if not _ready(batch, orders):
        return

    # no parameters: a plan is nothing that Prefect could send to its server
    @flow(name="ingest-batch", flow_run_name=batch.id, persist_result=False)
    def ingest_planned() -> State[Any]:
        _build(batch, orders, logger.info)
        return Completed(message=batch.counts)

    require_api()
    ingest_planned()


def _ready(batch: Batch, orders: Orders) -> bool:
    """Whether there is anything to do; a batch that can't be done ends here, before anything is started.

    Raises:
        MachineError: When the disk has no room for it, or the store can't be reached.
    """
    if not batch.those("waiting"):
        batch.end()
        return False
    check_room(batch.sources.values(), batch.out)
    if orders.store is not None:
        open_store(orders.store)
    return True


def _ingest(batch: Batch, orders: Orders) -> State[Any]:
    if _ready(batch, orders):
        _build(batch, orders, get_run_logger().info)
    return _final(batch)


def _build(batch: Batch, orders: Orders, tell: Callable[..., None]) -> None:
    packing = None
    if orders.runner == "processes" and orders.workers != 1:  # a cluster's machines are not this one
        captures = {card: capture for card, (capture, _) in batch.sources.items()}
        packing = pack(captures, batch.out, orders.workers)
    workers = orders.workers or (packing.workers if packing else default_workers())
    batch.save()
    with crew(orders.runner, workers, orders.address, batch.log) as team:
        work_off(batch, orders, team, workers, tell, packing)


def work_off(
    batch: Batch, orders: Orders, team: Crew, workers: int, tell: Callable[..., None], packing: Packing | None = None
) -> None:
    """Build a batch's waiting scenes, as many at a time as there are workers and fit, and note how each ended.

    A scene that another process builds is tried again when all others are done: then it is there, or can be taken over.
    """

    def fits(scene: SceneOutcome) -> bool:
        if len(active) >= workers:
            return False
        return packing is None or packing.fits(scene.card, [one.card for one in active.values()])

    waiting, busy = deque(batch.those("waiting")), deque[SceneOutcome]()
    active: dict[Future[SceneOutcome], SceneOutcome] = {}
    failures, done, total, started = 0, 0, len(waiting), time.monotonic()
    with locked(batch.lock, f"the batch {batch.id}"), bar(total, "scenes") as shown:
        pool = ThreadPoolExecutor(workers)
        try:
            while waiting or active or busy:
                if orders.max_failures is not None and failures >= orders.max_failures:
                    waiting.clear()
                    busy.clear()
                while waiting and fits(waiting[0]):
                    scene = waiting.popleft()
                    batch.note(scene.become("running"))
                    context = contextvars.copy_context()  # the flow's run, which a task belongs to
                    active[pool.submit(context.run, _one, scene, batch, orders, team)] = scene
                if busy and not active:
                    batch.save()
                    time.sleep(BUSY_SECONDS)
                    waiting.extend(busy)
                    busy.clear()
                    continue
                batch.keep()
                for future in wait(active, SAVE_SECONDS, FIRST_COMPLETED).done:
                    scene = active.pop(future)
                    outcome = future.result()
                    batch.note(outcome)
                    if outcome.state == "busy":
                        busy.append(scene)
                        continue
                    failures += outcome.state == "failed"
                    done += 1
                    shown.update()
                    left = (time.monotonic() - started) / done * (total - done)
                    tell("%d/%d %s; %.0f min to go", done, total, said(outcome), left / 60)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            batch.end()


def _one(scene: SceneOutcome, batch: Batch, orders: Orders, team: Crew) -> SceneOutcome:
    parameters = {
        "card": scene.card,
        "out": batch.out,
        "captures": orders.captures,
        "seconds": orders.stage_seconds,
        "memory": orders.stage_memory,
        "store": orders.store,
    }
    started = time.monotonic()
    try:
        return team.do(named_for(scene), parameters)
    except SceneFailedError as error:
        return error.scene
    except ConcurrencySlotAcquisitionError as error:
        reason = Reason.of(
            MachineError(
                "Prefect's server gives each scene its place",
                found=str(error),
                remedy="see that the server runs and has room on its disk, then run the same again",
            )
        )
    except Exception as error:  # of the worker, not of the scene: others go on
        reason = Reason.of(error)
    return scene.model_copy(update={"state": "failed", "reason": reason, "seconds": time.monotonic() - started})


def said(scene: SceneOutcome) -> str:
    """What became of a scene, on one line."""
    text = f"{scene.name}: {scene.state} in {scene.seconds:.0f} s"
    if scene.reason:
        return f"{text}, {scene.stage}: {scene.reason}"
    return f"{text}; failed gates: {', '.join(scene.failed_gates)}" if scene.failed_gates else text


def _final(batch: Batch) -> State[Any]:
    """The state of the flow's run, with the batch's table attached."""
    attach(_table(batch), f"batch-{batch.id}", "what became of each scene")
    message = f"{batch.counts}; {batch.file}"
    return Failed(message=message) if batch.those("failed", "stopped") else Completed(message=message)


def _table(batch: Batch) -> str:
    order = ("failed", "stopped", "built", "cached")
    scenes = sorted(batch.scenes.values(), key=lambda scene: order.index(scene.state))
    rows = [f"| {scene.name} | {scene.state} | {_why(scene)} |" for scene in scenes[:MOST_ROWS]]
    more = [f"and {len(scenes) - MOST_ROWS} more"] if len(scenes) > MOST_ROWS else []
    return "\n".join([f"# {batch.counts}", "", "| scene | | |", "| --- | --- | --- |", *rows, "", *more])


def _why(scene: SceneOutcome) -> str:
    if scene.reason:
        return f"{scene.stage}: {scene.reason}".replace("|", "/").replace("<", "&lt;")
    if scene.failed_gates:
        return f"failed gates: {', '.join(scene.failed_gates)}"
    return f"{len(scene.stages)} stages in {scene.seconds:.0f} s" if scene.state == "built" else ""
