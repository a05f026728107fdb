"""Where episodes start and where they lead, on the floors of several scenes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SimError
from sim.navigation import distance_fields
from sim.robots.model import Robot
from sim.scene import SimScene

Float = NDArray[np.float32]
Int = NDArray[np.int64]


class Places:
    """Starts and goals with a way between them.

    Args:
        scenes: Where.
        robot: Who stands there.
        least_way: Between start and goal [m].

    Raises:
        SimError: When no start is far enough from a goal.
    """

    def __init__(self, scenes: Sequence[SimScene], robot: Robot, least_way: float) -> None:
        self._scenes = [_ScenePlaces(scene, robot, least_way) for scene in scenes]

    def draw(self, scenes: Int, rng: np.random.Generator) -> tuple[NDArray[np.float64], Float, Int, Float]:
        """In scenes (M,): positions (M, 3) [m], headings (M,) [rad], goals (M,) and their places (M, 2) [m]."""
        position, yaw = np.empty((len(scenes), 3)), np.empty(len(scenes), np.float32)
        goal, place = np.empty(len(scenes), np.int64), np.empty((len(scenes), 2), np.float32)
        for scene in np.unique(scenes):
            rows = np.flatnonzero(scenes == scene)
            position[rows], yaw[rows], goal[rows] = self._scenes[scene].draw(len(rows), rng)
            place[rows] = self._scenes[scene].goals[goal[rows]]
        return position, yaw, goal, place

    def ways(self, scenes: Int, goals: Int, xy: NDArray[np.floating]) -> Float:
        """What is left of the way [m] from (N, 2) to goals (N,) in scenes (N,); inf off the floor."""
        result = np.empty(len(scenes), np.float32)
        for scene in np.unique(scenes):
            rows = np.flatnonzero(scenes == scene)
            result[rows] = self._scenes[scene].fields.at(goals[rows], xy[rows])
        return result


class _ScenePlaces:
    def __init__(self, scene: SimScene, robot: Robot, least_way: float) -> None:
        self.regions = regions = scene.regions
        chosen = regions.goals or regions.spawn_poses
        self.goals = np.array([goal.position[:2] for goal in chosen], np.float32)
        self.fields = distance_fields(regions, self.goals)
        far = np.isfinite(self.fields.distance) & (self.fields.distance >= least_way)
        self._starts = [np.argwhere(of_goal) for of_goal in far]
        self._reachable = np.flatnonzero([len(starts) for starts in self._starts])
        if not len(self._reachable):
            raise SimError(
                "a scene needs starts from which a goal can be driven to",
                found=f"no start {least_way} m from any of {len(self.goals)} goals of {scene.lock.reference}",
                remedy="use a larger scene, or a task with shorter ways",
            )
        self._centres, self._rise = regions.centres(), robot.base_height

    def draw(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], Float, Int]:
        goal = rng.choice(self._reachable, count)
        cells = np.array(
            [self._starts[g][int(u * len(self._starts[g]))] for g, u in zip(goal, rng.random(count), strict=True)]
        )
        height = self.regions.height[cells[:, 0], cells[:, 1]]
        position = np.column_stack([self._centres[cells[:, 0], cells[:, 1]], height + self._rise])
        return position.astype(np.float64), rng.uniform(-np.pi, np.pi, count).astype(np.float32), goal
