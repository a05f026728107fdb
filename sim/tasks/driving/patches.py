"""Goals that are not seen, behind a yellow patch of floor, reached by drifting odometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import masks
from pipeline.geometry.grids import Grids
from pipeline.geometry.jit import njit, prange, put
from pipeline.types import F32, F64, I64, Floats, Mask
from sim.robots.state import RobotState
from sim.saved import Saved
from sim.scene.floors import Cells, Floors
from sim.scene.navigation import DistanceFields, spread
from sim.sensors.cameras.props import PATCH_COLOR, Balls, Patches, Posts, Props
from sim.tasks.driving.paths import MinLength, PathScenario, PathState, PathTracker
from sim.tasks.parameters import settable
from sim.tasks.scenario import ResetPoses

RADIUS = (0.25, 0.45)
"""Range of a painted patch's radius [m]."""
PRICE = 4.0
"""Price of a metre over a patch in the remaining path length, so that a detour is progress."""
GAP = 0.1
"""Paths around a patch keep this distance from it [m]; closer ones pay its price."""
FREE = 0.1
"""Smallest gap between a robot at its start or goal and a patch [m]."""
ROOM = 0.1
"""Extra room around goals, beyond what the robot needs [m]: odometry errs."""
CROSSING = 0.3
"""A straight path crosses a patch if at least this length of it is over the patch [m]."""
MIDDLE, SIDE = (0.3, 0.7), (-0.6, 0.6)
"""Where on a straight path a patch is painted: along it as a fraction, across it as a fraction of the radius."""
BEHIND = (1.2, 4.0)
"""Distance of a goal behind a scene's own patch, as a multiple of the distance from start to patch."""
TURN_NOISE = 0.01 / np.sqrt(0.2)
"""Random walk of the heading of odometry [rad / sqrt(s)]: 0.01 rad per 0.2 s."""
TRIES, BATCH, ROUNDS = 400, 64, 4
"""Layouts tried for an episode; episodes and rounds of the search for a scene's reserve of layouts."""


@dataclass(frozen=True, eq=False)
class PatchState(PathState):
    """Paths of N robots around patches.

    Attributes:
        believed: (N, 3) the goal by odometry: distance [m], cosine and sine of the bearing.
        to_patch: (N, 2) vector from the robot to the nearest point of a patch [m], world axes; 0 on it.
        inside: (N,) whether the robot's centre is over a patch.
        entering: (N,) whether it is so for the first time in the episode.
        entered: (N,) whether it ever was in the episode.
    """

    believed: F32
    to_patch: F32
    inside: Mask
    entering: Mask
    entered: Mask


class PatchScenario(PathScenario[PatchState]):
    """Goals anywhere, known by odometry only, and patches of costly floor.

    A scene's patches are its own areas with a cost; in a scene without any, a patch is painted at another position in
    each episode. In some episodes the straight path is free except for a patch that it crosses. There is always a path
    that avoids the patches. From start to goal the straight distance is at least `min_length` and the path around the
    patches at most `max_length` [m]. `crossing` is the fraction of the episodes whose straight path crosses a patch; it
    is 1 for held-out starts.

    Raises:
        SimError: When a scene has no room for that.
    """

    ROWS = ("_patch", "_radius", "_to_patch", "_believed", "_inside", "_entering", "_entered")
    PARTS = ("_paths", "_fields", "_odometry")

    def __init__(
        self,
        floors: Floors,
        num_envs: int,
        period: float,
        *,
        min_length: MinLength,
        max_length: Annotated[float, settable(0.1, 100, "length of the longest path to a goal [m]")],
        crossing: Annotated[float, settable(0, 1, "share of training's episodes whose patch is on the straight path")],
        odometry_scale: Annotated[float, settable(0, 0.5, "sigma of odometry's scale, drawn by the episode")] = 0.03,
        odometry_turn: Annotated[float, settable(0, 1, "random walk of its heading [rad / sqrt(s)]")] = TURN_NOISE,
    ) -> None:
        self.floors, self._free = floors, floors.robot.radius + FREE
        self._limits = min_length, max_length
        self._crossing = 1.0 if floors.split == "held_out" else crossing
        own: Grids[np.bool_] = floors.area_costs.like(floors.area_costs.values > 0)
        distance = own.map(lambda grid, cell: masks.distance_from(grid) * cell, floors.cell)
        self._own, self._near_own = own, own.like(distance.values <= GAP)
        self._nearest_own = own.map(_nearest_own, floors.origin, floors.cell)
        room = floors.drivable.values & (distance.values > self._free)
        self._goals = own.like(room & (floors.edge.values > ROOM))
        self._ends = Cells(own.like(room & floors.eligible.values)), Cells(self._goals)
        self._own_cells = Cells(own.like(own.values & floors.drivable.values))
        self._fields = DistanceFields.nowhere(num_envs)
        self._paths = PathTracker(floors, num_envs, self._fields)
        self._odometry = DeadReckoning(num_envs, period, odometry_scale, odometry_turn)
        self._patch, self._radius = np.zeros((num_envs, 3)), np.zeros(num_envs)
        self._to_patch, self._believed = np.zeros((num_envs, 2)), np.zeros((num_envs, 3), np.float32)
        self._inside, self._entering, self._entered = (np.zeros(num_envs, bool) for _ in range(3))
        self._reserve = [self._crossings(scene) for scene in range(len(floors.scenes))]

    def reset(self, envs: I64, scenes: I64, levels: I64, rng: np.random.Generator) -> ResetPoses:
        """Draw new goals and patches for environments (M,)."""
        floors, crossing = self.floors, rng.random(len(envs)) < self._crossing
        reserve = np.stack([rng.choice(self._reserve[scene]) for scene in scenes])
        layouts = np.concatenate([self._draw(scenes, crossing, TRIES, rng), reserve[:, None]], 1)
        chosen, lengths = self._choose(scenes, crossing, layouts)
        layout = layouts[np.arange(len(envs)), chosen]
        start, goal, patch = (floors.positions(scenes, layout[:, at : at + 2].astype(np.int64)) for at in (0, 2, 4))
        patch[:, :2] = floors.origin[scenes] + layout[:, 4:6] * floors.cell[scenes, None]
        self._patch[envs], self._radius[envs] = patch, layout[:, 6] * floors.cell[scenes]
        self._fields.put(envs, floors.origin[scenes], floors.cell[scenes], lengths)
        yaw = rng.uniform(-np.pi, np.pi, len(envs))
        self._paths.reset(envs, scenes, goal, envs, np.column_stack([start[:, :2], yaw]))
        self._odometry.reset(envs, start[:, :2], yaw, rng)
        self._believed[envs] = self._odometry.towards(self._paths.goal[:, :2])[envs]
        self._inside[envs] = self._entering[envs] = self._entered[envs] = False
        self._to_patch[envs] = self._vector_to_patch(envs, start[:, :2])
        return ResetPoses(start + np.array([0, 0, floors.robot.base_height]), yaw)

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Update the paths, the odometry, and who is over a patch."""
        pose = state.planar
        xy = pose[:, :2]
        self._paths.update(pose)
        self._odometry.update(xy, pose[:, 2], rng)
        self._believed = self._odometry.towards(self._paths.goal[:, :2])
        self._to_patch = self._vector_to_patch(np.arange(len(xy)), xy)
        scenes = self._paths.scene_of
        painted = np.linalg.norm(self._patch[:, :2] - xy, axis=1) < self._radius
        self._inside = painted | self._own[(scenes, *self.floors.cells(scenes, xy))]
        self._entering = self._inside & ~self._entered
        self._entered = self._entered | self._inside

    def state(self) -> PatchState:
        """State that terms read."""
        return PatchState(
            **vars(self._paths.state()),
            believed=self._believed.copy(),
            to_patch=self._to_patch.astype(np.float32),
            inside=self._inside.copy(),
            entering=self._entering.copy(),
            entered=self._entered.copy(),
        )

    def props(self) -> Props:
        """The painted patch; nothing shows where the goal is."""
        count = len(self._radius)
        paint = Patches(self._patch[:, None], self._radius[:, None], np.tile(PATCH_COLOR, (count, 1, 1)))
        return Props(Balls.none(count), Posts.none(count), paint)

    def _vector_to_patch(self, envs: I64, xy: Floats) -> Floats:
        """Vectors (M, 2) [m] from positions (M, 2) to the nearest point of a patch."""
        scenes = self._paths.scene_of[envs]
        to_own = self._nearest_own[(scenes, *self.floors.cells(scenes, xy))] - xy
        to_middle, radius = self._patch[envs, :2] - xy, self._radius[envs]
        distance = np.maximum(np.linalg.norm(to_middle, axis=1), 1e-9)
        outside = np.maximum(distance - radius, 0.0)
        to_paint = to_middle * (outside / distance)[:, None]
        nearer = (radius > 0) & (outside < np.linalg.norm(to_own, axis=1))
        return np.where(nearer[:, None], to_paint, to_own)

    def _draw(self, scenes: I64, crossing: Mask, tries: int, rng: np.random.Generator) -> Floats:
        """Draw candidate layouts (M, tries, 7) in scenes (M,).

        Where a patch is to be crossed (M,), the goal lies behind one of the scene's own patches, or a patch is painted
        on the straight path.
        """
        floors, size = self.floors, (len(scenes), tries)
        start, goal = (ends.draw(scenes, tries, rng) + 0.5 for ends in self._ends)
        owning = self._own_cells.count[scenes] > 0
        rows = np.flatnonzero(owning & crossing)
        first = start[rows]
        path = self._own_cells.draw(scenes[rows], tries, rng) + 0.5 - first
        behind = first + rng.uniform(*BEHIND, (len(rows), tries))[..., None] * path
        cells = np.clip(behind, 0, self._goals.shape[scenes[rows], None] - 1).astype(np.int64)
        free = self._goals[scenes[rows, None], cells[..., 0], cells[..., 1]]
        goal[rows] = np.where(free[..., None], cells + 0.5, first)  # a goal at the start is rejected later
        radius = np.where(owning[:, None], 0, rng.uniform(*RADIUS, size) / floors.cell[scenes, None])
        path = goal - start
        across = np.stack([-path[..., 1], path[..., 0]], -1) / np.maximum(np.linalg.norm(path, axis=-1), 1)[..., None]
        on_path = start + rng.uniform(*MIDDLE, size)[..., None] * path
        on_path += (rng.uniform(*SIDE, size) * radius)[..., None] * across
        anywhere = floors.draw(scenes, tries, rng) + 0.5
        middle = np.where(crossing[:, None, None], on_path, anywhere)
        return np.concatenate([start, goal, middle, radius[..., None]], -1)

    def _choose(self, scenes: I64, crossing: Mask, layouts: Floats) -> tuple[I64, list[F32]]:
        """First valid one (M,) of layouts (M, T, 7), -1 for none, and path lengths to its goal, each (X, Y) [m]."""
        floors = self.floors
        cell = floors.cell[scenes]
        limits = np.array([*self._limits, self._free, GAP, CROSSING]) / cell[:, None]
        chosen, lengths = np.full(len(scenes), -1), dict[int, F32]()
        for scene in np.unique(scenes):  # all of one scene at once, so that cores share them
            rows = np.flatnonzero(scenes == scene)
            grids = floors.price[scene], self._own[scene], self._near_own[scene]
            steps = np.full((len(rows), *grids[0].shape), np.inf, np.float32)
            chosen[rows] = _first_valid(*grids, crossing[rows], limits[rows], layouts[rows], steps)
            lengths |= dict(zip(rows.tolist(), steps * cell[rows, None, None].astype(np.float32), strict=True))
        return chosen, [lengths[row] for row in range(len(scenes))]

    def _crossings(self, scene: int) -> Floats:
        """Valid layouts (K, 7) of a scene whose straight paths cross a patch, in reserve for episodes without any."""
        scenes, crossing, rng = np.full(BATCH, scene), np.ones(BATCH, bool), np.random.default_rng(0)
        valid: list[Floats] = [np.zeros((0, 7))]
        for _ in range(ROUNDS if all(cells.count[scene] for cells in self._ends) else 0):
            layouts = self._draw(scenes, crossing, TRIES, rng)
            chosen, _ = self._choose(scenes, crossing, layouts)
            valid.append(layouts[np.arange(BATCH), chosen][chosen >= 0])
        if sum(map(len, valid)):
            return np.concatenate(valid)
        raise SimError(
            "a scene needs straight paths with room to go around a patch",
            found=f"none of {self._limits[0]:g} m or more on the floor of {self.floors.scenes[scene].lock.reference}, "
            f"from usable starts, in {ROUNDS * BATCH * TRIES} tries",
            remedy="use a larger scene, or another task",
        )


MAX_DISTANCE = 4.0
"""Largest distance of a goal that is distinguished [m]."""


class DeadReckoning(Saved):
    """Poses of N robots estimated from the rotation of wheels, which drift; exact at the beginning of their episodes.

    `scale` is the standard deviation of the factors of measured distances and rotations, which are constant in an
    episode, and `turn` that of the heading's random walk [rad / sqrt(s)].

    Attributes:
        xy: (N, 2) estimated positions [m], world frame.
        yaw: (N,) estimated headings [rad].
    """

    ROWS = ("xy", "yaw", "_true_xy", "_true_yaw", "_scale")

    def __init__(self, num_envs: int, period: float, scale: float, turn: float) -> None:
        self.xy, self.yaw = np.zeros((num_envs, 2)), np.zeros(num_envs)
        self._true_xy, self._true_yaw = np.zeros((num_envs, 2)), np.zeros(num_envs)
        self._scale, self._spread, self._noise = np.ones((num_envs, 2)), scale, turn * np.sqrt(period)

    def reset(self, envs: I64, xy: Floats, yaw: Floats, rng: np.random.Generator) -> None:
        """Reset robots (M,) to known positions (M, 2) and headings (M,), with new scale factors."""
        self.xy[envs] = self._true_xy[envs] = xy
        self.yaw[envs] = self._true_yaw[envs] = yaw
        self._scale[envs] = rng.normal(1, self._spread, (len(envs), 2))

    def update(self, xy: Floats, yaw: Floats, rng: np.random.Generator) -> None:
        """Move all robots to positions (N, 2) and headings (N,), with half of the rotation before the translation."""
        rotation = (yaw - self._true_yaw + np.pi) % (2 * np.pi) - np.pi
        estimated = rotation * self._scale[:, 1] + rng.normal(0, self._noise, len(yaw))
        error = self.yaw + estimated / 2 - (self._true_yaw + rotation / 2)
        moved = (xy - self._true_xy) * self._scale[:, :1]
        cos, sin = np.cos(error), np.sin(error)
        self.xy = self.xy + np.stack([cos * moved[:, 0] - sin * moved[:, 1], sin * moved[:, 0] + cos * moved[:, 1]], 1)
        self.yaw = self.yaw + estimated
        self._true_xy, self._true_yaw = np.array(xy, float), np.array(yaw, float)

    def towards(self, goal: Floats) -> F32:
        """Estimated distance [m], at most `MAX_DISTANCE`, cosine and sine of the bearing (N, 3) of goals (N, 2)."""
        offset = goal - self.xy
        bearing = np.arctan2(offset[:, 1], offset[:, 0]) - self.yaw
        distance = np.minimum(np.linalg.norm(offset, axis=1), MAX_DISTANCE)
        return np.column_stack([distance, np.cos(bearing), np.sin(bearing)]).astype(np.float32)


def _nearest_own(own: Mask, origin: F64, cell: float) -> F64:
    """The nearest position (X, Y, 2) on own patches [m], by cell; inf where a scene has none."""
    if not own.any():
        return np.full((*own.shape, 2), np.inf)
    return origin + (masks.nearest_marked(own).transpose(1, 2, 0) + 0.5) * cell


@njit(parallel=True, cache=True, nogil=True)
def _first_valid(
    floor: F32,
    own: Mask,
    near_own: Mask,
    crossing: Mask,
    limits: F64,
    layouts: Floats,
    lengths: F32,
) -> I64:
    """See `PatchScenario._choose`; all lengths are in cells.

    Args:
        floor: (X, Y) price of the floor where robots may be, else inf.
        own: (X, Y) the scene's own patches.
        near_own: (X, Y) these and what lies within the gap of them.
        crossing: (M,) whether the straight path must be free except for a patch that it crosses.
        limits: (M, 5) shortest straight path, longest path, room at the ends, gap, shortest path over a patch.
        layouts: (M, T, 7); radius 0 where nothing is painted.
        lengths: (M, X, Y) output: path lengths to the chosen goals, at the price of patches.
    """
    chosen = np.full(len(layouts), -1)
    for m in prange(len(layouts)):
        shortest, longest, free, gap, over = limits[m]
        for t in range(layouts.shape[1]):
            layout = layouts[m, t]
            if np.hypot(layout[2] - layout[0], layout[3] - layout[1]) < shortest:
                continue
            if crossing[m]:
                crossed = _length_over_own(floor, own, layout)
                if crossed < 0 or (layout[6] == 0 and crossed < over):
                    continue
            if layout[6] > 0 and not _has_room(floor, layout, free):
                continue
            around = _path_lengths(floor, near_own, layout, gap, np.float32(np.inf))
            if around[int(layout[0]), int(layout[1])] <= longest:
                put(lengths[m], _path_lengths(floor, near_own, layout, gap, np.float32(PRICE)))
                chosen[m] = t
                break
    return chosen


@njit(cache=True, nogil=True)
def _length_over_own(floor: F32, own: Mask, layout: Floats) -> float:
    """Length of a layout's straight path over the scene's own patches [cells]; -1 if it leaves the floor."""
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
def _has_room(floor: F32, layout: Floats, free: float) -> bool:
    """Whether the painted patch of a layout lies on the floor and away from the ends of the path."""
    i, j, radius = layout[4:7]
    if not (0 <= i < floor.shape[0] and 0 <= j < floor.shape[1]) or np.isinf(floor[int(i), int(j)]):
        return False
    nearest = min(np.hypot(i - layout[0], j - layout[1]), np.hypot(i - layout[2], j - layout[3]))
    return nearest > radius + free


@njit(cache=True, nogil=True)
def _path_lengths(floor: F32, near_own: Mask, layout: Floats, gap: float, price: np.float32) -> F32:
    """Path lengths (X, Y) to the goal of a layout, if floor on and near patches has at least that price."""
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
