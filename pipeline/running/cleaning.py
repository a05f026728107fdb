"""What lies in the work folders, and removing what is no longer needed, never what is in use.

Results are removed under their lock and renamed first, so that a kill leaves no half result under a result's name. Run
records and locks stay: a lock that is removed could be held twice.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from pipeline.errors import BusyError
from pipeline.io.files import folder_bytes, machine_errors
from pipeline.io.results import is_locked, lock_file, locked, partial_folder, resume_folder
from pipeline.running.records import build_lock
from pipeline.scenes.manifest import MANIFEST_FILE, read_manifest
from pipeline.scenes.references import VERSION, Version

logger = logging.getLogger(__name__)

DAY = 86400.0
KEY = re.compile(r"[0-9a-f]{20}")
WORK = ".work"

Kind = Literal["result", "resume", "partial"]


@dataclass(frozen=True)
class Piece:
    """One folder that a stage left in a scene's work folder, last written to at `made` [s since 1970].

    Its kind: a complete result, what an ended run keeps to resume from, or half a result of a run that was killed.
    `result` is where the complete result lies, or would lie; its name is the key.
    """

    scene: str
    stage: str
    kind: Kind
    result: Path
    work: Path
    bytes: int
    made: float

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return _places(self.result)[self.kind]


@dataclass(frozen=True)
class Rules:
    """What is no longer needed: always half results, and by each rule that is given fewer of the others.

    Only what was made longer ago than `older_than` [s]; only until all together have at most `keep_below` bytes, the
    oldest first; only what is `unreachable`: no bundle of the same folder was made from it.
    """

    older_than: float | None = None
    keep_below: int | None = None
    unreachable: bool = False


def pieces(out: Path) -> list[Piece]:
    """Everything in the work folders of `out` (a folder of bundles), the oldest first; what is in use is left out."""
    found: list[Piece] = []
    for work in _folders(out / WORK):
        if is_locked(build_lock(work)):
            logger.info("%s is being built: left alone", work.name)
            continue
        for stage in _folders(work):
            found += _of_results(work, stage.name, stage, KEY)
        found += _of_results(work, "bundle", out / work.name, VERSION)
    return sorted(found, key=lambda piece: (piece.made, piece.result))


def unwanted(found: Iterable[Piece], rules: Rules, out: Path, now: float) -> list[Piece]:
    """Those of `pieces` in a folder of bundles that the rules give up at a time [s since 1970], the oldest first.

    Raises:
        BundleError: When `rules.unreachable` asks for what bundles need and one can't be read.
    """
    found = list(found)
    chosen = {piece.folder for piece in found if piece.kind == "partial"}
    excess = sum(piece.bytes for piece in found if piece.folder not in chosen) - (rules.keep_below or 0)
    needed = needed_keys(out) if rules.unreachable else set()
    if rules != Rules():
        for piece in found:
            if piece.kind == "partial" or piece.result.name in needed:
                continue
            if rules.older_than is not None and now - piece.made <= rules.older_than:
                continue
            if rules.keep_below is not None and excess <= 0:
                break
            excess -= piece.bytes
            chosen.add(piece.folder)
    return [piece for piece in found if piece.folder in chosen]


def needed_keys(out: Path) -> set[str]:
    """Keys of the results that the bundles in a folder were made from.

    Raises:
        BundleError: When one can't be read: what it needs isn't known.
    """
    manifests = (read_manifest(path) for path in sorted(out.glob(f"[!.]*/[!.]*/{MANIFEST_FILE}")))
    return {stage.key for manifest in manifests for stage in manifest.provenance.stages}


def bundle_pieces(out: Path, name: str, versions: Iterable[Version]) -> list[Piece]:
    """Bundles in a folder of bundles, to be removed as stage results are; links are left out."""
    folders = [folder for version in versions if not (folder := out / name / str(version)).is_symlink()]
    work = out / WORK / name
    return [Piece(name, "bundle", "result", one, work, folder_bytes(one), one.stat().st_mtime) for one in folders]


def remove(chosen: Iterable[Piece]) -> list[Piece]:
    """Remove them, which blocks builds of their scenes; returns those that were not in use.

    Raises:
        MachineError: When a folder can't be removed.
    """
    gone: list[Piece] = []
    for work, group in groupby(sorted(chosen, key=lambda piece: piece.work), key=lambda piece: piece.work):
        with contextlib.suppress(BusyError), locked(build_lock(work), f"the bundle {work.name!r}"):
            for piece in group:
                folder, half = piece.folder, partial_folder(piece.result)
                lock = locked(lock_file(piece.result), f"stage {piece.stage} ({piece.result.name})")
                # in use, or gone already
                with contextlib.suppress(BusyError, FileNotFoundError), lock, machine_errors(folder):
                    if piece.kind == "result":
                        if half.exists():
                            shutil.rmtree(half)
                        folder = folder.rename(half)
                    shutil.rmtree(folder)
                    gone.append(piece)
    return gone


def _of_results(work: Path, stage: str, folder: Path, named: re.Pattern[str]) -> Iterator[Piece]:
    """The pieces of one stage; of bundles only what is not complete."""
    for path in _folders(folder, hidden=True):
        name = path.name.removeprefix(".").removesuffix(".partial").removesuffix(".resume")
        if not named.fullmatch(name):
            continue
        result = folder / name
        kinds: dict[Path, Kind] = {place: kind for kind, place in _places(result).items()}
        kind = kinds.get(path)
        if kind is None or (kind == "result" and stage == "bundle") or is_locked(lock_file(result)):
            continue
        yield Piece(work.name, stage, kind, result, work, folder_bytes(path), path.stat().st_mtime)


def _places(result: Path) -> dict[Kind, Path]:
    half = partial_folder(result)
    return {"result": result, "resume": resume_folder(half), "partial": half}


def _folders(folder: Path, *, hidden: bool = False) -> list[Path]:
    """Folders in a folder that may not exist; links are not followed."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if hidden or not path.name.startswith("."))
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())
