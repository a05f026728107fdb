"""numba's compiler, with a cache of compiled kernels that several processes may fill at the same time.

numba itself lets two processes that save different signatures of a function give both the same file. One of them is
then called with machine code for the arguments of the other, by every process from then on. And processes that begin
together compile the same kernels, each for itself: here one compiles a function, and the others wait for its file.

numba's cache is beside a module, or in the user's home. Where neither can be written, it refuses to compile at all.
Here it is a temporary folder then, and what can't be read or saved is compiled.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending
from numba import njit as njit
from numba import prange as prange
from numba.core import caching, event, sigutils, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher
from numba.np.numpy_support import carray

from pipeline import compiling
from pipeline.errors import MachineError
from pipeline.io.files import private_folder

LONGEST = 60.0
"""So long a process waits for another that compiles the same function [s], which may be stopped; then it compiles."""


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

    def _load_index(self) -> dict[Any, str]:
        try:
            return super()._load_index()
        except Exception:  # a power failure leaves files that are empty, and unpickling raises anything
            return {}

    def _load_data(self, name: str) -> Any:
        try:
            return super()._load_data(name)
        except Exception as error:
            raise OSError(f"no machine code in {name}") from error  # as if the file were not there


class _TemporaryLocator(caching.UserWideCacheLocator):
    """The last resort: a folder that stays until the machine restarts."""

    def __init__(self, function: Callable[..., object], file: str) -> None:
        super().__init__(function, file)
        try:
            folder = private_folder("kernels")
        except MachineError:
            folder = Path(os.devnull)  # nothing lies below it: each process compiles for itself
        self._cache_path = str(folder / self.get_suitable_cache_subpath(file))

    @classmethod
    def from_function(cls, py_func: Callable[..., object], py_file: str) -> _TemporaryLocator:
        """The locator, whether anything can be written there or not."""
        return cls(py_func, py_file)


@contextmanager
def _unsaved(self: caching.Cache) -> Iterator[None]:
    """Go on without the cache where the disk is full, or may no longer be written."""
    with suppress(OSError):
        yield


_compile = Dispatcher.compile
_compiled_now = set[str]()
"""Files of the functions that this process compiles, each for those before it."""


def _compile_once(self: Any, sig: Any) -> Any:
    """Compile a function, or load what another process has saved of it, now or while this one waits."""
    cache = self._cache
    known = cache.cache_path is None or sigutils.normalize_signature(sig)[0] in self.overloads
    if known or cache._cache_file._index_path in _compiled_now:
        return _compile(self, sig)
    with global_compiler_lock, _turn(cache):
        return _compile(self, sig)


@contextmanager
def _turn(cache: Any) -> Iterator[None]:
    """Wait until no other process compiles the function of a cache, and keep others from it."""
    index: str = cache._cache_file._index_path
    try:
        cache._impl.locator.ensure_cache_path()
        lock = os.open(f"{index}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        lock = None
    if lock is None:  # outside, so that errors of the compiler have no cause
        yield
        return
    _compiled_now.add(index)
    try:
        _wait_for(lock)
        yield
    finally:
        _compiled_now.remove(index)
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_UN)  # as above
        os.close(lock)


def _wait_for(lock: int) -> None:
    compiling.begin()
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:  # a file system without locks
            break
    compiling.end()


class _Compiling(event.Listener):
    """Tells how long is compiled; numba compiles one at a time."""

    def on_start(self, event: event.Event) -> None:
        compiling.begin()

    def on_end(self, event: event.Event) -> None:
        compiling.end()


event.register("numba:compile", _Compiling())
Dispatcher.compile = _compile_once
caching.IndexDataCacheFile = _SharedCacheFile
caching.CacheImpl._locator_classes = [*caching.CacheImpl._locator_classes, _TemporaryLocator]
caching.Cache._guard_against_spurious_io_errors = _unsaved


def _typed(_context: Any, address: types.Type) -> tuple[Any, Callable[..., ir.Value]]:
    def build(context: Any, builder: Any, _signature: Any, values: Any) -> ir.Value:
        return builder.inttoptr(values[0], context.get_value_type(types.voidptr))

    return types.voidptr(address), build


_pointer: Any = extending.intrinsic(_typed)


@njit(nogil=True)
def array_at(address: int, shape: tuple[int, ...], kind: Any) -> Any:
    """The contiguous array at an address (`array.ctypes.data`), for kernels that take arrays of any number of things.

    Whoever calls the kernel keeps the array meanwhile.
    """
    return carray(_pointer(address), shape, kind)


@njit(nogil=True)
def put(into: Any, values: Any) -> None:
    """Write values into an array of their shape, which isn't checked.

    For `into[:] = values` numba compiles the words of an error, too: five seconds for each kernel. Long rows in hot
    loops are copied faster by a loop of their own.
    """
    for at in np.ndindex(into.shape):
        into[at] = values[at]
