"""A way to a goal that isn't seen, with a yellow patch of floor across it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from pipeline.errors import SimError
from pipeline.mesh import masks
from sim.cameras.things import Balls, Patches, Posts, Things
from sim.navigation import DistanceFields, spread
from sim.physics.state import Float, Int, RobotState
from sim.places import Cells, Floors, Split
from sim.robots.model import Robot
from sim.scene import SimScene
from sim.tasks.obstacles import PATCH_COLOR, area_costs
from sim.tasks.odometry import DeadReckoning
from sim.tasks.task import Bool, Starts
from sim.tasks.way import Way, Ways

Layouts = NDArray[np.floating]
"""Start, goal, middle and radius of the painted patch (..., 7), of episodes [cells]."""

RADIUS = (0.25, 0.45)
"""Of a painted patch [m]."""
PRICE = 4.0
"""What a metre over a patch counts in the way that is left, so that going round is progress."""
GAP = 0.1
"""Ways round a patch keep off it [m]; those nearer pay its price."""
FREE = 0.1
"""Between a robot at its start or goal and a patch at least [m]."""
ROOM = 0.1
"""Goals have so much more room than the robot needs [m]: odometry errs."""
CROSSING = 0.3
"""A straight way crosses a patch if it leads over it for so long at least [m]."""
MIDDLE, SIDE = (0.3, 0.7), (-0.6, 0.6)
"""Where on a straight way a patch is painted: along it as a share, and beside it as a share of its radius."""
BEHIND = (1.2, 4.0)
"""How far behind a place on a scene's own patch a goal lies, as a multiple of the way to that place."""
TRIES, AT_ONCE, ROUNDS = 400, 64, 4


@dataclass(frozen=True, eq=False)
class PatchWay(Way):
    """The ways of N robots round patches.

    Attributes:
        believed: (N, 3) the goal by odometry: distance [m], cosine and sine of the bearing.
        to_patch: (N, 2) from the robot to the nearest place on a patch [m], world axes; 0 on it.
        inside: (N,) whether its middle is over a patch.
        entering: (N,) whether it is so for the first time in the episode.
        entered: (N,) whether it ever was in the episode.
    """

    believed: Float
    to_patch: Float
    inside: Bool
    entering: Bool
    entered: Bool


class PatchCourse:
    """Goals anywhere, known by odometry only, and patches of floor that cost.

    A scene's patches are its own areas that cost; in one without such areas a patch is painted, elsewhere in each
    episode. In some episodes the straight way is free but for a patch that it crosses. A way without a patch is always
    left.

    Args:
        scenes: Where.
        robot: Who.
        num_envs: N.
        period: Between two steps [s].
        least_way: Straight from start to goal [m].
        most_way: From start to goal round the patches [m].
        crossing: Share of the episodes whose straight way crosses a patch; all of them do from held-out starts.
        starts: Which places episodes may begin at.

    Raises:
        SimError: When a scene has no room for that.
    """

    def __init__(
        self,
        scenes: Sequence[SimScene],
        robot: Robot,
        num_envs: int,
        period: float,
        *,
        least_way: float,
        most_way: float,
        crossing: float,
        starts: Split = "all",
    ) -> None:
        self.floors = Floors(scenes, robot, starts)
        self._rise, self._free = robot.base_height, robot.radius + FREE
        self._limits = least_way, most_way
        self._crossing = 1.0 if starts == "held_out" else crossing
        own = area_costs(self.floors) > 0
        away = np.stack([masks.distance_from(grid) * cell for grid, cell in zip(own, self.floors.cell, strict=True)])
        self._own, self._own_place, self._near_own = own, self._nearest(own), away <= GAP
        room = self.floors.drivable & (away > self._free)
        self._goals = room & (self.floors.edge > ROOM)
        self._ends = Cells(room & self.floors.eligible), Cells(self._goals)
        self._own_cells = Cells(own & self.floors.drivable)
        shape = self.floors.height.shape[1:]
        ways = np.full((num_envs, *shape), np.inf, np.float32)
        self._fields = DistanceFields(np.zeros((num_envs, 2)), np.ones(num_envs), ways)
        self._ways = Ways(self.floors, num_envs, self._fields)
        self._odometry = DeadReckoning(num_envs, period)
        self._patch, self._radius = np.zeros((num_envs, 3)), np.zeros(num_envs)
        self._to_patch, self._believed = np.zeros((num_envs, 2)), np.zeros((num_envs, 3), np.float32)
        self._inside, self._entering, self._entered = (np.zeros(num_envs, bool) for _ in range(3))
        self._known = [self._crossings(scene) for scene in range(len(scenes))]

    def begin(self, envs: Int, scenes: Int, levels: Int, rng: np.random.Generator) -> Starts:
        """Other goals and patches for environments (M,)."""
        floors, wanted = self.floors, rng.random(len(envs)) < self._crossing
        known = np.stack([rng.choice(self._known[scene]) for scene in scenes])
        layouts = np.concatenate([self._draw(scenes, wanted, TRIES, rng), known[:, None]], 1)
        chosen, ways = self._choose(scenes, wanted, layouts)
        layout = layouts[np.arange(len(envs)), chosen]
        start, goal, patch = (floors.places(scenes, layout[:, at : at + 2].astype(np.int64)) for at in (0, 2, 4))
        patch[:, :2] = floors.origin[scenes] + layout[:, 4:6] * floors.cell[scenes, None]
        self._patch[envs], self._radius[envs] = patch, layout[:, 6] * floors.cell[scenes]
        self._fields.origin[envs], self._fields.cell[envs] = floors.origin[scenes], floors.cell[scenes]
        self._fields.distance[envs] = ways
        yaw = rng.uniform(-np.pi, np.pi, len(envs))
        self._ways.begin(envs, scenes, goal, envs, np.column_stack([start[:, :2], yaw]))
        self._odometry.begin(envs, start[:, :2], yaw, rng)
        self._believed[envs] = self._odometry.towards(self._ways.goal[:, :2])[envs]
        self._inside[envs] = self._entering[envs] = self._entered[envs] = False
        self._to_patch[envs] = self._look(envs, start[:, :2])
        return Starts(start + np.array([0, 0, self._rise]), yaw)

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """What is left, where the goal seems to be, and who is over a patch."""
        pose = state.planar
        xy = pose[:, :2]
        self._ways.update(pose)
        self._odometry.update(xy, pose[:, 2], rng)
        self._believed = self._odometry.towards(self._ways.goal[:, :2])
        self._to_patch = self._look(np.arange(len(xy)), xy)
        self._inside = self._over(xy)
        self._entering = self._inside & ~self._entered
        self._entered = self._entered | self._inside

    def now(self) -> PatchWay:
        """For the terms."""
        return PatchWay(
            **vars(self._ways.now()),
            believed=self._believed.copy(),
            to_patch=self._to_patch.astype(np.float32),
            inside=self._inside.copy(),
            entering=self._entering.copy(),
            entered=self._entered.copy(),
        )

    def things(self) -> Things:
        """The painted patch; nothing shows where the goal is."""
        count = len(self._radius)
        paint = Patches(self._patch[:, None], self._radius[:, None], np.tile(PATCH_COLOR, (count, 1, 1)))
        return Things(Balls.none(count), Posts.none(count), paint)

    def way_left(self, xy: NDArray[np.floating], envs: Int) -> Float:
        """What would be left of the way [m] to the goals of environments (M,) at places (M, 2); inf off the floor."""
        return self._ways.left(xy, envs)

    def _over(self, xy: NDArray[np.floating]) -> Bool:
        """Which of all robots at places (N, 2) are over a patch (N,)."""
        scenes = self._ways.scene_of
        painted = np.linalg.norm(self._patch[:, :2] - xy, axis=1) < self._radius
        return painted | self._own[(scenes, *self.floors.cells(scenes, xy))]

    def _look(self, envs: Int, xy: NDArray[np.floating]) -> NDArray[np.floating]:
        """From places (M, 2) to the nearest place on a patch (M, 2) [m]."""
        scenes = self._ways.scene_of[envs]
        to_own = self._own_place[(scenes, *self.floors.cells(scenes, xy))] - xy
        to_middle, radius = self._patch[envs, :2] - xy, self._radius[envs]
        distance = np.maximum(np.linalg.norm(to_middle, axis=1), 1e-9)
        beyond = np.maximum(distance - radius, 0.0)
        to_paint = to_middle * (beyond / distance)[:, None]
        nearer = (radius > 0) & (beyond < np.linalg.norm(to_own, axis=1))
        return np.where(nearer[:, None], to_paint, to_own)

    def _nearest(self, own: Bool) -> NDArray[np.float64]:
        """The nearest place (S, X, Y, 2) on a scene's own patches (S, X, Y) [m]; inf where it has none."""
        result = np.full((*own.shape, 2), np.inf)
        for scene in np.flatnonzero(own.any((1, 2))):
            cells = masks.nearest_marked(own[scene]).transpose(1, 2, 0)
            result[scene] = self.floors.origin[scene] + (cells + 0.5) * self.floors.cell[scene]
        return result

    def _draw(self, scenes: Int, crossing: Bool, tries: int, rng: np.random.Generator) -> Layouts:
        """Layouts (M, tries, 7) that may do in scenes (M,).

        For those that are to be crossed (M,) the goal lies behind one of the scene's own patches, or a patch is painted
        on the straight way.
        """
        floors, size = self.floors, (len(scenes), tries)
        start, goal = (ends.draw(scenes, tries, rng) + 0.5 for ends in self._ends)
        owning = self._own_cells.count[scenes] > 0
        beyond = np.flatnonzero(owning & crossing)
        first = start[beyond]
        way = self._own_cells.draw(scenes[beyond], tries, rng) + 0.5 - first
        behind = first + rng.uniform(*BEHIND, (len(beyond), tries))[..., None] * way
        cells = np.clip(behind, 0, np.array(floors.height.shape[1:]) - 1).astype(np.int64)
        there = self._goals[scenes[beyond, None], cells[..., 0], cells[..., 1]]
        goal[beyond] = np.where(there[..., None], cells + 0.5, first)  # a goal at the start never does
        radius = np.where(owning[:, None], 0, rng.uniform(*RADIUS, size) / floors.cell[scenes, None])
        way = goal - start
        across = np.stack([-way[..., 1], way[..., 0]], -1) / np.maximum(np.linalg.norm(way, axis=-1), 1)[..., None]
        on_way = start + rng.uniform(*MIDDLE, size)[..., None] * way
        on_way += (rng.uniform(*SIDE, size) * radius)[..., None] * across
        anywhere = floors.draw(scenes, tries, rng) + 0.5
        middle = np.where(crossing[:, None, None], on_way, anywhere)
        return np.concatenate([start, goal, middle, radius[..., None]], -1)

    def _choose(self, scenes: Int, crossing: Bool, layouts: Layouts) -> tuple[Int, Float]:
        """Of layouts (M, T, 7) the first that does (M,), -1 for none, and the ways to its goal (M, X, Y) [m]."""
        floors = self.floors
        cell = floors.cell[scenes]
        limits = np.array([*self._limits, self._free, GAP, CROSSING]) / cell[:, None]
        ways = np.full((len(scenes), *floors.height.shape[1:]), np.inf, np.float32)
        chosen = _first_that_does(floors.price, self._own, self._near_own, scenes, crossing, limits, layouts, ways)
        return chosen, ways * cell[:, None, None].astype(np.float32)

    def _crossings(self, scene: int) -> Layouts:
        """Layouts (K, 7) of a scene that do, with straight ways that cross a patch; for when tries find none."""
        many, crossing, rng = np.full(AT_ONCE, scene), np.ones(AT_ONCE, bool), np.random.default_rng(0)
        found: list[Layouts] = [np.zeros((0, 7))]
        for _ in range(ROUNDS if all(cells.count[scene] for cells in self._ends) else 0):
            layouts = self._draw(many, crossing, TRIES, rng)
            chosen, _ = self._choose(many, crossing, layouts)
            found.append(layouts[np.arange(AT_ONCE), chosen][chosen >= 0])
        if sum(map(len, found)):
            return np.concatenate(found)
        raise SimError(
            "a scene needs straight ways with room to go round a patch",
            found=f"none of {self._limits[0]:g} m or more on the floor of {self.floors.scenes[scene].lock.reference}, "
            f"from starts that may be used, in {ROUNDS * AT_ONCE * TRIES} tries",
            remedy="use a larger scene, or another task",
        )


@njit(parallel=True, cache=True, nogil=True)
def _first_that_does(
    floor: Float,
    own: Bool,
    near_own: Bool,
    scenes: Int,
    crossing: Bool,
    limits: NDArray[np.float64],
    layouts: Layouts,
    ways: Float,
) -> Int:
    """See `PatchCourse._choose`; all lengths are in cells.

    Args:
        floor: (S, X, Y) its price where robots may be, else inf.
        own: (S, X, Y) the scenes' own patches.
        near_own: (S, X, Y) these, and what lies within the gap of them.
        scenes: (M,).
        crossing: (M,) whose straight way must be free but for a patch that it crosses.
        limits: (M, 5) least straight way, most way round, room at the ends, gap, and least way over a patch.
        layouts: (M, T, 7); radius 0 where nothing is painted.
        ways: (M, X, Y) becomes those to the goals chosen, at the price of patches.
    """
    chosen = np.full(len(scenes), -1)
    for m in prange(len(scenes)):
        scene = scenes[m]
        least, most, free, gap, over = limits[m]
        for t in range(layouts.shape[1]):
            layout = layouts[m, t]
            if np.hypot(layout[2] - layout[0], layout[3] - layout[1]) < least:
                continue
            if crossing[m]:
                crossed = _straight(floor[scene], own[scene], layout)
                if crossed < 0 or (layout[6] == 0 and crossed < over):
                    continue
            if layout[6] > 0 and not _has_room(floor[scene], layout, free):
                continue
            found = _ways_round(floor[scene], near_own[scene], layout, gap, np.float32(np.inf))
            if found[int(layout[0]), int(layout[1])] <= most:
                ways[m] = _ways_round(floor[scene], near_own[scene], layout, gap, np.float32(PRICE))
                chosen[m] = t
                break
    return chosen


@njit(cache=True, nogil=True)
def _straight(floor: Float, own: Bool, layout: Layouts) -> float:
    """How long the straight way of a layout leads over the scene's own patches [cells]; -1 if it leaves the floor."""
    length = np.hypot(layout[2] - layout[0], layout[3] - layout[1])
    steps = int(4 * length) + 1
    over = 0
    for step in range(steps):
        i = int(layout[0] + (layout[2] - layout[0]) * step / steps)
        j = int(layout[1] + (layout[3] - layout[1]) * step / steps)
        if np.isinf(floor[i, j]):
            return -1.0
        over += own[i, j]
    return over * length / steps


@njit(cache=True, nogil=True)
def _has_room(floor: Float, layout: Layouts, free: float) -> bool:
    """Whether the painted patch of a layout lies on the floor and off the ends of the way."""
    i, j, radius = layout[4:7]
    if not (0 <= i < floor.shape[0] and 0 <= j < floor.shape[1]) or np.isinf(floor[int(i), int(j)]):
        return False
    nearest = min(np.hypot(i - layout[0], j - layout[1]), np.hypot(i - layout[2], j - layout[3]))
    return nearest > radius + free


@njit(cache=True, nogil=True)
def _ways_round(floor: Float, near_own: Bool, layout: Layouts, gap: float, price: np.float32) -> Float:
    """The ways (X, Y) to the goal of a layout, if floor on and near patches has that price at least."""
    prices = floor.copy()
    steps = np.full(floor.shape, np.float32(np.inf), np.float32)
    steps[int(layout[2]), int(layout[3])] = 0
    reach = (layout[6] + gap) ** 2 if layout[6] > 0 else 0.0
    for i in range(floor.shape[0]):
        for j in range(floor.shape[1]):
            if near_own[i, j] or (i + 0.5 - layout[4]) ** 2 + (j + 0.5 - layout[5]) ** 2 < reach:
                prices[i, j] = max(prices[i, j], price)
    spread(steps, prices)
    return steps
