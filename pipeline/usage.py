"""What a stage uses of the machine: memory while it runs, and its run record."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

import psutil

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""Between two looks at the memory; a peak that is shorter can be missed."""


class PeakMemory:
    """Watches the memory of this process and its children in a `with` block; `bytes` is the most resident at once."""

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


def memory_of(process: psutil.Process) -> int:
    """Resident memory of a process and all its descendants [bytes]; 0 when it is gone."""
    total = 0
    for one in family(process):
        with suppress(psutil.Error):  # it ended meanwhile
            total += one.memory_info().rss
    return total


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all its descendants, as far as they live."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
