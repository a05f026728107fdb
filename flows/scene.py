"""One scene as Prefect tasks: its card's stages, what they show in Prefect's pages, and its lineage."""

from __future__ import annotations

import base64
import logging
import re
from pathlib import Path
from typing import Any

import httpx
from prefect.artifacts import create_markdown_artifact
from prefect.assets import materialize
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Completed
from prefect.tasks import Task

from flows.stage import run_stage
from flows.yard import CPU_STAGE
from pipeline.batch import SceneOutcome, build_scene
from pipeline.engine import PlannedStage
from pipeline.usage import readable, spent

logger = logging.getLogger(__name__)

THUMBNAILS = 4
"""So many photos are shown with a scene; they are kept in Prefect's database, at 5 kB each."""


class SceneFailedError(Exception):
    """Raised to mark a scene's run as failed.

    Args:
        scene: What became of it.
    """

    def __init__(self, scene: SceneOutcome) -> None:
        super().__init__(scene)
        self.scene = scene

    def __str__(self) -> str:
        return f"{self.scene.name}: {self.scene.stage}: {self.scene.reason}"


# a scene is at one stage at a time, and none of them uses a GPU; taking a place anew for each would cost five requests
@materialize("splatyard://bundle", tags={CPU_STAGE}, cache_policy=NO_CACHE, persist_result=False)
def ingest(
    card: Path, out: Path, captures: Path | None, seconds: float | None, memory: int | None, store: str | None
) -> State[SceneOutcome]:
    """Build one card's bundle and show its quality; `named_for` gives the task a scene's name and lineage.

    Raises:
        SceneFailedError: When there is no bundle.
    """

    def run(planned: PlannedStage) -> bool:
        return bool(run_stage(planned.name, planned, seconds, memory))

    scene = build_scene(card, out, captures, run, store)
    if scene.state == "failed":
        raise SceneFailedError(scene)
    if scene.state == "built":
        show(scene)
        return Completed(message=f"bundle: {scene.bundle}", data=scene)
    where = "another process builds it" if scene.state == "busy" else f"was there: {scene.bundle}"
    return Completed(name="Cached", message=where, data=scene)


def named_for(scene: SceneOutcome) -> Task[Any, State[SceneOutcome]]:
    """The task `ingest` under the scene's name, as what makes its bundle of its capture."""
    assert scene.capture is not None
    assert scene.bundle is not None
    return ingest.with_options(
        assets=[asset_key(scene.bundle)],
        asset_deps=[asset_key(scene.capture)],
        task_run_name=scene.name.replace("{", "").replace("}", ""),
    )


def asset_key(path: Path) -> str:
    """A file's name as Prefect takes it for an asset."""
    return "file://" + re.sub(r"[^\w./@+=~,:-]", "_", path.as_posix(), flags=re.ASCII)[-500:]


def show(scene: SceneOutcome) -> None:
    """Attach the quality table, some photos and the way to the report to the run."""
    from flows.view import quality_markdown
    from pipeline import Bundle

    assert scene.bundle is not None
    bundle = Bundle.open(scene.bundle)
    report = scene.bundle / "quality.html"
    title = f"# {scene.name} {scene.bundle.name}"
    verdict = f"**failed gates: {', '.join(scene.failed_gates)}**" if scene.failed_gates else "no gate fails"
    link = f"[report]({report.as_uri()}) `{report}`"
    parts = [title, f"{verdict}; {link}", _thumbnails(bundle), quality_markdown(bundle.quality.gates), _times(scene)]
    attach("\n\n".join(parts), f"scene-{scene.name}", f"quality of {scene.name}")


def attach(markdown: str, key: str, description: str) -> None:
    """Attach a text to the run; a server that is away costs the text, not the work."""
    key = re.sub("[^a-z0-9]+", "-", key.lower()).strip("-")
    try:
        create_markdown_artifact(markdown, key=key, description=description)
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        logger.warning("%s is not shown in Prefect: %s", key, error)


def _thumbnails(bundle: Any) -> str:
    """Some photos from all over the capture, as pictures within the text."""
    shown = [shot.thumbnail for shot in bundle.cameras if shot.thumbnail]
    chosen = shown[:: max(1, len(shown) // THUMBNAILS)][:THUMBNAILS]
    packed = [base64.b64encode(bundle.path(name).read_bytes()).decode() for name in chosen]
    return " ".join(
        f"![{Path(name).stem}](data:image/jpeg;base64,{data})" for name, data in zip(chosen, packed, strict=True)
    )


def _times(scene: SceneOutcome) -> str:
    assert scene.work is not None
    assert scene.bundle is not None
    known = spent(scene.work, scene.bundle)
    rows = [
        f"| {name} | {one.seconds:.1f} | {one.cpu_seconds:.1f} | {readable(one.memory)} | {readable(one.writes)} |"
        for name, one in ((name, known[name]) for name in scene.stages)
    ]
    head = ["| stage | seconds | CPU-s | peak memory | result |", "| --- | ---: | ---: | ---: | ---: |"]
    return "\n".join([*head, *rows, f"| all | {scene.seconds:.1f} | | | |"])
