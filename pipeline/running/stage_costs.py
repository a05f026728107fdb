"""What stages take on a machine with two cores that does nothing else: told before a build that has no records yet.

Times are measured on the sample hall with 23 and 68 images and on larger captures, as CPU time because the machine (AMD
EPYC) was shared; another one is faster or slower, which `TimeLeft` learns from the first stages. Memory and disk are
the hall's, with photos of 640 x 480 and a phone's depth: larger images take more. What an image adds to memory is
measured for the mesh (a drawn building of 350 images) and the first two stages, and assumed for others.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.running.engine import PlannedStage


class Cost(NamedTuple):
    """What any capture takes and what each image adds."""

    seconds: float  # wall time
    seconds_each: float
    memory: float  # [MB]
    memory_each: float  # [MB]
    result_each: float  # of disk [MB]


COSTS = {
    "capture": Cost(0.0, 0.02, 450, 0.1, 0.1),
    "select": Cost(0.0, 0.02, 470, 0.1, 0.0),
    "poses": Cost(0.0, 0.5, 900, 2.0, 0.4),
    "depth": Cost(0.0, 0.8, 1050, 1.5, 0.76),
    "align": Cost(0.0, 0.06, 1000, 1.0, 0.0),
    "points": Cost(0.0, 0.09, 1100, 3.0, 0.44),
    "mesh": Cost(15.0, 0.6, 1450, 3.0, 0.28),
    "splat": Cost(5.0, 1.0, 1350, 3.0, 0.22),
    "coverage": Cost(3.0, 0.13, 1600, 2.0, 0.0),
    "regions": Cost(0.0, 0.02, 1650, 1.5, 0.0),
    "check": Cost(0.0, 0.1, 1700, 2.0, 0.01),
    "bundle": Cost(0.0, 0.03, 1450, 1.0, 0.71),
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
