"""All commands, on top and in groups, and the command line that takes them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from flows.cli import (
    build,
    bundles,
    completion,
    demo,
    doctor,
    exchange,
    lab,
    local,
    measures,
    policies,
    registry,
    rooms,
    simulate,
    train,
)
from flows.cli.command import Command, Parser


@dataclass(frozen=True)
class Group:
    """Commands that are typed after the group's name.

    Attributes:
        help: One line for the list of groups.
        commands: In the order of the help.
    """

    help: str
    commands: tuple[Command, ...]


TOP: tuple[Command, ...] = (
    demo.demo,
    build.build,
    bundles.view,
    simulate.sim,
    train.Train,
    policies.Evaluate,
    doctor.doctor,
    lab.up,
)
"""Commands without a group, in the order of the help."""
GROUPS: dict[str, Group] = {
    "scene": Group(
        "captures: formats, scene cards, batches and their state; where to film again; generated rooms",
        (build.card, build.formats, build.params, rooms.coach, lab.Batch, lab.status, lab.gc, rooms.rooms),
    ),
    "bundle": Group(
        "bundles on this machine: inspect, check, audit, compare, update, objects, export, import, delete, rename",
        (
            bundles.inspect,
            bundles.check,
            local.Audit,
            bundles.diff,
            build.update,
            bundles.list_objects,
            exchange.export,
            exchange.import_,
            local.delete,
            local.rename,
        ),
    ),
    "registry": Group(
        "bundles for others: publish, pull, list, yank, verify; a gallery as a website",
        (
            registry.publish,
            registry.pull,
            registry.list_scenes,
            registry.yank,
            registry.verify,
            registry.gallery,
        ),
    ),
    "policy": Group(
        "tasks, trained policies, demonstrations, suites, benchmarks",
        (
            simulate.tasks,
            policies.play,
            policies.list_runs,
            measures.Curve,
            measures.MakeSuite,
            measures.EvaluateInSuite,
            policies.compare,
            policies.compare_terrains,
            policies.Record,
            simulate.teleop,
            simulate.bench,
            train.pretrain_encoder,
            train.pretrain_ground,
        ),
    ),
}
COMMANDS: dict[str, Command] = {command.name: command for command in TOP} | {
    f"{name} {command.name}": command for name, group in GROUPS.items() for command in group.commands
}
"""Every command by what is typed."""
ALIASES: dict[str, str] = {
    command.name: f"{name} {command.name}" for name, group in GROUPS.items() for command in group.commands
}
"""Names of the time before there were groups, which help doesn't show: they go on working."""

DESCRIPTION = "From a capture of a real place to a scene bundle that robots can be trained in."
EXAMPLES = """\
first steps:
  splatyard demo                            a robot in a finished scene, within seconds
  splatyard build scan/ --view              a capture to a bundle, shown in the browser as it is built
  splatyard view hall                       the newest version of a bundle

`splatyard GROUP` lists the commands of a group, `splatyard help COMMAND` a command's options with examples."""


def parser() -> Parser:
    """The whole command line, in the names that help shows."""
    listed = [
        _listed("commands", {command.name: command.help for command in TOP}),
        _listed("groups of commands", {name: group.help for name, group in GROUPS.items()}),
    ]
    program = Parser(
        "splatyard", usage="splatyard [--version] [--debug] [--completion SHELL] COMMAND ...", elsewhere=ALIASES
    )
    program.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    program.add_argument("--debug", action="store_true", help="show the traceback of an error, and log in detail")
    program.add_argument(
        "--completion",
        action=_ShowCompletion,
        choices=completion.SHELLS,
        metavar="SHELL",
        help='print a completion script for bash or zsh; use: eval "$(splatyard --completion bash)"',
    )
    subparsers = _subparsers(program, [DESCRIPTION, *listed], EXAMPLES)
    for command in TOP:
        _add(subparsers, command, command.name)
    for name, group in GROUPS.items():
        elsewhere = ALIASES | {command.name: command.name for command in TOP}
        grouped = subparsers.add_parser(
            name, help=group.help, usage=f"splatyard {name} COMMAND ...", elsewhere=elsewhere
        )
        listed = _listed("commands", {command.name: command.help for command in group.commands})
        more = f"`splatyard help {name} COMMAND` shows the options of a command, with examples."
        inner = _subparsers(grouped, [f"{group.help[0].upper()}{group.help[1:]}.", listed], more)
        for command in group.commands:
            _add(inner, command, f"{name} {command.name}")
    return program


def _subparsers(owner: Parser, description: Sequence[str], more: str) -> argparse._SubParsersAction[Parser]:
    """Commands of a parser, whose description lists them."""
    owner.description, owner.epilog = "\n\n".join(description), more
    owner.formatter_class = argparse.RawDescriptionHelpFormatter
    return owner.add_subparsers(
        prog=owner.prog, dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS
    )


def _add(subparsers: argparse._SubParsersAction[Parser], command: Command, typed: str) -> None:
    made = subparsers.add_parser(
        command.name,
        help=command.help.replace("%", "%%"),
        description=command.description,
        epilog=f"examples:\n{command.examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(made)
    made.set_defaults(run=command.run, parser=made, command=typed, resumes=command.resumes)


def _listed(title: str, lines: dict[str, str]) -> str:
    width = max(map(len, lines))
    return "\n".join([f"{title}:", *(f"    {name:<{width}}  {text}" for name, text in lines.items())])


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The values of a command line, with its command as `run`.

    Raises:
        SystemExit: From argparse, for --help (0) and for a command line that doesn't parse (2).
    """
    return parser().parse(as_parsed(arguments))


def as_parsed(words: Sequence[str]) -> list[str]:
    """A command line as the parser takes it: with the group of a command, and options for `help` and `version`."""
    match [*words]:
        case []:
            return ["--help"]
        case ["help", *asked]:
            return [*_with_group(asked), "--help"]
        case ["version"]:
            return ["--version"]
    options = [*takewhile(lambda word: word.startswith("-"), words)]
    typed = _with_group(words[len(options) :])
    return [*options, *typed, *(["--help"] if len(typed) == 1 and typed[0] in GROUPS else [])]


def _with_group(words: Sequence[str]) -> list[str]:
    return [*(ALIASES[words[0]].split() if words and words[0] in ALIASES else words[:1]), *words[1:]]


class _ShowVersion(argparse.Action):
    """Looks the version up only when asked: importing importlib.metadata takes longer than all of --help."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the version and exit."""
        import importlib.metadata

        print(f"splatyard {importlib.metadata.version('splatyard')}")
        parser.exit()


class _ShowCompletion(argparse.Action):
    """Makes the script only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: object, values: object, *_: object) -> None:
        """Print the script and exit."""
        print(completion.script(parser, str(values)))
        parser.exit()
