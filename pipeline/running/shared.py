"""Stage results that machines share through a store.

    <store>/<stage>/<key>/<sha256>         the result's files, named by their content
    <store>/<stage>/<key>/complete.json    written last: path, size and hash of every file, and the run record

There is no lock between machines: two that run the same stage both write its result, under the same names. Hashes
protect from damage, not from forgery: whoever can write to the store decides what your machines take.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, field_validator

from pipeline.io.files import machine_errors, no_room, readable
from pipeline.io.results import lock_file, locked, partial_result, run_record
from pipeline.running.building import Plan, RunRecord
from pipeline.running.engine import PlannedStage, execute
from pipeline.scenes.files import CONNECTIONS
from pipeline.scenes.manifest import FileEntry, file_sha256
from pipeline.scenes.store import Store, open_store
from pipeline.scenes.store_registry import CHUNK

logger = logging.getLogger(__name__)

COMPLETE = "complete.json"
MAX_COMPLETE_BYTES = 16 * 2**20
MAX_RESULT_BYTES = 256 * 2**30


class DamagedError(Exception):
    """Raised when a store's copy of a result is damaged or hostile."""


def _check_inside(text: str) -> str:
    # names of photos are among them: any letters, spaces
    parts = PurePosixPath(text).parts
    long = len(text.encode()) > 1000 or any(len(part.encode()) > 255 for part in parts)
    if text.startswith("/") or ".." in parts or long or any(ord(letter) < 32 for letter in text):
        raise ValueError("a result's paths stay inside it")
    return text


InsidePath = Annotated[str, AfterValidator(_check_inside)]


class Run(RunRecord):
    """The run record, with what must fit the stage."""

    key: str
    inputs: dict[str, str]


class Complete(BaseModel):
    """The content of complete.json: files by path in the result, its folders, and the run record."""

    model_config = ConfigDict(extra="forbid")

    files: dict[InsidePath, FileEntry]
    folders: tuple[InsidePath, ...]
    run: Run

    @field_validator("files")
    @classmethod
    def _possible_size(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        if sum(entry.bytes for entry in files.values()) > MAX_RESULT_BYTES:
            raise ValueError(f"a result has at most {MAX_RESULT_BYTES} bytes")
        return files


def execute_shared(planned: PlannedStage, store: str, run: Callable[[PlannedStage], bool] = execute) -> bool:
    """Take a stage's result from the store at an address, or run the stage and put it there; returns whether it ran.

    Raises:
        BusyError: When another process of this machine is at the same key.
        MachineError: When the store can't be used; what ran nevertheless is kept in the work folder.
    """
    if planned.cached:
        return False
    shared, damaged = open_store(store), False
    try:
        if fetch(planned, shared):
            return False
    except DamagedError as error:
        logger.warning("%s: the store's result is damaged or hostile and is made again: %s", planned.name, error)
        damaged = True
    ran = run(planned)
    put(planned, shared, replace=damaged)
    return ran


def fetch_plan(planned: Plan, store: str) -> None:
    """Fetch what a plan lacks and a store has, last stage first: what a fetched stage was made from is left out.

    Raises:
        BusyError: When another process of this machine is at the same key.
        MachineError: When the store can't be used.
    """
    if not planned.pending:
        return
    shared = open_store(store)
    needed = {planned.stages[-1].name}
    for stage in reversed(planned.stages):
        if stage.name not in needed or stage.cached:
            continue
        with suppress(DamagedError):  # reported and repaired when the stage runs
            if fetch(stage, shared):
                continue
        needed.update(stage.stage.needs)


def fetch(planned: PlannedStage, store: Store) -> bool:
    """Fetch a result, whole or not at all; returns whether the store has it.

    Raises:
        BusyError: When another process of this machine is at the same key.
        DamagedError: When what the store has is damaged or hostile.
        MachineError: When the store can't be read, or there is no room.
    """
    folder = planned.folder
    with machine_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock_file(folder), f"stage {planned.name} ({folder.name})"):
        if planned.cached:  # finished by the process we would have collided with
            return True
        complete = _complete(planned, store)
        if complete is None:
            return False
        total = sum(entry.bytes for entry in complete.files.values())
        with partial_result(folder) as hidden:
            if total > shutil.disk_usage(hidden).free:
                raise no_room(folder, f"{readable(total)} to fetch")
            try:
                for name in complete.folders:
                    (hidden / name).mkdir(parents=True, exist_ok=True)
                with ThreadPoolExecutor(CONNECTIONS) as pool:
                    fetch_one = partial(_fetch_file, store, _at(planned), hidden)
                    list(pool.map(fetch_one, complete.files, complete.files.values()))
            except (FileExistsError, NotADirectoryError) as error:
                raise DamagedError(f"two of its paths exclude each other: {error}") from error
            run_record(folder).write_text(json.dumps(complete.run.model_dump(), indent=1))
    logger.info("%s: fetched from %s (%.1f MB), key %s", planned.name, store.address, total / 1e6, planned.key)
    return True


def put(planned: PlannedStage, store: Store, *, replace: bool = False) -> None:
    """Copy a finished result into a store; one that is there already stays, unless it is to be replaced.

    Raises:
        MachineError: When the store can't be written.
    """
    sizes = {} if replace else store.sizes(_at(planned))
    if COMPLETE in sizes:
        return
    paths = sorted(planned.folder.rglob("*"))
    names = {path.relative_to(planned.folder).as_posix(): path for path in paths if path.is_file()}

    def put_file(path: Path) -> FileEntry:
        entry = FileEntry(bytes=path.stat().st_size, sha256=file_sha256(path))
        if sizes.get(entry.sha256) != entry.bytes:
            store.write(f"{_at(planned)}/{entry.sha256}", path)
        return entry

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        entries = list(pool.map(put_file, names.values()))
    complete = Complete(
        files=dict(zip(names, entries, strict=True)),
        folders=tuple(path.relative_to(planned.folder).as_posix() for path in paths if path.is_dir()),
        run=Run.model_validate_json(run_record(planned.folder).read_text()),
    )
    store.write(f"{_at(planned)}/{COMPLETE}", complete.model_dump_json(indent=1).encode())
    total = sum(entry.bytes for entry in entries)
    logger.info("%s: put into %s (%.1f MB), key %s", planned.name, store.address, total / 1e6, planned.key)


def _at(planned: PlannedStage) -> str:
    return f"{planned.name}/{planned.key}"


def _complete(planned: PlannedStage, store: Store) -> Complete | None:
    """complete.json when there is one, checked as far as can be before anything is fetched."""
    sizes = store.sizes(_at(planned))
    if COMPLETE not in sizes:
        return None
    if not 0 < sizes[COMPLETE] <= MAX_COMPLETE_BYTES:
        raise DamagedError(f"{COMPLETE} has {sizes[COMPLETE]} bytes")
    try:
        complete = Complete.model_validate_json(store.read(f"{_at(planned)}/{COMPLETE}", 0, sizes[COMPLETE]))
    except ValidationError as error:
        raise DamagedError(f"{COMPLETE}: {error}") from error
    run = complete.run
    if (run.stage, run.key, set(run.inputs)) != (planned.name, planned.key, set(planned.inputs)):
        raise DamagedError(f"{COMPLETE} is that of {run.stage}/{run.key}")
    for name, entry in complete.files.items():
        if sizes.get(entry.sha256) != entry.bytes:
            raise DamagedError(f"{name} has {sizes.get(entry.sha256, 'no')} bytes instead of {entry.bytes}")
    return complete


def _fetch_file(store: Store, at: str, folder: Path, name: str, entry: FileEntry) -> None:
    digest = hashlib.sha256()
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        for start in range(0, entry.bytes, CHUNK):
            chunk = store.read(f"{at}/{entry.sha256}", start, min(start + CHUNK, entry.bytes))
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != entry.sha256:
        raise DamagedError(f"{name} differs from its hash")
