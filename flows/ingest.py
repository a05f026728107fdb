"""Scans to bundles as Prefect flows: one card, or all that a pattern names."""

from __future__ import annotations

import base64
import contextvars
import glob
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import httpx
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.assets import materialize
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.exceptions import PrefectHTTPStatusError
from prefect.runtime import flow_run
from prefect.tasks import Task
from prefect.utilities.annotations import quote

from flows.markdown import Markdown, joined, markdown, markdown_table, target
from flows.reports import linked
from flows.server import require_api
from flows.stage import (
    CPU_STAGE,
    Address,
    Bytes,
    Count,
    Job,
    RunnerName,
    RunStage,
    Seconds,
    open_runner,
)
from flows.verdicts import of_scene, of_scenes
from flows.view import quality_markdown
from pipeline.errors import CardError, MachineError
from pipeline.io.files import machine_errors, readable
from pipeline.progress import bar
from pipeline.running.batch import build_scene, check_room, default_workers, plan_batch
from pipeline.running.building import run_records
from pipeline.running.engine import PlannedStage
from pipeline.running.isolation import Limits, end_all
from pipeline.running.records import Scene, counts
from pipeline.running.settings import read_card
from pipeline.running.shared import fetch_plan
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.store import open_store, refuse_secrets

logger = logging.getLogger(__name__)

BUSY_SECONDS = 5.0
"""Between two checks whether another process is done with a scene."""
LOOK_SECONDS = 1.0
MAX_ROWS = 200
"""Rows of a batch's table in Prefect."""
_run_stage: ContextVar[RunStage] = ContextVar("run_stage")
"""Runs the stages of the scene that a thread builds; a parameter of its task would have to travel to clusters."""
THUMBNAILS = 4
"""Photos that are shown with a scene; they are kept in Prefect's database, at 5 kB each."""


@dataclass(frozen=True)
class Options:
    """Parameters of `ingest_batch`; a MachineError when the store's address contains a password."""

    runner: RunnerName = "processes"
    workers: int | None = None
    address: str | None = None
    max_failures: int | None = None
    captures: Path | None = None
    stage_seconds: float | None = None
    stage_memory: int | None = None
    store: str | None = None
    until: str | None = None

    def __post_init__(self) -> None:
        if self.store is not None:
            refuse_secrets(self.store)


class SceneFailedError(Exception):
    """Raised to mark a scene's run as failed."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.scene = scene

    def __str__(self) -> str:
        return f"{self.scene.name}: {self.scene.stage}: {self.scene.reason}"


def named_by(card: str) -> str:
    """What a run is called by: the name in a card, its file's where that says none, or a pattern of cards itself."""
    try:
        return read_card(Path(card)).name or Path(card).stem
    except CardError:
        return card


@flow(
    name="ingest-scene",
    flow_run_name=lambda: f"ingest-{named_by(str(flow_run.parameters['card']))}",
    persist_result=False,
)
def ingest_scene(
    card: Path,
    out: Path = Path("bundles"),
    captures: Path | None = None,
    stage_seconds: Seconds | None = None,
    stage_memory: Bytes | None = None,
    store: Address | None = None,
    until: str | None = None,
) -> State[None]:
    """Build the bundle of one scene card, and attach its quality.

    Args:
        card: The card, a YAML file; its source.path, or sources, lead to the captures.
        out: Folder of bundles.
        captures: Folder that captures may lie in besides the card's own.
        stage_seconds: Most wall time of a stage in seconds.
        stage_memory: Most memory of a stage in bytes.
        store: Folder or bucket (s3://bucket/path) that machines share results through; without any password.
        until: Stop after this stage; run without it, the rest is built.
    """
    options = Options(
        workers=1,
        captures=captures,
        stage_seconds=stage_seconds,
        stage_memory=stage_memory,
        store=store,
        until=until,
    )
    return final(build_cards([glob.escape(str(card))], out, options))


def _run_name() -> str:
    cards = flow_run.parameters["cards"]
    return f"ingest-{named_by(cards)}" if isinstance(cards, str) else f"ingest-{len(cards)}-patterns"


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
    until: str | None = None,
) -> State[None]:
    """Build the bundles of many scene cards; existing ones are not built again, and a bad one stops no other.

    Args:
        cards: The cards: a file or a pattern such as scene_cards/*.yaml, or a list of these.
        out: Folder of bundles.
        captures: Folder that captures may lie in besides their cards' own.
        runner: Where stages run: processes of this machine, a Dask or Ray cluster, or jobs of a work pool.
        workers: Number of scenes at the same time; by default what fits this machine.
        address: Of a running Dask scheduler or Ray cluster, without it one is started on this machine; for the runner
            pool the deployment, by default run-stage/stage.
        max_failures: No further scene is started after this number of failures.
        stage_seconds: Most wall time of a stage in seconds.
        stage_memory: Most memory of a stage in bytes.
        store: Folder or bucket (s3://bucket/path) that machines share results through; without any password.
        until: Stop each scene after this stage; run without it, the rest is built.
    """
    options = Options(runner, workers, address, max_failures, captures, stage_seconds, stage_memory, store, until)
    return final(build_cards([cards] if isinstance(cards, str) else cards, out, options))


def run(scenes: Sequence[Scene], out: Path, options: Options) -> list[Scene]:
    """Build planned scenes through Prefect; a SplatyardError if it can't. Without any to build no flow is started."""
    if not _ready(scenes, out, options):
        return [*scenes]

    built: list[Scene] = []

    # without parameters: Prefect would send them to its server as JSON
    @flow(name="ingest-batch", flow_run_name=f"batch-{time.strftime('%Y%m%d-%H%M%S')}", persist_result=False)
    def ingest_planned() -> State[None]:
        built.extend(build_all(scenes, options, logger.info))
        return final(built)

    require_api()
    state = ingest_planned(return_state=True)
    if not built:
        state.result()  # raises what went wrong
    return built


def build_cards(patterns: Sequence[str], out: Path, options: Options) -> list[Scene]:
    """Plan cards and build their bundles, within a flow's run; a SplatyardError when none can be built."""
    scenes = plan_batch(patterns, out, options.captures, options.until)
    if _ready(scenes, out, options):
        scenes = build_all(scenes, options, get_run_logger().info)
    return scenes


def _ready(scenes: Sequence[Scene], out: Path, options: Options) -> bool:
    """Whether there is anything to do; a batch that is impossible is refused here, before anything is started."""
    waiting = [scene for scene in scenes if scene.state == "waiting"]
    if waiting:
        check_room(waiting, out)
        if options.store is not None:
            open_store(options.store)
        with machine_errors(out):
            out.mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        if scene.state != "waiting":
            scene.save(out)
    return bool(waiting)


def build_all(scenes: Sequence[Scene], options: Options, report: Callable[..., None]) -> list[Scene]:
    """Build the waiting scenes, each in a thread that takes it from stage to stage; returns all in their last state.

    A scene that another process builds is tried again when all others are done: then its bundle exists, or it can be
    taken over.
    """
    workers = options.workers or default_workers()
    job = Job(Limits(options.stage_seconds, options.stage_memory), store=options.store)
    done = {scene.card: scene for scene in scenes}
    waiting, busy = deque(scene for scene in scenes if scene.state == "waiting"), deque[Scene]()
    active: dict[Future[Scene], Scene] = {}
    failures, finished, total, started = 0, 0, len(waiting), time.monotonic()
    ending = threading.Event()
    with ThreadPoolExecutor(workers) as pool, open_runner(options.runner, workers, options.address, job) as run_stage:
        run = partial(_run_unless, ending, run_stage)
        try:
            with bar(total, "scenes") as shown:
                while waiting or active or busy:
                    if options.max_failures is not None and failures >= options.max_failures:
                        for scene in (*waiting, *busy):
                            done[scene.card] = scene.become("stopped")
                        waiting.clear()
                        busy.clear()
                    while waiting and len(active) < workers:
                        scene = waiting.popleft()
                        context = contextvars.copy_context()  # the flow's run, which a task belongs to
                        active[pool.submit(context.run, _one, scene, options, run)] = scene
                    if busy and not active:
                        time.sleep(BUSY_SECONDS)
                        waiting.extend(busy)
                        busy.clear()
                        continue
                    for future in wait(active, LOOK_SECONDS, FIRST_COMPLETED).done:
                        scene, outcome = active.pop(future), future.result()
                        if outcome.state == "busy":
                            busy.append(scene)
                            continue
                        done[scene.card] = outcome
                        failures += outcome.state == "failed"
                        finished += 1
                        shown.update()
                        left = (time.monotonic() - started) / finished * (total - finished)
                        report("%d/%d %s; %.0f min to go", finished, total, one_line(outcome), left / 60)
        except BaseException:
            ending.set()
            end_all()
            raise
    return [*done.values()]


def _run_unless(ending: threading.Event, run: RunStage, planned: PlannedStage) -> bool:
    """Run a stage; once everything is to end, its scene ends as by Ctrl-C."""
    try:
        if not ending.is_set():
            return run(planned)
    except Exception:
        if not ending.is_set():
            raise
    raise KeyboardInterrupt


def _one(scene: Scene, options: Options, run: RunStage) -> Scene:
    """Build a scene as a task of its own; returns it failed where anything goes wrong."""
    started = time.monotonic()
    try:
        _run_stage.set(run)
        # Prefect would look for earlier tasks' results in the scene, find that both have the same (), and say that this
        # bundle is made of that one
        state = named_for(scene)(quote(scene), options.captures, options.store)
        return cast("Scene", state.result(raise_on_failure=False))  # a failed gate is its bundle's, which is there
    except SceneFailedError as error:
        return error.scene
    except ConcurrencySlotAcquisitionError as error:
        refused = MachineError(
            "Prefect's server gives each scene its slot",
            found=str(error),
            remedy="see that the server runs and has room on its disk, then run the same again",
        )
        return scene.failed("", refused, seconds=time.monotonic() - started)
    except Exception as error:  # others go on
        return scene.failed("", error, seconds=time.monotonic() - started)


def _runner() -> RunStage:
    """A function of its own: clusters get a copy of the task `ingest` and of the globals that it uses."""
    return _run_stage.get()


# a scene is at one stage at a time, and none of them uses a GPU; taking a slot again for each would cost five requests
@materialize("splatyard://bundle", tags={CPU_STAGE}, cache_policy=NO_CACHE, persist_result=False)
def ingest(scene: Scene, captures: Path | None, store: str | None) -> State[Scene]:
    """Build a planned scene's bundle and show its quality; `named_for` gives the task a scene's name and lineage.

    Raises:
        SceneFailedError: When there is no bundle.
    """
    prepare = partial(fetch_plan, store=store) if store else None
    scene = build_scene(scene, captures, _runner(), *([prepare] if prepare else []))
    if scene.state == "failed":
        raise SceneFailedError(scene)
    if scene.state == "built":
        show(scene)
    return of_scene(scene)


def named_for(scene: Scene) -> Task[..., State[Scene]]:
    """The task `ingest` under the scene's name, with its captures and bundle as assets."""
    assert scene.bundle is not None
    return ingest.with_options(
        assets=[asset_key(scene.bundle)],
        asset_deps=[*map(asset_key, scene.captures)],
        task_run_name=scene.name.replace("{", "").replace("}", ""),
    )


def asset_key(path: Path) -> str:
    """A file's name as Prefect takes it for an asset."""
    return "file://" + re.sub(r"[^\w./@+=~,:-]", "_", path.as_posix(), flags=re.ASCII)[-500:]


def one_line(scene: Scene) -> str:
    """What became of a scene, on one line."""
    text = f"{scene.name}: {scene.state} in {scene.seconds:.0f} s"
    if scene.reason:
        return f"{text}, {scene.stage}: {scene.reason}"
    return f"{text}; failed gates: {', '.join(scene.failed_gates)}" if scene.failed_gates else text


def final(scenes: Sequence[Scene]) -> State[None]:
    """The state of a flow's run, with the table of its scenes attached."""
    order = ("failed", "stopped", "partial", "built", "cached")
    shown = sorted(scenes, key=lambda scene: order.index(scene.state))[:MAX_ROWS]
    table = markdown_table(["scene", "result", "why"], ((scene.name, scene.state, _why(scene)) for scene in shown))
    parts = [markdown("# {}", counts(scenes)), table]
    if len(scenes) > MAX_ROWS:
        parts.append(markdown("and {} more", str(len(scenes) - MAX_ROWS)))
    attach(joined(parts), f"batch-{flow_run.name}", "result per scene")
    return of_scenes(scenes)


def _why(scene: Scene) -> str:
    if scene.reason:
        return f"{scene.stage}: {scene.reason}"
    if scene.failed_gates:
        return f"failed gates: {', '.join(scene.failed_gates)}"
    if scene.state == "partial":
        return f"stopped after {scene.stage}, as asked for"
    return f"{len(scene.stages)} stages in {scene.seconds:.0f} s" if scene.state == "built" else ""


def show(scene: Scene) -> None:
    """Attach the quality table, some photos and a link to the report to the run."""
    assert scene.bundle is not None
    assert scene.work is not None
    bundle = Bundle.open(scene.bundle)
    failed = ", ".join(scene.failed_gates)
    verdict = markdown("**failed gates: {}**", failed) if failed else markdown("no gate fails")
    photos = [shot.thumbnail for shot in bundle.cameras if shot.thumbnail]
    images = [
        markdown(
            "![{}]({})",
            Path(name).stem,
            target(f"data:image/jpeg;base64,{base64.b64encode(bundle.path(name).read_bytes()).decode()}"),
        )
        for name in photos[:: max(1, len(photos) // THUMBNAILS)][:THUMBNAILS]
    ]
    known = run_records(scene.work, scene.bundle)
    times = [
        (name, f"{one.seconds:.1f}", f"{one.cpu_seconds:.1f}", readable(one.peak_memory), readable(one.result_bytes))
        for name, one in ((name, known[name]) for name in scene.stages)
    ]
    total = ("all", f"{scene.seconds:.1f}", "", "", "")
    parts = (
        markdown("# {} {}", scene.name, scene.bundle.name),
        markdown("{}; {}", verdict, linked("report", scene.bundle / "quality.html")),
        joined(images, " "),
        quality_markdown(bundle.quality.gates),
        markdown_table(["stage", ">seconds", ">CPU-s", ">peak memory", ">result"], [*times, total]),
    )
    attach(joined(parts), f"scene-{scene.name}", f"quality of {scene.name}")


def attach(text: Markdown, key: str, description: str) -> None:
    """Attach a text to the run; without a server only the text is lost."""
    key = re.sub("[^a-z0-9]+", "-", key.lower()).strip("-")
    try:
        create_markdown_artifact(text, key=key, description=description)
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        logger.warning("%s is not shown in Prefect: %s", key, error)
