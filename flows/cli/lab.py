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
from typing import TYPE_CHECKING, Annotated, Literal

from flows.cli import tables
from flows.cli.command import Arg, Bundles, Runs, asked, command, count, seconds, size, tcp_port
from pipeline.errors import CardError, TrainError
from pipeline.io.files import readable

if TYPE_CHECKING:
    from pipeline.running.batch import Scene
    from pipeline.running.cleaning import Piece

WHERE = "where stages run"
LIMITS = "limits of a stage: a stage that exceeds one is ended, and its scene has failed"
WHY_LENGTH = 400
"""Characters shown of a reason; the scene's file has all of it."""
RECENT = 20
"""Iterations that the speed of a training is measured over."""
STYLES = {"failed": "bold red", "lost": "bold red", "built": "green"}


@command("batch")
@dataclass(frozen=True)
class Batch:
    """Turn the captures of many scene cards into bundles.

    Builds the bundle of each card, several at the same time. A bad card or capture stops no other; run again, only what
    is missing is done. Each scene is reported as it ends, and `splatyard status` shows them then and later. Exit code
    0: all bundles exist, 1: some don't.

    Examples:
        splatyard batch 'scene_cards/*.yaml'
        splatyard batch 'scene_cards/*.yaml' --dry-run           what would be built, what exists, which cards are wrong
        splatyard batch 'scene_cards/*.yaml' --workers 4 --stage-memory 8G --stage-seconds 7200
        splatyard batch 'scene_cards/*.yaml' --captures /data/scans    captures may lie there besides the cards' folders
        splatyard batch 'scene_cards/*.yaml' --runner dask --address tcp://head:8786 --workers 32
        splatyard batch 'scene_cards/*.yaml' --runner pool --workers 8   each stage a job of Prefect's work pool
        splatyard batch 'scene_cards/*.yaml' --store s3://yard/results   share results with other machines
    """

    cards: Annotated[tuple[str, ...], Arg("scene cards: files, or patterns such as 'cards/*.yaml'", "CARDS")]
    _: KW_ONLY
    out: Bundles = Path("bundles")
    captures: Annotated[Path | None, Arg("captures may lie there besides the cards' folders", "DIR")] = None
    dry_run: Annotated[bool, Arg("show what would be built, and build nothing")] = False
    max_failures: Annotated[int | None, Arg("begin no further scene after N have failed", "N", count)] = None
    workers: Annotated[
        int | None, Arg("scenes at the same time; default: what fits this machine", "N", count, group=WHERE)
    ] = None
    runner: Annotated[Literal["processes", "dask", "ray", "pool"], Arg(group=WHERE)] = "processes"
    address: Annotated[
        str | None,
        Arg(
            "of a running Dask scheduler or Ray cluster, without it one is started here; of a pool, the deployment",
            group=WHERE,
        ),
    ] = None
    store: Annotated[
        str | None,
        Arg(
            "results that machines share: a folder, s3://bucket/path; keys and passwords go in the environment",
            "ADDRESS",
            group=WHERE,
        ),
    ] = None
    stage_seconds: Annotated[float | None, Arg("wall time", "S", seconds, group=LIMITS)] = None
    stage_memory: Annotated[int | None, Arg("memory, such as 4G or 500M", "SIZE", size, group=LIMITS)] = None

    def run(self) -> int:
        """Plan, build, report."""
        from pipeline.running.batch import counts, plan_batch

        scenes = plan_batch(self.cards, self.out, self.captures)
        if self.dry_run:
            return self._show_plan(scenes)
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")  # errors are reported here, once
        for name in ("flows", "pipeline"):
            logging.getLogger(name).propagate = False  # Prefect hangs a console on the root logger
        tables.say(f"{len(scenes)} scenes: {counts(scenes)}; splatyard status --out {tables.quoted(self.out)}")
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
        from pipeline.running.batch import counts

        states = {"cached": "cached", "waiting": ("runs", "bold")}
        rows = [(one.name, states[one.state], tables.quoted(one.card)) for one in scenes if one.state in states]
        if rows:
            tables.table("plan", ["scene", "state", "card"], rows)
        if bad := [scene for scene in scenes if scene.state == "failed"]:
            _show_outcomes("cards that can't be built", bad)
        tables.say(f"{len(scenes)} scenes: {counts(scenes)}")
        captures = [folder_bytes(scene.capture) for scene in scenes if scene.state == "waiting" and scene.capture]
        if captures:
            tables.say(f"disk: {readable(sum(captures))} of captures to build, {readable(free_bytes(self.out))} free")
        return 1 if bad else 0


@command()
def status(
    scenes: Annotated[tuple[str, ...], Arg("show what the stages of these took", "SCENE")] = (),
    *,
    out: Bundles = Path("bundles"),
    runs: Runs = Path("runs"),
    days: Annotated[int, Arg("how far back", "N", count)] = 7,
) -> int:
    """Show what was ingested, what failed and why; and the health of training actors.

    Shows each scene of the last days' builds and batches as its last attempt left it: state, time, failed gates, why it
    failed and where its report is. A running scene shows its stage. It reads files and needs no server; what a batch
    has not begun with is on the page of its run. With the name of a scene it shows what each of its stages used.

    Of trainings with actors it shows how many of those send steps, steps a second, how many iterations their policies
    were behind in the last iteration (staleness), chunks of steps that were dropped as too old or refused as wrong, and
    how many processes of actors were replaced.

    Examples:
        splatyard status
        splatyard status hall
        splatyard status --out elsewhere/bundles --days 30
    """
    from pipeline.running.batch import load_scenes

    since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    recent = [scene for scene in load_scenes(out) if scene.began >= since]
    trainings = [] if scenes else _rows_of_actors(runs, since)
    if trainings:
        columns = ["run", "state", "actors", ">steps/s", ">staleness", ">dropped", ">refused", ">replaced", ">age"]
        tables.table(f"trainings with actors in {tables.quoted(runs)}", columns, trainings)
    if not recent and trainings:
        return 0
    if not recent:
        tables.say(f"no builds in {tables.quoted(out)}; splatyard build or splatyard batch makes them")
    elif scenes:
        if unknown := set(scenes) - {scene.name for scene in recent}:
            raise CardError(
                "a scene that is asked for was built, or tried, in the last days",
                found=f"no {', '.join(sorted(unknown))}",
                remedy="`splatyard status` shows their names; look further back with --days",
            )
        for scene in recent:
            if scene.name in scenes:
                _show_stages(scene)
    else:
        _show_outcomes(f"scenes in {tables.quoted(out)}", recent)
    return 0


def _rows_of_actors(runs: Path, since: datetime.datetime) -> list[tuple[tables.Part, ...]]:
    """How actors do in each training that had an iteration since then."""
    from train.runs.run import list_runs

    rows = []
    for run in list_runs(runs):
        if not run.changed or run.changed < since:
            continue
        try:
            newest = run.curve.read()[-RECENT:]
            ending = run.ending
        except TrainError as error:
            rows.append((run.name, (error.found, "red"), *[""] * 7))
            continue
        if not newest or "actors/count" not in newest[-1]:
            continue
        of = {name.removeprefix("actors/"): f"{number:.0f}" for name, number in newest[-1].items()}
        steps, spent = (newest[-1].get(name, 0) - newest[0].get(name, 0) for name in ("steps", "seconds"))
        speed = f"{steps / spent:.0f}" if spent > 0 else of.get("steps_per_second", "-")
        numbers = [speed, *(of.get(name, "-") for name in ("staleness", "stale", "refused", "replaced"))]
        state = ("training", "green") if run.training else ("ended", "") if ending else ("killed", "red")
        age = tables.age(datetime.datetime.now(datetime.UTC) - run.changed)
        rows.append((run.name, state, f"{of.get('alive', '-')} of {of['count']}", *numbers, age))
    return rows


def _show_stages(scene: Scene) -> None:
    """What each stage of a scene took when it ran last, in the order of the stages."""
    from pipeline.running.building import run_records
    from pipeline.running.stages import STAGES

    known = run_records(scene.work, scene.bundle) if scene.work and scene.bundle else {}
    rows = [
        (
            stage,
            f"{one.seconds:.1f}",
            f"{one.cpu_seconds:.1f}",
            *map(readable, (one.peak_memory, one.input_bytes, one.result_bytes)),
        )
        for stage, one in ((stage.name, known[stage.name]) for stage in STAGES if stage.name in known)
    ]
    columns = ["stage", ">seconds", ">CPU-s", ">peak memory", ">reads", ">writes"]
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
            link = tables.quoted(tables.shown(scene.bundle / "quality.html"))
        spent = f"{datetime.timedelta(seconds=round(scene.seconds))}" if scene.seconds else ""
        rows.append((scene.name, (scene.state, STYLES.get(scene.state, "")), scene.stage, spent, gates, link))
    tables.table(title, ["scene", "state", "stage", ">time", "gates", "why, or its report"], rows)


def _days(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError(text)
    return number


@command()
def gc(
    *,
    out: Bundles = Path("bundles"),
    dry_run: Annotated[bool, Arg("show what would go, and remove nothing")] = False,
    older_than: Annotated[
        float | None, Arg("made longer ago than that", "DAYS", _days, group="what is no longer needed")
    ] = None,
    keep_below: Annotated[
        int | None,
        Arg("the oldest, until the rest has 200G, 500M ...", "SIZE", size, group="what is no longer needed"),
    ] = None,
    unreachable: Annotated[
        bool, Arg("what no bundle in the same folder was made from", group="what is no longer needed")
    ] = False,
) -> int:
    """Remove stage results that are no longer needed.

    Shows and removes what earlier builds left in the work folders: results of stages, and what interrupted runs kept to
    resume. Each rule that is given narrows the choice; without one, only the half results of killed runs go.
    Bundles and what is being built are never touched, and a build whose results were removed makes them again.

    Examples:
        splatyard gc --dry-run                            half results of killed runs, and how much is there in all
        splatyard gc --unreachable --older-than 7         results that no bundle was made from, older than a week
        splatyard gc --keep-below 200G                    the oldest results, until the rest has 200 GiB
        splatyard gc --older-than 30 --out elsewhere/bundles
    """
    from pipeline.running.cleaning import DAY, Rules, pieces, remove, unwanted

    rules = Rules(None if older_than is None else older_than * DAY, keep_below, unreachable)
    existing, now = pieces(out), time.time()
    chosen = unwanted(existing, rules, out, now)
    total = readable(_bytes(existing))
    if not chosen:
        tables.say(f"nothing to remove; {total} in the work folders of {tables.quoted(out)}")
        return 0
    kinds = {"result": "result", "resume": "kept to resume", "partial": "half result"}
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
    tables.table("no longer needed", ["scene", "stage", "what", "key", ">size", ">age"], rows)
    if dry_run:
        tables.say(f"would free {readable(_bytes(chosen))} of {total}")
        return 0
    gone = remove(chosen)
    tables.say(f"freed {readable(_bytes(gone))} of {total}")
    if len(gone) < len(chosen):
        tables.say(f"{len(chosen) - len(gone)} of them got into use meanwhile and stay")
    return 0


def _bytes(pieces: Sequence[Piece]) -> int:
    return sum(piece.bytes for piece in pieces)


@command()
def up(
    *,
    home: Annotated[Path, Arg("folder of the server's database, its password and the logs", "DIR")] = Path(
        ".splatyard"
    ),
    port: Annotated[int, Arg("of the server; the page for phones has the next one", parse=tcp_port)] = 4200,
    host: Annotated[str, Arg("address that the page for phones listens on; 0.0.0.0: the whole network")] = "127.0.0.1",
) -> int:
    """Run a lab's server and worker on this machine.

    Starts Prefect's server (for this machine and its password only), a worker and splatyard's deployments, and runs
    until Ctrl-C. Runs are started and looked at in the browser; scans in inbox/ become bundles by themselves. Phones
    upload scans on a page of their own, whose address holds a secret.

    Examples:
        splatyard up                                     in the lab's folder: bundles/, scene_cards/ and inbox/ lie here
        splatyard up --host 0.0.0.0                      phones in the same network upload scans
        splatyard up --port 4300 --home /srv/yard        another port, and another place for database and logs
    """
    from flows.server import PASSWORD, SERVER_PASSWORD
    from flows.up import PASSWORD_FILE, up
    from pipeline.io.files import machine_errors

    if os.environ.get(SERVER_PASSWORD):
        secret, show = f"that of {SERVER_PASSWORD}", f'"${SERVER_PASSWORD}"'
    else:
        secret = tables.quoted(home / PASSWORD_FILE)
        show = f'"$(cat {secret})"'

    def show_addresses(url: str, page: str) -> None:
        tables.say(f"yard       {url} shows runs, deployments and results")
        tables.say("scans      dropped in inbox/ become bundles by themselves")
        tables.say(f"phones     {page} uploads scans and shows the queue")
        tables.say(f"password   {secret}, which the page asks for once")
        tables.say(f"commands   in another terminal: export PREFECT_API_URL={url}/api")
        tables.say(f"           export {PASSWORD}={show}")
        tables.say("           prefect deployment run 'ingest-scene/scene' --param card=scene_cards/hall.yaml")
        tables.say(f"logs       {tables.quoted(home)}")
        tables.say("stop       Ctrl-C here; runs end too, and resume after their last finished stage when run again")

    inbox = Path("inbox")
    with machine_errors(inbox):
        inbox.mkdir(exist_ok=True)  # for who drops a scan before the first look
    tables.say("starting server and worker ...")
    try:
        up(home, port, show_addresses, host)
    except KeyboardInterrupt:
        tables.say("stopped")
    return 0
