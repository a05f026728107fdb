"""The `splatyard` program: parses, runs one command, and turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from flows.cli import build, bundles, curve, doctor, exchange, lab, policies, registry, rooms, simulate, tables, train
from flows.cli.command import Command, Parser, plain
from flows.cli.signals import Ending
from pipeline.errors import MachineError, SplatyardError, install, memory_errors
from pipeline.io.files import machine_error

GROUPS: dict[str, tuple[Command, ...]] = {
    "scenes": (build.build, build.card, build.formats, build.params, lab.Batch, lab.status, lab.gc, rooms.rooms),
    "bundles": (
        bundles.view,
        bundles.inspect,
        bundles.list_objects,
        bundles.check,
        bundles.diff,
        exchange.export,
        exchange.import_,
    ),
    "registries": (
        registry.publish,
        registry.pull,
        registry.list_scenes,
        registry.yank,
        registry.verify,
        registry.gallery,
    ),
    "simulation": (simulate.tasks, simulate.sim, simulate.teleop, simulate.bench),
    "policies": (
        train.Train,
        train.pretrain_encoder,
        train.pretrain_ground,
        curve.Curve,
        policies.Evaluate,
        policies.play,
        policies.list_runs,
        policies.compare,
        policies.compare_terrains,
        policies.Record,
    ),
    "machine": (doctor.doctor, lab.up),
}
"""All commands, in the order of the help."""
OK, FAILED, WRONG_INPUT, CRASHED = 0, 1, 2, 70
"""Exit codes: a check failed; the input, the machine or the command line is wrong; a bug. Signals have their own."""

DESCRIPTION = "From a capture of a real place to a scene bundle that robots can be trained in."
EXAMPLES = """\
first steps:
  splatyard doctor                                   what this machine can run
  splatyard build scene_cards/samples/hall           the sample capture, to bundles/hall/<version>
  splatyard view bundles/hall/1.0.0                  look at it in a browser

`splatyard COMMAND --help` shows a command's options with examples."""


def parser() -> Parser:
    """The whole command line."""
    listed = [
        f"{group}:\n" + "\n".join(f"    {command.name:<10} {command.help}" for command in commands)
        for group, commands in GROUPS.items()
    ]
    program = Parser(
        "splatyard",
        description="\n\n".join([DESCRIPTION, *listed]),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    program.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    program.add_argument("--debug", action="store_true", help="show the traceback of an error, and log in detail")
    subparsers = program.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (command for commands in GROUPS.values() for command in commands):
        subparser = subparsers.add_parser(
            command.name,
            description=command.description,
            epilog=f"examples:\n{command.examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return program


def as_options(words: Sequence[str]) -> list[str]:
    """A command line whose words ask for help or the version, as the options that do."""
    match [*words]:
        case []:
            return ["--help"]
        case ["help", *command]:
            return [*command, "--help"]
        case ["version"]:
            return ["--version"]
    return [*words]


def main(arguments: Sequence[str] | None, ending: Ending) -> int:
    """Run one command as `flows.cli.main`; returns the exit code. After a signal, errors are raised."""
    options = parser().parse(as_options(sys.argv[1:] if arguments is None else arguments))
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
    except BrokenPipeError:  # `splatyard inspect X | head` is no error
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
        return options.run(vars(options))
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "rsl_rl"):
            raise
        raise MachineError(
            "policies need PyTorch and rsl-rl",
            found=str(error),
            remedy=f"{install('train')}; that is 6 GB, most of it CUDA's libraries, or 0.9 GB for the CPU "
            "only: add --extra-index-url and the address of the CPU index on pytorch.org's install page",
        ) from error
    except OSError as error:
        if caused := machine_error(error, Path(error.filename) if error.filename else None):
            raise caused from error
        raise


class _ShowVersion(argparse.Action):
    """Looks the version up only when asked: importing importlib.metadata takes longer than all of --help."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the version and exit."""
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
