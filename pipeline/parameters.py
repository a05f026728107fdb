"""What the texts among parameters and in cards stand for, written down in their types.

A number or one of some words can do no harm. Any other text is of one of the types below, and a test walks all of them.
Programs and weights are the machine's: the command line or the environment names them, a file never does.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

Meaning = Literal["interpreter", "weights", "planned", "inside", "known", "label"]


@dataclass(frozen=True)
class Means:
    """What a text is for.

    Attributes:
        what: `interpreter` and `weights` are the machine's; `planned` is filled in by the plan; `inside` is a path that
            must lie in the card's folder, or where the user says; `known` is looked up among names that there are
            already, of photos, cameras, topics or gates; `label` is shown to people, and nothing else is done with it.
    """

    what: Meaning


Interpreter = Annotated[str, Means("interpreter")]
"""A program that is started; it changes no result."""
Weights = Annotated[str, Means("weights")]
"""A network's weights: a file, a folder, or a repository that they are fetched from."""
Inside = Annotated[str, Means("inside")]
"""A path that stays in the folder of the card."""
Known = Annotated[str, Means("known")]
"""One of the names that there are; never a path that is opened."""
Label = Annotated[str, Means("label")]
"""For people."""


@cache
def meanings(params: type) -> Mapping[str, Meaning]:
    """What the texts among a dataclass's fields are for, by field."""
    hints = typing.get_type_hints(params, include_extras=True)
    return {
        name: extra.what
        for name, hint in hints.items()
        for extra in getattr(hint, "__metadata__", ())
        if isinstance(extra, Means)
    }


def of_this_machine(params: type) -> list[str]:
    """Fields that name what only the machine's user may: interpreters and weights."""
    return [name for name, what in meanings(params).items() if what in ("interpreter", "weights")]


def without_interpreters(params: Any) -> dict[str, Any]:
    """A parameter object's values by name, but for where a backend's interpreter lies: that changes no result."""
    means = meanings(type(params))
    return {name: value for name, value in vars(params).items() if means.get(name) != "interpreter"}


def variable(stage: str, name: str) -> str:
    """The environment variable that gives a parameter of the machine, such as SPLATYARD_MESH_PYTHON."""
    return f"SPLATYARD_{stage}_{name}".upper()


def machine_settings(params_by_stage: Mapping[str, type]) -> list[str]:
    """What the environment says of the machine's parameters, as "stage.parameter=value" texts."""
    named = [(stage, name) for stage, params in params_by_stage.items() for name in of_this_machine(params)]
    given = [(stage, name, os.environ.get(variable(stage, name), "")) for stage, name in named]
    return [f"{stage}.{name}={value}" for stage, name, value in given if value]
