"""The engine: content keys, atomic results and locks. It knows no stage by name."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import compiling
from pipeline.errors import memory_errors
from pipeline.gpu_backends.catalog import BACKENDS
from pipeline.io.files import folder_bytes, machine_errors
from pipeline.io.results import lock_file, locked, partial_result, run_record
from pipeline.machine import PeakMemory, gpu_lock, package_versions
from pipeline.stage import Stage

if TYPE_CHECKING:
    from pipeline.parameters import Settings

logger = logging.getLogger(__name__)

LOG_FORMAT = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


@dataclass(frozen=True)
class PlannedStage:
    """One stage of one build, before it runs.

    Its `params` have the backend resolved; `key` is the hash of all that the result depends on, which will lie in
    `folder`; `inputs` are the folders of the stages that it needs, by name; `images` is how many it works on as far as
    the plan knows, or 0: its time grows with them.
    """

    stage: Stage
    params: Settings
    backend: str
    reason: str
    key: str
    folder: Path
    inputs: Mapping[str, Path]
    log: Path | None = None
    images: int = 0

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.stage.name

    @property
    def cached(self) -> bool:
        """Whether the result is there; a result appears only when complete."""
        return self.folder.is_dir()

    @property
    def on_gpu(self) -> bool:
        """Whether its backend computes on a GPU."""
        return self.backend in BACKENDS


def stage_key(stage: Stage, params: Settings, backend: str, input_keys: Mapping[str, str]) -> str:
    """Hash of the stage's name, version, backend (and its version), parameters and inputs."""
    content = {
        "stage": stage.name,
        "version": stage.version,
        "backend": [backend, library_version(stage, backend)],
        "params": params,
        "inputs": input_keys,
    }
    text = json.dumps(content, sort_keys=True, default=lambda v: v.content() if hasattr(v, "content") else dict(v))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def library_version(stage: Stage, backend: str) -> str:
    """Version of the library that a backend's result depends on; "" for our own code, whose version is the stage's."""
    names = (BACKENDS[backend].distribution,) if backend in BACKENDS else stage.libraries.get(backend, ())
    return next(iter(package_versions(names).values()), "")


def missing_library(stage: Stage, backend: str) -> str | None:
    """Why a backend that needs no GPU can't run here, in one clause; None when its library is installed."""
    names = stage.libraries.get(backend, ())
    return f"{names[0]} is not installed" if names and not package_versions(names) else None


def execute(planned: PlannedStage) -> bool:
    """Run a stage unless its result is there; returns whether it ran.

    The work happens in a hidden folder next to the result, which takes its final name when everything is written:
    after a kill the next run starts the stage again, or resumes from its `resume_folder`.

    Raises:
        BusyError: When another process is at the same key.
        MachineError: When the disk is full, a folder can't be written, or memory runs out.
        SplatyardError: The stage's own.
    """
    folder = planned.folder
    if planned.cached:
        return False
    with machine_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock_file(folder), f"stage {planned.name} ({folder.name})"), logged(planned.log):
        if planned.cached:  # finished by the process we would have collided with
            return False
        lock = gpu_lock() if planned.on_gpu else nullcontext()
        with lock, partial_result(folder) as partial:
            started, cpu, compiled = time.monotonic(), _cpu_seconds(), compiling.seconds()
            why = planned.reason and f" ({planned.reason})"
            logger.info("%s: %s backend%s", planned.name, planned.backend, why)
            with memory_errors(), PeakMemory() as memory:
                planned.stage.load()(planned.inputs, planned.params, partial)
            seconds, used = time.monotonic() - started, _cpu_seconds() - cpu
            record = {
                "stage": planned.name,
                "version": planned.stage.version,
                "key": planned.key,
                "backend": planned.backend,
                "backend_version": library_version(planned.stage, planned.backend),
                "reason": planned.reason,
                "params": planned.params.model_dump(),
                "inputs": {name: path.name for name, path in planned.inputs.items()},
                "images": planned.images,
                "seconds": round(seconds, 2),
                "cpu_seconds": round(used, 2),
                "compile_seconds": round(compiling.seconds() - compiled, 2),
                "peak_memory": memory.bytes,
                "input_bytes": sum(map(folder_bytes, planned.inputs.values())),
                "result_bytes": folder_bytes(partial),
            }
            run_record(folder).write_text(json.dumps(record, indent=1))
        logger.info("%s: done in %.1f s (%.1f CPU-s), key %s", planned.name, seconds, used, planned.key)
    return True


@contextmanager
def logged(path: Path | None) -> Iterator[None]:
    """Add what the pipeline logs to a file; None adds it to none."""
    if path is None:
        yield
        return
    handler = _LogFile(path, encoding="utf-8")
    ours = logging.getLogger("pipeline")
    level, propagate = ours.level, ours.propagate
    ours.addHandler(handler)
    ours.setLevel(min(level, logging.INFO) if level else logging.INFO)
    ours.propagate = False  # Prefect hangs a console on the root logger
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
        ours.propagate = propagate
        handler.close()


def log_traceback(path: Path, message: str) -> None:
    """Add the traceback of the error at hand to a file, and to no other log: its caller gets the error itself."""
    handler = _LogFile(path, encoding="utf-8")
    handler.handle(logger.makeRecord(logger.name, logging.ERROR, __file__, 0, message, (), sys.exc_info()))
    handler.close()


class _LogFile(logging.FileHandler):
    """A log, which a full disk ends in silence: that the disk is full is said by what the log is about."""

    def __init__(self, path: Path, encoding: str) -> None:
        super().__init__(path, encoding=encoding)
        self.setFormatter(LOG_FORMAT)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """As `logging` does, which would print the traceback."""


def _cpu_seconds() -> float:
    """CPU time of this process and its finished children [s]."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
