"""Where work is shared out: cores to processes, machines of a Ray cluster, and threads.

Threads are for work that releases the interpreter's lock; results come in order, with few in flight. Processes import
nothing from the working folder, which may be a capture of others. Interpreters that are started here get `-P`, or code
that begins with `NOT_FROM_HERE`. Libraries that start some are called in `nothing_from_here`; Ray, which adds the
folder on its own, with `ray_job`.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from pipeline.errors import SplatyardError

if TYPE_CHECKING:
    from ray.job_config import JobConfig

Item = TypeVar("Item")
Result = TypeVar("Result")

NOT_FROM_HERE = "import sys; sys.path[:] = [folder for folder in sys.path if folder]\n"
"""Begins what `python -c` runs in interpreters that may be too old for -P."""
THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Variables that say how many threads libraries start."""
ONLY_HERE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
CONNECT_SECONDS, KNOCK_SECONDS = 60, 10
"""Time in which a Ray cluster answers, and in which a machine takes a connection."""
PROBE = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)
ray.shutdown()
"""

PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>


def end_with_parent(number: signal.Signals) -> None:
    """Get a signal when the process that started this one ends, however it does; on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


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
    """Give variables to all processes that are started meanwhile; with numba's, this one compiles none as long."""
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


def ray_variables(address: str) -> dict[str, str]:
    """What Ray's processes take from the environment, also when it is imported; what the user has set is kept.

    Without an address they are for a Ray that is started here: it listens on the loopback address alone, as by default
    on other systems (a given `_node_ip_address` of 127.0.0.1 is replaced by the machine's), and its token is kept
    nowhere. Ray would keep one in the user's home, and clusters that are started later would ask for that.
    """
    wanted = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_BACKEND_LOG_LEVEL": "fatal",  # what fails is told by errors
        "RAY_raylet_start_wait_time_s": "300",  # Ray's own minute is too short on a busy machine
    }
    if not address:
        wanted[ONLY_HERE] = "0"
        wanted |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _own_token()}
    return {name: value for name, value in wanted.items() if name not in os.environ}


@cache
def _own_token() -> str:
    """One for all of this process's clusters: Ray reads it once."""
    return secrets.token_hex(32)


def unreachable(address: str) -> str:
    """Why nothing listens at an address that ends in HOST:PORT; empty where something does, or it names no port.

    Clusters' own clients try again for a minute.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()
        except (OSError, OverflowError) as error:
            return str(error)
    return ""


def check_ray(address: str, kind: type[SplatyardError]) -> None:
    """Connect to a Ray cluster from another process first: Ray may wait for long, or end the process that tries.

    Raises:
        kind: When it doesn't answer in time, asks for a token that isn't sent, or is of another version.
    """
    if refused := unreachable(address):
        raise ray_unreachable(address, refused, kind)
    try:
        done = subprocess.run(
            [sys.executable, "-Pc", PROBE, address],
            env={**os.environ, **ray_variables(address)},
            capture_output=True,
            text=True,
            timeout=CONNECT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ray_unreachable(address, f"no answer in {CONNECT_SECONDS} s", kind) from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raised = [line for line in lines if "Error: " in line] or lines[-1:] or [f"exit code {done.returncode}"]
        refused = [line for line in raised if "AuthenticationError: " in line]
        raise ray_unreachable(address, (refused or raised)[-1][:300], kind)


def ray_unreachable(address: str, found: str, kind: type[SplatyardError]) -> SplatyardError:
    """The error for a Ray cluster that could not be joined."""
    _, token, refused = found.partition("AuthenticationError: ")
    if token:
        said = refused.removeprefix("RPC error: ").partition(". ")[0]
        return kind(
            f"the Ray cluster at {address} asks for its token",
            found=f"{said}; RAY_AUTH_MODE={os.environ.get('RAY_AUTH_MODE', '(not set)')}",
            remedy="export RAY_AUTH_MODE=token here, with ~/.ray/auth_token as on the machine of `ray start --head`",
        )
    return kind(
        f"a Ray cluster answers at {address}, of the same versions of Ray and Python",
        found=found,
        remedy="ray start --head there and ray start --address=HOST:6379 here, with the ray of this environment",
    )


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
    from ray import job_config  # prefect_ray leaves a ray that loads at its first use: `ray.job_config` would run twice

    return job_config.JobConfig(_client_job=True)
