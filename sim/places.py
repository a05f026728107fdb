"""The floors of several scenes, for one robot: grids of one shape, to look up many places at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SimError
from pipeline.mesh import masks
from pipeline.mesh.rays import RayCaster
from sim.physics.state import Float, Int
from sim.robots.model import Robot
from sim.scene import SimScene

Bool = NDArray[np.bool_]
Split = Literal["all", "train", "held_out"]
"""Which places episodes may begin at: those to train on and those held out, to evaluate on, keep apart."""
BLOCK = 0.5
"""Edge of the squares of floor [m], along the axes of the world frame, that are held out as a whole."""
MARGIN = 0.1
"""Starts to train at keep further from held-out blocks than that, and than a cell, along the axes [m]."""
KEEP_OFF, EDGE_PRICE = 0.3, 3.0
"""Ways keep so far off the edge of the drivable floor where there is room [m]: a metre at the edge counts that much."""
LEAST = 20
"""Cells of floor that a scene must have of either kind, to be split."""


class Floors:
    """Where a robot can be in S scenes. Grids are padded with what is no floor.

    Args:
        scenes: Where.
        robot: Who; where one is too wide or too high for what the scene's regions were found for, its floor is less.
        starts: Which places episodes may begin at.

    Raises:
        SimError: When a scene has no room for it, or not enough floor to hold some out.

    Attributes:
        scenes: As given.
        origin: (S, 2) low corner of each grid [m], world frame.
        cell: (S,) edge of a cell [m].
        height: (S, X, Y) float32 [m], NaN where there is no floor.
        walkable: (S, X, Y) where the robot's centre may be if it climbs steps.
        drivable: (S, X, Y) where its centre may be if it doesn't.
        edge: (S, X, Y) float32 from there to where it may not [m]; 0 there.
        price: (S, X, Y) float32 of ways over it, a factor of their length, 1 to `EDGE_PRICE`; inf where it may not.
        held_out: (S, X, Y) what lies in blocks that are held out, floor or not.
        eligible: (S, X, Y) where episodes may begin, floor or not.
        starts: Cells that are both drivable and eligible.
    """

    def __init__(self, scenes: Sequence[SimScene], robot: Robot, starts: Split = "all") -> None:
        self.scenes = list(scenes)
        regions = [scene.regions for scene in scenes]
        self.origin = np.array([one.origin for one in regions], np.float64)
        self.cell = np.array([one.cell for one in regions], np.float64)
        fitting = [_fitting(scene, robot) for scene in scenes]
        self.height: Float = _stacked([one.height for one in regions], np.float32(np.nan))
        self.walkable: Bool = _stacked([walkable for walkable, _ in fitting], np.False_)
        self.drivable: Bool = _stacked([drivable for _, drivable in fitting], np.False_)
        edges = [_to_edge(grid) * cell for grid, cell in zip(self.drivable, self.cell, strict=True)]
        self.edge: Float = np.stack(edges).astype(np.float32)
        dear = 1 + (EDGE_PRICE - 1) * np.clip(1 - self.edge / KEEP_OFF, 0, 1)
        self.price: Float = np.where(self.drivable, dear, np.inf).astype(np.float32)
        self.held_out = held_out(self._middles())
        self.eligible = self._eligible(starts)
        self.starts = Cells(self.drivable & self.eligible)
        self._floor = Cells(self.drivable)

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
        return self._floor.draw(scenes, count, rng)

    def to_edge(self, scenes: Int, xy: NDArray[np.floating]) -> Float:
        """From places (..., 2) in scenes (...) to where a robot has no room [m], to a cell; 0 off the floor."""
        return self.edge[(scenes, *self.cells(scenes, xy))]

    def nearest(self, scene: int, grid: Bool, xy: NDArray[np.floating]) -> Int:
        """Cells (N, 2) of a marked grid (X, Y) of a scene that are nearest to places (N, 2) [m]."""
        found = masks.nearest_marked(grid)
        return found[(slice(None), *self.cells(np.full(len(xy), scene), xy))].T.astype(np.int64)

    def _middles(self) -> NDArray[np.float64]:
        """Of all cells (S, X, Y, 2) [m]."""
        index = np.indices(self.height.shape[1:]).transpose(1, 2, 0)
        return self.origin[:, None, None] + (index + 0.5) * self.cell[:, None, None, None]

    def _eligible(self, starts: Split) -> Bool:
        if starts not in get_args(Split):
            raise SimError("starts are of a kind", found=repr(starts), remedy=f"one of {', '.join(get_args(Split))}")
        if starts == "all":
            return np.ones_like(self.held_out)
        margin = np.maximum(MARGIN, self.cell)[:, None, None, None]
        corners = [margin * np.array([x, y]) for x in (-1, 1) for y in (-1, 1)]
        to_train = ~np.any([held_out(self._middles() + corner) for corner in corners], axis=0)
        for scene, drivable, *kinds in zip(self.scenes, self.drivable, to_train, self.held_out, strict=True):
            train, held = (int((drivable & kind).sum()) for kind in kinds)
            if min(train, held) < LEAST:
                raise SimError(
                    "a scene needs places to train at and places to hold out",
                    found=f"{train} and {held} of {drivable.sum()} cells of floor in {scene.lock.reference}; "
                    f"{LEAST} of each are the least, and squares of {BLOCK:g} m are held out",
                    remedy='use a larger scene, or take all starts (starts="all") and evaluate in another scene',
                )
        return to_train if starts == "train" else self.held_out


class Cells:
    """Marked cells of R grids, to draw from.

    Args:
        marked: (R, X, Y).

    Attributes:
        count: (R,) of each grid.
    """

    def __init__(self, marked: Bool) -> None:
        self._cells = np.argwhere(marked)[:, 1:]
        self.count = marked.sum((1, 2))
        self._first = np.cumsum(self.count) - self.count

    def draw(self, rows: Int, count: int, rng: np.random.Generator) -> Int:
        """Cells (M, count, 2), evenly from those of grids (M,), which must have some."""
        share = rng.random((len(rows), count))
        return self._cells[self._first[rows, None] + (share * self.count[rows, None]).astype(np.int64)]


def held_out(xy: NDArray[np.floating]) -> Bool:
    """Which places (..., 2) [m], world frame, lie in blocks that are held out (...): the same for good.

    A fifth of all blocks, a knight's move from each other: three by two blocks have at least one, and no two touch.
    """
    block = np.floor(np.asarray(xy) / BLOCK).astype(np.int64)
    return np.asarray((block[..., 0] + 2 * block[..., 1]) % 5 == 0)


def _to_edge(grid: Bool) -> NDArray[np.float64]:
    """From cells' middles to the nearest cell that isn't marked (X, Y) [cells]; what is off the grid isn't."""
    away = masks.distance_from(np.pad(~grid, 1, constant_values=True))[1:-1, 1:-1]
    return np.maximum(away - 0.5, 0)


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
