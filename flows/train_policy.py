"""From a bundle to a policy, its metrics and its film as a Prefect flow: what the commands do, nothing else."""

from __future__ import annotations

import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.assets import materialize
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed
from prefect.tasks import Task
from pydantic import Field

from flows.ingest import asset_key
from flows.markdown import joined, markdown, markdown_table
from flows.reports import link_to, linked
from flows.stage import GPU_STAGE, Count
from pipeline.errors import MissingBundleError, TrainError
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.references import HUB, Reference, may_be_published

if TYPE_CHECKING:
    from train.request import TrainRequest

LOOK_SECONDS = 5.0
"""Between two checks for a bundle."""
FILM = "film.mp4"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@task(cache_policy=NO_CACHE, persist_result=False)
def wait_for_bundle(scene: str, minutes: float) -> list[str]:
    """Wait until there is a bundle for `splatyard train --scene`; a build publishes it when it is whole.

    Raises:
        TrainError: When there is none by then.
        BundleError: When the registry is damaged, or no bundle can have that name.
    """
    from sim.scene.sources import find_sources

    end = time.monotonic() + 60 * minutes
    while True:
        try:
            return find_sources([scene])
        except MissingBundleError as error:
            if not may_be_published(scene):
                raise
            name = Reference.parse(scene).name
            if time.monotonic() >= end:
                raise TrainError(
                    f"the bundle to train in is there within {minutes:g} minutes",
                    found=error.found,
                    remedy=f"build it (splatyard build ... --name {name}), or raise wait_minutes",
                ) from error
        time.sleep(LOOK_SECONDS)


@task(cache_policy=NO_CACHE, persist_result=False)
def train(request: TrainRequest, minutes: float | None) -> Path:
    """Train a policy; returns the folder of its run."""
    from train.session import train_run

    logger = get_run_logger()
    run, places = request.open()
    settings = run.preset
    logger.info("run %s", run.folder)

    def report(row: dict[str, float]) -> None:
        if row["iteration"] % settings.save_interval == 0:
            share = f"{row['success']:.0%}" if "success" in row else "no episode has ended yet"
            logger.info("iteration %d of %d: success %s", row["iteration"], settings.iterations, share)

    train_run(run, places.scenes, iterations=settings.iterations, minutes=minutes, watch=report, unseen=places.unseen)
    if (ending := run.ending) and ending.early:
        logger.warning(
            "training stopped early, after %s; splatyard train --resume %s continues it", ending.early, run.folder
        )
    return run.folder.resolve()


@task(cache_policy=NO_CACHE, persist_result=False)
def film(folder: Path) -> Path:
    """Write a film of the policy at work."""
    from train.runs.play import write_video
    from train.runs.run import Run

    write_video(Run.open(folder), folder / FILM)
    return folder / FILM


@task(cache_policy=NO_CACHE, persist_result=False)
def evaluate(folder: Path, episodes: int, device: str) -> Path:
    """Measure the policy; returns its report."""
    from train.runs.requests import EvaluationRequest

    return EvaluationRequest(names=[str(folder)], episodes=episodes, device=device).of_run()[-1]


@materialize("splatyard://policy", cache_policy=NO_CACHE, persist_result=False)
def attach(folder: Path, report: Path, film: Path) -> None:
    """Show the metrics, the report and the film with the flow's run; `made_of` gives it the policy's assets."""
    from train.runs.results import FILE, read_results

    results = read_results(folder / FILE)
    lines = results.lines()
    columns = ["ablation", "scene", *(f"{name}, 95 % interval" for name in lines[0].shares), "episodes"]
    rows = [[line.ablation, line.scene, *map(str, line.shares.values()), str(line.episodes)] for line in lines]
    early = results.stopped_early
    parts = [
        markdown("# {}: {}", results.run, results.task),
        *([markdown("Training stopped early, after {}.", early)] if early else []),
        markdown_table(columns, rows),
        markdown("{}, {}, run {}", linked("report", report), linked("film", film), str(folder)),
    ]
    create_markdown_artifact(joined(parts), key="policy", description="metrics of the policy")
    for text, file in (("report", report), ("film", film)):
        if link := link_to(file):
            create_link_artifact(link, text, key=f"policy-{text}")


def made_of(sources: list[str], folder: Path) -> Task[..., None]:
    """The task `attach` with the policy of a run as its asset, made of its bundles; procedural ground is none."""
    from sim.scene.sources import TERRAIN

    return attach.with_options(
        assets=[asset_key(folder)],
        asset_deps=[bundle_key(source) for source in sources if not source.startswith(TERRAIN)],
    )


def bundle_key(source: str) -> str:
    """Prefect's asset of a bundle, the one that its build made; for a bundle on the hub its reference."""
    if source.startswith(HUB):
        return source
    folder = Path(source).expanduser()
    return asset_key((folder if folder.is_dir() else Bundle.open(source).root).resolve())


@flow(name="train-policy", flow_run_name="train-{preset}-{scene}", persist_result=False)
def train_policy(
    scene: str,
    preset: str = "navigate",
    iterations: Count | None = None,
    minutes: Positive | None = None,
    seed: int = 0,
    hold_out: str = "",
    test: list[str] | None = None,
    episodes: Count = 200,
    device: str = "cpu",
    runs: Path = Path("runs"),
    wait_minutes: Annotated[float, Field(ge=0)] = 60.0,
) -> State[Path]:
    """Wait for a bundle, train a policy in it, measure it, and attach metrics, report and film.

    Nothing is retried: it would fail again; training can be resumed from the run's folder.

    Args:
        scene: A bundle: a folder, name@version, name for its newest, a pattern, or hf://owner/repository/name@version;
            or procedural ground, terrain:0.
        preset: What is trained and how: a preset's name or its YAML file.
        iterations: Iterations of training; the preset's by default.
        minutes: Time limit: training stops early then, and says so.
        seed: Random seed.
        hold_out: Share or number of the bundles that the policy never trains in, and is measured in: 20% or 4.
        test: Bundles that it never trains in, and that nothing is decided by; each as scene.
        episodes: To measure the policy in, in each scene and under each ablation.
        device: Device of networks and images: cpu, cuda, or cuda:1 and so on.
        runs: Folder in which the run's folder is made.
        wait_minutes: How long to wait for the bundle.

    Returns:
        The run's folder.
    """
    from train.request import TrainRequest

    sources, *others = (wait_for_bundle(one, wait_minutes) for one in (scene, *(test or ())))
    tags = {GPU_STAGE} if device.startswith("cuda") else set[str]()
    request = TrainRequest(
        preset,
        sources,
        hold_out=hold_out,
        test=[*chain(*others)],
        iterations=iterations,
        seed=seed,
        device=device,
        runs=runs,
    )
    folder = train.with_options(tags=tags)(request, minutes)
    shown = film(folder)  # the report shows the films that there are
    report = evaluate.with_options(tags=tags)(folder, episodes, device)
    made_of(sources, folder)(folder, report, shown)
    return Completed(message=summary(folder), data=folder)


def summary(folder: Path) -> str:
    """How good a run's policy is without ablation, where it trained and elsewhere, on one line.

    It also says whether it was trained for less than planned.
    """
    from train.runs.results import FILE, read_results

    results = read_results(folder / FILE)
    line = results.lines()[0]
    parts = [f"{line.scene}: {name} {share}" for name, share in line.shares.items()]
    parts += [f"{kind}: success {one.evaluations[0].success()}" for kind, one in results.unseen.items()]
    return "; ".join([*parts, *([f"stopped early, after {results.stopped_early}"] if results.stopped_early else [])])
