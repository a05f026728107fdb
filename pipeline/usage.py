"""What a stage uses of the machine: memory while it runs, bytes of its result, and what is written down of both."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""Between two looks at the memory; a peak that is shorter can be missed."""


class PeakMemory:
    """Watches the memory of this process and its children while a `with` block runs.

    Attributes:
        bytes: The most that was resident at once.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._process = psutil.Process()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.bytes = max(self.bytes, self._process.memory_info().rss)  # its children are gone by now

    def _watch(self) -> None:
        while not self._end.wait(LOOK_SECONDS):
            self.bytes = max(self.bytes, memory_of(self._process))


@dataclass(frozen=True)
class Spent:
    """What a run of a stage took.

    Attributes:
        seconds: Wall time [s].
        cpu_seconds: CPU time of all its threads and processes [s].
        memory: The most that was resident at once [bytes].
        reads: Size of its inputs [bytes].
        writes: Size of its result [bytes].
    """

    seconds: float
    cpu_seconds: float
    memory: int
    reads: int
    writes: int


def spent(work: Path, bundle: Path) -> dict[str, Spent]:
    """What each stage of a scene took when it ran last, by name.

    Args:
        work: Folder of the scene's results.
        bundle: Folder of its bundle, beside which that stage's record lies.
    """
    found: dict[str, Spent] = {}
    paths = [*work.glob("*/.*.run.json"), *bundle.parent.glob(f".{bundle.name}.run.json")]
    for path in sorted(paths, key=lambda path: path.stat().st_mtime):
        if record := read_record(path):
            numbers = (record.get(name, 0) for name in ("cpu_seconds", "peak_memory", "input_bytes", "result_bytes"))
            found[record["stage"]] = Spent(record["seconds"], *numbers)
    return found


def read_record(path: Path) -> dict[str, Any]:
    """What the engine wrote of a stage's run; empty when that can't be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):  # half written at a kill
        logger.warning("%s can't be read", path)
        return {}


def memory_of(process: psutil.Process) -> int:
    """Resident memory of a process and all its descendants [bytes]; 0 when it is gone."""
    total = 0
    for one in family(process):
        try:
            total += one.memory_info().rss
        except psutil.Error:  # it ended meanwhile
            continue
    return total


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all its descendants, as far as they live."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
