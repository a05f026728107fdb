"""The package isaacgym-stubs made alive: names, signatures and types are its own, and what breaks them raises.

What is set in a parameter object must be annotated there, what is read must have been set: no default is guessed. A
method of `Gym` binds its arguments to the stub's signature and checks their types, then calls `physics.Physics` by the
same name.
"""

from __future__ import annotations

import enum
import importlib.metadata
import inspect
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIGNATURE = re.compile(r"(\w+): ([\w.\[\]:]+)(?: = [^,)]+)?[,)]")


def _read_stubs() -> dict[str, Any]:
    files = importlib.metadata.files("isaacgym-stubs") or []
    file = next(Path(str(file.locate())) for file in files if file.name == "gymapi.pyi")
    source = file.read_text().replace("def lambda(", "def lambda_(")  # two properties that Python can't parse
    names: dict[str, Any] = {"__name__": "stubs"}
    exec(compile("from __future__ import annotations\n" + source, str(file), "exec"), names)
    return names


STUBS = _read_stubs()


_classes = {name: stub for name, stub in STUBS.items() if inspect.isclass(stub) and stub.__module__ == "stubs"}


def _check(value: Any, annotation: str, where: str) -> None:
    """Raises TypeError unless pybind11 would take the value for what the stub says."""
    array = re.fullmatch(r"numpy\.ndarray\[(\w+)\]", annotation)
    listed = re.fullmatch(r"List\[(\w+)\]", annotation)
    plain = {"float": (float, int, np.floating), "int": (int, np.integer), "bool": bool, "str": str, "tuple": tuple}
    if array:
        good = isinstance(value, np.ndarray) and value.dtype == getattr(np, array[1]) and value.flags.c_contiguous
    elif listed:
        good = isinstance(value, list) and all(isinstance(item, globals()[listed[1]]) for item in value)
    elif annotation in plain:
        good = isinstance(value, plain[annotation]) and (annotation == "bool" or not isinstance(value, bool))
    elif annotation in _classes:
        good = isinstance(value, globals()[annotation])
    else:
        good = True
    if not good:
        raise TypeError(f"{where} is {annotation}, got {value!r}")


def _enum(name: str, stub: type) -> type:
    """An enum whose members are numbered as in its docstring; not an int, as those of pybind11."""
    members = [key for key, kind in stub.__annotations__.items() if kind == f"ClassVar[{name}]"]
    told = dict(re.findall(r"^\s+(\w+)(?: :.*?)?(?:\(value = (\d+)\).*)?$", stub.__doc__ or "", re.M))
    order = [key for key in told if key in members] + [key for key in members if key not in told]
    values = {key: int(told.get(key) or number) for number, key in enumerate(order)}
    made = enum.Enum(name, values)
    made.__int__ = lambda self: self.value  # type: ignore[attr-defined]
    return made


def _parameters(name: str, stub: type) -> type:
    """A class whose attributes are those that the stub annotates; structures in it are made with it."""
    kinds = {key: kind for key, kind in stub.__annotations__.items() if not kind.startswith("ClassVar")}

    def begin(self: Any, *args: Any, **kwargs: Any) -> None:
        given = inspect.signature(stub.__init__).bind(self, *args, **kwargs).arguments
        for key, kind in kinds.items():
            if key in given:
                setattr(self, key, given[key])
            elif name in ("Vec3", "Quat"):
                setattr(self, key, 1.0 if key == "w" else 0.0)
            elif kind in _classes and "__members__" not in _classes[kind].__annotations__:
                setattr(self, key, globals()[kind]())

    def assign(self: Any, key: str, value: Any) -> None:
        if key not in kinds:
            raise AttributeError(f"{name} has no {key}")
        _check(value, kinds[key], f"{name}.{key}")
        object.__setattr__(self, key, value)

    return type(name, (), {"__init__": begin, "__setattr__": assign, "__doc__": stub.__doc__})


def _method(name: str, stub: Callable[..., Any], overloads: list[Callable[..., Any]]) -> Callable[..., Any]:
    """Checks a call against the stub, then has the fake physics do it."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        signature = inspect.signature(overloads[0] if overloads else stub)
        kinds = {key: parameter.annotation for key, parameter in signature.parameters.items()}
        if "args" in signature.parameters:  # the docstring knows better
            first = (stub.__doc__ or "").strip().splitlines()[0].split("->")[0]
            kinds = dict(SIGNATURE.findall(first))
            named = [inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD) for key in kinds]
            signature = inspect.Signature(named)
        bound = signature.bind(self, *args, **kwargs)
        for key, value in list(bound.arguments.items())[1:]:
            _check(value, str(kinds[key]), f"{name}({key})")
        done = getattr(self.physics, name, None)
        if done is None:
            raise NotImplementedError(f"the fake knows {name} but not what it does")
        return done(*list(bound.arguments.values())[1:])

    return call


def _gym(stub: type) -> type:
    methods = {
        name: _method(name, function, typing.get_overloads(function))
        for name, function in vars(stub).items()
        if inspect.isfunction(function) and not name.startswith("__")
    }
    return type("Gym", (), methods)


for _name, _stub in _classes.items():
    if "__members__" in _stub.__annotations__:
        globals()[_name] = _enum(_name, _stub)
    elif _name == "Gym":
        globals()[_name] = _gym(_stub)
    else:
        globals()[_name] = _parameters(_name, _stub)
for _name, _kind in STUBS["__annotations__"].items():
    _members = getattr(globals().get(_kind), "__members__", {})
    globals()[_name] = STUBS[_name] if _name in STUBS else _members.get(_name)


def acquire_gym() -> Any:
    """The only one."""
    from isaacgym.physics import Physics

    gym = globals()["Gym"]()
    gym.physics = Physics()
    return gym
