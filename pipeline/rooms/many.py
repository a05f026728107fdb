"""Many rooms in one folder: on all cores, each whole or not at all; those that exist are kept."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.errors import CardError, MachineError
from pipeline.io.files import machine_errors
from pipeline.io.results import locked, partial_result
from pipeline.parallel import core_count, end_with_parent, inherited, nothing_from_here, share_of_cores
from pipeline.parameters import Settings
from pipeline.progress import track
from pipeline.rooms.bundle import VERSION, write_room
from pipeline.rooms.likeness import palette_of
from pipeline.rooms.recipe import LAST_SEED, Feature, Recipe, name_of
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.manifest import MANIFEST_FILE

FEW = 8
"""Rooms from which on other processes make them, one for so many at least."""


class RoomsParams(Settings):
    """What a user asks for."""

    count: Annotated[int, Field(ge=1, le=10_000)]
    """How many rooms."""
    seed: Annotated[int, Field(ge=0, le=LAST_SEED)] = 0
    """Seed of the first one; the others have those that follow."""
    scanned: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How much they look like scans, at most; 0 is clean."""
    feature: Feature | None = None
    """What each has."""


@dataclass(frozen=True)
class MadeRooms:
    """Folders of all bundles that were asked for, and how many of them were there before."""

    folders: tuple[Path, ...]
    kept: int


def recipe_for(params: RoomsParams, like: str | None) -> Recipe:
    """The recipe of a run; `like` names the bundle whose colours the rooms take over.

    Raises:
        BundleError: When there is no such bundle, or it has no colours to take over.
    """
    if like is None:
        return Recipe(params.scanned, feature=params.feature)
    bundle = Bundle.open(like)
    licence = bundle.manifest.provenance.licence  # whose the colours are is for lawyers: the stricter one
    return Recipe(params.scanned, palette_of(bundle), bundle.manifest.reference, licence, params.feature)


def make_rooms(params: RoomsParams, out: Path, like: str | None = None) -> MadeRooms:
    """Make rooms below a folder, each as `room-SEED/1.0.0`; those that exist are kept, so a killed run goes on.

    Raises:
        BundleError: As `recipe_for`.
        BusyError: When another process makes rooms in the folder.
        CardError: When the folder holds a room of one of the seeds that was made in another way.
        MachineError: When the folder can't be written, or a process was killed.
    """
    if params.seed + params.count - 1 > LAST_SEED:
        raise CardError(
            f"seeds end at {LAST_SEED}",
            found=f"--seed {params.seed} and {params.count} rooms",
            remedy=f"--seed {LAST_SEED + 1 - params.count} at most",
        )
    recipe = recipe_for(params, like)
    seeds = range(params.seed, params.seed + params.count)
    with locked(out / ".rooms.lock", "the folder of rooms", "is being filled by"):
        for left in out.glob(".room-*.partial"):  # what a kill left half
            shutil.rmtree(left, ignore_errors=True)
        missing = [seed for seed in seeds if not _is_made(out, seed, recipe)]
        for _ in track(_made_anywhere(missing, out, recipe), "rooms", len(missing)):
            pass
    return MadeRooms(tuple(_folder(out, seed) for seed in seeds), len(seeds) - len(missing))


def _folder(out: Path, seed: int) -> Path:
    return out / name_of(seed) / VERSION


def _is_made(out: Path, seed: int, recipe: Recipe) -> bool:
    """Whether the room is there, made in the same way."""
    manifest = _folder(out, seed) / MANIFEST_FILE
    if not manifest.parent.parent.exists():
        return False
    try:
        key = json.loads(manifest.read_text())["provenance"]["build_key"]
    except (OSError, ValueError, KeyError, TypeError):
        key = None
    if key != recipe.key(seed):
        raise CardError(
            "a folder holds one room of a seed",
            found="one that was made with another --scanned, --like, --with or version of splatyard"
            if key
            else "a folder of that name which holds no such room",
            remedy="name another folder with --out, or other seeds with --seed",
            file=manifest.parent.parent,
        )
    return True


def _made_anywhere(seeds: Sequence[int], out: Path, recipe: Recipe) -> Iterator[int]:
    """Make the rooms, here if they are few; yields the seeds as they are done."""
    if len(seeds) < FEW:
        yield from (_make(out, seed, recipe) for seed in seeds)
        return
    processes = min(core_count(), len(seeds) // FEW)
    context = multiprocessing.get_context("spawn")  # numba's threads don't survive a fork
    with nothing_from_here(), inherited(share_of_cores(processes)):
        pool = ProcessPoolExecutor(processes, context, _begin_worker)
        try:
            for done in as_completed([pool.submit(_make, out, seed, recipe) for seed in seeds]):
                yield done.result()
        except BrokenProcessPool as error:
            raise MachineError(
                "a process that makes rooms lives until they are made",
                found="one was killed; where memory runs out, the system does that",
                remedy="run the same command again: it goes on with what is missing",
                file=out,
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """A worker ends with the process that started it; Ctrl-C is that one's matter."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)


def _make(out: Path, seed: int, recipe: Recipe) -> int:
    """Make one room, whole or not at all; returns its seed."""
    with partial_result(out / name_of(seed)) as partial:
        folder = partial / VERSION
        with machine_errors(folder):
            folder.mkdir()
            write_room(folder, seed, recipe)
    return seed
