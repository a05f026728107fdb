"""The floors of several scenes, for one robot: a grid of each, to look up many positions at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import product
from typing import Literal, get_args

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Mesh, masks
from pipeline.geometry.grids import Grids
from pipeline.geometry.rays import RayCaster
from pipeline.regions.regions import Regions
from pipeline.types import F32, F64, I64, Floats, Mask
from sim.robots.model import Robot
from sim.scene.scene import SimScene

Split = Literal["all", "train", "held_out"]
"""Where episodes may begin: anywhere, on the training floor, or on the floor held out for evaluation."""
BLOCK = 0.5
"""Edge of the square blocks of floor, along the axes of the world frame, that are held out as a whole [m]."""
MARGIN = 0.1
"""Training starts keep at least this distance, and one cell, from held-out blocks, along the axes [m]."""
EDGE_MARGIN, EDGE_PRICE = 0.3, 3.0
"""Within this distance of the floor's edge [m] paths get costlier, up to this factor of their length at the edge."""
MIN_CELLS = 20
"""Smallest number of training cells, and of held-out cells, of a scene that is split."""
SPOKES = 8


class Floors:
    """The floors of S scenes, as far as a robot has room on them, each in a grid (X, Y) of its own shape.

    A robot has less floor if it is wider or higher than a scene's regions were computed for.

    Raises:
        SimError: When a scene has no room for the robot, or too little floor to be split.

    Attributes:
        origin: (S, 2) low corner of each grid [m], world frame.
        cell: (S,) edge of a cell [m].
        height: Float32 [m], NaN where there is no floor.
        walkable: Where the robot's centre may be if it climbs steps.
        drivable: Where the robot's centre may be if it doesn't.
        edge: Float32 distance to the edge of the drivable floor [m]; 0 off it.
        price: Float32 price of paths per metre, 1 to `EDGE_PRICE`; inf off the drivable floor.
        held_out: Cells in held-out blocks, floor or not.
        eligible: Cells where episodes may begin, floor or not.
        starts: Cells that are both drivable and eligible.
    """

    def __init__(self, scenes: Sequence[SimScene], robot: Robot, split: Split = "all") -> None:
        self.scenes, self.robot, self.split = list(scenes), robot, split
        regions = [scene.regions for scene in scenes]
        self.origin = np.array([region.origin for region in regions], np.float64)
        self.cell = np.array([region.cell for region in regions], np.float64)
        fitting = [_fitting(scene, robot) for scene in scenes]
        self.height: Grids[np.float32] = Grids.of(region.height.astype(np.float32) for region in regions)
        self.walkable: Grids[np.bool_] = Grids.of(walkable for walkable, _ in fitting)
        self.drivable: Grids[np.bool_] = Grids.of(drivable for _, drivable in fitting)
        self.edge: Grids[np.float32] = self.drivable.map(_edge, self.cell)
        self.price: Grids[np.float32] = self.drivable.map(_price, self.edge)
        self.held_out: Grids[np.bool_] = self.height.map(_held_out, self.origin, self.cell)
        self.eligible = self._eligible()
        self.starts = Cells(self.drivable.map(np.logical_and, self.eligible))
        self._floor = Cells(self.drivable)

    def price_on(self, floor: Grids[np.bool_]) -> Grids[np.float32]:
        """As `price`, on other floor than the drivable one."""
        return floor.map(_price, floor.map(_edge, self.cell))

    @cached_property
    def area_costs(self) -> Grids[np.float32]:
        """Cost per second of the bundles' own areas."""
        regions = [scene.regions for scene in self.scenes]
        costs = [region.surface(region.centres().reshape(-1, 2))[1] for region in regions]
        return self.height.like(np.concatenate(costs))

    def cells(self, scenes: I64, xy: Floats) -> tuple[I64, I64]:
        """Rows and columns (...) of positions (..., 2) [m] in scenes (...).

        Positions off the grid get cells of its border, which in regions is never floor.
        """
        index = np.floor((xy - self.origin[scenes]) / self.cell[scenes][..., None]).astype(np.int64)
        index = np.clip(index, 0, self.height.shape[scenes] - 1)
        return index[..., 0], index[..., 1]

    def positions(self, scenes: I64, cells: I64) -> F64:
        """Positions on the floor (..., 3) at the centres of cells (..., 2) [m] in scenes (...)."""
        xy = self.origin[scenes] + (cells + 0.5) * self.cell[scenes][..., None]
        height = self.height[scenes, cells[..., 0], cells[..., 1]].astype(np.float64)
        return np.concatenate([xy, height[..., None]], -1)

    def draw(self, scenes: I64, count: int, rng: np.random.Generator) -> I64:
        """Draw drivable cells (M, count, 2) uniformly from the floors of scenes (M,)."""
        return self._floor.draw(scenes, count, rng)

    def to_edge(self, scenes: I64, xy: Floats) -> F32:
        """Distance from positions (..., 2) in scenes (...) to the edge of the drivable floor [m]; 0 off the floor."""
        return self.edge[(scenes, *self.cells(scenes, xy))]

    def nearest(self, scene: int, grid: Mask, xy: Floats) -> I64:
        """Marked cells (N, 2) of a scene's grid (X, Y) that are nearest to positions (N, 2) [m]."""
        cells = masks.nearest_marked(grid)
        return cells[(slice(None), *self.cells(np.full(len(xy), scene), xy))].T.astype(np.int64)

    def _eligible(self) -> Grids[np.bool_]:
        if self.split not in get_args(Split):
            splits = ", ".join(get_args(Split))
            raise SimError("episodes begin in a part of the floor", found=repr(self.split), remedy=f"one of {splits}")
        if self.split == "all":
            return self.held_out.like(np.ones_like(self.held_out.values))
        training = self.height.map(_off_held_out, self.origin, self.cell)
        for scene, drivable, *kinds in zip(self.scenes, self.drivable, training, self.held_out, strict=True):
            train, held = (int((drivable & kind).sum()) for kind in kinds)
            if min(train, held) < MIN_CELLS:
                raise SimError(
                    "a scene needs floor to train on and floor to hold out",
                    found=f"{train} and {held} of {drivable.sum()} cells of floor in {scene.lock.reference}; "
                    f"at least {MIN_CELLS} of each are needed, and blocks of {BLOCK:g} m are held out",
                    remedy='use a larger scene, or all starts (starts="all") and evaluate in another scene',
                )
        return training if self.split == "train" else self.held_out


class Cells:
    """Marked cells of R grids, to draw from.

    Attributes:
        count: (R,) number of marked cells in each grid.
    """

    def __init__(self, marked: Iterable[Mask]) -> None:
        cells = [np.argwhere(grid).astype(np.int32) for grid in marked]  # of many scenes they are many
        self._cells = np.concatenate(cells) if cells else np.zeros((0, 2), np.int32)
        self.count = np.array([len(some) for some in cells], np.int64)
        self._first = np.cumsum(self.count) - self.count

    def draw(self, rows: I64, count: int, rng: np.random.Generator) -> I64:
        """Draw cells (M, count, 2) uniformly from those of grids (M,), which must have some."""
        share = rng.random((len(rows), count))
        chosen = self._first[rows, None] + (share * self.count[rows, None]).astype(np.int64)
        return self._cells[chosen].astype(np.int64)


def held_out(xy: Floats) -> Mask:
    """Which positions (..., 2) [m], world frame, lie in held-out blocks (...); it never changes.

    A fifth of all blocks, a knight's move apart: every three by two blocks contain at least one, and no two touch.
    """
    block = np.floor(np.asarray(xy) / BLOCK).astype(np.int64)
    return np.asarray((block[..., 0] + 2 * block[..., 1]) % 5 == 0)


def _held_out(grid: F32, origin: F64, cell: float, margin: float = 0.0) -> Mask:
    """Cells (X, Y) of a grid with its low corner [m] whose centres are in held-out blocks, or so near to them [m]."""
    index = np.indices(grid.shape).transpose(1, 2, 0) + 0.5
    around = [-margin, margin] if margin else [0.0]
    found = np.zeros(grid.shape, bool)
    for corner in product(around, around):
        found |= held_out(origin + index * cell + np.array(corner))
    return found


def _off_held_out(grid: F32, origin: F64, cell: float) -> Mask:
    """Cells (X, Y) from which training starts keep their distance to held-out blocks."""
    return ~_held_out(grid, origin, cell, max(MARGIN, cell))


def _edge_distance(grid: Mask) -> F64:
    """Distance of cells' centres from unmarked cells' nearest edges (X, Y) [cells]; outside the grid is unmarked."""
    distance = masks.distance_from(np.pad(~grid, 1, constant_values=True))[1:-1, 1:-1]
    return np.maximum(distance - 0.5, 0)


def _edge(grid: Mask, cell: float) -> F32:
    """The same (X, Y) [m]."""
    return (_edge_distance(grid) * cell).astype(np.float32)


def _price(grid: Mask, edge: F32) -> F32:
    """Price of paths per metre (X, Y), by the distance from the floor's edge [m]; inf off the floor."""
    return np.where(grid, 1 + (EDGE_PRICE - 1) * np.clip(1 - edge / EDGE_MARGIN, 0, 1), np.inf).astype(np.float32)


def _fitting(scene: SimScene, robot: Robot) -> tuple[Mask, Mask]:
    """Walkable and drivable floor (X, Y) on which the robot has room; all of it for one that goes nowhere."""
    regions = scene.regions
    if robot.fixed_base:
        return regions.walkable, regions.drivable
    radius, height = scene.measured_for
    walkable, drivable = regions.walkable, regions.drivable
    if robot.height > height:
        low = headroom(regions, scene.collision, height) < robot.height - height
        clear = masks.distance_from(low) * regions.cell > robot.radius
        walkable, drivable = walkable & clear, drivable & clear
    if robot.radius > radius:
        walkable, drivable = (_shrunk(grid, (robot.radius - radius) / regions.cell) for grid in (walkable, drivable))
    if not drivable.any():
        raise SimError(
            "a robot must have room somewhere on a scene's floor",
            found=f"{robot.name!r} has a radius of {robot.radius:.2f} m and a height of {robot.height:.2f} m; "
            f"{scene.lock.reference} has {regions.drivable.sum() * regions.cell**2:.1f} m^2 "
            f"for {radius:.2f} m and {height:.2f} m",
            remedy="use a smaller robot or a larger scene",
        )
    return walkable, drivable


def headroom(regions: Regions, collision: Mesh, height: float) -> F32:
    """Free height (X, Y) [m] above points at a height [m] over the floor; inf where nothing is above or no floor."""
    floor = np.isfinite(regions.height)
    starts = np.column_stack([regions.centres()[floor], regions.height[floor] + height])
    free = np.full(floor.shape, np.inf, np.float32)
    free[floor] = RayCaster(collision).cast(starts, np.array([0, 0, 1.0])).distance
    return free


def _shrunk(grid: Mask, cells: float) -> Mask:
    """Largest connected part of a grid after erosion by a distance; regions are measured to cells' edges."""
    left = _edge_distance(grid) > cells
    labels, count = masks.parts(left)
    return labels == np.bincount(labels[labels > 0]).argmax() if count else left


def _ring(radius: float) -> F64:
    """Offsets ahead and to the left (SPOKES, 2) [m], evenly spaced on a circle, the first straight ahead."""
    angle = np.arange(SPOKES) * (2 * np.pi / SPOKES)
    return radius * np.column_stack([np.cos(angle), np.sin(angle)])


BESIDE = 0.35
"""How far away a robot could go next [m]; floor behind a wall is farther from a robot that touches it."""
NEARBY = np.concatenate([np.zeros((1, 2)), *(_ring(radius) for radius in (0.15, BESIDE, 0.6))])
"""Offsets (25, 2) [m] within the reach of a robot in a second."""
NEXT_POSITIONS = _ring(BESIDE)
"""Offsets (8, 2) [m] to where a robot could go next."""


def positions_around(pose: Floats, offsets: Floats) -> Floats:
    """World positions (N, K, 2) [m] at offsets (K, 2) ahead and to the left of poses (N, 3): x, y [m], yaw [rad]."""
    cos, sin = np.cos(pose[:, 2, None]), np.sin(pose[:, 2, None])
    ahead, left = offsets.T
    return pose[:, None, :2] + np.stack([cos * ahead - sin * left, sin * ahead + cos * left], -1)
