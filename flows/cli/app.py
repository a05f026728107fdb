"""The `splatyard` program: parses, runs one command, and turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import difflib
import logging
import sys
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from flows.cli import (
    batch,
    bench,
    build,
    card,
    check,
    compare,
    diff,
    doctor,
    eval,
    export,
    formats,
    gallery,
    gc,
    import_,
    inspect,
    list,
    play,
    publish,
    pull,
    record,
    runs,
    sim,
    status,
    train,
    up,
    verify,
    view,
    yank,
)
from flows.cli.signals import Ending
from pipeline.errors import SplatyardError
from pipeline.plain import plain

COMMANDS = (
    *(build, inspect, check, view, sim, train, eval, play, runs, compare, record),
    *(import_, publish, pull, list, diff, yank, verify),
    *(batch, status, gc, export, gallery, bench, doctor, card, formats, up),
)
OK, FAILED, WRONG_INPUT, CRASHED = 0, 1, 2, 70
"""Exit codes: a check failed; the input, the machine or the command line is wrong; a bug. Signals have their own."""

DESCRIPTION = "From a capture of a real place to a scene bundle that robots can be trained in."
EXAMPLES = """\
first steps:
  splatyard doctor                                   what this machine can run
  splatyard build scene_cards/samples/hall           the sample capture, to bundles/hall/<version>
  splatyard view bundles/hall/1.0.0                  look at it in a browser

`splatyard COMMAND --help` shows a command's options with examples."""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    program = _Parser(
        "splatyard",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    program.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    program.add_argument("--debug", action="store_true", help="show the traceback of an error, and log in detail")
    commands = program.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2].rstrip("_")  # `import` is a word of Python's
        texts = {"help": module.HELP, "description": module.DESCRIPTION, "epilog": f"examples:\n{module.EXAMPLES}"}
        command = commands.add_parser(name, **texts, formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return program


def main(arguments: Sequence[str] | None, ending: Ending) -> int:
    """Run one command; returns the exit code.

    Args:
        arguments: Those of the program if None.
        ending: Says whether a signal came: errors are its doing then, and raised.

    Raises:
        SystemExit: From argparse, for --help (0) and for a command line that doesn't parse (2).
    """
    options = parser().parse_args(arguments)
    _configure_logging(detailed=options.debug)
    try:
        return options.run(options)
    except SplatyardError as error:
        if ending.number:
            raise
        _show_error(error)
        if options.debug:
            traceback.print_exc()
        return WRONG_INPUT
    except BrokenPipeError:  # `splatyard inspect X | head` is no error
        sys.stderr.close()
        return OK
    except Exception as error:
        if ending.number:
            raise
        return _crash(options.command, error, show=options.debug)


class _Parser(argparse.ArgumentParser):
    """Names what is nearest to a word that it doesn't know."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  its overloads
        """As argparse does."""
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            chosen = self._commands.get(getattr(known, "command", ""), self)
            chosen.error(
                f"unrecognized arguments: {' '.join(unknown)}{_nearest(unknown[0], chosen._option_string_actions)}"
            )
        return known

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            listed = ", ".join(map(str, action.choices))
            hint = _nearest(str(value), map(str, action.choices))
            raise argparse.ArgumentError(action, f"invalid choice: {str(value)!r}{hint} (choose from {listed})")

    def error(self, message: str) -> NoReturn:
        """As argparse does, whatever was typed or pasted."""
        super().error(plain(message))

    @property
    def _commands(self) -> dict[str, argparse.ArgumentParser]:
        subparsers = (action for action in self._actions if isinstance(action, argparse._SubParsersAction))
        return {name: parser for action in subparsers for name, parser in action.choices.items()}


def _nearest(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word.partition("=")[0], [*known], 1)
    return f"; did you mean {found[0]}?" if found else ""


class _ShowVersion(argparse.Action):
    """Looks the version up only when asked: importing importlib.metadata takes longer than all of --help."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and leave."""
        import importlib.metadata

        print(f"splatyard {importlib.metadata.version('splatyard')}")
        parser.exit()


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


def _show_error(error: SplatyardError) -> None:
    from rich.console import Console
    from rich.text import Text

    message = Text("error: ", "bold red").append(plain(str(error)), "red")
    Console(stderr=True, soft_wrap=True).print(message)


def _crash(command: str, error: Exception, *, show: bool) -> int:
    with tempfile.NamedTemporaryFile(
        "w", prefix=f"splatyard-{command}-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        traceback.print_exc(file=log)
    if show:
        traceback.print_exc()
    name = type(error).__name__
    print(f"bug in splatyard: {name}: {plain(str(error))}; the traceback is in {Path(log.name)}", file=sys.stderr)
    return CRASHED
