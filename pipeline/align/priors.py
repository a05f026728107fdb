"""Scale priors by objects of typical size (steps, rooms, hand-held cameras), for captures without other scales."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from pipeline.align.planar_targets import nearest_point
from pipeline.align.scale import Scale, ScaleSource
from pipeline.align.surfaces import Floor, Surfaces, connected_parts, find_floor, horizontal_axes
from pipeline.poses.scene import View
from pipeline.types import F64, Mask

ROOM_HEIGHT = (2.6, 0.4)
"""Height from floor to ceiling and its sigma [m]: homes have 2.3 to 2.8, old ones, schools and offices up to 3.5."""
RISE = (0.17, 0.02)
"""Height of a step and its sigma [m]: 0.15 in public places to 0.2 in old houses."""
CAMERA_HEIGHT = (1.4, 0.3)
"""Height at which people hold phones when they film a room, and its sigma [m]."""
INWARD_DEG = 10.0
"""Views that look at one point within this angle go around an object. It may be on a table, so the horizontal surface
below it need not be the floor."""

HEIGHT_BINS = 150
"""Number of bins between floor and cameras."""
CELL = 10
"""Cell of the grid on which the parts of a tread are connected [bins]; views show treads in parts."""
MIN_STEPS = 3
SLOPE = (0.4, 1.0)
"""Rise over run of stairs: 22 to 45 degrees."""
RISE_TOLERANCE = 0.08
"""Relative difference between the steps of a flight."""
MIN_STEP_COSINE = 0.5
"""Cosine of the angle from step to step: stairs may wind, and often only a part of a tread is visible."""
REACH = 10.0
"""Largest distance of steps from the median of all points [camera heights]."""
MIN_TREAD_SHARE = 0.002
"""Least area of a tread [share of the horizontal area above the floor]."""


def find_priors(
    surfaces: Surfaces, views: Sequence[View], up: F64, floor: Floor | None, *, on_machine: bool = False
) -> list[Scale]:
    """Scales by objects of typical size in the scene's frame; none without a floor.

    `on_machine` says that the cameras were on a robot, drone or car, at any height.
    """
    if floor is None:
        return []
    centres = np.array([view.world_from_camera.translation for view in views])
    height = float(np.median(centres @ up)) - floor.height
    priors = []
    if (rise := find_rise(surfaces, up, floor, height)) is not None:
        priors.append(_prior(RISE, rise, "prior of steps"))
    if (ceiling := find_floor(surfaces, -up, centres)) is not None:
        priors.append(_prior(ROOM_HEIGHT, -ceiling.height - floor.height, "prior of room height"))
    if not on_machine and (priors or not _look_inward(views, centres)):
        priors.append(_prior(CAMERA_HEIGHT, height, "prior of camera height"))
    return priors


def scale_from_priors(priors: Sequence[Scale]) -> Scale | None:
    """Mean of the logarithms, weighted by inverse variance; priors that contradict each other widen its sigma."""
    if not priors:
        return None
    logs = np.log([prior.value for prior in priors])
    weights = np.array([1 / (prior.sigma or np.inf) ** 2 for prior in priors])
    mean = float(weights @ logs / weights.sum())
    chi2 = float(weights @ (logs - mean) ** 2) / max(1, len(priors) - 1)
    return Scale(float(np.exp(mean)), float(np.sqrt(max(1.0, chi2) / weights.sum())), "priors")


def _prior(typical: tuple[float, float], size: float, source: ScaleSource) -> Scale:
    """The scale by a typical size and its sigma [m], and the measured size [scene units]."""
    return Scale(typical[0] / size, typical[1] / typical[0], source)


def _look_inward(views: Sequence[View], centres: F64) -> bool:
    """Whether most views look at one point."""
    ahead = np.array([view.world_from_camera.rotation[:, 2] for view in views])
    middle = nearest_point(centres, ahead)
    if not np.isfinite(middle).all():
        return False
    towards = middle - centres
    cosine = (towards * ahead).sum(1) / np.linalg.norm(towards, axis=1)
    return float(np.median(cosine)) > np.cos(np.deg2rad(INWARD_DEG))


def find_rise(surfaces: Surfaces, up: F64, floor: Floor, camera_height: float) -> float | None:
    """Height of a step [scene units] by the longest flight of three steps or more; None without one.

    A flight is a sequence of horizontal patches above the floor, each one step higher and ahead of the one before.
    Steps above the camera [height in scene units] aren't visible.
    """
    heights, centres = _find_treads(surfaces, up, floor, camera_height)
    longest, rise = MIN_STEPS - 1, None
    for first, second in product(range(len(heights)), repeat=2):
        step, ahead = heights[second] - heights[first], centres[second] - centres[first]
        starts = abs(heights[first] - step) < RISE_TOLERANCE * step  # one step above the floor
        if not starts or not _walkable(step, ahead):
            continue
        flight = [first, second]
        while True:
            up_by = np.abs(heights - heights[flight[-1]] - step) < RISE_TOLERANCE * step
            onward = centres - centres[flight[-1]]
            cosine = (onward @ ahead) / np.maximum(np.linalg.norm(onward, axis=1) * np.linalg.norm(ahead), 1e-12)
            cosine = np.where(up_by & _walkable(step, onward), cosine, -1)
            if cosine.max() < MIN_STEP_COSINE:
                break
            flight.append(int(np.argmax(cosine)))
            ahead = onward[flight[-1]]
        if len(flight) > longest:
            longest, rise = len(flight), float(heights[flight[-1]] / len(flight))
    return rise


def _walkable(step: float, ahead: F64) -> Mask:
    """Whether the vector (..., 2) to the next tread is as long as on stairs with a rise of `step`."""
    run = np.maximum(np.linalg.norm(ahead, axis=-1), 1e-12)
    return (step / run > SLOPE[0]) & (step / run < SLOPE[1])


def _find_treads(surfaces: Surfaces, up: F64, floor: Floor, camera_height: float) -> tuple[F64, F64]:
    """Heights above the floor (P,) and centres (P, 2) of connected horizontal patches, at heights with much area."""
    heights = surfaces.points @ up - floor.height
    width = camera_height / HEIGHT_BINS
    horizontal = (surfaces.normals @ up > np.cos(np.deg2rad(12))) & (heights > 3 * width) & (heights < camera_height)
    plan = surfaces.points @ horizontal_axes(up)
    horizontal &= np.linalg.norm(plan - np.median(plan, 0), axis=1) < REACH * camera_height
    plan, heights, area = plan[horizontal], heights[horizontal], surfaces.area[horizontal]
    counts = np.histogram(heights, HEIGHT_BINS, (0, camera_height), weights=area)[0]
    smooth = np.convolve(counts, np.ones(3), "same")
    peaks = np.flatnonzero((smooth >= np.roll(smooth, 1)) & (smooth > np.roll(smooth, -1)))
    treads: list[F64] = []  # rows of height and centre
    for peak in peaks[smooth[peaks] > MIN_TREAD_SHARE * area.sum()]:
        at = np.abs(heights - (peak + 0.5) * width) < 2 * width
        part = connected_parts(plan[at], CELL * width)
        weights = np.bincount(part, area[at])
        sums = [np.bincount(part, area[at] * values) for values in (heights[at], *plan[at].T)]
        treads.append((np.array(sums) / np.maximum(weights, 1e-12)).T[weights > MIN_TREAD_SHARE * area.sum()])
    rows = np.concatenate(treads) if treads else np.zeros((0, 3))
    return rows[:, 0], rows[:, 1:]
