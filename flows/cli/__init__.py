"""The `splatyard` command line; one module a command, nothing heavy imported before a command runs."""

from __future__ import annotations

import signal
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Args:
        arguments: Those of the program if None: then this is the last that the process does.

    Raises:
        SystemExit: From argparse, for --help (0) and for a command line that doesn't parse (2).
    """
    listening = _import_listening()
    with listening(last=arguments is None) as ending:
        from flows.cli import app  # only now: a Ctrl-C during this import is handled as any other

        return app.main(arguments, ending)
    return ending.code


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
