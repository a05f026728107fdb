"""The floors of several scenes, for one robot: grids of one shape, to look up many places at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SimError
from pipeline.mesh import masks
from pipeline.mesh.rays import RayCaster
from sim.physics.state import Float, Int
from sim.robots.model import Robot
from sim.scene import SimScene

Bool = NDArray[np.bool_]


class Floors:
    """Where a robot can be in S scenes. Grids are padded with what is no floor.

    Args:
        scenes: Where.
        robot: Who; where one is too wide or too high for what the scene's regions were found for, its floor is less.

    Raises:
        SimError: When a scene has no room for it.

    Attributes:
        scenes: As given.
        origin: (S, 2) low corner of each grid [m], world frame.
        cell: (S,) edge of a cell [m].
        height: (S, X, Y) float32 [m], NaN where there is no floor.
        walkable: (S, X, Y) where the robot's centre may be if it climbs steps.
        drivable: (S, X, Y) where its centre may be if it doesn't.
    """

    def __init__(self, scenes: Sequence[SimScene], robot: Robot) -> None:
        self.scenes = list(scenes)
        regions = [scene.regions for scene in scenes]
        self.origin = np.array([one.origin for one in regions], np.float64)
        self.cell = np.array([one.cell for one in regions], np.float64)
        fitting = [_fitting(scene, robot) for scene in scenes]
        self.height: Float = _stacked([one.height for one in regions], np.float32(np.nan))
        self.walkable: Bool = _stacked([walkable for walkable, _ in fitting], np.False_)
        self.drivable: Bool = _stacked([drivable for _, drivable in fitting], np.False_)
        self._drivable = np.argwhere(self.drivable)[:, 1:]
        self._count = self.drivable.sum((1, 2))
        self._first = np.cumsum(self._count) - self._count

    def cells(self, scenes: Int, xy: NDArray[np.floating]) -> tuple[Int, Int]:
        """Rows and columns (...) of places (..., 2) [m] in scenes (...).

        Places off the grid get cells of its rim, which in regions is never floor.
        """
        index = np.floor((xy - self.origin[scenes]) / self.cell[scenes][..., None]).astype(np.int64)
        index = np.clip(index, 0, np.array(self.height.shape[1:]) - 1)
        return index[..., 0], index[..., 1]

    def places(self, scenes: Int, cells: Int) -> NDArray[np.float64]:
        """The floor (..., 3) at the middle of cells (..., 2) [m] in scenes (...)."""
        xy = self.origin[scenes] + (cells + 0.5) * self.cell[scenes][..., None]
        height = self.height[scenes, cells[..., 0], cells[..., 1]].astype(np.float64)
        return np.concatenate([xy, height[..., None]], -1)

    def draw(self, scenes: Int, count: int, rng: np.random.Generator) -> Int:
        """Drivable cells (M, count, 2), evenly from the floors of scenes (M,)."""
        share = rng.random((len(scenes), count))
        return self._drivable[self._first[scenes, None] + (share * self._count[scenes, None]).astype(np.int64)]

    def nearest(self, scene: int, grid: Bool, xy: NDArray[np.floating]) -> Int:
        """Cells (N, 2) of a marked grid (X, Y) of a scene that are nearest to places (N, 2) [m]."""
        found = masks.nearest_marked(grid)
        return found[(slice(None), *self.cells(np.full(len(xy), scene), xy))].T.astype(np.int64)


def _fitting(scene: SimScene, robot: Robot) -> tuple[Bool, Bool]:
    """Walkable and drivable floor (X, Y) on which the robot has room."""
    regions = scene.regions
    radius, height = scene.measured_for
    walkable, drivable = regions.walkable, regions.drivable
    if robot.height > height:
        low = masks.distance_from(_low_ceilings(scene, height, robot.height)) * regions.cell > robot.radius
        walkable, drivable = walkable & low, drivable & low
    if robot.radius > radius:
        walkable, drivable = (_shrunk(grid, (robot.radius - radius) / regions.cell) for grid in (walkable, drivable))
    if not drivable.any():
        raise SimError(
            "a robot must have room somewhere on a scene's floor",
            found=f"{robot.name!r} is {robot.radius:.2f} m around its axis and {robot.height:.2f} m high; "
            f"{scene.lock.reference} has {regions.drivable.sum() * regions.cell**2:.1f} m^2 "
            f"for {radius:.2f} m and {height:.2f} m",
            remedy="take a smaller robot or a larger scene",
        )
    return walkable, drivable


def _shrunk(grid: Bool, cells: float) -> Bool:
    """The largest connected part of what is further than that from the grid's edge; regions count to cells' edges."""
    left = np.asarray(masks.distance_from(np.pad(~grid, 1, constant_values=True))[1:-1, 1:-1] - 0.5 > cells)
    labels, count = masks.parts(left)
    return labels == np.bincount(labels[labels > 0]).argmax() if count else left


def _low_ceilings(scene: SimScene, known: float, needed: float) -> Bool:
    """Cells (X, Y) with something over the floor that is higher than known and lower than needed [m]."""
    regions = scene.regions
    floor = np.isfinite(regions.height)
    origins = np.column_stack([regions.centres()[floor], regions.height[floor] + known])
    low = np.zeros(floor.shape, bool)
    low[floor] = RayCaster(scene.collision).cast(origins, np.array([0, 0, 1.0])).distance < needed - known
    return low


def _stacked(grids: Sequence[NDArray], fill: np.generic) -> NDArray:
    """Grids (S, X, Y) of the largest extent, filled up."""
    shape = np.max([grid.shape for grid in grids], axis=0)
    result = np.full((len(grids), *shape), fill, grids[0].dtype)
    for place, grid in zip(result, grids, strict=True):
        place[: grid.shape[0], : grid.shape[1]] = grid
    return result
