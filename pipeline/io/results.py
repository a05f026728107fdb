"""Folders of results: one process at a time, whole or not at all, and what lies beside them."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pipeline.errors import BusyError
from pipeline.io.files import machine_errors

HOLDER_SECONDS = 1.0
"""Time in which whoever got a lock has written its number."""


@contextmanager
def partial_result(folder: Path) -> Iterator[Path]:
    """A hidden folder that becomes the result's when all went well and is removed otherwise; the lock must be held.

    Raises:
        MachineError: When the disk is full or a folder can't be written.
    """
    partial = partial_folder(folder)
    try:
        with machine_errors(folder):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            yield partial
            partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(resume_folder(partial), ignore_errors=True)


def run_record(folder: Path) -> Path:
    """The file next to a result that says what ran and what it took (`RunRecord`); results themselves hold no times."""
    return folder.parent / f".{folder.name}.run.json"


def lock_file(folder: Path) -> Path:
    """The file that is locked while a result is made or removed."""
    return folder.parent / f".{folder.name}.lock"


def partial_folder(folder: Path) -> Path:
    """Where a result lies until it is complete."""
    return folder.parent / f".{folder.name}.partial"


def resume_folder(out_dir: Path) -> Path:
    """Where a stage that runs in `out_dir` keeps what lets its next run go on after a kill.

    It lies beside the result, survives until the result is complete, and belongs to the same key: whatever is found
    there comes from the same inputs, parameters and code. The stage makes it when it has something to keep.
    """
    return out_dir.parent / f".{out_dir.name.lstrip('.').removesuffix('.partial')}.resume"


def tiles_folder(out_dir: Path) -> Path:
    """Where a stage that runs in `out_dir` keeps tiles of large places, by keys of their own, for its other results."""
    return out_dir.parent.with_name(f"{out_dir.parent.name}-tiles")


def preview_folder(out_dir: Path) -> Path:
    """Where a stage that runs in `out_dir` publishes previews; who looks on makes it, else nothing is published."""
    return resume_folder(out_dir) / "preview"


@contextmanager
def locked(path: Path, what: str, doing: str = "is being built by") -> Iterator[None]:
    """Hold a lock that a killed process gives back by itself; errors tell what whoever holds it is doing.

    Raises:
        BusyError: When another process holds it.
        MachineError: When the file can't be made.
    """
    with machine_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                "only one process may build the same thing at a time",
                found=f"{what} {doing} process {_holder(file)}",
                remedy="wait until it is done, or give this build another --name or --out",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def writing_alone(folder: Path, what: str) -> Iterator[None]:
    """While a folder is written that a user named: nobody else writes it, and no lock stays beside it.

    Raises:
        BusyError: When another process writes it.
        MachineError: As `locked`.
    """
    lock = lock_file(folder)
    try:
        with locked(lock, what):
            try:
                yield
            finally:
                lock.unlink()
    except BusyError as error:
        raise BusyError(
            f"one process writes {what} at a time", found=error.found, remedy="name another folder", file=folder
        ) from error


def _holder(file: TextIO) -> str:
    """Number of the process that holds a lock, which it writes right after it has got it."""
    end = time.monotonic() + HOLDER_SECONDS
    while True:
        file.seek(0)
        if (holder := file.read().strip()) or time.monotonic() > end:
            return holder or "unknown"
        time.sleep(0.01)


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
