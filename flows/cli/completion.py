"""Scripts that complete the command line in bash and zsh, made by shtab."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

SHELLS = ("bash", "zsh")


def script(program: argparse.ArgumentParser, shell: str) -> str:
    """A script for a shell of `SHELLS`; paths are completed as files, and names that help doesn't show aren't."""
    import shtab

    for parser in _parsers(program):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                action.help = None  # help lists commands by itself; shtab leaves out what help doesn't list
            elif action.type is Path or action.metavar == "BUNDLE":
                setattr(action, "complete", shtab.FILE)  # noqa: B010 - argparse doesn't know it
    return shtab.complete(program, shell)


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from _parsers(one)
