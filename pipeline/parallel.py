"""Threads for work that releases the interpreter's lock, results in order, few in flight; and other processes.

Processes share the cores (`share_of_cores`), and import nothing from the working folder, which may be a capture of
others. Interpreters that are started here get `-P`, or code that begins with `NOT_FROM_HERE`. Libraries that start some
are called in `nothing_from_here`; Ray, which adds the folder on its own, with `ray_job`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ray.job_config import JobConfig

Item = TypeVar("Item")
Result = TypeVar("Result")

NOT_FROM_HERE = "import sys; sys.path[:] = [folder for folder in sys.path if folder]\n"
"""Begins what `python -c` runs in interpreters that may be too old for -P."""
THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Variables that say how many threads libraries start."""


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_of_cores(processes: int) -> dict[str, str]:
    """Variables for each of so many processes that compute at the same time; what the user has set is kept.

    A process must have them when it starts, and this one keeps its own: numba counts its threads when it is imported,
    reads the variables again whenever it compiles a kernel, and fails when they have changed in between. Where all
    kernels come from the cache, nothing shows that.
    """
    threads = str(max(1, core_count() // processes))
    return {name: os.environ.get(name, threads) for name in THREADS}


@contextmanager
def inherited(variables: Mapping[str, str]) -> Iterator[None]:
    """Give variables to all processes that are started meanwhile; this one compiles no kernels as long."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


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


def nothing_from_here() -> AbstractContextManager[None]:
    """While Python processes are started: multiprocessing does it by `python -c`, without -P."""
    return inherited({"PYTHONSAFEPATH": "1"})


def ray_job() -> JobConfig:
    """Settings of a job of Ray's whose workers import nothing from the working folder of the process that connects.

    Ray adds that to the path of all of them, except for jobs of its proxies.
    """
    from ray.job_config import JobConfig

    return JobConfig(_client_job=True)
