"""numba's compiler, with a cache of compiled kernels that several processes may fill at the same time.

numba itself lets two processes that save different signatures of a function give both the same file. One of them is
then called with machine code for the arguments of the other, by every process from then on.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba import njit as njit
from numba import prange as prange
from numba.core import caching


@contextmanager
def _locked(folder: str, operation: int) -> Iterator[None]:
    """Hold the lock of a cache's folder; of one that can't be written there is nothing to lock."""
    try:
        lock = os.open(f"{folder}/.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        yield
        return
    try:
        fcntl.flock(lock, operation)
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)  # a child that was forked meanwhile has the same lock open
        os.close(lock)


class _SharedCacheFile(caching.IndexDataCacheFile):
    """Index and machine code of a function, read and written by one process at a time."""

    def save(self, key: Any, data: Any) -> None:
        with _locked(self._cache_path, fcntl.LOCK_EX):
            super().save(key, data)

    def load(self, key: Any) -> Any:
        with _locked(self._cache_path, fcntl.LOCK_SH):
            return super().load(key)

    def flush(self) -> None:
        with _locked(self._cache_path, fcntl.LOCK_EX):
            super().flush()


caching.IndexDataCacheFile = _SharedCacheFile
