"""What stands between two points of a scene."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from pipeline.geometry.rays import RayCaster
from pipeline.types import I64, Floats, Mask
from sim.scene.scene import SimScene


class Sight:
    """Lines of sight in scenes; each scene's mesh is prepared when the first line is in it."""

    def __init__(self, scenes: Sequence[SimScene]) -> None:
        self._caster = cache(lambda scene: RayCaster(scenes[scene].collision))

    def clear(self, scenes: I64, eyes: Floats, points: Floats) -> Mask:
        """Whether nothing of scenes (M,) is between eyes and points, both (M, 3) [m]: (M,)."""
        free = np.ones(len(scenes), bool)
        for scene in np.unique(scenes):
            rows = np.flatnonzero(scenes == scene)
            free[rows] = self._caster(scene).cast(eyes[rows], points[rows] - eyes[rows]).distance > 1
        return free
