"""Keeping SIGTERM: pycolmap's log library takes it, from its import on, to print the native stack of a crash."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

TAKER = "pycolmap"
SIGACTION_BYTES = 512
"""More than any system's `struct sigaction` has."""


def keep_sigterm() -> None:
    """From now on importing pycolmap changes nothing in what SIGTERM does in this process."""
    if not any(isinstance(finder, _Keeper) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Keeper())


class _Keeper(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As Python finds it, with the signal put back after its import."""
        if fullname != TAKER:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_put_back(module: ModuleType) -> None:
            system, before = ctypes.CDLL(None), ctypes.create_string_buffer(SIGACTION_BYTES)
            system.sigaction(signal.SIGTERM, None, before)
            try:
                execute(module)
            finally:
                system.sigaction(signal.SIGTERM, before, None)

        spec.loader.exec_module = execute_and_put_back
        return spec
