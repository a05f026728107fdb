"""Training in several processes of one machine or many, each with a device and environments of its own.

torchrun's launcher starts and watches them. rsl-rl averages gradients, the learning rate and observation
normalisers over the processes, `train.algorithms.ppo` the KL divergence by which it adapts the rate itself.
"""

from __future__ import annotations

import logging
import os
import pkgutil
import shutil
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numba
import torch
from torch import distributed
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
)

from pipeline.errors import TrainError
from pipeline.parallel import inherited, nothing_from_here, share_of_cores
from sim.ranges import seed_of

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig

logger = logging.getLogger(__name__)

END_SECONDS = 60
"""Time after Ctrl-C for processes to finish and save an iteration, before they are killed."""


SILENT_SECONDS = 300
"""Time after which a process that doesn't answer the others is lost."""
LAST_CALL_SECONDS = 20
"""Time that the machines that are there wait for others, at first and whenever one leaves."""
MEET_SECONDS = 300
"""Time in which the machine where all meet must be there."""
LEAVES = 20
"""How often machines or processes may leave before the others end, too: what fails for a reason fails again."""
ONE_MACHINE = "splatyard-one-machine"
"""torchrun's rendezvous of one machine's processes: this program's own, see `Alone`."""
STORE_VARIABLE = "SPLATYARD_TRAIN_STORE"
"""File by which a machine's processes find each other, in a folder that only this user can open."""


@dataclass(frozen=True)
class Nodes:
    """Machines that train together.

    Attributes:
        most: Greatest number of them.
        host: The one where they meet.
        port: Its port.
    """

    most: int
    host: str
    port: int

    @staticmethod
    def at(most: int, address: str) -> Nodes:
        """Machines that meet at HOST:PORT.

        Raises:
            TrainError: When it is something else, or no such host is known.
        """
        host, _, port = address.rpartition(":")
        try:
            socket.getaddrinfo(host or " ", int(port), type=socket.SOCK_STREAM)
        except (OSError, ValueError, OverflowError) as error:
            raise TrainError(
                "machines that train together meet at a HOST:PORT of one of them",
                found=f"{address!r}: {error}",
                remedy="such as --rendezvous 10.0.0.1:29500, the same on all",
            ) from error
        return Nodes(most, host, int(port))

    def own_address(self) -> str:
        """Address of this machine on the way to where they meet."""
        kind, how, protocol, _, place = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(kind, how, protocol) as unsent:
            unsent.connect(place)
            return unsent.getsockname()[0]


class Alone(RendezvousHandler):
    """The rendezvous of a machine that meets no other.

    torch's own listen on all addresses, for whoever comes, and unpickle what they are sent. This one opens no port.
    """

    def __init__(self, parameters: RendezvousParameters) -> None:
        self._name, self._store = parameters.run_id, distributed.HashStore()  # pyright: ignore[reportPrivateImportUsage]

    @property
    def use_agent_store(self) -> bool:
        """Processes have a store of their own."""
        return False

    def get_backend(self) -> str:
        """Its name."""
        return ONE_MACHINE

    def get_run_id(self) -> str:
        """What is run, by its name."""
        return self._name

    def next_rendezvous(self) -> RendezvousInfo:
        """This machine, the only one; the address is one where nobody listens."""
        return RendezvousInfo(self._store, 0, 1, RendezvousStoreInfo("127.0.0.1", 0))

    def is_closed(self) -> bool:
        """Never."""
        return False

    def set_closed(self) -> None:
        """Nobody is told."""

    def num_nodes_waiting(self) -> int:
        """Nobody else can come."""
        return 0

    def shutdown(self) -> bool:
        """Nothing is open."""
        return True


class Processes(TypedDict):
    """Rank of this process and number of processes, in the form of rsl-rl's `multi_gpu`."""

    global_rank: int
    local_rank: int
    world_size: int


def launch(program: str, arguments: Sequence[str], processes: int, device: str, nodes: Nodes | None = None) -> int:
    """Run a program in several processes; if one fails, or at Ctrl-C, all end.

    With other machines, where the same is called, processes begin anew as often as one of them fails, or a machine
    comes or goes: the program goes on from where it was.

    The first writes to the terminal, the others to log files, which are named if one of them fails first. Ctrl-C is a
    KeyboardInterrupt in each process.

    Args:
        program: A function by its name, such as "flows.cli:main": takes the arguments and returns an exit code. An
            interrupted process must not return 0, or the launcher waits for all others.
        arguments: Arguments of each process.
        processes: Number of processes.
        device: "cuda" for a device of each, or "cpu", whose cores they share.
        nodes: All machines, if there are others.

    Returns:
        Exit code of the first process that failed; 0 if none did.

    Raises:
        TrainError: When there are fewer devices, when another process than the first one failed first, or when nothing
            answers where machines meet.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousClosedError, RendezvousConnectionError
    from torch.distributed.launcher.api import elastic_launch

    _check_devices(processes, device)
    _quiet_launcher()
    if nodes:
        _prepare_to_meet(nodes)
    logs = Path(tempfile.mkdtemp(prefix="splatyard-train-"))
    config = _launch_config(processes, nodes, logs)
    failed = 0
    try:
        store = "" if nodes else str(logs / "store")
        with nothing_from_here(), inherited(share_of_cores(processes)):
            elastic_launch(config, _run)(program, list(arguments), store)
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from error
        return 128 + error.sigval
    except (RendezvousConnectionError, RendezvousClosedError) as error:
        assert nodes
        raise TrainError(
            "machines that train together meet at one that runs the same command",
            found=f"nothing answers at {nodes.host}:{nodes.port}, or it is done: {error}",
            remedy="start the command there first, and open the port",
        ) from error
    except ChildFailedError as error:
        failed, failure = error.get_first_failure()
        if failed == 0:
            return failure.exitcode
        raise _failure(failed, processes, failure.exitcode, logs) from error
    finally:
        if failed == 0:
            shutil.rmtree(logs, ignore_errors=True)
    return 0


def _check_devices(processes: int, device: str) -> None:
    if device.startswith("cuda") and torch.cuda.device_count() < processes:
        raise TrainError(
            "each process of a training has a CUDA device of its own",
            found=f"{torch.cuda.device_count()} for {processes} processes",
            remedy=f"use --num-gpus {torch.cuda.device_count()}" if torch.cuda.is_available() else "use --device cpu",
        )


def _quiet_launcher() -> None:
    """Let torch's launcher tell nothing of failures: they come with tracebacks of its own."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("torch.distributed.elastic", "torch.multiprocessing")):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _prepare_to_meet(nodes: Nodes) -> None:
    """Set what torch needs to meet other machines, and warn of whom it lets in."""
    # else torch 2.13 takes the first round's store for every later one, whose machine may be gone
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    logger.warning(
        "whoever can reach %s:%d, or this machine's ports that processes open, can run any program as this user: "
        "train in a network of your own",
        nodes.host,
        nodes.port,
    )


def _launch_config(processes: int, nodes: Nodes | None, logs: Path) -> LaunchConfig:
    """How torch's launcher starts processes here, where they meet, and where they log."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.rendezvous import rendezvous_handler_registry
    from torch.distributed.launcher.api import LaunchConfig

    rendezvous_handler_registry.register(ONE_MACHINE, Alone)
    return LaunchConfig(
        min_nodes=1,
        max_nodes=nodes.most if nodes else 1,
        nproc_per_node=processes,
        run_id="splatyard" if nodes else uuid.uuid4().hex,
        rdzv_backend="c10d" if nodes else ONE_MACHINE,
        rdzv_endpoint=f"{nodes.host}:{nodes.port}" if nodes else "",
        rdzv_configs={"last_call_timeout": LAST_CALL_SECONDS, "read_timeout": MEET_SECONDS} if nodes else {},
        local_addr=nodes.own_address() if nodes else "127.0.0.1",
        max_restarts=LEAVES if nodes else 0,
        logs_specs=DefaultLogsSpecs(str(logs), redirects=dict.fromkeys(range(1, processes), Std.ALL)),
        shutdown_timeout=END_SECONDS,
    )


def _failure(number: int, processes: int, code: int, logs: Path) -> TrainError:
    """What is said of a process that failed, other than the first."""
    return TrainError(
        "all processes of a training succeed",
        found=f"process {number} of {processes} ended with {code}",
        remedy="see its log",
        file=next(logs.glob(f"**/{number}/stderr.log"), logs),
    )


def _run(program: str, arguments: Sequence[str], store: str) -> None:
    """Run the program in a new process; all of one machine meet by a file, if any."""
    os.setsid()  # a terminal's Ctrl-C comes once, through the launcher
    if store:
        os.environ[STORE_VARIABLE] = store
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = _loopback()
    code = pkgutil.resolve_name(program)(arguments)
    if code:
        sys.exit(code)  # the launcher would wait for the others after a return


def _loopback() -> str:
    """Name of the network interface that only this machine reaches, such as lo."""
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


def launched() -> bool:
    """Whether `launch` (or torchrun) started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def processes_of_this_run() -> Processes | None:
    """Rank of this process among those that `launch` (or torchrun) started; None for a process that isn't."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 and not launched():
        return None
    return Processes(global_rank=int(os.environ["RANK"]), local_rank=int(os.environ["LOCAL_RANK"]), world_size=size)


@contextmanager
def together(device: str, processes: Processes | None) -> Iterator[str]:
    """Join the processes, so that they can average; yields the device of this one."""
    if processes is None:
        yield device
        return
    cuda = device.startswith("cuda")
    if cuda:
        device = f"cuda:{processes['local_rank']}"
        torch.cuda.set_device(device)
    store = os.environ.get(STORE_VARIABLE)
    distributed.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=f"file://{store}" if store else "env://",
        rank=processes["global_rank"],
        world_size=processes["world_size"],
        timeout=timedelta(seconds=SILENT_SECONDS),
    )
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def first(processes: Processes | None) -> bool:
    """Whether this process logs and writes."""
    return processes is None or processes["global_rank"] == 0


def own_seed(seed: int, processes: Processes | None) -> int:
    """Seed of this process's environments and actions: each process has other episodes."""
    return seed_of(seed, processes["global_rank"]) if processes else seed


def agreed(request: bool, processes: Processes | None) -> bool:
    """Whether any process requests what all must do in the same iteration, such as to stop."""
    if processes is None:
        return request
    requests = torch.tensor(float(request), device="cuda" if distributed.get_backend() == "nccl" else "cpu")
    distributed.all_reduce(requests, distributed.ReduceOp.MAX)
    return bool(requests)


def use_one_thread() -> None:
    """Run torch on one thread: for small networks more threads are slower, and sums would differ.

    numba's threads are started first, since that resets torch's number of threads.
    """
    numba.get_num_threads()
    torch.set_num_threads(1)
