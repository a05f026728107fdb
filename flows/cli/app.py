"""Runs one command, and turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import tempfile
import traceback
from pathlib import Path

from flows.cli import tables
from flows.cli.command import plain
from flows.cli.signals import Ending
from pipeline.errors import MachineError, SplatyardError, install, memory_errors
from pipeline.io.files import machine_error

OK, FAILED, WRONG_INPUT, CRASHED = 0, 1, 2, 70
"""Exit codes: a check failed; the input, the machine or the command line is wrong; a bug. Signals have their own."""


def main(options: argparse.Namespace, ending: Ending) -> int:
    """Run the command of a parsed command line; returns the exit code. After a signal, errors are raised."""
    ending.resumes = options.resumes
    import rich.console  # shows errors, also where no memory is left to import anything
    import rich.text  # noqa: F401

    _configure_logging(detailed=options.debug)
    try:
        with memory_errors():
            return _run(options)
    except SplatyardError as error:
        if ending.number:
            raise
        said, trace = str(error), traceback.format_exc() if options.debug else ""
    except BrokenPipeError:  # `splatyard bundle inspect X | head` is no error
        sys.stderr.close()
        return OK
    except Exception as error:
        if ending.number:
            raise
        return _crash(options.command, error, show=options.debug)
    # out here, where what the error's frames held is free: it may be that of memory
    tables.say(("error: ", "bold red"), (said, "red"), stderr=True)
    sys.stderr.write(trace)
    return WRONG_INPUT


def _run(options: argparse.Namespace) -> int:
    """Run the command; a disk or a path that can't be used is said, and how to install PyTorch, which few need."""
    try:
        with tables.only_json() if getattr(options, "as_json", False) else contextlib.nullcontext():
            return options.run(vars(options))
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "rsl_rl"):
            raise
        raise MachineError(
            "policies need PyTorch and rsl-rl",
            found=str(error),
            remedy=f"{install('train')}; that is 6 GB, most of it CUDA's libraries, or 1.3 GB for the CPU "
            "only: add --extra-index-url and the address of the CPU index on pytorch.org's install page",
        ) from error
    except OSError as error:
        if caused := machine_error(error, Path(error.filename) if error.filename else None):
            raise caused from error
        raise


def _configure_logging(*, detailed: bool) -> None:
    handler = _ScreenHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s" if detailed else "%(message)s"))
    for name in ("pipeline", "flows", "sim", "train"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.DEBUG if detailed else logging.INFO)


class _ScreenHandler(logging.Handler):
    """Writes lines above the progress bars instead of through them."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        text = plain(self.format(record))
        try:
            tqdm.write(text, file=sys.stderr)
        except RuntimeError:  # a library's thread began a bar just then, under a lock of its own
            sys.stderr.write(f"{text}\n")


def _crash(command: str, error: Exception, *, show: bool) -> int:
    with tempfile.NamedTemporaryFile(
        "w", prefix=f"splatyard-{command.replace(' ', '-')}-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        traceback.print_exc(file=log)
    if show:
        traceback.print_exc()
    name = type(error).__name__
    print(f"bug in splatyard: {name}: {plain(str(error))}; the traceback is in {Path(log.name)}", file=sys.stderr)
    return CRASHED
