"""Calls of compiled kernels: with the arguments that the code around them gives, and how often one calls another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any
from unittest import mock

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic

from benchmarks.peaks import least
from pipeline.geometry.jit import njit
from pipeline.raster.layout import LINE


@dataclass(frozen=True)
class Call:
    """A kernel and the arguments of one call of it, as they were before."""

    kernel: Callable[..., object]
    arguments: tuple[Any, ...]

    def seconds(self) -> float:
        """CPU-seconds of the fastest of many calls, each on a copy of the arguments."""
        return least(self.kernel, lambda: _copied(self.arguments))

    def bytes(self) -> int:
        """Size of all arrays that it gets."""
        return _size(self.arguments)

    def count(self, *names: str) -> list[int]:
        """How often the kernel calls functions, each by its name or as `math.acos`, directly or through others."""
        counters = {name: np.zeros(1, np.int64) for name in names}
        _rebuilt(self.kernel, counters, {})(*_copied(self.arguments))
        return [int(counter[0]) for counter in counters.values()]


def calls_of(work: Callable[[], object], *kernels: tuple[ModuleType, str]) -> list[list[Call]]:
    """The calls of each kernel, by the module that calls it and its name there, while `work` is done."""
    found: list[list[Call]] = []
    with ExitStack() as stack:
        for module, name in kernels:
            found.append([])
            stack.enter_context(mock.patch.object(module, name, _recorded(getattr(module, name), found[-1])))
        work()
    return found


def _recorded(kernel: Callable[..., object], calls: list[Call]) -> Callable[..., object]:
    def recorded(*arguments: Any) -> object:
        calls.append(Call(kernel, _copied(arguments)))
        return kernel(*arguments)

    return recorded


def _copied(value: Any) -> Any:
    """A copy of arrays, also in tuples, that begins with a cache line as the kernels' own memory does."""
    if isinstance(value, tuple):
        parts = [_copied(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if not isinstance(value, np.ndarray):
        return value
    raw = np.empty(value.nbytes + 4 * LINE, np.uint8)
    skip = -raw.ctypes.data % (4 * LINE)
    copy = raw[skip : skip + value.nbytes].view(value.dtype).reshape(value.shape)
    copy[...] = value
    return copy


def _size(value: Any) -> int:
    if isinstance(value, tuple):
        return sum(_size(part) for part in value)
    return value.nbytes if isinstance(value, np.ndarray) else 0


def _one_more(_context: Any, address: types.Type) -> tuple[Any, Callable[..., Any]]:
    """Add one to the 64-bit integer at an address."""

    def build(context: Any, builder: Any, _signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        builder.store(builder.add(builder.load(place), ir.IntType(64)(1)), place)
        return context.get_dummy_value()

    return types.void(types.int64), build


_add_one: Any = intrinsic(_one_more)
"""As type checkers should see it."""


def _counted(function: Any, counter: np.ndarray) -> Any:
    address = counter.ctypes.data

    @njit(error_model="numpy")
    def wrapper(*arguments: Any) -> Any:
        _add_one(address)
        return function(*arguments)

    return wrapper


def _rebuilt(kernel: Any, counters: dict[str, np.ndarray], done: dict[Any, Any]) -> Any:
    """The kernel, for one thread, with each function that has a counter replaced by one that counts."""
    if kernel in done:
        return done[kernel]
    code, scope = kernel.py_func.__code__, dict(kernel.py_func.__globals__)
    for name in code.co_names:
        value = scope.get(name)
        if isinstance(value, Dispatcher):
            scope[name] = _rebuilt(value, counters, done)
            if name in counters:
                scope[name] = _counted(scope[name], counters[name])
        elif isinstance(value, ModuleType) and any(counter.startswith(f"{name}.") for counter in counters):
            scope[name] = module = ModuleType(name)
            vars(module).update(vars(value))
            for counter in counters:
                if counter.startswith(f"{name}."):
                    function = counter.removeprefix(f"{name}.")
                    vars(module)[function] = _counted(vars(value)[function], counters[counter])
    options = {key: kernel.targetoptions[key] for key in ("fastmath", "error_model") if key in kernel.targetoptions}
    plain = FunctionType(code, scope, code.co_name, kernel.py_func.__defaults__)
    done[kernel] = njit(**options)(plain)
    return done[kernel]
