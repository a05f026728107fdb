"""Scene bundles of real places, and robots in them, by one import.

>>> import splatyard
>>> result = splatyard.build(splatyard.BuildRequest(Path("photos")))
>>> bundle = splatyard.Bundle.open("hall@1.0.0")
>>> env = splatyard.make("navigate", ["hall@1.0.0"], 16)

All else is in the packages `pipeline`, `sim`, `train` and `flows`, which come with it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline import BuildRequest, BuildResult, Bundle, Plan, build, plan
    from pipeline.errors import SplatyardError
    from sim import make

__all__ = ["BuildRequest", "BuildResult", "Bundle", "Plan", "SplatyardError", "build", "make", "plan"]

_ELSEWHERE = {"SplatyardError": "pipeline.errors", "make": "sim"}
"""Modules of the names that aren't those of `pipeline`."""


def __getattr__(name: str) -> Any:
    """Import on first use: `import splatyard` alone loads nothing."""
    if name in __all__:
        return getattr(importlib.import_module(_ELSEWHERE.get(name, "pipeline")), name)
    raise AttributeError(f"module 'splatyard' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
