"""Many scenes: built as a batch, their state, what to remove of their results, and a lab's server."""

from __future__ import annotations

import datetime
import logging
import os
import textwrap
import time
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from flows.cli import tables
from flows.cli.build import Until
from flows.cli.command import Arg, AsJson, Bundles, Runs, asked, command, count, seconds, size, tcp_port
from pipeline.errors import CardError, TrainError
from pipeline.io.files import readable
from pipeline.running.cards import find_cards

if TYPE_CHECKING:
    from pipeline.running.building import RunRecord
    from pipeline.running.cleaning import Piece
    from pipeline.running.records import Scene

WHERE = "where stages run"
LIMITS = "limits of a stage: a stage that exceeds one is stopped, and its scene fails"
WHY_LENGTH = 400
"""Characters shown of a reason; the scene's file has all of it."""
RECENT = 20
"""Iterations that the speed of a training is measured over."""
ACTORS = ("count", "alive", "staleness", "stale", "refused", "replaced")
"""What the curve says of a training's actors."""
STYLES = {"failed": "bold red", "lost": "bold red", "built": "green"}


@command("batch", resumes=True)
@dataclass(frozen=True)
class Batch:
    """Build the bundles of many scene cards.

    Builds several bundles at the same time. A bad card or capture stops no other scene. Run again, it builds only what
    is missing. `splatyard scene status` shows the state of each scene. Exit code 0: all bundles exist, 1: some don't.

    Examples:
        splatyard scene batch 'scene_cards/*.yaml'
        splatyard scene batch 'scene_cards/*.yaml' --dry-run           the plan, and which cards are wrong
        splatyard scene batch 'scene_cards/*.yaml' --workers 4 --stage-memory 8G --stage-seconds 7200
        splatyard scene batch 'scene_cards/*.yaml' --captures /data/scans    captures in another folder
        splatyard scene batch 'scene_cards/*.yaml' --runner dask --address tcp://head:8786 --workers 32
        splatyard scene batch 'scene_cards/*.yaml' --runner pool --workers 8   stages as jobs of a Prefect work pool
        splatyard scene batch 'scene_cards/*.yaml' --store s3://yard/results   share stage results between machines
    """

    cards: Annotated[
        tuple[str, ...], Arg("scene cards: files, or patterns such as 'cards/*.yaml'", "CARDS", check=find_cards)
    ]
    _: KW_ONLY
    out: Bundles = Path("bundles")
    captures: Annotated[Path | None, Arg("folder of captures, besides the folders of the cards", "DIR")] = None
    dry_run: Annotated[bool, Arg("show the plan, build nothing")] = False
    until: Until = None
    max_failures: Annotated[int | None, Arg("start no more scenes after N failures", "N", count)] = None
    workers: Annotated[
        int | None, Arg("scenes built at the same time; default: as many as fit this machine", "N", count, group=WHERE)
    ] = None
    runner: Annotated[Literal["processes", "dask", "ray", "pool"], Arg("how stages are run", group=WHERE)] = "processes"
    address: Annotated[
        str | None,
        Arg(
            "running Dask scheduler or Ray cluster (default: start one here), or the pool's deployment",
            group=WHERE,
        ),
    ] = None
    store: Annotated[
        str | None,
        Arg(
            "stage results shared by machines: a folder or s3://bucket/path; credentials from the environment",
            "ADDRESS",
            group=WHERE,
        ),
    ] = None
    stage_seconds: Annotated[float | None, Arg("wall time per stage", "S", seconds, group=LIMITS)] = None
    stage_memory: Annotated[int | None, Arg("memory per stage, such as 4G or 500M", "SIZE", size, group=LIMITS)] = None

    def run(self) -> int:
        """Plan, build, report."""
        from pipeline.running.batch import plan_batch
        from pipeline.running.records import counts

        scenes = plan_batch(self.cards, self.out, self.captures)
        if self.dry_run:
            return self._show_plan(scenes)
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")  # errors are reported here, once
        for name in ("flows", "pipeline"):
            logging.getLogger(name).propagate = False  # Prefect hangs a console on the root logger
        tables.say(
            f"{len(scenes)} scenes: {counts(scenes)}; watch: splatyard scene status --out {tables.quoted(self.out)}"
        )
        scenes = self._build(scenes)
        tables.say((counts(scenes), "bold"))
        bad = [scene for scene in scenes if scene.state in ("failed", "stopped")]
        if bad:
            _show_outcomes("not built", bad)
        return 1 if bad else 0

    def _build(self, scenes: list[Scene]) -> list[Scene]:
        if not any(scene.state == "waiting" for scene in scenes):
            return [scene.save(self.out) for scene in scenes]
        from flows import ingest

        return ingest.run(scenes, self.out, asked(ingest.Options, self))

    def _show_plan(self, scenes: list[Scene]) -> int:
        from pipeline.io.files import folder_bytes, free_bytes
        from pipeline.running.records import counts

        states = {"cached": "cached", "waiting": ("runs", "bold")}
        rows = [(one.name, states[one.state], tables.quoted(one.card)) for one in scenes if one.state in states]
        if rows:
            tables.table("plan", ["scene", "state", "card"], rows)
        if bad := [scene for scene in scenes if scene.state == "failed"]:
            _show_outcomes("invalid cards", bad)
        tables.say(f"{len(scenes)} scenes: {counts(scenes)}")
        captures = [folder_bytes(path) for scene in scenes if scene.state == "waiting" for path in scene.captures]
        if captures:
            tables.say(
                f"disk: captures to build have {readable(sum(captures))}, {readable(free_bytes(self.out))} are free"
            )
        return 1 if bad else 0


@command()
def status(
    scenes: Annotated[tuple[str, ...], Arg("show time and memory of this scene's stages", "SCENE")] = (),
    *,
    out: Bundles = Path("bundles"),
    runs: Runs = Path("runs"),
    days: Annotated[int, Arg("days to look back", "N", count)] = 7,
    as_json: AsJson = False,
) -> int:
    """Show the state of builds and batches, and the health of training actors.

    Shows the latest attempt of each scene: state, stage, time, failed gates, and its report or the reason it failed.
    Reads files and needs no server. Scenes that a batch has not started yet are not shown. With the name of a scene,
    shows time, memory and data of each stage.

    For trainings with actors, shows the live actors, steps per second, the age of their policies in iterations
    (staleness), chunks of steps dropped as too old or refused as invalid, and actor processes replaced.

    Examples:
        splatyard scene status
        splatyard scene status hall
        splatyard scene status --out elsewhere/bundles --days 30
    """
    from pipeline.running.records import load_scenes
    from train.runs.folders import run_files

    since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    recent = [scene for scene in load_scenes(out) if scene.began >= since]
    if unknown := set(scenes) - {scene.name for scene in recent}:
        raise CardError(
            "a scene was built, or failed to build, in the last days",
            found=f"no {', '.join(sorted(unknown))}",
            remedy="`splatyard scene status` lists the scenes; look further back with --days",
        )
    trainings = [] if scenes or not run_files(runs) else _trainings_with_actors(runs, since)
    if as_json:
        shown = [{**scene.model_dump(), "used": _used(scene)} for scene in recent if not scenes or scene.name in scenes]
        tables.show_json({"scenes": shown, "trainings": trainings})
        return 0
    if trainings:
        columns = ["run", "state", "actors", ">steps/s", ">staleness", ">dropped", ">refused", ">replaced", ">age"]
        tables.table(f"trainings with actors in {tables.quoted(runs)}", columns, map(_training_row, trainings))
    if not recent and trainings:
        return 0
    if not recent:
        tables.say(f"no builds in {tables.quoted(out)}; start one with splatyard build or splatyard scene batch")
    elif scenes:
        for scene in recent:
            if scene.name in scenes:
                _show_stages(scene)
    else:
        _show_outcomes(f"scenes in {tables.quoted(out)}", recent)
    return 0


def _trainings_with_actors(runs: Path, since: datetime.datetime) -> list[dict[str, object]]:
    """State, speed and actors of each training that had an iteration since then; `error` of one that is damaged."""
    from train.runs.run import list_runs

    found = list[dict[str, object]]()
    for run in list_runs(runs):
        if not run.changed or run.changed < since:
            continue
        try:
            newest = run.curve.read()[-RECENT:]
            state = "training" if run.training else "ended" if run.ending else "killed"
        except TrainError as error:
            found.append({"run": run.name, "error": error.found})
            continue
        if not newest or "actors/count" not in newest[-1]:
            continue
        last = {name.removeprefix("actors/"): number for name, number in newest[-1].items()}
        steps, spent = (newest[-1].get(name, 0) - newest[0].get(name, 0) for name in ("steps", "seconds"))
        speed = steps / spent if spent > 0 else last.get("steps_per_second")
        known: dict[str, object] = {"run": run.name, "state": state, "changed": run.changed, "steps_per_second": speed}
        found.append(known | {name: last.get(name) for name in ACTORS})
    return found


def _training_row(known: dict[str, Any]) -> tuple[tables.Part, ...]:
    if "error" in known:
        return known["run"], (known["error"], "red"), *[""] * 7
    count, alive, *numbers = (
        "-" if known[name] is None else f"{known[name]:.0f}" for name in (*ACTORS[:2], "steps_per_second", *ACTORS[2:])
    )
    styles = {"training": "green", "killed": "red"}
    age = tables.age(datetime.datetime.now(datetime.UTC) - known["changed"])
    return known["run"], (known["state"], styles.get(known["state"], "")), f"{alive} of {count}", *numbers, age


def _used(scene: Scene) -> list[RunRecord]:
    """What each stage of a scene took when it ran last, in the order of the stages."""
    from pipeline.running.building import run_records
    from pipeline.running.stages import STAGES

    known = run_records(scene.work, scene.bundle) if scene.work and scene.bundle else {}
    return [known[stage.name] for stage in STAGES if stage.name in known]


def _show_stages(scene: Scene) -> None:
    rows = [
        (
            one.stage,
            f"{one.seconds:.1f}",
            f"{one.cpu_seconds:.1f}",
            *map(readable, (one.peak_memory, one.input_bytes, one.result_bytes)),
        )
        for one in _used(scene)
    ]
    columns = ["stage", ">seconds", ">CPU-s", ">peak memory", ">input", ">output"]
    tables.table(f"stages of {scene.name}", columns, rows)


def _show_outcomes(title: str, scenes: Iterable[Scene]) -> None:
    """State, stage, time, failed gates, and why or where."""
    rows: list[tuple[tables.Part, ...]] = []
    for scene in scenes:
        failed = ", ".join(scene.failed_gates)
        gates = (failed, "red") if failed else ("passed" if scene.gates else "", "green")
        link = ""
        if scene.reason:
            link = textwrap.shorten(str(scene.reason), WHY_LENGTH, placeholder=" ...")
        elif scene.bundle and scene.state in ("built", "cached"):
            report = scene.bundle / "quality.html"
            link = tables.quoted(tables.shown(report)) if report.exists() else "deleted"
        spent = f"{datetime.timedelta(seconds=round(scene.seconds))}" if scene.seconds else ""
        rows.append((scene.name, (scene.state, STYLES.get(scene.state, "")), scene.stage, spent, gates, link))
    tables.table(title, ["scene", "state", "stage", ">time", "gates", "report, or reason"], rows)


def _days(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError(text)
    return number


@command()
def gc(
    *,
    out: Bundles = Path("bundles"),
    dry_run: Annotated[bool, Arg("show what would be removed, remove nothing")] = False,
    older_than: Annotated[float | None, Arg("results older than this", "DAYS", _days, group="what to remove")] = None,
    keep_below: Annotated[
        int | None,
        Arg("the oldest results, until the rest fits 200G, 500M ...", "SIZE", size, group="what to remove"),
    ] = None,
    unreachable: Annotated[
        bool, Arg("results that no bundle in the folder was made from", group="what to remove")
    ] = False,
) -> int:
    """Remove cached stage results.

    Lists and removes what builds left in the work folders: results of stages, and files that interrupted runs kept to
    resume. Rules combine: only what matches all of them is removed. Without a rule, only partial results of killed runs
    are removed. Bundles and running builds are never touched; a build recomputes results that are gone.

    Examples:
        splatyard scene gc --dry-run                            partial results of killed runs, and the total size
        splatyard scene gc --unreachable --older-than 7         unused results older than a week
        splatyard scene gc --keep-below 200G                    the oldest results, until the rest has 200 GiB
        splatyard scene gc --older-than 30 --out elsewhere/bundles
    """
    from pipeline.running.cleaning import DAY, Rules, pieces, remove, unwanted

    rules = Rules(None if older_than is None else older_than * DAY, keep_below, unreachable)
    existing, now = pieces(out), time.time()
    chosen = unwanted(existing, rules, out, now)
    total = readable(_bytes(existing))
    if not chosen:
        tables.say(f"nothing to remove; {total} in the work folders of {tables.quoted(out)}")
        return 0
    kinds = {"result": "result", "resume": "kept to resume", "partial": "partial result"}
    rows = [
        (
            piece.scene,
            piece.stage,
            kinds[piece.kind],
            piece.result.name,
            readable(piece.bytes),
            tables.age(datetime.timedelta(seconds=now - piece.made)),
        )
        for piece in chosen
    ]
    tables.table("to remove", ["scene", "stage", "kind", "key", ">size", ">age"], rows)
    if dry_run:
        tables.say(f"would free {readable(_bytes(chosen))} of {total}")
        return 0
    gone = remove(chosen)
    tables.say(f"freed {readable(_bytes(gone))} of {total}")
    if len(gone) < len(chosen):
        tables.say(f"kept {len(chosen) - len(gone)} that a build started to use meanwhile")
    return 0


def _bytes(pieces: Sequence[Piece]) -> int:
    return sum(piece.bytes for piece in pieces)


@command()
def up(
    *,
    home: Annotated[Path, Arg("folder for the server's database, password and logs", "DIR")] = Path(".splatyard"),
    port: Annotated[int, Arg("TCP port of the server; the page for phones has the next one", parse=tcp_port)] = 4200,
    host: Annotated[str, Arg("address that the page for phones listens on; 0.0.0.0: the whole network")] = "127.0.0.1",
) -> int:
    """Run a lab's server and worker on this machine.

    Starts a Prefect server (local, with a password), a worker and splatyard's deployments, and runs until Ctrl-C. Start
    and watch runs in the browser. Scans put into inbox/ are built automatically. Phones upload scans on a page of their
    own, whose address holds a secret.

    Examples:
        splatyard up                                     in the lab's folder, with bundles/, scene_cards/ and inbox/
        splatyard up --host 0.0.0.0                      phones in the same network upload scans
        splatyard up --port 4300 --home /srv/yard        another port and folder
    """
    from flows.server import PASSWORD, SERVER_PASSWORD
    from flows.up import PASSWORD_FILE, up
    from pipeline.io.files import machine_errors

    if os.environ.get(SERVER_PASSWORD):
        secret, show = f"the value of {SERVER_PASSWORD}", f'"${SERVER_PASSWORD}"'
    else:
        secret = tables.quoted(home / PASSWORD_FILE)
        show = f'"$(cat {secret})"'

    def show_addresses(url: str, page: str) -> None:
        tables.say(f"yard       {url} shows runs, deployments and results")
        tables.say("scans      put them into inbox/: they are built automatically")
        tables.say(f"phones     {page} uploads scans and shows the queue")
        tables.say(f"password   {secret}; the page asks for it once")
        tables.say(f"commands   in another terminal: export PREFECT_API_URL={url}/api")
        tables.say(f"           export {PASSWORD}={show}")
        tables.say("           prefect deployment run 'ingest-scene/scene' --param card=scene_cards/hall.yaml")
        tables.say(f"logs       {tables.quoted(home)}")
        tables.say("stop       Ctrl-C; runs stop too, and resume after their last finished stage when started again")

    inbox = Path("inbox")
    with machine_errors(inbox):
        inbox.mkdir(exist_ok=True)  # for who drops a scan before the first look
    tables.say("starting server and worker ...")
    try:
        up(home, port, show_addresses, host)
    except KeyboardInterrupt:
        tables.say("stopped")
    return 0
