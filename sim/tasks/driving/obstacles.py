"""Goals among posts and patches of costly floor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from pipeline.geometry.jit import njit, prange, put
from pipeline.types import F32, F64, I64, Floats
from sim.robots.state import RobotState
from sim.scene.floors import Floors
from sim.scene.navigation import DistanceFields, spread
from sim.sensors.cameras.props import PATCH_COLOR, Patches, Posts, Props
from sim.tasks.driving.goals import goal_balls
from sim.tasks.driving.paths import Ends, MinLength, PathScenario, PathState, PathTracker
from sim.tasks.parameters import settable
from sim.tasks.scenario import ResetPoses

POST_COLOR = (0.75, 0.12, 0.1)
POST_RADIUS, POST_HEIGHT = (0.05, 0.1), 0.8  # [m]
PATCH_RADIUS = (0.2, 0.4)  # [m]
PATCH_COST = 1.0  # per second
PATCH_PRICE = 3.0
"""Price of a metre over costly floor in the remaining path length: at 1 the shortest path would lead across."""
GAP = 0.1
"""Smallest gap between a robot and the posts on its path [m]."""
FREE = 0.3
"""Smallest gap between a robot at its start or goal and the next post [m]."""
TRIES = 10
"""Arrangements of posts tried for an episode."""


@dataclass(frozen=True, eq=False)
class ObstacleState(PathState):
    """Paths of N robots among posts.

    Attributes:
        clearance: (N,) gap between the robot's radius and the nearest post [m]; negative in contact, inf without posts.
        cost: (N,) cost of the floor under the robot's centre [1/s].
    """

    clearance: F32
    cost: F32


class ObstacleScenario(PathScenario[ObstacleState]):
    """A ball anywhere, posts that leave a path to it, and yellow patches that cost; drawn for each episode.

    Without posts, paths from start to goal have at least `min_length` [m]. Posts are visual, and contact with them is
    geometric; they are not in the physics. The costs of a bundle's own areas count, too. There are at most `posts`
    posts: those that would stand at the start or the goal are left out.

    Raises:
        SimError: When no start in a scene leads to a goal that far away.
    """

    ROWS = ("_post", "_post_radius", "_patch", "_patch_radius", "_clearance", "_cost")
    PARTS = ("_paths", "_fields")

    def __init__(
        self,
        floors: Floors,
        num_envs: int,
        period: float,
        *,
        min_length: MinLength,
        ball_color: tuple[float, float, float],
        posts: Annotated[int, settable(1, 50, "posts in each episode")],
        patches: Annotated[int, settable(1, 50, "patches that cost in each episode")],
    ) -> None:
        self.floors, self._color = floors, np.array(ball_color, np.float32)
        self._robot_radius = floors.robot.radius
        self._costs = floors.area_costs
        dear = np.where(self._costs.values > 0, np.maximum(floors.price.values, PATCH_PRICE), floors.price.values)
        self._price = floors.price.like(dear)
        self._fields = DistanceFields.nowhere(num_envs)
        self._ends = Ends(floors, min_length)
        self._paths = PathTracker(floors, num_envs, self._fields)
        self._post, self._post_radius = np.zeros((num_envs, posts, 3)), np.zeros((num_envs, posts))
        self._patch, self._patch_radius = np.zeros((num_envs, patches, 3)), np.zeros((num_envs, patches))
        self._clearance, self._cost = np.zeros(num_envs, np.float32), np.zeros(num_envs, np.float32)

    def reset(self, envs: I64, scenes: I64, levels: I64, rng: np.random.Generator) -> ResetPoses:
        """Draw starts, goals, and what is between them, for environments (M,)."""
        starts, goals = self._ends.draw(scenes, rng)
        start, goal = self.floors.positions(scenes, starts), self.floors.positions(scenes, goals)
        self._arrange(envs, scenes, goals, starts, rng)
        yaw = rng.uniform(-np.pi, np.pi, len(envs))
        self._paths.reset(envs, scenes, goal, envs, np.column_stack([start[:, :2], yaw]))
        return ResetPoses(start + np.array([0, 0, self.floors.robot.base_height]), yaw)

    def _arrange(self, envs: I64, scenes: I64, goals: I64, starts: I64, rng: np.random.Generator) -> None:
        """Draw posts and patches, and compute the paths around them."""
        floors, count = self.floors, len(envs)
        posts, patches = self._post.shape[1], self._patch.shape[1]
        cell, ends = floors.cell[scenes], np.stack([starts, goals], 1)
        patch, patch_radius = floors.draw(scenes, patches, rng), rng.uniform(*PATCH_RADIUS, (count, patches))
        post = floors.draw(scenes, TRIES * posts, rng).reshape(count, TRIES, posts, 2)
        post_radius = rng.uniform(*POST_RADIUS, (count, TRIES, posts))
        from_end = np.linalg.norm(post[:, :, :, None] - ends[:, None, None], axis=-1).min(-1) * cell[:, None, None]
        post_radius[from_end < post_radius + self._robot_radius + FREE] = 0
        reach = np.where(post_radius > 0, post_radius + self._robot_radius + GAP, 0)
        chosen, row = np.full(count, -1), np.arange(count)
        for scene in np.unique(scenes):  # all of one scene at once, so that cores share them
            own = np.flatnonzero(scenes == scene)
            price = np.repeat(self._price[scene][None], len(own), 0)
            _paint_all(price, patch[own], patch_radius[own] / cell[own, None], np.float32(PATCH_PRICE))
            chosen[own] = _first_passable(price, post[own], reach[own] / cell[own, None, None], ends[own])
            lengths = price * cell[own, None, None].astype(np.float32)
            self._fields.put(envs[own], floors.origin[scenes[own]], cell[own], [*lengths])
        self._post[envs] = floors.positions(scenes[:, None], post[row, chosen])
        self._post_radius[envs] = np.where(chosen[:, None] >= 0, post_radius[row, chosen], 0)
        self._patch[envs], self._patch_radius[envs] = floors.positions(scenes[:, None], patch), patch_radius
        self._measure(envs, scenes, floors.positions(scenes, starts)[:, :2])

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Update the remaining paths, the clearance and the cost of the floor."""
        self._paths.update(state.planar)
        self._measure(np.arange(len(state)), self._paths.scene_of, state.position[:, :2])

    def _measure(self, envs: I64, scenes: I64, xy: Floats) -> None:
        """Measure clearance and cost at positions (M, 2) in scenes (M,)."""
        to_post = np.linalg.norm(self._post[envs, :, :2] - xy[:, None], axis=-1) - self._post_radius[envs]
        nearest = np.where(self._post_radius[envs] > 0, to_post, np.inf).min(1, initial=np.inf)
        self._clearance[envs] = nearest - self._robot_radius
        to_patch = np.linalg.norm(self._patch[envs, :, :2] - xy[:, None], axis=-1)
        area_cost = self._costs[(scenes, *self.floors.cells(scenes, xy))]
        on_patch = (to_patch < self._patch_radius[envs]).any(1)
        self._cost[envs] = area_cost + PATCH_COST * on_patch

    def state(self) -> ObstacleState:
        """State that terms read."""
        return ObstacleState(**vars(self._paths.state()), clearance=self._clearance.copy(), cost=self._cost.copy())

    def props(self) -> Props:
        """The ball, the posts and the patches."""
        post_color, patch_color = (
            np.broadcast_to(np.array(color), center.shape)
            for color, center in ((POST_COLOR, self._post), (PATCH_COLOR, self._patch))
        )
        height = np.full(self._post_radius.shape, POST_HEIGHT)
        return Props(
            goal_balls(self._paths.goal, self._color),
            Posts(self._post, self._post_radius, height, post_color),
            Patches(self._patch, self._patch_radius, patch_color),
        )


@njit(parallel=True, cache=True, nogil=True)
def _paint_all(price: F32, cells: I64, radius: F64, value: np.float32) -> None:
    """Set the price of discs (M, Q) around cells (M, Q, 2), radii in cells, where there is floor."""
    for m in prange(len(price)):
        for q in range(cells.shape[1]):
            _paint(price[m], cells[m, q], radius[m, q], value)


@njit(cache=True, nogil=True)
def _paint(price: F32, cell: I64, radius: float, value: np.float32) -> None:
    reach = int(np.ceil(radius))
    for i in range(max(cell[0] - reach, 0), min(cell[0] + reach + 1, price.shape[0])):
        for j in range(max(cell[1] - reach, 0), min(cell[1] + reach + 1, price.shape[1])):
            if (i - cell[0]) ** 2 + (j - cell[1]) ** 2 < radius * radius and np.isfinite(price[i, j]):
                price[i, j] = value


@njit(parallel=True, cache=True, nogil=True)
def _first_passable(price: F32, posts: I64, reach: F64, ends: I64) -> I64:
    """For each of M floors the first try whose posts leave a path, -1 for none: then the floor stays without posts.

    Args:
        price: (M, X, Y) price of the floor; output: path lengths to the goal around the posts [cells].
        posts: (M, T, P, 2) cells of each try.
        reach: (M, T, P) distance that robots must keep from them [cells].
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
        put(price[m], steps)
    return chosen
