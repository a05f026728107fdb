"""Many scene cards: each planned and built by itself, with a small record of its last attempt."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil

from pipeline.check.quality import QUALITY_FILE, Quality
from pipeline.errors import BusyError, CardError, MachineError
from pipeline.io.files import folder_bytes, free_bytes, no_room, readable
from pipeline.machine import available_memory
from pipeline.parallel import core_count, nothing_from_here
from pipeline.running.building import BuildRequest, BuildResult, Plan, plan, run_plan
from pipeline.running.card import Card
from pipeline.running.cards import find_cards
from pipeline.running.engine import PlannedStage, execute
from pipeline.running.needs import check_needs
from pipeline.running.records import Reason, Scene, State
from pipeline.running.settings import read_card

logger = logging.getLogger(__name__)

PROCESSES_FROM = 500
"""Number of cards from which on several processes plan them; fewer are planned before those have started."""
CHUNK = 25
MEMORY_PER_SCENE = 4 * 2**30
"""Counted for each scene that is built at the same time, where their number isn't given [bytes]; enough for some
hundred photos."""


@dataclass(frozen=True)
class Attempt:
    """How an attempt at a scene ended: with a result or an error, if it wasn't another process that built it."""

    scene: Scene
    result: BuildResult | None = None
    error: Exception | None = None


def default_workers() -> int:
    """How many scenes this machine has cores and free memory for at the same time."""
    memory = available_memory() or psutil.virtual_memory().total
    return max(1, min(core_count(), memory // MEMORY_PER_SCENE))


def plan_card(card: Path, out: Path, captures: Path | None = None, until: str | None = None) -> Plan:
    """The plan of a card, up to a stage if one is named; a scene without a name gets the card's.

    A card beside its capture, `kitchen.zip.yaml` beside `kitchen.zip`, needs neither its path nor a name. Captures may
    lie in the card's folder and in `captures`.

    Raises:
        CardError: When it can't be read or planned, names no capture, or one outside the folders it may read.
        CaptureError: As `pipeline.running.building.plan`.
    """
    content = read_card(card)
    return plan(replace(request_of(card, content, captures), out=out, until=until), content)


def request_of(card: Path, content: Card, captures: Path | None = None) -> BuildRequest:
    """What a card asks for by itself: its captures, and a name; see `plan_card`.

    Raises:
        CardError: When it names no capture, or one outside the folders it may read.
    """
    beside = card.with_suffix("")
    if content.source.path and content.sources:
        rule, found = "a card says once where its captures lie", "source.path and sources"
        raise CardError(rule, found=found, remedy="keep sources for several captures, or source.path", file=card)
    paths = content.sources or (content.source.path or (beside.name if beside.exists() else ""),)
    if not all(paths):
        raise CardError(
            "a card that is built by itself says where its captures lie, or lies beside the one",
            found=f"neither source.path, sources nor {beside.name} beside the card",
            remedy="add it: `source: {path: ...}`, or `sources: [..., ...]`",
            file=card,
        )
    allowed = [folder.expanduser().resolve() for folder in (card.parent, captures) if folder is not None]
    first, *others = [_inside(path, card, allowed) for path in paths]
    name = content.name or (first.stem if first.name == card.stem else card.stem)
    return BuildRequest(first, name=name, card=card, others=tuple(others))


def _inside(path: str, card: Path, allowed: Sequence[Path]) -> Path:
    """The capture at a card's path, within the allowed (resolved) folders; a CardError where it isn't."""
    candidates = [folder / path for folder in (card.parent, *allowed[1:])]
    try:
        source = next((candidate for candidate in candidates if candidate.exists()), candidates[0]).resolve()
    except (OSError, ValueError) as error:  # too long a name, or one with a zero byte
        rule, remedy = "a card says where its captures lie", "correct source.path or sources"
        raise CardError(rule, found=str(error)[:200], remedy=remedy, file=card) from error
    if not any(source.is_relative_to(folder) for folder in allowed):
        raise CardError(
            "a card reads only what lies in its folder",
            found=f"{path} leads to {source}",
            remedy="move the capture there, or name the folder of your captures: --captures DIR",
            file=card,
        )
    refuse_links_out(source, allowed, card)
    return source


def refuse_links_out(source: Path, allowed: Iterable[Path], card: Path) -> None:
    """Refuse a capture with a symbolic link that leads out of the allowed (resolved) folders: a bundle would show it.

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


def plan_batch(
    patterns: Iterable[str], out: Path, captures: Path | None = None, until: str | None = None
) -> list[Scene]:
    """Plan all cards, up to a stage if one is named; one that is wrong is a failed scene and stops no other.

    Raises:
        CardError: When a pattern stands for no card.
    """
    cards = find_cards(patterns)
    plan_one = partial(plan_scene, out=out, captures=captures, until=until)
    if len(cards) < PROCESSES_FROM:
        return list(_refuse_repeated(map(plan_one, cards)))
    context = multiprocessing.get_context("spawn")  # Prefect has threads, which a fork would break
    with nothing_from_here(), ProcessPoolExecutor(mp_context=context) as pool:
        return list(_refuse_repeated(pool.map(plan_one, cards, chunksize=CHUNK)))


def plan_scene(card: Path, out: Path, captures: Path | None = None, until: str | None = None) -> Scene:
    """What a card's build would do: `waiting`, with its plan, or `cached`, or `failed` where it can't be planned."""
    try:
        planned = plan_card(card, out, captures, until)
        if not planned.pending:
            return scene_of(card, planned, "cached")
        return scene_of(card, planned, "waiting").become("waiting", plan=pickle.dumps(planned))
    except Exception as error:
        return Scene(card=card, name=card.stem, state="failed", stage="plan", reason=Reason.of(error))


def build_scene(
    scene: Scene,
    captures: Path | None = None,
    run: Callable[[PlannedStage], bool] = execute,
    prepare: Callable[[Plan], None] = lambda _: None,
) -> Scene:
    """Build the bundle of a scene of `plan_scene` that is waiting; errors are part of the result.

    Before anything runs, `prepare` may fetch what a store has; for `run` see `pipeline.running.building.build`.
    """
    if scene.plan is None:
        return scene
    planned: Plan = pickle.loads(scene.plan)
    if planned.bundle_folder.exists():  # made since then, with this content or with other
        scene = plan_scene(scene.card, planned.bundle_folder.parents[1], captures, planned.stages[-1].name)
        if scene.plan is None:
            return scene
        planned = pickle.loads(scene.plan)
    try:
        prepare(planned)
    except BusyError as error:
        return scene.become("busy", reason=Reason.of(error))
    except Exception as error:
        return scene.failed("fetch", error).save(planned.bundle_folder.parents[1])
    try:
        check_needs(planned.pending, planned.traits, planned.work)
    except MachineError as error:
        return scene.failed(planned.pending[0].name, error).save(planned.bundle_folder.parents[1])
    return attempt(scene.card, planned, run).scene


def attempt(card: Path, planned: Plan, run: Callable[[PlannedStage], bool] = execute) -> Attempt:
    """Run the plan of a card (or capture) and record how it ended; raises only what stops the process."""
    scene, out = scene_of(card, planned, "running"), planned.bundle_folder.parents[1]
    started, stage = time.monotonic(), ""

    def noted(one: PlannedStage) -> bool:
        nonlocal stage
        if not stage:
            scene.save(out)  # not before: another process may be building it, and its file is the same
        stage = one.name
        return run(one)

    def seconds() -> float:
        return time.monotonic() - started

    try:
        result = run_plan(planned, noted)
        stages = {name: result.seconds[name] for name in result.executed}
        whole = planned.stages[-1].folder == planned.bundle_folder  # not where --until asked for less
        state = "cached" if not stages else "built" if whole else "partial"
        ended = scene_of(card, planned, state)
        last = stage if state == "partial" else ""
        ended = ended.become(state, stage=last, stages=stages, seconds=seconds(), began=scene.began)
        return Attempt(ended.save(out), result)
    except BusyError as error:
        return Attempt(scene.become("busy", reason=Reason.of(error), seconds=seconds()), error=error)
    except Exception as error:
        failed = scene.failed(stage or planned.pending[0].name, error, seconds=seconds())
        return Attempt(failed.save(out), error=error)
    except BaseException:
        scene.become("stopped", stage=stage, seconds=seconds()).save(out)
        raise


def check_room(scenes: Iterable[Scene], out: Path) -> None:
    """A MachineError unless the disk has room for results: at least as much as their captures have."""
    needed = sum(folder_bytes(capture) for scene in scenes for capture in scene.captures)
    if needed > free_bytes(out):
        raise no_room(out, f"the captures alone have {readable(needed)}")


def _refuse_repeated(scenes: Iterable[Scene]) -> Iterator[Scene]:
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
        yield Scene(card=scene.card, name=scene.name, state="failed", stage="plan", reason=Reason.of(error))


def scene_of(card: Path, planned: Plan, state: State) -> Scene:
    """A planned scene; with the verdict of its bundle where that exists."""
    quality = None
    if state != "waiting" and (planned.bundle_folder / QUALITY_FILE).exists():
        quality = Quality.load(planned.bundle_folder)
    return Scene(
        card=card,
        name=planned.name,
        state=state,
        gates=len(quality.gates) if quality else 0,
        failed_gates=quality.failed if quality else (),
        captures=planned.sources,
        bundle=planned.bundle_folder,
        work=planned.work,
    )
