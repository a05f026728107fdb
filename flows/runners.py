"""Where a batch's scenes are built: worker processes of this machine, a Dask cluster or a Ray cluster."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import queue
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner
from prefect.tasks import Task

from pipeline.depth.parallel import core_count
from pipeline.errors import MachineError
from pipeline.packing import MEMORY_PER_SCENE
from pipeline.sigterm import keep_sigterm

RunnerName = Literal["processes", "dask", "ray"]

TRIES = 3
"""So many worker processes a scene may lose before it is the scene's fault."""


class Crew(Protocol):
    """Workers that take one scene each at a time."""

    def do(self, task: Task[Any, Any], parameters: dict[str, Any]) -> Any:
        """Run a task on a free worker, wait for it, and give its result or raise what it raises; from any thread."""
        ...


def default_workers() -> int:
    """As many as this machine has cores for, and memory."""
    import psutil

    return max(1, min(core_count(), psutil.virtual_memory().total // MEMORY_PER_SCENE))


@contextmanager
def crew(runner: RunnerName, workers: int, address: str | None, log: Path) -> Iterator[Crew]:
    """Start the workers, or reach those at an address; what was started ends with the context.

    Args:
        runner: Which kind.
        workers: How many scenes are built at the same time.
        address: Of a running Dask scheduler or Ray cluster; None starts one on this machine.
        log: Where worker processes of this machine write their standard error.

    Raises:
        MachineError: When the runner isn't installed, or its cluster doesn't start or answer.
    """
    if runner == "processes":
        with _processes(workers, log) as processes:
            yield processes
        return
    cluster = _cluster(runner, workers, address)
    with ExitStack() as stack:
        try:
            stack.enter_context(cluster)
            if runner == "dask":
                _ = cluster.client  # which would be made, and may fail, with the first scene
        except Exception as error:
            raise MachineError(
                f"the {runner} cluster at {address} answers" if address else f"a {runner} cluster starts here",
                found=" ".join(str(error).split())[:300] or type(error).__name__,
                remedy="check the address and that its versions are those of this machine" if address else "run again",
            ) from error
        yield _Cluster(cluster)


class _Lane:
    """A worker process that is replaced when it dies; a pool each, for a pool dies with the first of its processes."""

    def __init__(self, threads: int, log: Path) -> None:
        self._begin = {"initializer": begin_worker, "initargs": (threads, str(log))}
        self._runner: ProcessPoolTaskRunner | None = None
        self.ending = False

    def do(self, task: Task[Any, Any], parameters: dict[str, Any]) -> Any:
        for _ in range(TRIES):
            if self._runner is None:
                self._runner = ProcessPoolTaskRunner(max_workers=1, **self._begin).__enter__()
            try:
                return self._runner.submit(task, parameters).result()
            except (BrokenProcessPool, CancelledError):
                if self.ending:
                    raise
                self.close()
        raise MachineError(
            "a scene's worker process lives until the scene is done",
            found=f"{TRIES} of them ended, killed by the system or by hand",
            remedy="it may have run out of memory: fewer --workers, or a limit that tells the stage: --stage-memory 4G",
        )

    def close(self) -> None:
        if self._runner is not None:
            self._runner.__exit__(None, None, None)
            self._runner = None


class _Processes:
    def __init__(self, lanes: list[_Lane]) -> None:
        self._free: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
        for lane in lanes:
            self._free.put(lane)

    def do(self, task: Task[Any, Any], parameters: dict[str, Any]) -> Any:
        lane = self._free.get()
        try:
            return lane.do(task, parameters)
        finally:
            self._free.put(lane)


@contextmanager
def _processes(workers: int, log: Path) -> Iterator[_Processes]:
    others = set(multiprocessing.active_children())
    lanes = [_Lane(max(1, core_count() // workers), log) for _ in range(workers)]
    try:
        yield _Processes(lanes)
    except BaseException:
        for lane in lanes:
            lane.ending = True
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # what they do is lost by a stage at most, and nobody waits for it
        raise
    finally:
        for lane in lanes:
            lane.close()


def begin_worker(threads: int, log: str) -> None:
    """Prepare a worker process: it ends with its parent, takes its share of the cores, and writes no bars or stacks."""
    keep_sigterm()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Cluster:
    """Dask and Ray give a lost worker's scene to another one themselves."""

    def __init__(self, runner: TaskRunner[Any]) -> None:
        self._runner = runner

    def do(self, task: Task[Any, Any], parameters: dict[str, Any]) -> Any:
        return self._runner.submit(task, parameters).result()


def _cluster(runner: RunnerName, workers: int, address: str | None) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # Ray's own minute is too short on a busy machine
    try:
        module = importlib.import_module(f"prefect_{runner}")
    except ImportError as error:
        raise MachineError(
            f"the {runner} runner needs its package",
            found=str(error),
            remedy="pip install 'splatyard[scale]', here and on the workers",
        ) from error
    if runner == "ray":
        local = {
            "num_cpus": workers,
            "include_dashboard": False,
            "log_to_driver": False,
            "_node_ip_address": "127.0.0.1",
        }
        return module.RayTaskRunner(address=address, init_kwargs={} if address else local)
    if address:
        return module.DaskTaskRunner(address=address)
    from dask import config

    config.set({"distributed.worker.daemon": False})  # a stage with limits is a process of its own
    kwargs = {"n_workers": workers, "threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None}
    return module.DaskTaskRunner(cluster_kwargs={**kwargs, "host": "127.0.0.1"})
