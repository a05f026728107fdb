"""Goals on the drivable floor."""

from __future__ import annotations

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import masks
from pipeline.geometry.grids import Grids
from pipeline.types import F32, I64, Mask
from sim.robots.state import RobotState
from sim.scene.floors import Cells, Floors
from sim.scene.navigation import DistanceFields, lengths_to
from sim.sensors.cameras.props import Balls, Patches, Posts, Props
from sim.tasks.driving.paths import MinLength, PathScenario, PathState, PathTracker, even
from sim.tasks.scenario import ResetPoses

BALL_RADIUS = 0.15  # [m]
LEVEL = 0.05
"""Largest difference of heights on a landing [m]."""


class GoalScenario(PathScenario[PathState]):
    """Goals marked by a ball, each with starts from which a path leads there.

    Goals are the nearest cells to a scene's own that the robot can drive to. Paths from start to goal have at least
    `min_length` [m]; of each scene the first `goals` goals are used, all by default. With `upstairs`, the only goal is
    in the middle of the highest floor, so much above the starts [m], and paths lead over steps.

    Raises:
        SimError: When a scene has no such path, no such floor, or no start that may be used.
    """

    PARTS = ("_paths",)

    def __init__(
        self,
        floors: Floors,
        num_envs: int,
        period: float,
        *,
        min_length: MinLength,
        ball_color: tuple[float, float, float],
        goals: int | None = None,
        upstairs: float | None = None,
    ) -> None:
        self.floors, self._color = floors, np.array(ball_color, np.float32)
        self._goals, self._upstairs = goals, upstairs
        cells = [self.goals_in(number) for number in range(len(floors.scenes))]
        scene_of = np.repeat(np.arange(len(cells)), [len(in_scene) for in_scene in cells])
        self._cells = np.concatenate(cells)  # of all goals
        cell, price = floors.cell[scene_of], self.price()
        lengths = Grids.of(lengths_to(price, scene_of, self._cells, cell))
        self._paths = PathTracker(floors, num_envs, DistanceFields(floors.origin[scene_of], cell, lengths))
        far = list[Mask]()
        for scene, goal, length in zip(
            scene_of, self._cells, lengths_to(even(price), scene_of, self._cells, cell), strict=True
        ):
            far.append(np.isfinite(length) & (length >= min_length) & self.starts_for(int(scene), goal))
        self._starts = Cells(far)  # for each goal
        self._reachable = [
            np.flatnonzero((scene_of == scene) & (self._starts.count > 0)) for scene in range(len(cells))
        ]
        for scene, usable in zip(floors.scenes, self._reachable, strict=True):
            if not len(usable):
                raise SimError(
                    "a scene needs starts from which a goal can be driven to",
                    found=f"no usable start {min_length} m from any goal of {scene.lock.reference}",
                    remedy="use a larger scene, or a task with shorter paths",
                )

    def price(self) -> Grids[np.float32]:
        """Price of paths per metre."""
        return self.floors.price_on(self.floors.walkable) if self._upstairs else self.floors.price

    def goals_in(self, scene: int) -> I64:
        """The cells (G, 2) of a scene that are goals."""
        floors, regions = self.floors, self.floors.scenes[scene].regions
        if self._upstairs:
            return _landing(floors, scene, self._upstairs)
        poses = (regions.goals or regions.spawn_poses)[: self._goals]
        xy = np.array([pose.position[:2] for pose in poses])
        return np.unique(floors.nearest(scene, floors.drivable[scene], xy), axis=0)

    def starts_for(self, scene: int, goal: I64) -> Mask:
        """Where in a scene (X, Y) robots may begin that are to go to a cell (2,)."""
        floors = self.floors
        if not self._upstairs:
            return floors.eligible[scene]
        low = floors.height[scene] < floors.height[(scene, *goal)] - self._upstairs
        return floors.eligible[scene] & floors.drivable[scene] & low

    def reset(self, envs: I64, scenes: I64, levels: I64, rng: np.random.Generator) -> ResetPoses:
        """Draw new starts and goals for environments (M,)."""
        options = [self._reachable[scene] for scene in scenes]
        share = rng.random(len(scenes))
        goals = np.array([row[int(u * len(row))] for row, u in zip(options, share, strict=True)], np.int64)
        starts = self._starts.draw(goals, 1, rng)[:, 0]
        start = self.floors.positions(scenes, starts)
        goal = self.floors.positions(scenes, self._cells[goals])
        yaw = rng.uniform(-np.pi, np.pi, len(envs))
        self._paths.reset(envs, scenes, goal, goals, np.column_stack([start[:, :2], yaw]))
        return ResetPoses(start + np.array([0, 0, self.floors.robot.base_height]), yaw)

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Update the remaining paths."""
        self._paths.update(state.planar)

    def state(self) -> PathState:
        """State that terms read."""
        return self._paths.state()

    def props(self) -> Props:
        """A ball at each goal."""
        balls, count = goal_balls(self._paths.goal, self._color), len(self._paths.goal)
        return Props(balls, Posts.none(count), Patches.none(count))


def goal_balls(goal: F32, color: F32) -> Balls:
    """A ball of a colour (3,) on the floor at each goal (N, 3) [m]."""
    center = goal[:, None] + np.array([0, 0, BALL_RADIUS], np.float32)
    return Balls(center, np.full((len(goal), 1), BALL_RADIUS), np.tile(color, (len(goal), 1, 1)))


def _landing(floors: Floors, scene: int, upstairs: float) -> I64:
    """The cell (1, 2) in the middle of a scene's highest floor, if that is so much above most of it [m]."""
    height, walkable = floors.height[scene], floors.walkable[scene]
    top = np.max(height[walkable], initial=-np.inf)
    high = walkable & (height > top - LEVEL)
    lacks = top < np.median(height[floors.drivable[scene]]) + upstairs
    if lacks:
        raise SimError(
            "stairs lead to floor that is higher up",
            found=f"none {upstairs} m above most of the floor of {floors.scenes[scene].lock.reference}",
            remedy="use a scene with stairs, captured with their landing",
        )
    labels, _ = masks.parts(high)
    largest = labels == np.bincount(labels[high]).argmax()
    return np.array([np.unravel_index(masks.distance_from(~largest).argmax(), high.shape)], np.int64)
