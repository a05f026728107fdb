"""Flights of steps: level patches that rise from the floor, each the same way up and ahead of the one before."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pipeline.align.floor import Floor
from pipeline.align.surfaces import Surfaces, connected_parts, level_axes

Array = NDArray[np.float64]

LEVELS = 150
"""Heights between floor and cameras are told apart to this part of their range."""
CELL = 10
"""Of the grid on which a tread hangs together, in LEVELS; views see treads in parts."""
LEAST_STEPS = 3
SLOPE = (0.4, 1.0)
"""Rise over going of stairs that people walk: 22 to 45 degrees."""
RISE_TOLERANCE = 0.08
"""By which steps of a flight may differ, relative."""
MOST_TURN = 0.5
"""Cosine of the turn from step to step: stairs may wind, and of a tread often only a part is seen."""
REACH = 10.0
"""Camera heights around the middle of all points within which steps are sought."""
LEAST_SHARE = 0.002
"""Of the level area above the floor that a tread must have."""


@dataclass(frozen=True, eq=False)
class Treads:
    """Level patches above the floor.

    Attributes:
        height: (P,) above the floor [scene units].
        centre: (P, 2) in the level plane [scene units].
    """

    height: Array
    centre: Array


def find_rise(surfaces: Surfaces, up: Array, floor: Floor, camera_height: float) -> float | None:
    """Height of a step [scene units] by the longest flight of three steps or more; None without one.

    Args:
        surfaces: Oriented points, scene frame.
        up: (3,) unit.
        floor: What the flight starts on.
        camera_height: Above the floor [scene units]; steps above it aren't seen.
    """
    treads = _find_treads(surfaces, up, floor, camera_height)
    longest, rise = LEAST_STEPS - 1, None
    for first, second in product(range(len(treads.height)), repeat=2):
        step, ahead = treads.height[second] - treads.height[first], treads.centre[second] - treads.centre[first]
        starts = abs(treads.height[first] - step) < RISE_TOLERANCE * step  # one step above the floor
        if not starts or not _walkable(step, ahead):
            continue
        flight = [first, second]
        while True:
            up_by = np.abs(treads.height - treads.height[flight[-1]] - step) < RISE_TOLERANCE * step
            onward = treads.centre - treads.centre[flight[-1]]
            turn = (onward @ ahead) / np.maximum(np.linalg.norm(onward, axis=1) * np.linalg.norm(ahead), 1e-12)
            turn = np.where(up_by & _walkable(step, onward), turn, -1)
            if turn.max() < MOST_TURN:
                break
            flight.append(int(np.argmax(turn)))
            ahead = onward[flight[-1]]
        if len(flight) > longest:
            longest, rise = len(flight), float(treads.height[flight[-1]] / len(flight))
    return rise


def _walkable(step: float, ahead: Array) -> NDArray[np.bool_]:
    """Whether the way (..., 2) to the next tread is as long as on stairs with a rise of `step`."""
    going = np.maximum(np.linalg.norm(ahead, axis=-1), 1e-12)
    return (step / going > SLOPE[0]) & (step / going < SLOPE[1])


def _find_treads(surfaces: Surfaces, up: Array, floor: Floor, camera_height: float) -> Treads:
    """Connected level patches at the heights where there is much level area."""
    heights = surfaces.points @ up - floor.height
    width = camera_height / LEVELS
    level = (surfaces.normals @ up > np.cos(np.deg2rad(12))) & (heights > 3 * width) & (heights < camera_height)
    plan = surfaces.points @ level_axes(up)
    level &= np.linalg.norm(plan - np.median(plan, 0), axis=1) < REACH * camera_height
    plan, heights, area = plan[level], heights[level], surfaces.area[level]
    counts = np.histogram(heights, LEVELS, (0, camera_height), weights=area)[0]
    smooth = np.convolve(counts, np.ones(3), "same")
    peaks = np.flatnonzero((smooth >= np.roll(smooth, 1)) & (smooth > np.roll(smooth, -1)))
    found: list[Array] = []  # rows of height and centre
    for peak in peaks[smooth[peaks] > LEAST_SHARE * area.sum()]:
        at = np.abs(heights - (peak + 0.5) * width) < 2 * width
        part = connected_parts(plan[at], CELL * width)
        weights = np.bincount(part, area[at])
        sums = [np.bincount(part, area[at] * values) for values in (heights[at], *plan[at].T)]
        found.append((np.array(sums) / np.maximum(weights, 1e-12)).T[weights > LEAST_SHARE * area.sum()])
    rows = np.concatenate(found) if found else np.zeros((0, 3))
    return Treads(rows[:, 0], rows[:, 1:])
