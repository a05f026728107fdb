"""Holes in the floor under the walkable region, found by vertical rays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Mesh
from pipeline.mesh import masks
from pipeline.mesh.rays import RayCaster
from pipeline.regions.regions import Regions

FINE_CELL = 0.02  # [m]
DROP = 0.05  # [m] below the expected floor that still is the floor
HEADROOM = 0.5  # [m] above the expected floor up to which a surface closes it
FOOTPRINT = 0.3  # [m] round a walkable cell that a robot stands on
GAP = 0.3  # [m] openings of the walkable region up to this width belong to it


@dataclass(frozen=True)
class FloorHoles:
    """How whole the floor is that a robot may walk on.

    Attributes:
        expected_area: Floor under a robot on the walkable region, with what it encloses [m^2].
        hole_area: Of it, without any surface to stand on [m^2].
        largest_diameter: Of the largest circle in a hole [m]: what could fall through.
        guessed_area: Of the expected area, closed by a guess [m^2].
    """

    expected_area: float
    hole_area: float
    largest_diameter: float
    guessed_area: float


@dataclass(frozen=True, eq=False)
class ProbedFloor:
    """The floor that a robot expects, on a fine grid, and where it is missing.

    Attributes:
        expected: (X, Y) bool, walkable region and what it encloses.
        holes: (X, Y) bool, expected cells without a surface to stand on.
        positions: (X, Y, 3) the cells' centres at the expected floor's height [m].
        step: Edge of a cell [m].
    """

    expected: NDArray[np.bool_]
    holes: NDArray[np.bool_]
    positions: NDArray[np.float64]
    step: float


def measure_floor_holes(collision: Mesh, regions: Regions) -> FloorHoles:
    """How much of the walkable region and what it encloses has no floor to stand on."""
    probed = probe_floor(collision, regions)
    largest = float(masks.distance_from(~probed.holes).max()) if probed.holes.any() else 0.5
    region = enclosed_region(regions)
    return FloorHoles(
        expected_area=float(probed.expected.sum() * probed.step**2),
        hole_area=float(probed.holes.sum() * probed.step**2),
        largest_diameter=2 * (largest - 0.5) * probed.step,
        guessed_area=float((region & regions.guessed).sum() * regions.cell**2),
    )


def enclosed_region(regions: Regions) -> NDArray[np.bool_]:
    """The floor (X, Y) under a robot's footprint on the walkable cells, narrow gaps in it and all that it encloses."""
    footprint = masks.distance_from(regions.walkable) * regions.cell <= FOOTPRINT
    return masks.without_holes(masks.closed(footprint & np.isfinite(regions.height), GAP / regions.cell))


def probe_floor(collision: Mesh, regions: Regions) -> ProbedFloor:
    """Look for the floor by vertical lines on a 2 cm grid over the walkable region and everything that it encloses.

    A cell is whole when an upward surface lies at most 5 cm below the expected floor and at most half a metre above
    it, or when it lies inside an object: the next surface over that range faces up. Floor is expected even where the
    region has none, at the height of the nearest cell with one: a hole keeps its own cells out of the region.
    Holes that reach the region's outer edge are where the floor ends and don't count. Triangles count from their front
    only, as in physics.
    """
    region = enclosed_region(regions)
    if not region.any():
        empty = np.zeros(region.shape, bool)
        return ProbedFloor(empty, empty, np.zeros((*region.shape, 3)), regions.cell)
    height = masks.lowest_around(_extended(regions.height.astype(np.float64)))  # beside a step the lower floor counts
    fine = max(1, round(regions.cell / FINE_CELL))
    step = regions.cell / fine
    expected = region.repeat(fine, 0).repeat(fine, 1)
    x, y = np.meshgrid(*((np.arange(n) + 0.5) * step for n in expected.shape), indexing="ij")
    floor = height.repeat(fine, 0).repeat(fine, 1)
    positions = np.stack([x + regions.origin[0], y + regions.origin[1], floor], -1)
    below = positions[expected] - np.array([0, 0, DROP])
    ray, distance, triangle = RayCaster(collision).all_hits(below, np.array([0, 0, 1.0]))
    upward = collision.face_normals()[triangle, 2] > 0
    whole = np.zeros(len(below), bool)
    whole[ray[upward & (distance < DROP + HEADROOM)]] = True
    over = distance >= DROP + HEADROOM
    next_ray, next_hit = np.unique(ray[over], return_index=True)  # sorted by distance: the first is the nearest
    whole[next_ray[upward[over][next_hit]]] = True
    holes = np.zeros(expected.shape, bool)
    holes[expected] = ~whole
    numbers, count = masks.parts(holes)
    open_ended = np.zeros(count + 1, bool)
    open_ended[numbers[masks.grown(~expected)]] = True  # the outer edge of the floor is no hole
    return ProbedFloor(expected, holes & ~open_ended[numbers], positions, step)


def _extended(height: NDArray[np.float64]) -> NDArray[np.float64]:
    """Heights (X, Y) with NaN replaced by the nearest cell's."""
    nearest = masks.nearest_marked(np.isfinite(height))
    return height[nearest[0], nearest[1]]
