"""What stands between two points of a scene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.geometry.rays import RayCaster
from pipeline.types import I64, Floats, Mask
from sim.scene.scene import SimScene


def in_sight(scenes: Sequence[SimScene], scene_of: I64, eyes: Floats, points: Floats) -> Mask:
    """Whether nothing is between eyes and points, both (M, 3) [m], in the scenes (M,) that they are in: (M,)."""
    free = np.ones(len(scene_of), bool)
    for scene in np.unique(scene_of):
        rows = np.flatnonzero(scene_of == scene)
        caster = RayCaster(scenes[scene].collision)
        free[rows] = caster.cast(eyes[rows], points[rows] - eyes[rows]).distance > 1
    return free
