"""Actors on Ray: of processes that are started on this machine, or of a cluster.

Policies and chunks travel through Ray's object store. Ray starts an actor's process again when it dies, on another
machine if it must, and asks it again what wasn't answered.
"""

from __future__ import annotations

import logging
import pickle
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.errors import SplatyardError, TrainError, install
from pipeline.parallel import check_ray, inherited, nothing_from_here, ray_job, ray_unreachable, ray_variables
from sim.libraries import load
from sim.scene.scene import SimScene
from train.actors.chunk import Form, Order, Weights
from train.actors.pool import IN_FLIGHT, ActorLostError, Call, Handle
from train.actors.rollouts import Beginning, Rollouts
from train.preset import Preset

logger = logging.getLogger(__name__)

RESTARTS = 4
"""How often Ray itself starts an actor's process again; then another actor takes its place."""
FETCH_SECONDS = 60
"""Time in which a chunk that is done arrives from another machine."""
MIN_STORE_BYTES = 128 * 2**20
LONGEST_FOLDER = 40
"""Characters of a temporary folder: Ray's sockets lie in it, and their paths are limited to 107."""


class RayActors:
    """Actors of a Ray that this process is connected to; see `train.actors.pool.Actors`."""

    def __init__(self, ray: ModuleType, preset: Preset, scenes: Sequence[SimScene], seed: int) -> None:
        self._ray, settings = ray, preset.actors
        self._beginning = ray.put(Beginning(preset, pickle.dumps(list(scenes)), str(Path.cwd()), seed))
        self._kind: Any = ray.remote(
            num_cpus=settings.cpus,
            memory=_bytes(settings.memory),
            max_restarts=RESTARTS,
            max_task_retries=-1,
        )(Rollouts)

    def start(self, index: int) -> Handle:
        """Start an actor."""
        return self._kind.remote(self._beginning, index)

    def share(self, weights: Weights) -> object:
        """Put weights into the object store."""
        return self._ray.put(weights)

    def ask(self, actor: Handle, weights: object, order: Order) -> Call:
        """Ask for a chunk."""
        return actor.roll_out.remote(weights, order)

    def wait(self, calls: Sequence[Call], seconds: float) -> list[Call]:
        """Calls that are done."""
        if not calls:
            time.sleep(seconds)
            return []
        self._ray.wait(list(calls), num_returns=1, timeout=seconds)
        return self._ray.wait(list(calls), num_returns=len(calls), timeout=0)[0]

    def fetch(self, call: Call) -> object:
        """A chunk; its arrays lie in the object store and can't be written to.

        Raises:
            ActorLostError: When it failed.
        """
        try:
            return self._ray.get(call, timeout=FETCH_SECONDS)
        except Exception as error:  # Ray's own, or whatever the actor raised or sent
            raise ActorLostError(_cause(error)) from error

    def kill(self, actor: Handle) -> None:
        """End an actor."""
        with suppress(Exception):  # it may be gone already
            self._ray.kill(actor, no_restart=True)


@contextmanager
def connected(address: str, count: int, form: Form, preset: Preset) -> Iterator[ModuleType]:
    """Connect to Ray at an address, or without one to a new one of this machine, with room for so many actors.

    Raises:
        TrainError: When Ray isn't installed, doesn't start, doesn't answer in time, or is of another version.
    """
    variables = ray_variables(address)
    with inherited(variables):
        rule, remedy = "--actors needs ray", f"{install('lab')}, here and on the machines of actors"
        ray = load("ray", rule, remedy, TrainError)
        known = ray.is_initialized()
    if known:
        raise TrainError("one training with actors runs in a process", found="two", remedy="start another process")
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "job_config": ray_job()}
    with tempfile.TemporaryDirectory(prefix="ray-", dir=_short_folder(), ignore_cleanup_errors=True) as folder:
        if address:
            _refuse_a_proxy(address)
            check_ray(address, TrainError)
            settings = quiet | {"address": address}
        else:
            # twice what may be in flight, since stores fragment
            store = max(MIN_STORE_BYTES, 2 * IN_FLIGHT * count * form.bytes)
            settings = quiet | {
                "address": "local",
                "num_cpus": -(-count * preset.actors.cpus // 1),
                "num_gpus": 0,
                "_memory": count * _bytes(preset.actors.memory),
                "object_store_memory": store,
                "include_dashboard": False,
                "_temp_dir": folder,
            }
        try:
            try:
                with inherited(variables), nothing_from_here(), _own_signals():
                    ray.init(**settings)
            except Exception as error:  # of many kinds
                raise _unreachable(address, _cause(error)) from error
            yield ray
        finally:
            ray.shutdown()


def _refuse_a_proxy(address: str) -> None:
    if address.startswith("ray://"):
        raise TrainError(
            "a learner runs on a machine of the cluster",
            found=f"the address of a proxy, {address}",
            remedy="ray start --address=HOST:6379 here, then --ray-address auto",
        )


def _unreachable(address: str, found: str) -> SplatyardError:
    if address:
        return ray_unreachable(address, found, TrainError)
    return TrainError("Ray starts on this machine", found=found, remedy="look whether memory is short, and run again")


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's handler of SIGTERM, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _short_folder() -> str:
    """Where temporary folders have short paths."""
    usual = tempfile.gettempdir()
    return usual if len(usual) < LONGEST_FOLDER else "/tmp"


def _bytes(gib: float) -> int:
    return int(gib * 2**30)


def _cause(error: Exception) -> str:
    """What happened, without tracebacks: Ray's errors end in that of the actor."""
    lines = str(error).splitlines() or [""]
    raised = [number for number, line in enumerate(lines) if "Error: " in line]
    text = " ".join(" ".join(lines[raised[-1] :] if raised else lines).split())
    return f"{type(error).__name__}: {text}"[:400]
