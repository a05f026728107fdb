"""Scale by objects of usual size: only a hint, with its wide sigma, for captures that nothing else gives a scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.align.floor import Floor, find_floor
from pipeline.align.quads import nearest_point
from pipeline.align.scale import Scale
from pipeline.align.steps import find_rise
from pipeline.align.surfaces import Surfaces
from pipeline.poses.scene import View

Array = NDArray[np.float64]

ROOM_HEIGHT = (2.6, 0.4)
"""From floor to ceiling, value and sigma [m]: dwellings have 2.3 to 2.8, old ones, schools and offices up to 3.5."""
RISE = (0.17, 0.02)
"""Of a step [m]: 0.15 in public places to 0.2 in old houses."""
CAMERA_HEIGHT = (1.4, 0.3)
"""How high people hold phones when they film a room [m]."""
ON_MACHINES = ("rosbag", "grandtour", "euroc", "kitti", "lidar_slam")
"""Kinds of captures whose cameras robots, drones and cars carry, at any height."""
INWARD_DEG = 10.0
"""Views that look at one place within this go round a thing, that may stand on a table: what is level below it need
not be the floor."""


def find_hints(kind: str, surfaces: Surfaces, views: Sequence[View], up: Array, floor: Floor | None) -> list[Scale]:
    """What objects of usual size say of the scale; none without a floor.

    Args:
        kind: Of the capture.
        surfaces: Oriented points, scene frame.
        views: Those that may be used.
        up: (3,) unit.
        floor: As found.
    """
    if floor is None:
        return []
    centres = np.array([view.world_from_camera.translation for view in views])
    height = float(np.median(centres @ up)) - floor.height
    hints = []
    rise = find_rise(surfaces, up, floor, height)
    if rise is not None:
        hints.append(_hint(RISE, rise, "steps"))
    ceiling = find_floor(surfaces, -up, centres)
    if ceiling is not None:
        hints.append(_hint(ROOM_HEIGHT, -ceiling.height - floor.height, "room height"))
    if kind not in ON_MACHINES and (hints or not _look_inward(views, centres)):
        hints.append(_hint(CAMERA_HEIGHT, height, "hand height"))
    return hints


def scale_from_hints(hints: Sequence[Scale]) -> Scale | None:
    """Their mean by inverse variance of the logarithm; hints that contradict each other widen its sigma."""
    if not hints:
        return None
    logs = np.log([hint.value for hint in hints])
    weights = np.array([1 / (hint.sigma or np.inf) ** 2 for hint in hints])
    mean = float(weights @ logs / weights.sum())
    chi2 = float(weights @ (logs - mean) ** 2) / max(1, len(hints) - 1)
    return Scale(float(np.exp(mean)), float(np.sqrt(max(1.0, chi2) / weights.sum())), "hints")


def _hint(usual: tuple[float, float], found: float, name: str) -> Scale:
    """Args: usual size and its sigma [m], the size found [scene units], and what it is."""
    return Scale(usual[0] / found, usual[1] / usual[0], name)


def _look_inward(views: Sequence[View], centres: Array) -> bool:
    """Whether most views look at one place."""
    ahead = np.array([view.world_from_camera.rotation[:, 2] for view in views])
    middle = nearest_point(centres, ahead)
    if not np.isfinite(middle).all():
        return False
    towards = middle - centres
    cosine = (towards * ahead).sum(1) / np.linalg.norm(towards, axis=1)
    return float(np.median(cosine)) > np.cos(np.deg2rad(INWARD_DEG))
