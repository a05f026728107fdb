"""`splatyard status`: what became of the scenes of builds, batches and watched folders."""

from __future__ import annotations

import argparse
import datetime
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.options import count

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.batch import Batch, SceneOutcome, State

HELP = "show what was ingested, what failed and why"
DESCRIPTION = """\
Shows each scene of the last days' builds and batches as its newest attempt left it: state, time, failed gates, why it
failed and where its report is. A scene at work shows its stage. The same command again does what is missing.
With the name of a scene it shows what each of its stages took: time, CPU time, peak memory, bytes."""
EXAMPLES = """\
  splatyard status
  splatyard status hall
  splatyard status --out elsewhere/bundles --days 30"""
WHY_LENGTH = 400
"""Characters shown of a reason; the batch's file has all of it."""
STYLES = {"failed": "[bold red]failed[/]", "lost": "[bold red]lost[/]", "built": "[green]built[/]"}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `status`."""
    command.add_argument("scenes", metavar="SCENE", nargs="*", help="show what the stages of these took")
    command.add_argument("--out", type=Path, default=Path("bundles"), metavar="DIR", help="default: %(default)s")
    command.add_argument("--days", type=count, default=7, metavar="N", help="how far back (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from flows.cli import tables

    batches = list(_recent(options.out, options.days))
    if not batches:
        tables.say(f"no builds in {tables.quoted(options.out)}; splatyard build or splatyard batch makes them")
        return 0
    scenes = newest_attempts(batches)
    if options.scenes:
        for scene in _named(scenes, options.scenes):
            tables.show(stages_table(scene))
        return 0
    tables.show(outcomes_table(f"scenes in {tables.quoted(options.out)}", scenes))
    for batch in batches:
        if is_running(batch):
            tables.say(f"{'batch' if batch.cards else 'build'} {batch.id} is running: {batch.counts}")
    return 0


def _recent(out: Path, days: int) -> Iterator[Batch]:
    """The batches of the last days, the newest first."""
    from pipeline.batch import load_batches

    since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    for batch in load_batches(out):
        if batch.started < since:
            return
        yield batch


def is_running(batch: Batch) -> bool:
    """Whether there is a process that holds the batch's lock; one that was killed left it."""
    from pipeline.engine import locked
    from pipeline.errors import BusyError

    if batch.ended is not None or not batch.lock.exists():
        return False
    try:
        with locked(batch.lock, "the batch"):
            return False
    except BusyError:
        return True


def newest_attempts(batches: Iterable[Batch]) -> list[SceneOutcome]:
    """Each scene as the newest batch that tried it left it, by name; of batches that are sorted the newest first."""
    newest: dict[Path, SceneOutcome] = {}
    untried: dict[Path, SceneOutcome] = {}
    same: dict[Path, Path] = {}  # one scene may be built by its card and, by the same name, without
    for batch in batches:
        running = is_running(batch)
        for scene in batch.scenes.values():
            key = same.get(scene.card) or same.setdefault(scene.work or scene.card, scene.card)
            same.setdefault(scene.card, key)
            known = newest if running or scene.state not in ("waiting", "stopped") else untried
            known.setdefault(key, _as_it_is(scene, running=running))
    return sorted((untried | newest).values(), key=lambda scene: (scene.name, scene.card))


def _as_it_is(scene: SceneOutcome, *, running: bool) -> SceneOutcome:
    """With the stage that it is at; what a killed batch was at is `lost`, and what it had not begun `stopped`."""
    if not running:
        left: dict[State, State] = {"running": "lost", "waiting": "stopped", "busy": "stopped"}
        return scene.become(left.get(scene.state, scene.state))
    if scene.state != "running" or scene.work is None:
        return scene
    return scene.model_copy(update={"stage": stage_at_work(scene.work)})


def stage_at_work(work: Path) -> str:
    """The stage whose result is being written, or ""."""
    partial = sorted(work.glob("*/.*.partial"), key=lambda path: path.stat().st_mtime)
    return partial[-1].parent.name if partial else ""


def _named(scenes: Sequence[SceneOutcome], names: Sequence[str]) -> list[SceneOutcome]:
    """The scenes of these names.

    Raises:
        CardError: When there is none of a name.
    """
    from pipeline.errors import CardError

    if unknown := set(names) - {scene.name for scene in scenes}:
        raise CardError(
            "a scene that is asked for was built, or tried, in the last days",
            found=f"no {', '.join(sorted(unknown))}",
            remedy="`splatyard status` shows their names; look further back with --days",
        )
    return [scene for scene in scenes if scene.name in names]


def stages_table(scene: SceneOutcome) -> Table:
    """What each stage of a scene took when it ran last, in the order of the stages."""
    from rich.markup import escape

    from flows.cli import tables
    from pipeline.stages import PARAMS
    from pipeline.usage import readable, spent

    known = spent(scene.work, scene.bundle) if scene.work and scene.bundle else {}
    rows = [
        (stage, f"{one.seconds:.1f}", f"{one.cpu_seconds:.1f}", *map(readable, (one.memory, one.reads, one.writes)))
        for stage, one in ((stage, known[stage]) for stage in PARAMS if stage in known)
    ]
    columns = ["stage", ">seconds", ">CPU-s", ">peak memory", ">reads", ">writes"]
    return tables.plain_table(f"stages of {escape(scene.name)}", columns, rows)


def outcomes_table(title: str, scenes: Iterable[SceneOutcome]) -> Table:
    """State, stage, time, failed gates, and why or where."""
    from flows.cli import tables

    columns = ["scene", "state", "stage", ">time", "gates", "why, or its report"]
    return tables.plain_table(title, columns, map(_row, scenes))


def _row(scene: SceneOutcome) -> tuple[str, ...]:
    from rich.markup import escape

    from flows.cli import tables
    from flows.cli.build import shown

    gates = ""
    if scene.gates:
        gates = f"[red]{escape(', '.join(scene.failed_gates))}[/]" if scene.failed_gates else "[green]passed[/]"
    link = ""
    if scene.reason:
        link = escape(textwrap.shorten(str(scene.reason), WHY_LENGTH, placeholder=" ..."))
    elif scene.bundle and scene.state in ("built", "cached"):
        link = tables.quoted(shown(scene.bundle / "quality.html"))
    spent = f"{datetime.timedelta(seconds=round(scene.seconds))}" if scene.seconds else ""
    return escape(scene.name), STYLES.get(scene.state, scene.state), scene.stage, spent, gates, link
