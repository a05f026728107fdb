"""Training in several processes of one machine, each with a device and environments of its own.

What starts and watches them is torchrun's own launcher. Gradients, the learning rate and what normalises observations
are averaged over processes by rsl-rl.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import torch
from torch import distributed

from pipeline.depth.parallel import core_count
from pipeline.errors import TrainError

END_SECONDS = 60
"""Time that processes have after Ctrl-C, to finish an iteration and keep it, before they are killed."""


class Processes(TypedDict):
    """Which of how many processes this one is, as rsl-rl's `multi_gpu` wants it."""

    global_rank: int
    local_rank: int
    world_size: int


def launch(main: Callable[[Sequence[str]], int], arguments: Sequence[str], processes: int, device: str) -> int:
    """Run a program in several processes; when one of them fails, or at Ctrl-C, all end.

    The first says on the screen what it has to say, the others in log files, named when one of them fails first.
    Ctrl-C is a KeyboardInterrupt in each process.

    Args:
        main: The program, importable by its name; takes the arguments and gives an exit code. Whoever is interrupted
            must not give 0: that is waited for until all others have ended too.
        arguments: For each process.
        processes: How many.
        device: What each will have one of: "cuda", or "cpu", whose cores they share.

    Returns:
        The exit code of the first process that failed; 0 when none did.

    Raises:
        TrainError: When there are fewer devices, or when another process than the first one failed first.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _check_devices(processes, device)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("torch.distributed.elastic", "torch.multiprocessing")):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # they tell of each failure with tracebacks of their own
    logs = Path(tempfile.mkdtemp(prefix="splatyard-train-"))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(str(logs), redirects=dict.fromkeys(range(1, processes), Std.ALL)),
        shutdown_timeout=END_SECONDS,
    )
    failed = 0
    try:
        elastic_launch(config, _run)(main, list(arguments), max(1, core_count() // processes))
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from error
        return 128 + error.sigval
    except ChildFailedError as error:
        failed, failure = error.get_first_failure()
        if failed == 0:
            return failure.exitcode
        raise TrainError(
            "all processes of a training come to its end",
            found=f"process {failed} of {processes} ended with {failure.exitcode}",
            remedy="see what it said",
            file=next(logs.glob(f"**/{failed}/stderr.log"), logs),
        ) from error
    finally:
        if failed == 0:
            shutil.rmtree(logs, ignore_errors=True)
    return 0


def _run(main: Callable[[Sequence[str]], int], arguments: Sequence[str], threads: int) -> None:
    """In a new process: the program, with its share of the cores."""
    os.setsid()  # a terminal's Ctrl-C comes once, through the launcher
    os.environ.setdefault("NUMBA_NUM_THREADS", str(threads))
    torch.set_num_threads(threads)
    code = main(arguments)
    if code:
        sys.exit(code)  # the launcher would wait for the others after a return


def _check_devices(processes: int, device: str) -> None:
    if device.startswith("cuda") and torch.cuda.device_count() < processes:
        raise TrainError(
            "each process of a training has a CUDA device of its own",
            found=f"{torch.cuda.device_count()} for {processes} processes",
            remedy=f"use --num-gpus {torch.cuda.device_count()}" if torch.cuda.is_available() else "use --device cpu",
        )


def processes_of_this_run() -> Processes | None:
    """Which process this is of those that `launch` (or torchrun) started; None for one alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return None
    return Processes(global_rank=int(os.environ["RANK"]), local_rank=int(os.environ["LOCAL_RANK"]), world_size=size)


@contextmanager
def together(device: str, processes: Processes | None) -> Iterator[str]:
    """While it lasts, processes can average what they have; gives the device of this one.

    Args:
        device: "cuda" or "cpu".
        processes: From `processes_of_this_run`; with None nothing is done.
    """
    if processes is None:
        yield device
        return
    cuda = device.startswith("cuda")
    if cuda:
        device = f"cuda:{processes['local_rank']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def first(processes: Processes | None) -> bool:
    """Whether this is the process that logs and writes."""
    return processes is None or processes["global_rank"] == 0


def own_seed(seed: int, processes: Processes | None) -> int:
    """The seed of this process's environments and actions: all see different episodes."""
    return seed + (processes["global_rank"] if processes else 0)


def agreed(wish: bool, processes: Processes | None) -> bool:
    """Whether this or any other process wishes for it: what all must do in the same iteration, such as to stop."""
    if processes is None:
        return wish
    wishes = torch.tensor(float(wish), device="cuda" if distributed.get_backend() == "nccl" else "cpu")
    distributed.all_reduce(wishes, distributed.ReduceOp.MAX)
    return bool(wishes)
