"""From a capture of a real place to a scene bundle: mesh, splat and measured quality in one frame.

>>> from pipeline import BuildRequest, Bundle, build
>>> result = build(BuildRequest(Path("photos")))
>>> bundle = Bundle.open(result.bundle)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# numba tries TBB first, and warns about every installed one that it finds too old
os.environ.setdefault("NUMBA_THREADING_LAYER_PRIORITY", "omp workqueue tbb")
# libgomp reads this once, when numba starts its threads. By default waiting threads spin, which doubles the CPU time of
# kernels that last a few milliseconds.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# numpy reads this once, too. Its products are of millions of points by a 3x3 matrix, where several threads only wait
# for each other: on two busy cores they cost 30 times the CPU time of one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

if TYPE_CHECKING:
    from pipeline.running.building import BuildRequest, BuildResult, Plan, build, plan
    from pipeline.scenes.bundle import Bundle

__all__ = ["BuildRequest", "BuildResult", "Bundle", "Plan", "build", "plan"]


def __getattr__(name: str) -> Any:
    """Import on first use: `import pipeline` alone loads nothing heavy."""
    if name == "Bundle":
        from pipeline.scenes.bundle import Bundle

        return Bundle
    if name in __all__:
        from pipeline.running import building

        return getattr(building, name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
