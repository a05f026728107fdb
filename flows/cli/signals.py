"""Ctrl-C and SIGTERM: wherever they arrive, one line says so, and the exit code tells which it was.

Python raises KeyboardInterrupt between any two instructions, also during an import. Libraries then raise errors of
their own, or print what they can't raise. After a signal none of these is a bug.
"""

from __future__ import annotations

import _thread
import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, ModuleType

NUMBERS = (signal.SIGINT, signal.SIGTERM)
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
AGAIN_SECONDS = 0.05
BASE = 128
"""Offset of the exit codes of signals, as in a shell."""
TAKER = "pycolmap"
"""Its log library handles SIGTERM, from its import on, to print the native stack."""
SIGACTION_BYTES = 512
"""More than any system's `struct sigaction` has."""


@dataclass
class Ending:
    """What ended a command.

    Attributes:
        number: The first signal that came, or None.
        resumes: Whether the same command resumes when it is run again.
    """

    number: signal.Signals | None = None
    resumes: bool = False

    @property
    def code(self) -> int:
        """The exit code; KeyboardInterrupt without a signal is a Ctrl-C, too."""
        return BASE + (self.number or signal.SIGINT)


@contextmanager
def listening(*, last: bool) -> Iterator[Ending]:
    """Run a command; a signal ends it with one line, the `last` of the process, and without an exception."""
    ending = Ending()
    with _handling(ending):
        try:
            yield ending
        except BaseException as error:  # after a signal libraries raise others; Prefect has one of its own for SIGTERM
            caused = ending.number is not None and not isinstance(error, SystemExit)
            if not caused and not isinstance(error, KeyboardInterrupt):
                raise
            _say(ending, last=last)


@contextmanager
def _handling(ending: Ending) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread handles signals
        yield
        return
    unraisable, of_thread, raises = sys.unraisablehook, threading.excepthook, logging.raiseExceptions

    def receive(number: int, _: FrameType | None) -> None:
        ending.number = ending.number or signal.Signals(number)
        logging.raiseExceptions = False
        raise KeyboardInterrupt

    def not_raised(hit: sys.UnraisableHookArgs) -> None:
        if ending.number is None:
            unraisable(hit)
        elif isinstance(hit.exc_value, KeyboardInterrupt):  # it came in a destructor: raise it again, after this
            again = threading.Timer(AGAIN_SECONDS, _thread.interrupt_main, (ending.number,))
            again.daemon = True
            again.start()

    def not_caught(hit: threading.ExceptHookArgs) -> None:
        if ending.number is None:
            of_thread(hit)

    keep_sigterm()
    handlers = {number: signal.signal(number, receive) for number in NUMBERS}
    sys.unraisablehook, threading.excepthook = not_raised, not_caught
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook, logging.raiseExceptions = unraisable, of_thread, raises
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _say(ending: Ending, *, last: bool) -> None:
    """Print the line; if nothing follows, discard what threads and libraries print at exit."""
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)
    sys.stdout.flush()
    word = WORDS[ending.number or signal.SIGINT] + ("; run the same command again to resume" if ending.resumes else "")
    start = "\n" if sys.stderr.isatty() else ""  # below the terminal's ^C
    print(f"{start}{word}", file=sys.stderr, flush=True)
    if last:
        logging.disable(logging.CRITICAL)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def keep_sigterm() -> None:
    """From now on importing pycolmap doesn't change the handling of SIGTERM."""
    if not any(isinstance(finder, _Keeper) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Keeper())


class _Keeper(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As Python finds it, with the signal's handler restored after its import."""
        if fullname != TAKER:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_put_back(module: ModuleType) -> None:
            system, before = ctypes.CDLL(None), ctypes.create_string_buffer(SIGACTION_BYTES)
            system.sigaction(signal.SIGTERM, None, before)
            try:
                execute(module)
            finally:
                system.sigaction(signal.SIGTERM, before, None)

        spec.loader.exec_module = execute_and_put_back
        return spec
