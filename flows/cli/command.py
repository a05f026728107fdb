"""How a command is declared: a function, whose parameters are the arguments and options.

Parameters before the `*` are positional, those after it are options; one without a default must be given. Annotations
say type and help. Nothing outside the standard library is imported here, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Protocol, TypeVar

from pipeline.config import BUNDLES, ENGINE, REGISTRY, SETTINGS, Setting, setting

T = TypeVar("T")
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Arg:
    """What a parameter's annotation says for the command line.

    Attributes:
        help: One clause; a default is added to it.
        metavar: Name of the value in the help.
        parse: Converts one text, or raises ValueError; the parameter's type if None.
        flag: The option, where it isn't the parameter's name.
        formerly: An older name of the option, which goes on working and which help doesn't show.
        group: Heading under which the help shows it, "title: description".
        one_of: Exactly one of the options with the same value must be given.
        setting: The user's setting that is taken where the option isn't given, see `pipeline.config`.
        check: Refuses a value, by an error of ours, before the command imports what it needs.
    """

    help: str = ""
    metavar: str | None = None
    parse: Callable[[str], object] | None = None
    flag: str = ""
    formerly: str = ""
    group: str = ""
    one_of: str = ""
    setting: str = ""
    check: Callable[[Any], object] | None = None


class _Runnable(Protocol):
    def run(self) -> int: ...


@dataclass(frozen=True)
class Command:
    """One command of the program, by the name that is typed.

    Its function returns the exit code, or is a dataclass with a method `run` that does. Its parameters are the
    command's; its docstring is the help: a line for the list of commands, a description and "Examples:".
    """

    name: str
    function: Callable[..., int | _Runnable]
    resumes: bool = False
    """Whether it continues where it was interrupted when it is run again."""

    @property
    def help(self) -> str:
        """One line for the list of commands."""
        line = self._text[0].partition("\n")[0].removesuffix(".")
        return line[0].lower() + line[1:]

    @property
    def description(self) -> str:
        """What it does."""
        return self._text[0].partition("\n\n")[2] or self._text[0]

    @property
    def examples(self) -> str:
        """Lines of examples."""
        return textwrap.indent(textwrap.dedent(self._text[2]), "  ")

    @property
    def _text(self) -> tuple[str, str, str]:
        return inspect.cleandoc(self.function.__doc__ or "").partition("\n\nExamples:\n")

    def run(self, values: Mapping[str, object]) -> int:
        """Run it with the values of its parameters; returns the exit code."""
        known = {name: values[name] for name in inspect.signature(self.function).parameters}
        for name, _, kind, arg in self._parameters():
            if arg.setting and known[name] is None:
                known[name] = _from_text(kind, setting(arg.setting))
            if arg.check:
                arg.check(known[name])
        done = self.function(**known)
        return done if isinstance(done, int) else done.run()

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare its arguments and options."""
        groups: dict[str, argparse._ActionsContainer] = {"": parser}
        for name, parameter, kind, arg in self._parameters():
            if arg.one_of not in groups:
                groups[arg.one_of] = parser.add_mutually_exclusive_group(required=True)
            if arg.group not in groups:
                title, _, description = arg.group.partition(": ")
                groups[arg.group] = parser.add_argument_group(title, description or None)
            positional = parameter.kind is not parameter.KEYWORD_ONLY
            flag = name if positional else arg.flag or f"--{name.replace('_', '-')}"
            action = groups[arg.group or arg.one_of].add_argument(flag, **_keywords(name, parameter, kind, arg))
            if arg.formerly:
                parser._option_string_actions[arg.formerly] = action

    def _parameters(self) -> Iterator[tuple[str, inspect.Parameter, Any, Arg]]:
        """Each parameter by name, with its type and what its annotation says."""
        hints = typing.get_type_hints(self.function, include_extras=True)
        for name, parameter in inspect.signature(self.function).parameters.items():
            annotated = typing.get_origin(hints[name]) is Annotated
            kind, arg = typing.get_args(hints[name]) if annotated else (hints[name], Arg())
            yield name, parameter, kind, arg


def command(name: str = "", *, resumes: bool = False) -> Callable[[Callable[..., int | _Runnable]], Command]:
    """Make a command of the function or dataclass below; it is named like the function unless `name` is given."""
    return lambda function: Command(name or function.__name__, function, resumes)


def asked(make: Callable[..., T], options: object, **others: Any) -> T:
    """What `make` makes of the values of a command, a dataclass, that are named like its parameters, and of others."""
    named = {name: getattr(options, name) for name in inspect.signature(make).parameters if name not in others}
    return make(**named, **others)


def _from_text(kind: Any, text: str) -> object:
    """A value of a parameter's type; of paths that of the user's home folder."""
    return kind(text).expanduser() if kind is Path else kind(text)


def _told(known: Setting) -> str:
    return (
        f"{known.variable}, the config file's, or {known.default}"
        if known.variable
        else f"the config file's, or {known.default}"
    )


def _keywords(name: str, parameter: inspect.Parameter, kind: object, arg: Arg) -> dict[str, Any]:
    """The keywords of argparse's `add_argument`."""
    given, default = parameter.default is not parameter.empty, parameter.default
    positional = parameter.kind is not parameter.KEYWORD_ONLY
    if typing.get_origin(kind) in (types.UnionType, typing.Union):  # X | None
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    keywords: dict[str, Any] = {"help": arg.help.replace("%", "%%")}
    if arg.setting:
        default = None
        keywords["help"] += f"; default: {_told(SETTINGS[arg.setting])}"
    if arg.metavar:
        keywords["metavar"] = arg.metavar
    if not positional:
        keywords |= {"dest": name, "required": not given and not arg.one_of, "default": default if given else None}
    if kind is bool:
        return keywords | {"action": "store_true", "default": False}
    if typing.get_origin(kind) is tuple and arg.parse is None:
        kind = typing.get_args(kind)[0]
        keywords |= {"nargs": "*" if given else "+"} if positional else {"action": "append", "default": []}
    elif positional and given:
        keywords |= {"nargs": "?", "default": default}
    if typing.get_origin(kind) is Literal:
        keywords["choices"] = typing.get_args(kind)
    elif arg.parse or kind is not str:
        keywords["type"] = arg.parse or kind
    if given and not positional and default not in (None, "", ()):
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        keywords["help"] += f"{'; ' if arg.help else ''}default: {shown}".replace("%", "%%")
    return keywords


class Parser(argparse.ArgumentParser):
    """Suggests the nearest known word for one that it doesn't know.

    `elsewhere` are words that other parsers take in this place, and what is to be typed for each.
    """

    def __init__(self, *args: Any, elsewhere: Mapping[str, str] = types.MappingProxyType({}), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._elsewhere = elsewhere

    def parse(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """As `parse_args`."""
        known, unknown = self.parse_known_args(arguments)
        if unknown:
            chosen = getattr(known, "parser", self)
            hint = _nearest(unknown[0], {option: option for option in chosen._option_string_actions})
            chosen.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return known

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            listed = ", ".join(map(str, action.choices))
            elsewhere = self._elsewhere if isinstance(action, argparse._SubParsersAction) else {}
            hint = _nearest(str(value), {**elsewhere, **{str(one): str(one) for one in action.choices}})
            raise argparse.ArgumentError(action, f"invalid choice: {str(value)!r}{hint} (choose from {listed})")

    def error(self, message: str) -> NoReturn:
        """As argparse does, whatever was typed or pasted."""
        super().error(plain(message))


def _nearest(word: str, known: Mapping[str, str]) -> str:
    """A question for what the nearest of the known words stands for."""
    found = difflib.get_close_matches(word.partition("=")[0], [*known], 1)
    return f"; did you mean {known[found[0]]}?" if found else ""


def plain(text: str) -> str:
    """Text of others as a terminal and a log may have it: no escapes, control characters or reversed directions.

    What isn't printable, line breaks and tabs apart, is written as Python writes it.
    """

    def printable(letter: str) -> str:
        if letter.isprintable() or letter in "\n\t":
            return letter
        if letter.isspace() and letter > "\x7f":
            return " "
        return letter.encode("unicode_escape", "surrogatepass").decode("ascii")

    return text if text.isprintable() else "".join(map(printable, text))


def count(text: str) -> int:
    """A whole number from 1 on; a ValueError for any other, as below."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def names(text: str) -> tuple[str, ...]:
    """Names between commas, each once."""
    return tuple(dict.fromkeys(text.split(",")))


def seconds(text: str) -> float:
    """Seconds above 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def size(text: str) -> int:
    """Bytes of "4G", "500M" or "1000000"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match or not float(match[1]):
        raise ValueError(text)
    return int(float(match[1]) * UNITS[match[2].upper()])


def tcp_port(text: str) -> int:
    """A TCP port; 0 takes a free one."""
    number = int(text)
    if not 0 <= number < 2**16:
        raise ValueError(text)
    return number


def scenes_exist(patterns: Sequence[str]) -> None:
    """Refuse scenes on this machine that aren't there; what a registry has is seen when it is opened.

    Raises:
        BundleError: When a pattern matches none.
    """
    from pipeline.scenes.references import is_address
    from sim.scene.sources import find_sources

    find_sources([pattern for pattern in patterns if not is_address(pattern)])


def runs_exist(names: Sequence[str], runs: Path) -> None:
    """Refuse runs that aren't in the folder of runs, nor a folder by themselves.

    Raises:
        TrainError: When there is none of a name.
    """
    from train.runs.folders import run_folder

    for name in names:
        run_folder(name, runs)


def gaits_exist(names: Sequence[str], runs: Path) -> None:
    """Refuse what is neither a run, nor a gait by itself.

    Raises:
        SimError: When there is none of a name.
    """
    from sim.robots.gait_files import gait_file
    from train.runs.folders import RUN_FILE

    for name in names:
        if not any((folder / RUN_FILE).is_file() for folder in (Path(name), runs / name)):
            gait_file(name)


def with_sigma(text: str) -> tuple[float, float | None]:
    """A number and its sigma of "1.5", "1.5+-0.15" or "1.5 ± 0.15"."""
    number, _, sigma = text.replace("±", "+-").partition("+-")
    return float(number), float(sigma) if sigma else None


BUNDLE_HELP = "bundle: folder, name@version, or name for its newest version"
AllowFailed = Annotated[bool, Arg("accept bundles that failed quality gates")]
AsJson = Annotated[bool, Arg("print JSON", flag="--json")]
BundleName = Annotated[str, Arg(BUNDLE_HELP, "BUNDLE")]
Bundles = Annotated[Path, Arg("folder of bundles", "DIR", setting=BUNDLES)]
Checkpoint = Annotated[
    str | None, Arg("checkpoint of the run, or best on held-out scenes; default: the newest", "NAME")
]
Device = Annotated[str, Arg("device for networks and images: cpu, cuda, cuda:1")]
Engine = Annotated[str, Arg("physics engine: sapien, mujoco, isaacgym, sapien-gpu", setting=ENGINE)]
Driver = Annotated[
    str,
    Arg(
        "a script (auto, random, still), a built-in policy (find, stairs, or EYES.npz for find), or an external one: "
        "ws://HOST:PORT, FILE.onnx, module:function, or the folder of a LeRobot checkpoint",
        "DRIVER",
    ),
]
Gait = Annotated[
    str | None,
    Arg("gait policy: a name, a file, or the folder of its run; default: the robot's own"),
]
Ground = Annotated[
    str | None,
    Arg(
        "terrain input of legged robots: truth; map, from a depth camera; colors, from depth predicted by RGB; or "
        "EYES.npz, a depth network of your own; default: truth, map for --driver stairs",
        "SOURCE",
    ),
]
HoldOut = Annotated[
    str | None,
    Arg("share or number of scenes to hold out of training; the curve shows success there", "20%|N"),
]
Port = Annotated[int, Arg("TCP port; the next free one if it is taken", parse=tcp_port)]
Registry = Annotated[str, Arg("registry:FOLDER, s3://..., hf://...", "ADDRESS", setting=REGISTRY)]
ReplanSteps = Annotated[
    int | None, Arg("actions to run of each action chunk from a policy server; default: all", "N", count)
]
Robot = Annotated[str, Arg("robot, such as rover, go2 or panda, or a URDF or MJCF file; default: the task's own")]
RunName = Annotated[str, Arg("name or folder of a run", "RUN")]
Runs = Annotated[Path, Arg("folder of runs", "DIR")]
SceneName = Annotated[str, Arg(BUNDLE_HELP, "BUNDLE", check=lambda name: scenes_exist([name]))]
SceneNames = Annotated[tuple[str, ...], Arg(BUNDLE_HELP, "BUNDLE", check=scenes_exist)]
Scenes = Annotated[
    tuple[str, ...],
    Arg(f"{BUNDLE_HELP}; or a pattern; repeatable", "BUNDLE", flag="--scene", check=scenes_exist),
]
Seed = Annotated[int, Arg("random seed")]
Test = Annotated[
    tuple[str, ...],
    Arg("bundle or pattern to test in, never trained on; repeatable", "BUNDLE", check=scenes_exist),
]
Version = Annotated[str | None, Arg("version of the new bundle; default: the next one", "X.Y.Z")]
