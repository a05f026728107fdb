"""What users may set: how it is declared, what its texts may name, and how files and `--set` are read.

Stage parameters, scene cards and training presets are `Settings`. A text that is no word from a list has one of the
types `Interpreter` to `Label`, which a test checks. Programs and weights belong to the machine: the command line or the
environment names them, a file never does.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import inspect
import os
import sys
import typing
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from pipeline.errors import SplatyardError
from pipeline.io.files import read_plain

Meaning = Literal["interpreter", "weights", "inside", "known", "label"]
MAX_FILE_BYTES = 256 * 1024


@dataclass(frozen=True)
class Means:
    """The purpose of a text; see `Interpreter` to `Label`."""

    what: Meaning


Interpreter = Annotated[str, Means("interpreter")]
"""A program that is started; it changes no result."""
Weights = Annotated[str, Means("weights")]
"""A network's weights: a file, a folder, or a repository to fetch them from."""
Inside = Annotated[str, Means("inside")]
"""A path that stays in the folder of the card, or where the user says."""
Known = Annotated[str, Means("known")]
"""An existing name (of a photo, camera, topic or gate); never a path that is opened."""
Label = Annotated[str, Means("label")]
"""Text for people."""


class Settings(BaseModel):
    """Base of everything that users may set: frozen, no unknown keys, every value checked.

    A value may be text, as `--set` gives it: it is tried as it is, then as YAML ("[1, 2]", "null").
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _also_from_text(cls, value: object, validate: ValidatorFunctionWrapHandler) -> object:
        try:
            result = validate(value)
        except ValidationError:
            with contextlib.suppress(yaml.YAMLError, ValueError, RecursionError):
                value = yaml.load(value, _Loader) if isinstance(value, str) else value  # a subclass of SafeLoader
            result = validate(value)
        if isinstance(value, bool) and isinstance(result, int | float) and not isinstance(result, bool):
            raise ValueError("true and false are not numbers")
        return result

    def changed(self, **values: object) -> Self:
        """A copy with other values, checked like all others."""
        return type(self).model_validate({**dict(self), **values})

    def content(self) -> dict[str, object]:
        """What results depend on, by name: all but where a backend's interpreter lies."""
        means = meanings(type(self))
        return {name: value for name, value in self if means.get(name) != "interpreter"}


S = TypeVar("S", bound=BaseModel)


def zero_or(minimum: float, maximum: float = float("inf")) -> AfterValidator:
    """Bounds of a number whose 0 stands for "automatic", for `Annotated`."""

    def check(value: float) -> float:
        if value != 0 and not minimum <= value <= maximum:
            bounds = f"{minimum} or more" if maximum == float("inf") else f"{minimum} to {maximum}"
            raise ValueError(f"must be {bounds}, or 0 for automatic")
        return value

    return AfterValidator(check)


@cache
def meanings(settings: type) -> Mapping[str, Meaning]:
    """What the texts among the fields of a class are for, by field."""
    hints = typing.get_type_hints(settings, include_extras=True)
    return {
        name: extra.what
        for name, hint in hints.items()
        for extra in getattr(hint, "__metadata__", ())
        if isinstance(extra, Means)
    }


def documentation(settings: type[Settings]) -> dict[str, str]:
    """What the texts below the fields of a class say, by field."""
    texts: dict[str, str] = {}
    for kind in reversed(settings.__mro__):
        if not issubclass(kind, Settings) or kind is Settings:
            continue
        for field, text in pairwise(_classes(kind.__module__)[kind.__name__].body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                    texts[name] = " ".join(said.split())
    return texts


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module, by name; its file is parsed once for all, not twice for each as by `inspect`."""
    body = ast.parse(inspect.getsource(sys.modules[module])).body
    return {definition.name: definition for definition in body if isinstance(definition, ast.ClassDef)}


def of_this_machine(settings: type) -> list[str]:
    """Fields that only the machine's user may give: interpreters and weights."""
    return [name for name, what in meanings(settings).items() if what in ("interpreter", "weights")]


def variable(stage: str, name: str) -> str:
    """The environment variable that gives a parameter of the machine, such as SPLATYARD_MESH_PYTHON."""
    return f"SPLATYARD_{stage}_{name}".upper()


def machine_settings(params_by_stage: Mapping[str, type]) -> list[str]:
    """The machine's parameters that the environment gives, as "stage.parameter=value"."""
    return [
        f"{stage}.{name}={value}"
        for stage, params in params_by_stage.items()
        for name in of_this_machine(params)
        if (value := os.environ.get(variable(stage, name)))
    ]


def checked(
    kind: type[S],
    values: object,
    where: str,
    error: type[SplatyardError],
    file: Path | str | None = None,
    *,
    remedy: str | None = None,
) -> S:
    """Validate values from outside, usually a mapping from field to value.

    `where` is the prefix of keys in messages, such as "splat"; `remedy` replaces the general one.

    Raises:
        SplatyardError: The first problem: unknown keys, with the nearest known one, before wrong values.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as invalid:
        # a misspelt key is also reported as missing
        first = min(invalid.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
        path = ".".join([where, *map(str, first["loc"])])
        if first["type"] == "extra_forbidden":
            *outer, key = first["loc"]
            require_known(key, _keys_at(kind, outer), path.rpartition(".")[0], error, file)
        text = first["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)
        absent = first["type"] == "missing"
        rule, usual = (f"{path} is missing", f"add {path}") if absent else (f"{path} {text}", f"correct {path}")
        raise error(rule, found=f"{first['input']!r:.80}", remedy=remedy or usual, file=file) from invalid


def require_known(
    key: object,
    known: Collection[str],
    where: str,
    error: type[SplatyardError],
    file: Path | str | None = None,
    *,
    rule: str | None = None,
) -> None:
    """Refuse a key that doesn't exist, and name the nearest one; `rule` replaces the message for what is no key.

    Raises:
        SplatyardError: When it is unknown.
    """
    if key not in known:
        near = difflib.get_close_matches(str(key), list(known), 1, 0.5)
        remedy = (f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(known)}"
        found = f"{where} {key}" if rule else f"{where}.{key}"
        raise error(rule or f"{where} has no key {key!r}", found=found, remedy=remedy, file=file)


def parse_settings(settings: Iterable[str], example: str, error: type[SplatyardError]) -> dict[str, str]:
    """Texts by dotted name of "section.name=value", as `--set` gives them; the last one wins.

    Raises:
        SplatyardError: When a text has another form.
    """
    parsed = {}
    for text in settings:
        name, sign, value = text.partition("=")
        if not sign or not all(part.isidentifier() for part in name.strip().split(".")):
            raise error("--set takes NAME=VALUE", found=repr(text), remedy=f"for example --set {example}")
        parsed[name.strip()] = value
    return parsed


def with_changes(values: Mapping[str, Any], changes: Mapping[str, object]) -> dict[str, Any]:
    """Nested values, with others by dotted name on top."""
    merged = layered([values])
    for path, value in changes.items():
        *sections, name = path.split(".")
        inner = merged
        for section in sections:
            if not isinstance(inner.get(section), dict):
                inner[section] = {}
            inner = inner[section]
        inner[name] = value
    return merged


def layered(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Nested mappings in one; later ones win, key by key."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            below = merged.get(key)
            layers_below = [below] if isinstance(below, Mapping) else []
            merged[key] = layered([*layers_below, value]) if isinstance(value, Mapping) else value
    return merged


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that also refuses aliases (a small file can stand for a huge one) and repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, what: str, error: type[SplatyardError]) -> object:
    """The content of a YAML file that may come from anybody; `what`, such as "a card", is for messages.

    Raises:
        SplatyardError: When it can't be read, is too large or no YAML without aliases and repeated keys.
    """
    try:
        data = read_plain(path, MAX_FILE_BYTES)
    except ValueError as problem:
        limit = f"{what} has at most {MAX_FILE_BYTES >> 10} KiB"
        raise error(limit, found="more", remedy=f"name {what}, not another file", file=path) from problem
    except OSError as problem:
        found = problem.strerror or str(problem)
        raise error(f"{what} must be a readable file", found=found, remedy="check the path", file=path) from problem
    try:
        return yaml.load(data, _Loader)  # a subclass of SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as problem:
        found = " ".join(str(problem).split())[:300]
        raise error(f"{what} must be valid YAML", found=found, remedy="correct that line", file=path) from problem


def _keys_at(kind: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    """The keys of the section at a location such as ("scale", "known_length")."""
    for part in location:
        if isinstance(part, int):  # an element of a list, all of one kind
            continue
        kind = next(_models(kind.model_fields[part].annotation))
    return list(kind.model_fields)


def _models(hint: object) -> Iterator[type[BaseModel]]:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        yield hint
    for part in typing.get_args(hint):
        yield from _models(part)
