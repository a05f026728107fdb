"""What stages take on a machine with two cores that does nothing else: a first build's times, until it has its own.

Measured on the sample hall with 23 and 68 images and on larger captures, as CPU time because the machine (AMD EPYC) was
shared. Another machine is faster or slower, which `TimeLeft` learns from the first stages.
"""

from __future__ import annotations

from pipeline.running.engine import PlannedStage

SECONDS = {
    "capture": (0.0, 0.02),
    "select": (0.0, 0.02),
    "poses": (0.0, 0.5),
    "depth": (0.0, 0.8),
    "align": (0.0, 0.06),
    "points": (0.0, 0.09),
    "mesh": (15.0, 0.6),
    "splat": (5.0, 1.0),
    "coverage": (3.0, 0.13),
    "regions": (0.0, 0.02),
    "check": (0.0, 0.1),
    "bundle": (0.0, 0.03),
}
"""By stage, with kernels compiled: the time that any capture takes, and what each image adds."""
COLMAP = (0.0, 1.3)
"""Of poses from images alone."""
COMPILE_SECONDS = {"poses": 5.0, "depth": 16.0, "points": 4.0, "mesh": 25.0, "splat": 45.0, "coverage": 11.0}
"""Of the kernels of each stage, the first time on a machine."""


def usual_seconds(stage: PlannedStage) -> float | None:
    """Wall time of a stage by these tables [s]; None for what has not been measured, such as backends of a GPU."""
    known = COLMAP if stage.backend == "colmap" else SECONDS.get(stage.name)
    if known is None or stage.on_gpu or not stage.images:
        return None
    first, each = known
    return first + each * stage.images
