"""Threads for work that releases the interpreter's lock, results in order, few in flight; and other processes.

Processes import nothing from the working folder, which may be a capture of others. Interpreters that are started here
get `-P`, or code that begins with `NOT_FROM_HERE`. Libraries that start some are called in `nothing_from_here`; Ray,
which adds the folder on its own, with `ray_job`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ray.job_config import JobConfig

Item = TypeVar("Item")
Result = TypeVar("Result")

NOT_FROM_HERE = "import sys; sys.path[:] = [folder for folder in sys.path if folder]\n"
"""Begins what `python -c` runs in interpreters that may be too old for -P."""
SAFE_PATH = "PYTHONSAFEPATH"


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[Result]:
    """Like `map`, on threads (None = all cores), never more than two results a thread ahead of the consumer."""
    workers = threads or core_count()
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def nothing_from_here() -> Iterator[None]:
    """While Python processes are started: multiprocessing does it by `python -c`, without -P."""
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before


def ray_job() -> JobConfig:
    """Settings of a job of Ray's whose workers import nothing from the working folder of the process that connects.

    Ray adds that to the path of all of them, except for jobs of its proxies.
    """
    from ray.job_config import JobConfig

    return JobConfig(_client_job=True)
