"""One stage at a time on a GPU: each fits its work to the memory that it finds free."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.machine import visible_gpu

logger = logging.getLogger(__name__)


@contextmanager
def gpu_turn() -> Iterator[None]:
    """Wait until no other process of this user computes on the GPU that this one would take, and keep it.

    A process that dies gives it back.
    """
    # a user's own file: the system lets nobody open another's for writing in a folder that all may write to
    path = Path(tempfile.gettempdir()) / f"splatyard-{os.getuid()}-gpu-{visible_gpu().replace('/', '_')}.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waits for the GPU: another process computes on it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
