"""A stage in a process of its own: watched, killed past its limits, and gone when the process that asked for it is.

A flow has threads, so it can't be forked, and an interpreter that loads the pipeline takes seconds to start. So a
supervisor without threads forks a worker, which runs one stage after the other with libraries loaded and kernels
compiled. (multiprocessing's fork server loads the caller's main module in every child and refuses Dask's workers.)
"""

from __future__ import annotations

import atexit
import logging
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NoReturn

import psutil

from pipeline.errors import BusyError, MachineError
from pipeline.io.files import readable
from pipeline.io.results import lock_file, locked, partial_folder
from pipeline.machine import family, memory_of
from pipeline.parallel import end_with_parent, share_of_cores
from pipeline.running.engine import PlannedStage, execute

LOOK_SECONDS = 0.2
END_SECONDS = 20.0
"""Time for a supervisor to kill its worker, remove the half result and exit."""
OOM_SCORE = "500"
"""-1000 to 1000: when memory runs out, the system kills the worker before the processes that wait for it."""
START = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from pipeline.running.isolation import supervise; supervise(int(sys.argv[1]))"
)


class LostError(MachineError):
    """Raised when a stage's process was killed from outside: the next try may do better."""


@dataclass(frozen=True)
class Limits:
    """Most wall time [s] and resident memory (descendants included) [bytes] of one run of a stage, or None."""

    seconds: float | None = None
    memory: int | None = None


NO_LIMITS = Limits()


def execute_isolated(planned: PlannedStage, limits: Limits = NO_LIMITS, at_once: int = 1) -> bool:
    """As `pipeline.running.engine.execute`, in a process of its own; returns whether the stage ran.

    The stage's errors are raised here with its traceback as a note. However the caller ends - by an exception, Ctrl-C
    or a kill - the stage's processes end too, and its half result is removed.

    Args:
        planned: The stage.
        limits: Its time and memory.
        at_once: How many stages run at the same time; each takes its share of the cores.

    Raises:
        LostError: When its process was killed or crashed.
        MachineError: When the stage exceeded a limit.
        SplatyardError: The stage's own.
    """
    if planned.cached:
        return False
    if _ended.is_set():
        raise _gone(planned, MachineError)
    try:
        supervisor = _idle[at_once].pop()
    except IndexError:
        supervisor = _Supervisor(at_once)
    _busy.add(supervisor)
    try:
        outcome = supervisor.run(planned, limits)
    except BaseException:
        supervisor.end()
        raise
    finally:
        _busy.discard(supervisor)
    _idle[at_once].append(supervisor)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@atexit.register
def end_all() -> None:
    """End all supervisors and their stages, and start no other: this process is about to end."""
    _ended.set()
    for supervisor in (*_busy, *chain.from_iterable(_idle.values())):
        supervisor.end()
    _idle.clear()


def _gone(planned: PlannedStage, kind: type[MachineError]) -> MachineError:
    return kind(
        "the process that runs the stages must live",
        found=f"it ended while {planned.name} ran",
        remedy="run the same command again; finished stages are kept",
    )


class _Supervisor:
    """The supervisor's process, seen from the one that uses it; `at_once` as for `execute_isolated`."""

    def __init__(self, at_once: int) -> None:
        self._socket, theirs = socket.socketpair()
        self._connection = Connection(os.dup(self._socket.fileno()))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", START, str(theirs.fileno()), *sys.path],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **share_of_cores(at_once)},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches all processes of a session; this one hears of it from us
            )

    def run(self, planned: PlannedStage, limits: Limits) -> bool | Exception:
        """The stage's outcome."""
        try:
            self._connection.send((planned, limits, logging.getLogger("pipeline").getEffectiveLevel()))
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise _gone(planned, MachineError if _ended.is_set() else LostError) from error

    def end(self) -> None:
        """Let it kill its worker, and wait until it has; a thread that waits for its outcome wakes up."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()


_ended = threading.Event()
_idle: defaultdict[int, list[_Supervisor]] = defaultdict(list)
"""By how many run at the same time."""
_busy: set[_Supervisor] = set()

# a forked process must neither use its parent's supervisors nor keep them alive
os.register_at_fork(after_in_child=lambda: (_idle.clear(), _busy.clear()))


def supervise(descriptor: int) -> None:
    """The supervisor: serve the process at the other end of the socket until it is gone."""
    client = Connection(descriptor)
    worker: _Worker | None = None
    try:
        while True:
            planned, limits, level = client.recv()
            with suppress(Exception):  # goes wrong in the worker again, which reports it
                planned.stage.load()  # once here instead of in each worker
            if worker is None or not worker.alive or limits.memory is not None:
                if worker is not None:
                    worker.kill()
                worker = _Worker(client)
            client.send(worker.run(planned, limits, level, client))
    except (EOFError, OSError):
        if worker is not None:
            worker.kill()


class _Worker:
    """A forked process that runs one stage after the other."""

    def __init__(self, client: Connection) -> None:
        requests, self._requests = Pipe(duplex=False)
        self._outcomes, outcomes = Pipe(duplex=False)
        pid = os.fork()
        if pid == 0:
            for theirs in (client, self._requests, self._outcomes):
                theirs.close()
            _work(requests, outcomes)
        requests.close()
        outcomes.close()
        self._process = psutil.Process(pid)
        self._code: int | None = None

    @property
    def alive(self) -> bool:
        """Whether it can run another stage."""
        return self._code is None and self._process.status() != psutil.STATUS_ZOMBIE

    def run(self, planned: PlannedStage, limits: Limits, level: int, client: Connection) -> bool | Exception:
        """The outcome of a stage; when there is none, nothing of the worker and of a half result is left.

        Raises:
            ConnectionError: When the client is gone.
        """
        outcome = None
        try:
            self._requests.send((planned, level))
            outcome = self._watch(client, planned.name, limits)
        except BrokenPipeError:
            pass
        finally:
            if outcome is None or isinstance(outcome, MachineError):  # lost, or beyond a limit
                self.kill()
                folder = planned.folder
                # unless another process is making the same result
                with suppress(BusyError, MachineError), locked(lock_file(folder), "what a stage left behind"):
                    shutil.rmtree(partial_folder(folder), ignore_errors=True)
        return _lost(planned.name, self._code or 0) if outcome is None else outcome

    def _watch(self, client: Connection, name: str, limits: Limits) -> bool | Exception | None:
        """The outcome once it comes, None when the process ends without one."""
        started = time.monotonic()
        while True:
            ready = wait([client, self._outcomes], LOOK_SECONDS)
            if client in ready:  # it sends nothing while a stage runs
                raise ConnectionResetError
            if ready:
                try:
                    return self._outcomes.recv()
                except (EOFError, OSError):
                    return None
            if not self.alive:
                return None
            seconds = time.monotonic() - started
            late = limits.seconds is not None and seconds > limits.seconds
            if (late or limits.memory is not None) and (error := _breach(name, limits, seconds, self._process)):
                return error

    def kill(self) -> None:
        """Kill it, its descendants, and what they left behind in its session."""
        if self._code is not None:
            return
        if self.alive:  # else nothing tells whose children they were
            for process in family(self._process):
                with suppress(psutil.Error):
                    process.kill()
        with suppress(OSError):  # nobody there any more, or it never came as far as its own session
            os.killpg(self._process.pid, signal.SIGKILL)
        self._code = int(self._process.wait() or 0)
        self._requests.close()
        self._outcomes.close()


def _breach(name: str, limits: Limits, seconds: float, process: psutil.Process) -> MachineError | None:
    memory = memory_of(process)
    if limits.memory is not None and memory > limits.memory:
        rule = f"the stage {name} may use {readable(limits.memory)} of memory"
        remedy = "allow it more with --stage-memory, run fewer stages at once, or lower its parameters with --set"
    elif limits.seconds is not None and seconds > limits.seconds:
        rule = f"the stage {name} may take {limits.seconds:g} s"
        remedy = (
            "allow it more with --stage-seconds if it was at work, or look into the build's log for what it waited "
            "for; what it kept to resume from is still there"
        )
    else:
        return None
    found = f"{name} was ended after {seconds:.1f} s with {readable(memory)} of memory"
    return MachineError(rule, found=found, remedy=remedy)


def _lost(name: str, code: int) -> MachineError:
    rule = "a stage's process must live until the stage is done"
    if code == -signal.SIGKILL:
        found = f"{name} was killed; where memory runs out, the system does that"
        remedy = "look for 'out of memory' in the system's log (dmesg); fewer --workers, or a limit: --stage-memory 4G"
        return LostError(rule, found=found, remedy=remedy)
    if code < 0:
        found = f"{name} crashed with {signal.Signals(-code).name}"
        remedy = "run `splatyard doctor`; when that finds nothing, a library has a bug: tell us, with the log"
    else:
        found = f"{name} left with exit code {code}"
        remedy = "run again with --debug, and tell us: a stage returns or raises"
    return MachineError(rule, found=found, remedy=remedy)


def _work(requests: Connection, outcomes: Connection) -> NoReturn:
    """The worker: run stages until the supervisor is gone, and leave without cleaning up for it."""
    os.setsid()
    end_with_parent(signal.SIGKILL)
    if sys.platform == "linux":
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    code = 1
    try:
        while True:
            planned, level = requests.recv()
            logging.getLogger("pipeline").setLevel(level)
            outcomes.send(_outcome(planned))
    except EOFError:
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _outcome(planned: PlannedStage) -> bool | Exception:
    if planned.log is not None:  # what libraries write there, the stack of a crash among it
        with planned.log.open("ab") as file:
            os.dup2(file.fileno(), sys.stderr.fileno())
    try:
        return execute(planned)
    except Exception as error:
        error.add_note("in the stage's own process:\n" + traceback.format_exc())
        try:
            return pickle.loads(pickle.dumps(error))
        except Exception:  # some libraries' exceptions don't travel
            return RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
