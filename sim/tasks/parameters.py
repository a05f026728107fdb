"""Numbers of a task's terms and scenario that users may set, by name: keyword parameters that are annotated so.

A term or a scenario is a function or a class, or a `functools.partial` of one that fixes its parameters. One name means
one number in a whole task, however many of its terms have it: what ends an episode is what is rewarded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from pipeline.errors import SimError

Part = TypeVar("Part", bound=Callable[..., Any])


def settable(low: float, high: float, meaning: str) -> FieldInfo:
    """Marks a parameter that users may set, with its bounds and what it means, for `Annotated`."""
    return Field(ge=low, le=high, description=meaning, allow_inf_nan=False)


@dataclass(frozen=True)
class Parameter:
    """A number that users may set.

    Attributes:
        value: What it is, unless it is set.
        kind: Its type, with its bounds and meaning.
    """

    value: float
    kind: Any

    @property
    def meaning(self) -> str:
        """What it means, and its bounds."""
        info = FieldInfo.from_annotation(self.kind)
        bounds = [str(getattr(one, name)) for one in info.metadata for name in ("ge", "le") if hasattr(one, name)]
        return f"{info.description}; {' to '.join(bounds)}"


def parameters_of(parts: Iterable[Callable[..., Any]]) -> dict[str, Parameter]:
    """The parameters of terms and scenarios, by name."""
    found = dict[str, Parameter]()
    for part in parts:
        whole, fixed = (part.func, part.keywords) if isinstance(part, partial) else (part, {})
        for name, one in inspect.signature(whole, eval_str=True).parameters.items():
            value = fixed.get(name, one.default)
            marked = get_origin(one.annotation) is Annotated and isinstance(get_args(one.annotation)[1], FieldInfo)
            if marked and value is not inspect.Parameter.empty:
                found[name] = Parameter(value, one.annotation)
    return found


def checked(values: Mapping[str, object], known: Mapping[str, Parameter], task: str) -> dict[str, float]:
    """What a user sets of a task's parameters, as numbers.

    Raises:
        SimError: When the task has no such parameter, or a number is out of its bounds.
    """
    result = dict[str, float]()
    for name, value in values.items():
        if name not in known:
            raise SimError(
                f"the parameters of {task} have the names in `splatyard policy tasks {task}`",
                found=name,
                remedy=f"one of {', '.join(known)}" if known else "leave it out: it has none",
            )
        try:
            result[name] = TypeAdapter(known[name].kind).validate_python(value)
        except ValidationError as error:
            raise SimError(
                f"{name} of {task} is {known[name].meaning}",
                found=str(value),
                remedy=f"--set task.parameters.{name}={known[name].value:g} is what it is by default",
            ) from error
    return result


def with_parameters(part: Part, values: Mapping[str, float]) -> Part:
    """A term or a scenario with those of the values that it has a parameter for."""
    own = {name: values[name] for name in parameters_of([part]) if name in values}
    return partial(part, **own) if own else part  # type: ignore[return-value] - is called alike
