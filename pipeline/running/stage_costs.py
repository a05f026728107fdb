"""What stages take on a machine with two cores that does nothing else: told before a build that has no records yet.

Measured on the sample hall with 23 and 68 images and on larger captures, as CPU time because the machine (AMD EPYC) was
shared; memory and disk on captures with depth at 640 x 480. Another machine is faster or slower, which `TimeLeft`
learns from the first stages.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.running.engine import PlannedStage


class Cost(NamedTuple):
    """Wall time [s] that any capture takes and what each image adds, the same of memory, and each image's results."""

    seconds: float
    seconds_each: float
    memory: float  # [MB]
    memory_each: float  # [MB]
    result_each: float  # [MB]


COSTS = {
    "capture": Cost(0.0, 0.02, 450, 0.1, 0.1),
    "select": Cost(0.0, 0.02, 450, 0.1, 0.0),
    "poses": Cost(0.0, 0.5, 800, 4.0, 0.4),
    "depth": Cost(0.0, 0.8, 800, 1.0, 3.6),
    "align": Cost(0.0, 0.06, 600, 0.5, 0.0),
    "points": Cost(0.0, 0.09, 600, 1.0, 0.45),
    "mesh": Cost(15.0, 0.6, 800, 1.0, 0.1),
    "splat": Cost(5.0, 1.0, 800, 4.0, 0.16),
    "coverage": Cost(3.0, 0.13, 600, 1.0, 0.0),
    "regions": Cost(0.0, 0.02, 600, 0.5, 0.0),
    "check": Cost(0.0, 0.1, 600, 1.0, 0.0),
    "bundle": Cost(0.0, 0.03, 600, 0.5, 0.45),
}
"""By stage, with kernels compiled."""
COLMAP_SECONDS = 1.3
"""Of poses from images alone, for each of them."""
COMPILE_SECONDS = {"poses": 5.0, "depth": 16.0, "points": 4.0, "mesh": 25.0, "splat": 45.0, "coverage": 11.0}
"""Of the kernels of each stage, the first time on a machine."""


def usual_seconds(stage: PlannedStage) -> float | None:
    """Wall time of a stage by these tables [s]; None for what has not been measured, such as backends of a GPU."""
    if stage.on_gpu or not stage.images or (known := COSTS.get(stage.name)) is None:
        return None
    if stage.backend == "colmap":
        return COLMAP_SECONDS * stage.images
    return known.seconds + known.seconds_each * stage.images
