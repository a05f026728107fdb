"""A way to a goal among posts and over costly floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from sim.cameras.things import Patches, Posts, Things
from sim.navigation import DistanceFields, spread
from sim.physics.state import Float, Int, RobotState
from sim.places import Floors, Split
from sim.robots.model import Robot
from sim.scene import SimScene
from sim.tasks.way import Way, WayCourse, Ways

POST_COLOR, PATCH_COLOR = (0.75, 0.12, 0.1), (0.95, 0.8, 0.1)
POST_RADIUS, POST_HEIGHT = (0.05, 0.1), 0.8  # [m]
PATCH_RADIUS = (0.2, 0.4)  # [m]
PATCH_COST = 1.0  # a second
PATCH_PRICE = 3.0
"""What a metre over costly floor counts in the way that is left: with 1 the shortest way would lead across."""
GAP = 0.1
"""Between a robot and the posts on its way at least [m]."""
FREE = 0.3
"""Between a robot at its start or goal and the next post at least [m]."""
TRIES = 10


@dataclass(frozen=True, eq=False)
class ObstacleWay(Way):
    """The ways of N robots among posts.

    Attributes:
        clearance: (N,) between the circle round the robot and the nearest post [m]; below 0 they touch, inf without.
        cost: (N,) of the floor under the robot's middle during this step.
    """

    clearance: Float
    cost: Float


class ObstacleCourse(WayCourse):
    """Goals, with posts that leave a way to them and yellow patches that cost; both elsewhere in each episode.

    Posts are drawn and touched by geometry; they are not in the physics. What a bundle's own areas cost counts too.

    Args:
        scenes: Where.
        robot: Who.
        num_envs: N.
        period: Between two steps [s].
        least_way: Between start and goal [m].
        ball_color: 0..1.
        posts: Most posts; there are fewer where they would stand at the start or the goal.
        patches: Most patches.
        starts: Which places episodes may begin at.

    Raises:
        SimError: When a scene has no such way, or no such places.
    """

    def __init__(
        self,
        scenes: Sequence[SimScene],
        robot: Robot,
        num_envs: int,
        period: float,
        *,
        least_way: float,
        ball_color: tuple[float, float, float],
        posts: int,
        patches: int,
        starts: Split = "all",
    ) -> None:
        super().__init__(scenes, robot, num_envs, period, least_way=least_way, ball_color=ball_color, starts=starts)
        self._robot_radius, self._period = robot.radius, period
        self._costs = area_costs(self.floors)
        shape = self.floors.height.shape[1:]
        origin, cell = np.zeros((num_envs, 2)), np.ones(num_envs)
        self._fields = DistanceFields(origin, cell, np.full((num_envs, *shape), np.inf, np.float32))
        self._ways = Ways(self.floors, num_envs, self._fields)
        self._post, self._post_radius = np.zeros((num_envs, posts, 3)), np.zeros((num_envs, posts))
        self._patch, self._patch_radius = np.zeros((num_envs, patches, 3)), np.zeros((num_envs, patches))
        self._clearance, self._cost = np.zeros(num_envs, np.float32), np.zeros(num_envs, np.float32)

    def _lay(self, envs: Int, scenes: Int, goals: Int, starts: Int, rng: np.random.Generator) -> Int:
        """Other posts and patches, and the ways round them."""
        floors, count = self.floors, len(envs)
        posts, patches = self._post.shape[1], self._patch.shape[1]
        cell, ends = floors.cell[scenes], np.stack([starts, self._goals.cells[goals]], 1)
        patch, patch_radius = floors.draw(scenes, patches, rng), rng.uniform(*PATCH_RADIUS, (count, patches))
        post = floors.draw(scenes, TRIES * posts, rng).reshape(count, TRIES, posts, 2)
        post_radius = rng.uniform(*POST_RADIUS, (count, TRIES, posts))
        from_end = np.linalg.norm(post[:, :, :, None] - ends[:, None, None], axis=-1).min(-1) * cell[:, None, None]
        post_radius[from_end < post_radius + self._robot_radius + FREE] = 0
        reach = np.where(post_radius > 0, post_radius + self._robot_radius + GAP, 0)
        price = np.where(self._costs > 0, np.maximum(floors.price, PATCH_PRICE), floors.price)[scenes]
        _paint_all(price, patch, patch_radius / cell[:, None], np.float32(PATCH_PRICE))
        chosen = _open_ways(price, post, reach / cell[:, None, None], ends)
        self._fields.origin[envs], self._fields.cell[envs] = floors.origin[scenes], cell
        self._fields.distance[envs] = price * cell[:, None, None].astype(np.float32)
        row = np.arange(count)
        self._post[envs] = floors.places(scenes[:, None], post[row, chosen])
        self._post_radius[envs] = np.where(chosen[:, None] >= 0, post_radius[row, chosen], 0)
        self._patch[envs], self._patch_radius[envs] = floors.places(scenes[:, None], patch), patch_radius
        self._look(envs, scenes, floors.places(scenes, starts)[:, :2])
        return envs

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """How near the posts are, and what the floor costs."""
        super().update(state, rng)
        self._look(np.arange(len(state)), self._ways.scene_of, state.position[:, :2])

    def _look(self, envs: Int, scenes: Int, xy: NDArray[np.floating]) -> None:
        """From places (M, 2) in scenes (M,)."""
        to_post = np.linalg.norm(self._post[envs, :, :2] - xy[:, None], axis=-1) - self._post_radius[envs]
        nearest = np.where(self._post_radius[envs] > 0, to_post, np.inf).min(1, initial=np.inf)
        self._clearance[envs] = nearest - self._robot_radius
        to_patch = np.linalg.norm(self._patch[envs, :, :2] - xy[:, None], axis=-1)
        of_area = self._costs[(scenes, *self.floors.cells(scenes, xy))]
        on_patch = (to_patch < self._patch_radius[envs]).any(1)
        self._cost[envs] = (of_area + PATCH_COST * on_patch) * self._period

    def now(self) -> ObstacleWay:
        """For the terms."""
        way = super().now()
        return ObstacleWay(**vars(way), clearance=self._clearance.copy(), cost=self._cost.copy())

    def things(self) -> Things:
        """The ball, the posts and the patches."""
        post_color, patch_color = (
            np.broadcast_to(np.array(color), place.shape)
            for color, place in ((POST_COLOR, self._post), (PATCH_COLOR, self._patch))
        )
        height = np.full(self._post_radius.shape, POST_HEIGHT)
        return Things(
            super().things().balls,
            Posts(self._post, self._post_radius, height, post_color),
            Patches(self._patch, self._patch_radius, patch_color),
        )


def area_costs(floors: Floors) -> Float:
    """What the bundles' own areas cost a second (S, X, Y)."""
    costs = np.zeros(floors.height.shape, np.float32)
    for cost, scene in zip(costs, floors.scenes, strict=True):
        x, y = scene.regions.height.shape
        cost[:x, :y] = scene.regions.surface(scene.regions.centres().reshape(-1, 2))[1].reshape(x, y)
    return costs


@njit(parallel=True, cache=True, nogil=True)
def _paint_all(price: Float, cells: Int, radius: NDArray[np.float64], value: np.float32) -> None:
    """Give the discs (M, Q) round cells (M, Q, 2), radii in cells, that price where there is floor."""
    for m in prange(len(price)):
        for q in range(cells.shape[1]):
            _paint(price[m], cells[m, q], radius[m, q], value)


@njit(cache=True, nogil=True)
def _paint(price: Float, cell: Int, radius: float, value: np.float32) -> None:
    reach = int(np.ceil(radius))
    for i in range(max(cell[0] - reach, 0), min(cell[0] + reach + 1, price.shape[0])):
        for j in range(max(cell[1] - reach, 0), min(cell[1] + reach + 1, price.shape[1])):
            if (i - cell[0]) ** 2 + (j - cell[1]) ** 2 < radius * radius and np.isfinite(price[i, j]):
                price[i, j] = value


@njit(parallel=True, cache=True, nogil=True)
def _open_ways(price: Float, posts: Int, reach: NDArray[np.float64], ends: Int) -> Int:
    """For each of M floors the first try whose posts leave a way, -1 for none: then the floor stays without posts.

    Args:
        price: (M, X, Y) of the floor; becomes the ways to the goal round the posts [cells].
        posts: (M, T, P, 2) cells of each try.
        reach: (M, T, P) from them no robot may be [cells].
        ends: (M, 2, 2) cells of start and goal; no post reaches them.
    """
    count, tries, number = reach.shape
    chosen = np.full(count, -1)
    for m in prange(count):
        steps = np.empty(price.shape[1:], np.float32)
        start, goal = ends[m]
        for t in range(tries + 1):
            floor = price[m].copy()
            if t < tries:
                for p in range(number):
                    _paint(floor, posts[m, t, p], reach[m, t, p], np.float32(np.inf))
            steps[:] = np.inf
            steps[goal[0], goal[1]] = 0
            spread(steps, floor)
            if np.isfinite(steps[start[0], start[1]]):
                chosen[m] = t if t < tries else -1
                break
        price[m] = steps
    return chosen
