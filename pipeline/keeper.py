"""The keeper: forks itself for each stage it is given, watches the child, and kills it past its limits.

It has no threads, so it can fork at any time. `pipeline.isolation` starts it and is its only client.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import pickle
import shutil
import signal
import sys
import time
import traceback
from logging.handlers import QueueHandler
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NoReturn

import psutil

from pipeline.engine import PlannedStage, execute, lock_file, locked, partial_folder
from pipeline.errors import BusyError, MachineError
from pipeline.isolation import Limits
from pipeline.usage import family, memory_of, readable

LOOK_SECONDS = 0.2
PR_SET_PDEATHSIG = 1
EAGER_TO_DIE = "500"
"""Of -1000 to 1000: where memory runs out, the system kills the stage before the process that waits for it."""


def main(descriptor: int) -> None:
    """Serve the process at the other end of the socket until it is gone."""
    client = Connection(descriptor)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            planned, limits, level = client.recv()
            with contextlib.suppress(Exception):  # goes wrong in the child again, which tells of it
                planned.stage.load()  # once here instead of in each child
            client.send(_run(planned, limits, level, client))


def _run(planned: PlannedStage, limits: Limits, level: int, client: Connection) -> bool | Exception:
    """The outcome of one run; nothing of its processes and of a half result is left.

    Raises:
        ConnectionError: When the client is gone.
    """
    results, sender = Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        client.close()
        _work(planned, level, sender)
    sender.close()
    child = psutil.Process(pid)
    try:
        outcome = _watch(child, results, client, planned.name, limits)
    finally:
        _kill(child)
        code = int(child.wait() or 0)
        results.close()
        if not planned.cached:
            _discard(planned.folder)
    return _ended(planned.name, code) if outcome is None else outcome


def _watch(
    child: psutil.Process, results: Connection, client: Connection, name: str, limits: Limits
) -> bool | Exception | None:
    """Hand on the child's log records until its outcome comes or it breaks a limit; None when it ends without one."""
    started = looked = time.monotonic()
    while True:
        ready = wait([client, results], LOOK_SECONDS)
        if client in ready:  # it says nothing while a stage runs
            raise ConnectionResetError
        if results in ready:
            try:
                message = results.recv()
            except (EOFError, OSError):
                return None
            if not isinstance(message, logging.LogRecord):
                return message
            client.send(message)
        now = time.monotonic()
        if now - looked >= LOOK_SECONDS:
            looked = now
            if child.status() == psutil.STATUS_ZOMBIE and not results.poll():
                return None
            if error := _breach(name, limits, now - started, memory_of(child)):
                return error


def _breach(name: str, limits: Limits, seconds: float, memory: int) -> MachineError | None:
    used = f"{name} was ended after {seconds:.1f} s with {readable(memory)} of memory"
    if limits.memory is not None and memory > limits.memory:
        return MachineError(
            f"the stage {name} may use {readable(limits.memory)} of memory",
            found=used,
            remedy="allow it more with --stage-memory, run fewer stages at once, or lower its parameters with --set",
        )
    if limits.seconds is not None and seconds > limits.seconds:
        return MachineError(
            f"the stage {name} may take {limits.seconds:g} s",
            found=used,
            remedy="allow it more with --stage-seconds if it was at work, or look into the build's log for what it "
            "waited for; what it kept to go on with is still there",
        )
    return None


def _ended(name: str, code: int) -> MachineError:
    if code == -signal.SIGKILL:
        found = f"{name} was killed; where memory runs out, the system does that"
        remedy = "look for 'out of memory' in the system's log (dmesg), free memory or run fewer stages at once"
    elif code < 0:
        found = f"{name} crashed with {signal.Signals(-code).name}"
        remedy = "run `splatyard doctor`; when that finds nothing, a library has a bug: tell us, with the log"
    else:
        found = f"{name} left with exit code {code}"
        remedy = "run again with --debug, and tell us: a stage returns or raises"
    return MachineError("a stage's process must live until the stage is done", found=found, remedy=remedy)


def _kill(child: psutil.Process) -> None:
    """Kill the child, its descendants, and what they left behind in its session."""
    if child.status() != psutil.STATUS_ZOMBIE:  # else nothing tells whose children they were
        for process in family(child):
            with contextlib.suppress(psutil.Error):
                process.kill()
    with contextlib.suppress(OSError):  # nobody there any more, or the child never got as far as its own session
        os.killpg(child.pid, signal.SIGKILL)


def _discard(folder: Path) -> None:
    """Remove the half result, unless another process is making the same one."""
    with contextlib.suppress(BusyError, MachineError), locked(lock_file(folder), "what a stage left behind"):
        shutil.rmtree(partial_folder(folder), ignore_errors=True)


def _work(planned: PlannedStage, level: int, sender: Connection) -> NoReturn:
    """The child: run the stage, send its log records and its outcome, and leave without cleaning up for the keeper."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # however the keeper ends
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(EAGER_TO_DIE)
    logging.getLogger().addHandler(handler := _Sender(sender))
    logging.getLogger("pipeline").setLevel(level)
    code = 1
    try:
        outcome = _outcome(planned)
        with handler.lock or contextlib.nullcontext():  # threads may still log
            sender.send(outcome)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _outcome(planned: PlannedStage) -> bool | Exception:
    try:
        return execute(planned)
    except Exception as error:
        error.add_note("in the stage's own process:\n" + traceback.format_exc())
        try:
            return pickle.loads(pickle.dumps(error))
        except Exception:  # some libraries' exceptions don't travel
            return RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")


class _Sender(QueueHandler):
    """Sends log records to the keeper; texts are put together here, since their arguments may not travel."""

    def __init__(self, sender: Connection) -> None:
        super().__init__(sender)  # pyright: ignore[reportArgumentType]  what it is only matters to `enqueue`
        self._sender = sender

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send one."""
        self._sender.send(record)
