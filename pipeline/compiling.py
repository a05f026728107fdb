"""How long this process has compiled kernels: a machine does that once, then they come from numba's cache.

Apart from `pipeline.geometry.jit`, which tells it, because who asks needs no numba.
"""

from __future__ import annotations

import time

_depth, _began, _before = 0, 0.0, 0.0


def begin() -> None:
    """A kernel is compiled from now on; compiling it may compile others."""
    global _depth, _began
    if _depth == 0:
        _began = time.monotonic()
    _depth += 1


def end() -> None:
    """The kernel that was begun last is compiled."""
    global _depth, _before
    _depth -= 1
    if _depth == 0:
        _before += time.monotonic() - _began


def seconds() -> float:
    """Wall time spent on it until now [s]."""
    return _before + (time.monotonic() - _began if _depth else 0.0)
