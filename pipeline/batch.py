"""Batches: many scene cards, each planned and built on its own, and a file that says what became of each."""

from __future__ import annotations

import glob
import json
import logging
import multiprocessing
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PrivateAttr

from pipeline.building import BuildRequest, Plan, plan, read_card, run_plan
from pipeline.check.quality import QUALITY_FILE, Quality
from pipeline.engine import PlannedStage, execute, locked, machine_errors, run_record
from pipeline.errors import BusyError, CardError, SplatyardError
from pipeline.shared import fetch_plan, run_shared

logger = logging.getLogger(__name__)

FOLDER = ".batches"
ID_TIME = "%Y%m%d-%H%M%S"
SAVE_SECONDS = 1.0
"""Least time between two writes of a batch's file: that of ten thousand scenes has megabytes."""
PROCESSES_FROM = 500
"""So many cards are planned in several processes; fewer are planned before those have started."""
CHUNK = 25

State = Literal["waiting", "running", "built", "cached", "failed", "busy", "stopped", "lost"]


class Reason(BaseModel):
    """Why a scene failed, as its error says.

    Attributes:
        kind: The error's class.
        rule: What must hold.
        found: What was found instead.
        remedy: What to do.
        file: The file concerned, or "".
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    rule: str
    found: str
    remedy: str
    file: str = ""

    @staticmethod
    def of(error: BaseException) -> Reason:
        """Of any error; one that is not ours is a bug or trouble with files."""
        kind = type(error).__name__
        if isinstance(error, SplatyardError):
            return Reason(kind=kind, rule=error.rule, found=error.found, remedy=error.remedy, file=error.file or "")
        if isinstance(error, OSError):
            return Reason(
                kind=kind,
                rule="files can be read and written",
                found=error.strerror or str(error),
                remedy="check the disk or the network folder, and run the batch again",
                file=str(error.filename or ""),
            )
        remedy = "this is a bug in splatyard: report it with the scene's build.log"
        return Reason(kind=kind, rule="a stage ends with a result or a clear error", found=str(error), remedy=remedy)

    def __str__(self) -> str:
        """All of it on one line."""
        where = f"{self.file}: " if self.file else ""
        return " ".join(f"{where}{self.rule}; found: {self.found}; remedy: {self.remedy}".split())


class SceneOutcome(BaseModel):
    """What is known of one scene of a batch.

    Attributes:
        card: Its card.
        name: Of the scene and its bundle; the card's file name while the card can't be read.
        state: `waiting` or `running`; `built` or `cached` (its bundle was there); `failed`; `busy` (another process
            builds it); `stopped` (the batch ended before it); `lost` (the batch was killed at it).
        seconds: Wall time of its last attempt [s].
        stages: Wall time of each stage that ran [s].
        stage: The one that failed, or "".
        reason: Why it failed.
        gates: How many there are in its bundle.
        failed_gates: Names of those that fail.
        capture: Its source on disk.
        bundle: Folder of its bundle: where it lies, or will lie.
        work: Folder of its stages' results.
    """

    model_config = ConfigDict(frozen=True)

    card: Path
    name: str
    state: State
    seconds: float = 0.0
    stages: dict[str, float] = {}
    stage: str = ""
    reason: Reason | None = None
    gates: int = 0
    failed_gates: tuple[str, ...] = ()
    capture: Path | None = None
    bundle: Path | None = None
    work: Path | None = None

    def become(self, state: State) -> SceneOutcome:
        """The same scene in another state."""
        return self.model_copy(update={"state": state})


class Batch(BaseModel):
    """A batch and its scenes; `note` and `keep` hold its file up to date.

    Attributes:
        id: Sorts by time.
        out: Folder of bundles.
        cards: The patterns that were given; none for a single build.
        started: When.
        ended: When; None while it runs, or if it was killed.
        scenes: By card, in the cards' order.
    """

    id: str
    out: Path
    cards: tuple[str, ...]
    started: datetime
    ended: datetime | None = None
    scenes: dict[str, SceneOutcome]

    _saved: float = PrivateAttr(default=float("-inf"))
    _changed: bool = PrivateAttr(default=False)

    @staticmethod
    def of(cards: Iterable[str], out: Path, scenes: Iterable[SceneOutcome]) -> Batch:
        """A new one, whose id comes after those of `out`, even if the clock went back."""
        now = datetime.now(UTC)
        begun = now.strftime(ID_TIME)
        earlier = [file.stem[: len(begun)] for file in (out / FOLDER).glob(f"{'[0-9]' * 8}-{'[0-9]' * 6}-*.json")]
        if (last := max(earlier, default="")) >= begun:
            begun = (datetime.strptime(last, ID_TIME).replace(tzinfo=UTC) + timedelta(seconds=1)).strftime(ID_TIME)
        identity = f"{begun}-{secrets.token_hex(3)}"
        by_card = {str(scene.card): scene for scene in scenes}
        return Batch(id=identity, out=out.resolve(), cards=tuple(cards), started=now, scenes=by_card)

    @staticmethod
    def load(file: Path) -> Batch:
        """Read what `save` wrote.

        Raises:
            ValueError: When it is something else.
        """
        return Batch.model_validate_json(file.read_bytes())

    @property
    def file(self) -> Path:
        """Where it is kept."""
        return self.out / FOLDER / f"{self.id}.json"

    @property
    def log(self) -> Path:
        """What its worker processes wrote to their standard error."""
        return self.file.with_suffix(".log")

    @property
    def lock(self) -> Path:
        """Held by the process that runs it."""
        return self.file.with_suffix(".lock")

    def those(self, *states: State) -> list[SceneOutcome]:
        """The scenes in one of these states."""
        return [scene for scene in self.scenes.values() if scene.state in states]

    @property
    def sources(self) -> dict[Path, tuple[Path, Path]]:
        """Capture and work folder of each waiting scene, by card."""
        scenes = self.those("waiting")
        return {scene.card: (scene.capture, scene.work) for scene in scenes if scene.capture and scene.work}

    @property
    def counts(self) -> str:
        """Such as "17 built, 2 failed"; nothing of what there is none of."""
        states = [scene.state for scene in self.scenes.values()]
        order: tuple[State, ...] = ("built", "cached", "failed", "busy", "running", "waiting", "stopped")
        return ", ".join(f"{states.count(state)} {state}" for state in order if state in states)

    def note(self, scene: SceneOutcome) -> None:
        """Put down what became of a scene; `keep` brings it to the file."""
        self.scenes[str(scene.card)] = scene
        self._changed = True

    def keep(self) -> None:
        """Write the file if something was noted, unless that was done just now; to be called every second."""
        if self._changed and time.monotonic() >= self._saved + SAVE_SECONDS:
            self.save()

    def end(self) -> None:
        """Put down that nothing more will come."""
        for scene in self.those("running", "waiting", "busy"):
            self.scenes[str(scene.card)] = scene.become("stopped")
        self.ended = datetime.now(UTC)
        self.save()

    def save(self) -> None:
        """Write the file, whole or not at all.

        Raises:
            MachineError: When it can't be written.
        """
        with machine_errors(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            partial = self.file.with_suffix(".partial")
            partial.write_text(self.model_dump_json(indent=1))
            partial.replace(self.file)
        self._saved, self._changed = time.monotonic(), False


def find_cards(patterns: Iterable[str]) -> list[Path]:
    """The cards that file names and patterns (`*`, `**`) stand for, each once, sorted.

    Raises:
        CardError: When a pattern stands for none.
    """
    found: set[Path] = set()
    for pattern in patterns:
        expanded = str(Path(pattern).expanduser())
        cards = [Path(name) for name in glob.glob(expanded, recursive=True) if Path(name).is_file()]  # noqa: PTH207
        if not cards:
            raise CardError(
                "a batch needs scene cards",
                found=f"nothing at {pattern!r}",
                remedy="check the pattern, and quote it; `splatyard card CAPTURE` writes a card",
            )
        found.update(Path(os.path.abspath(card)) for card in cards)  # noqa: PTH100 (links are kept: paths start there)
    return sorted(found)


def plan_card(card: Path, out: Path, captures: Path | None = None) -> Plan:
    """The plan of a card; a scene without a name gets the card's.

    A card beside its capture, `kitchen.zip.yaml` beside `kitchen.zip`, needs neither its path nor a name.

    Args:
        card: Its file.
        out: Folder of bundles.
        captures: Folder that captures may lie in besides the card's own; relative paths are looked for there, too.

    Raises:
        CardError: When it can't be read or planned, names no capture, or one outside the folders it may read.
        CaptureError: As `pipeline.building.plan`.
    """
    content = read_card(card)
    beside = card.with_suffix("")
    path = content.source.path or (beside.name if beside.exists() else "")
    if not path:
        raise CardError(
            "a card of a batch says where its capture lies, or lies beside it",
            found=f"neither source.path nor {beside.name} beside the card",
            remedy="add it: `source: {path: ...}`",
            file=card,
        )
    allowed = [folder.expanduser().resolve() for folder in (card.parent, captures) if folder is not None]
    places = [folder / path for folder in (card.parent, *allowed[1:])]
    try:
        source = next((place for place in places if place.exists()), places[0]).resolve()
    except (OSError, ValueError) as error:  # too long a name, or one with a zero byte
        rule, remedy = "a card says where its capture lies", "correct source.path"
        raise CardError(rule, found=str(error)[:200], remedy=remedy, file=card) from error
    if not any(source.is_relative_to(folder) for folder in allowed):
        raise CardError(
            "a card reads only what lies in its folder",
            found=f"source.path leads to {source}",
            remedy="move the capture there, or name the folder of your captures: --captures DIR",
            file=card,
        )
    refuse_links_out(source, allowed, card)
    name = content.name or (source.stem if source.name == card.stem else card.stem)
    return plan(BuildRequest(source, name=name, card=card, out=out), content)


def refuse_links_out(source: Path, allowed: Iterable[Path], card: Path) -> None:
    """Refuse a capture with a symbolic link to what lies outside: a bundle would show it.

    Args:
        source: The capture's folder or file.
        allowed: Folders that links may lead into, resolved.
        card: For messages.

    Raises:
        CardError: At the first such link.
    """
    for folder, folders, files in os.walk(source):
        for link in (Path(folder) / name for name in (*folders, *files)):
            if link.is_symlink() and not any(link.resolve().is_relative_to(one) for one in allowed):
                raise CardError(
                    "a card reads only what lies in its folder",
                    found=f"{link} is a link to {link.resolve()}",
                    remedy="put the file itself there, or name the folder of your captures: --captures DIR",
                    file=card,
                )


def plan_batch(patterns: Iterable[str], out: Path, captures: Path | None = None) -> Batch:
    """Plan all cards; one that is wrong is a failed scene and stops no other.

    Raises:
        CardError: When a pattern stands for no card.
    """
    patterns = tuple(patterns)
    scenes = _plan_all(find_cards(patterns), partial(plan_scene, out=out, captures=captures))
    return Batch.of(patterns, out, _refuse_repeated(scenes))


def plan_scene(card: Path, out: Path, captures: Path | None = None) -> SceneOutcome:
    """What a card's build would do: `waiting`, `cached`, or `failed` where it can't be planned."""
    try:
        planned = plan_card(card, out, captures)
        return _outcome(card, planned, "waiting" if planned.pending else "cached")
    except Exception as error:
        return SceneOutcome(card=card, name=card.stem, state="failed", stage="plan", reason=Reason.of(error))


def build_scene(
    card: Path,
    out: Path,
    captures: Path | None = None,
    run: Callable[[PlannedStage], bool] = execute,
    store: str | None = None,
) -> SceneOutcome:
    """Build one card's bundle; whatever goes wrong is in the outcome.

    Args:
        card: Its file.
        out: Folder of bundles.
        captures: Folder that captures may lie in besides the card's own.
        run: Runs one stage; see `pipeline.building.build`.
        store: Address of a store that results are shared through.
    """
    started, stage = time.monotonic(), "plan"
    known = SceneOutcome(card=card, name=card.stem, state="failed")
    run_stage = run if store is None else run_shared(store, run)

    def noted(planned: PlannedStage) -> bool:
        nonlocal stage
        stage = planned.name
        return run_stage(planned)

    try:
        planned = plan_card(card, out, captures)
        known = _outcome(card, planned, "waiting")
        if store is not None:
            stage = "fetch"
            fetch_plan(planned, store)
        result = run_plan(planned, noted)
        known = _outcome(card, planned, "built" if result.executed else "cached")
        told = {"stages": {name: result.seconds[name] for name in result.executed}}
    except BusyError as error:
        told = {"state": "busy", "reason": Reason.of(error)}
    except Exception as error:
        told = {"state": "failed", "stage": stage, "reason": Reason.of(error)}
    return known.model_copy(update=told | {"seconds": time.monotonic() - started})


@contextmanager
def noted(planned: Plan, card: Path | None, out: Path) -> Iterator[None]:
    """A build of one scene leaves what became of it as a batch does, for `splatyard status`.

    Args:
        planned: The build.
        card: Its card, if it has one; else its capture stands for it.
        out: Folder of bundles.
    """
    card = card.absolute() if card else planned.stages[0].inputs["source"]
    batch = Batch.of((), out, [_outcome(card, planned, "running")])
    started, pending = time.monotonic(), planned.pending
    told: dict[str, Any] = {"state": "failed"}
    try:
        with locked(batch.lock, f"the build {batch.id}"):
            batch.save()
            yield
            done = _outcome(card, planned, "built" if planned.bundle_folder.exists() else "stopped")
            records = {stage.name: json.loads(run_record(stage.folder).read_text()) for stage in pending}
            told = dict(done) | {"stages": {name: record["seconds"] for name, record in records.items()}}
            told |= {} if done.state == "built" else {"stage": planned.stages[-1].name}  # as --until wanted it
    except BusyError:
        told = {"state": "busy"}
        raise
    except Exception as error:
        told |= {"stage": _missing(pending), "reason": Reason.of(error)}
        raise
    except BaseException:
        told = {"state": "stopped", "stage": _missing(pending)}
        raise
    finally:
        (scene,) = batch.scenes.values()
        batch.note(scene.model_copy(update=told | {"seconds": time.monotonic() - started}))
        batch.end()


def _missing(pending: Sequence[PlannedStage]) -> str:
    """The first stage without a result, or ""."""
    return next((stage.name for stage in pending if not stage.folder.exists()), "")


def load_batches(out: Path) -> Iterator[Batch]:
    """The batches of a folder of bundles, the newest first; files that are none are left out."""
    for file in sorted((out / FOLDER).glob("*.json"), reverse=True):
        try:
            yield Batch.load(file)
        except (OSError, ValueError) as error:
            logger.warning("%s is no batch: %s", file, str(error).partition("\n")[0])


def _plan_all(cards: list[Path], plan_one: Callable[[Path], SceneOutcome]) -> list[SceneOutcome]:
    if len(cards) < PROCESSES_FROM:
        return list(map(plan_one, cards))
    context = multiprocessing.get_context("spawn")  # Prefect has threads, which a fork would break
    with ProcessPoolExecutor(mp_context=context) as pool:
        return list(pool.map(plan_one, cards, chunksize=CHUNK))


def _refuse_repeated(scenes: Iterable[SceneOutcome]) -> Iterator[SceneOutcome]:
    """Two cards of one name would both become its next version, and only one could."""
    cards: dict[Path, Path] = {}
    for scene in scenes:
        first = cards.setdefault(scene.work, scene.card) if scene.work else scene.card
        if first == scene.card:
            yield scene
            continue
        error = CardError(
            "each card of a batch makes a scene of its own name",
            found=f"{first.name} makes {scene.name!r} too",
            remedy="change `name` in one of them, or leave one out",
            file=scene.card,
        )
        yield SceneOutcome(card=scene.card, name=scene.name, state="failed", stage="plan", reason=Reason.of(error))


def _outcome(card: Path, planned: Plan, state: State) -> SceneOutcome:
    quality = None
    if state != "waiting" and (planned.bundle_folder / QUALITY_FILE).exists():
        quality = Quality.load(planned.bundle_folder)
    return SceneOutcome(
        card=card,
        name=planned.name,
        state=state,
        gates=len(quality.gates) if quality else 0,
        failed_gates=quality.failed if quality else (),
        capture=planned.stages[0].inputs["source"],
        bundle=planned.bundle_folder,
        work=planned.work,
    )
