"""The `splatyard` command line; one module a command, nothing heavy imported before a command runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence

LAST_SECONDS = 60.0
"""Time that Prefect gets for its last events, once a command is done; it waits for its server without a limit."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Args:
        arguments: Those of the program if None: then this is the last that the process does.

    Raises:
        SystemExit: From argparse, for --help (0) and for a command line that doesn't parse (2).
    """
    listening = _import_listening()
    with listening(last=arguments is None) as ending:
        from flows.cli import app, commands  # only now: a Ctrl-C during this import is handled as any other

        code = app.main(commands.parsed(sys.argv[1:] if arguments is None else arguments), ending)
        if arguments is None and "prefect" in sys.modules:
            _end_within(LAST_SECONDS, code)
        return code
    return ending.code


def _end_within(seconds: float, code: int) -> None:
    """End the process, which is done, after so long, whatever libraries still wait for."""

    def end() -> None:
        print("Prefect's server didn't take the last events of this run", file=sys.stderr, flush=True)
        os._exit(code)

    sys.stdout.flush()
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _import_listening():  # noqa: ANN202 - its type would be imported
    """`flows.cli.signals.listening`; until it is there, a Ctrl-C ends the process in silence."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    except ValueError:  # not the main thread, which signals come to
        before = None
    from flows.cli.signals import listening

    if before is not None:
        signal.signal(signal.SIGINT, before)
    return listening


__all__ = ["main"]
