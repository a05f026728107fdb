"""Running a stage in a process of its own, killed when it goes past its limits.

The process that starts stages (a flow, a worker) has threads, so it can't be forked; starting an interpreter that loads
the pipeline takes seconds. So a keeper is started once (`pipeline.keeper`), loads what a stage needs, and forks itself
for each run. It is not multiprocessing's fork server: that one loads the caller's main module in every child
(Prefect's takes seconds) and refuses to work in Dask's workers.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from pipeline.errors import MachineError

if TYPE_CHECKING:
    from pipeline.engine import PlannedStage

END_SECONDS = 20.0
"""How long a keeper may take to kill what it keeps and to leave."""
START = "import sys; sys.path[:] = sys.argv[2:]; from pipeline.keeper import main; main(int(sys.argv[1]))"


@dataclass(frozen=True)
class Limits:
    """What one run of a stage may use at most; None is without limit.

    Attributes:
        seconds: Wall time [s].
        memory: Resident memory of its process and their children [bytes]; looked at five times a second.
    """

    seconds: float | None = None
    memory: int | None = None


def execute_isolated(planned: PlannedStage, limits: Limits) -> bool:
    """As `pipeline.engine.execute`, in a process of its own; returns whether the stage ran.

    Its log records come out here, its errors are raised here with the child's traceback as a note. However the caller
    ends - by an exception, Ctrl-C or a kill - the stage's processes end too, and its half result goes.

    Raises:
        MachineError: When the stage went past a limit, or its process was killed or crashed.
        SplatyardError: The stage's own.
    """
    if planned.cached:
        return False
    keeper = _idle.pop() if _idle else _Keeper()
    try:
        outcome = keeper.run(planned, limits)
    except BaseException:
        keeper.end()
        raise
    _idle.append(keeper)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


class _Keeper:
    """The keeper's process, seen from the one that uses it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", START, str(theirs.fileno()), *sys.path],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches all processes of a session; this one hears of it from us
            )
        self._connection = Connection(ours.detach())

    def run(self, planned: PlannedStage, limits: Limits) -> bool | Exception:
        """The stage's outcome; log records are handled as they come."""
        try:
            self._connection.send((planned, limits, logging.getLogger("pipeline").getEffectiveLevel()))
            while isinstance(message := self._connection.recv(), logging.LogRecord):
                logger = logging.getLogger(message.name)
                if logger.isEnabledFor(message.levelno):
                    logger.handle(message)
        except (EOFError, ConnectionError) as error:
            raise MachineError(
                "the process that runs the stages must live",
                found=f"it ended while {planned.name} ran",
                remedy="run the same command again; finished stages are kept",
            ) from error
        return message

    def end(self) -> None:
        """Let it kill what it keeps, and wait until it has."""
        self._connection.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


_idle: list[_Keeper] = []
"""Keepers with nothing to do: one for each stage that ever ran at the same time as others in this process."""


@atexit.register
def _end_all() -> None:
    with contextlib.suppress(IndexError):
        while True:
            _idle.pop().end()


# a forked process must neither use its parent's keepers nor hold them alive
os.register_at_fork(after_in_child=_idle.clear)
