"""The engine: content keys, atomic results and locks. It knows no stage by name."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.errors import BusyError, MachineError
from pipeline.learned.backends import BACKENDS
from pipeline.learned.turn import gpu_turn
from pipeline.parameters import without_interpreters
from pipeline.stage import Stage, resume_folder
from pipeline.usage import PeakMemory, folder_bytes, readable

logger = logging.getLogger(__name__)

DISTRIBUTIONS = {
    "colmap": ("pycolmap",),
    "refined": ("pycolmap",),
    "sensor": (),
    "mvs": ("numba",),
    "combined": ("numba",),
    "tsdf": ("open3d-cpu", "open3d"),
    "poisson": ("open3d-cpu", "open3d"),
    "cpu": ("numba",),
    "vggt": ("vggt",),
    "depth_anything_3": ("depth-anything-3",),
    "nksr": ("nksr",),
    "gsplat": ("gsplat",),
}
"""Whose version a backend's result depends on."""


@dataclass(frozen=True)
class PlannedStage:
    """One stage of one build, before it runs.

    Attributes:
        stage: What runs.
        params: Its parameters, an instance of `stage.params`, backend resolved.
        backend: The chosen backend.
        reason: Why it was chosen.
        key: Hash of everything the result depends on.
        folder: Where the result lies once complete.
        inputs: Folders of the stages it needs, by name.
    """

    stage: Stage
    params: Any
    backend: str
    reason: str
    key: str
    folder: Path
    inputs: Mapping[str, Path]

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.stage.name

    @property
    def cached(self) -> bool:
        """Whether the result is there; a result appears only when complete."""
        return self.folder.is_dir()


def stage_key(stage: Stage, params: Any, backend: str, input_keys: Mapping[str, str]) -> str:
    """Hash of the stage's name, version, backend (and its version), parameters and inputs."""
    content = {
        "stage": stage.name,
        "version": stage.version,
        "backend": [backend, backend_version(backend)],
        "params": params,
        "inputs": input_keys,
    }
    text = json.dumps(content, sort_keys=True, default=without_interpreters)  # `asdict` would take as long as all else
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@cache
def backend_version(backend: str) -> str:
    """The version of the library behind a backend, or "" for our own code (its version is the stage's)."""
    for name in DISTRIBUTIONS.get(backend, ()):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def execute(planned: PlannedStage) -> bool:
    """Run a stage unless its result is there; returns whether it ran.

    The work happens in a hidden folder beside the result, which takes its final name only when everything is
    written: after a kill the next run starts this stage anew, or goes on with what the stage kept in its
    `resume_folder`, and finds all earlier ones.

    Raises:
        BusyError: When another process is at the same key.
        MachineError: When the disk is full or a folder can't be written.
        SplatyardError: The stage's own.
    """
    folder = planned.folder
    if planned.cached:
        return False
    with machine_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock_file(folder), f"stage {planned.name} ({folder.name})"):
        if planned.cached:  # finished by the process we would have collided with
            return False
        turn = gpu_turn() if planned.backend in BACKENDS else nullcontext()
        with turn, partial_result(folder) as partial:
            started, cpu = time.monotonic(), cpu_seconds()
            logger.info("%s: %s, %s", planned.name, planned.backend, planned.reason)
            with PeakMemory() as memory:
                planned.stage.load()(planned.inputs, planned.params, partial)
            seconds, used = time.monotonic() - started, cpu_seconds() - cpu
            run = {
                "stage": planned.name,
                "version": planned.stage.version,
                "key": planned.key,
                "backend": planned.backend,
                "backend_version": backend_version(planned.backend),
                "reason": planned.reason,
                "params": asdict(planned.params),
                "inputs": {name: path.name for name, path in planned.inputs.items()},
                "seconds": round(seconds, 2),
                "cpu_seconds": round(used, 2),
                "peak_memory": memory.bytes,
                "input_bytes": sum(map(folder_bytes, planned.inputs.values())),
                "result_bytes": folder_bytes(partial),
            }
            run_record(folder).write_text(json.dumps(run, indent=1))
        logger.info("%s: done in %.1f s (%.1f CPU-s), key %s", planned.name, seconds, used, planned.key)
    return True


@contextmanager
def partial_result(folder: Path) -> Iterator[Path]:
    """A hidden folder that becomes the result's when all went well, and else is removed; the lock must be held.

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
    """The file beside a result that says what ran and what it took; results themselves hold no times.

    Among others: `seconds`, `cpu_seconds` [s], `peak_memory` of process and children, `input_bytes`, `result_bytes`.
    """
    return folder.parent / f".{folder.name}.run.json"


def lock_file(folder: Path) -> Path:
    """The file that is locked while a result is made or removed."""
    return folder.parent / f".{folder.name}.lock"


def partial_folder(folder: Path) -> Path:
    """Where a result lies until it is complete."""
    return folder.parent / f".{folder.name}.partial"


def cpu_seconds() -> float:
    """CPU time of this process and its finished children [s]."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock that a killed process gives back by itself.

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
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BusyError(
                "only one process may build the same thing at a time",
                found=f"{what} is being built by process {holder}",
                remedy="wait until it is done, or give this build another --name or --out",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def machine_errors(path: Path) -> Iterator[None]:
    """Turn "disk full" and "no permission" into errors that say what to do.

    Raises:
        MachineError: Instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_room(path, "no space left") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise MachineError(
                "the folder for results must be writable",
                found=f"{error.strerror} for {error.filename or path}",
                remedy="choose a folder that you may write, or change its permissions",
                file=path,
            ) from error
        raise


def no_room(folder: Path, found: str) -> MachineError:
    """The error of a disk that is too small for what shall go to a folder.

    Args:
        folder: Where to; it need not exist.
        found: What came to light, such as "3 GiB needed"; the free space is added.
    """
    return MachineError(
        "the disk must have room for the results",
        found=f"{found}, {readable(shutil.disk_usage(existing(folder)).free)} free",
        remedy="free some space (`splatyard gc` removes old results) or choose another disk, then run it again",
        file=folder,
    )


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(parent for parent in (path, *path.parents) if parent.exists())
