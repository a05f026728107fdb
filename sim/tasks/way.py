"""The way to a goal: a course over the drivable floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SimError
from sim.cameras.things import Balls, Patches, Posts, Things
from sim.navigation import DistanceFields, distances
from sim.physics.state import Float, Int, RobotState
from sim.places import Cells, Floors, Split
from sim.robots.model import Robot
from sim.scene import SimScene
from sim.surroundings import HERE_AND_NEAR, NEXT, places_around
from sim.tasks.task import Starts

BALL_RADIUS = 0.15  # [m]


@dataclass(frozen=True, eq=False)
class Way:
    """The ways of N robots to their goals.

    Attributes:
        goal: (N, 2) where to go [m], in the world frame of each robot's scene.
        left: (N,) what is left of the way [m]; more than its length where it leads along an edge, see `Floors.price`.
        left_before: (N,) what was left one step ago [m].
        edges: (N, 25) from the robot and from places round it to the edge of the drivable floor [m].
        detours: (N, 8) by how much the way would be longer from the places where the robot could go next [m]; inf off
            the floor.
    """

    goal: Float
    left: Float
    left_before: Float
    edges: Float
    detours: Float


class Ways:
    """What N robots have left of their ways.

    Args:
        floors: Where they are.
        count: N.
        fields: Of distances to goals; one of them for each robot.

    Attributes:
        scene_of: (N,) where each robot is.
        goal: (N, 3) on the floor [m], world frame of its scene.
    """

    def __init__(self, floors: Floors, count: int, fields: DistanceFields) -> None:
        self._floors, self._fields, self._field = floors, fields, np.zeros(count, np.int64)
        self.scene_of, self.goal = np.zeros(count, np.int64), np.zeros((count, 3), np.float32)
        self._left, self._before = np.zeros(count, np.float32), np.zeros(count, np.float32)
        self._pose = np.zeros((count, 3))

    def begin(self, envs: Int, scenes: Int, goal: NDArray[np.floating], field: Int, pose: NDArray[np.floating]) -> None:
        """Robots (M,) are at poses (M, 3) in scenes (M,) and go to goals (M, 3), to which fields (M,) lead.

        Poses are x, y [m] and heading [rad].
        """
        self.scene_of[envs], self.goal[envs], self._field[envs] = scenes, goal, field
        self._left[envs] = self._before[envs] = self.left(pose[:, :2], envs)
        self._pose[envs] = pose

    def update(self, pose: NDArray[np.floating]) -> None:
        """All went on to poses (N, 3); off the floor, what is left is what it was."""
        left = self.left(pose[:, :2], np.arange(len(pose)))
        self._before, self._left = self._left, np.where(np.isfinite(left), left, self._left)
        self._pose = pose

    def left(self, xy: NDArray[np.floating], envs: Int) -> Float:
        """What would be left [m] for robots (M,) at places (M, 2); inf off the floor."""
        return self._fields.at(self._field[envs], xy)

    def now(self) -> Way:
        """For the terms."""
        edges = self._floors.to_edge(self.scene_of[:, None], places_around(self._pose, HERE_AND_NEAR))
        next_places = places_around(self._pose, NEXT)
        envs = np.repeat(np.arange(len(next_places)), len(NEXT))
        next_left = self.left(next_places.reshape(-1, 2), envs).reshape(len(next_places), len(NEXT))
        detours = next_left - self._left[:, None]
        return Way(self.goal[:, :2].copy(), self._left.copy(), self._before.copy(), edges, detours)


class WayCourse:
    """Goals with a ball, each with starts from which a way leads there.

    Args:
        scenes: Where.
        robot: Who.
        num_envs: N.
        period: Between two steps [s].
        least_way: Between start and goal [m].
        ball_color: 0..1.
        goals: How many of a scene's goals, the first; all by default.
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
        goals: int | None = None,
        starts: Split = "all",
    ) -> None:
        self.floors = Floors(scenes, robot, starts)
        self._goals = _Goals(self.floors, least_way, goals)
        self._ways = Ways(self.floors, num_envs, self._goals.fields)
        self._rise = robot.base_height
        self._color = np.array(ball_color, np.float32)

    def begin(self, envs: Int, scenes: Int, levels: Int, rng: np.random.Generator) -> Starts:
        """Other goals for environments (M,)."""
        goals, starts = self._goals.draw(scenes, rng)
        place, goal = self.floors.places(scenes, starts), self.floors.places(scenes, self._goals.cells[goals])
        fields, yaw = self._lay(envs, scenes, goals, starts, rng), rng.uniform(-np.pi, np.pi, len(envs))
        self._ways.begin(envs, scenes, goal, fields, np.column_stack([place[:, :2], yaw]))
        return Starts(place + np.array([0, 0, self._rise]), yaw)

    def _lay(self, envs: Int, scenes: Int, goals: Int, starts: Int, rng: np.random.Generator) -> Int:
        """The fields (M,) that lead environments (M,) from cells (M, 2) to goals (M,)."""
        return goals

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """What is left of the way."""
        self._ways.update(state.planar)

    def now(self) -> Way:
        """For the terms."""
        return self._ways.now()

    def things(self) -> Things:
        """A ball at each goal."""
        count = len(self._ways.goal)
        center = self._ways.goal[:, None] + np.array([0, 0, BALL_RADIUS], np.float32)
        balls = Balls(center, np.full((count, 1), BALL_RADIUS), np.tile(self._color, (count, 1, 1)))
        return Things(balls, Posts.none(count), Patches.none(count))

    def way_left(self, xy: NDArray[np.floating], envs: Int) -> Float:
        """What would be left of the way [m] to the goals of environments (M,) at places (M, 2); inf off the floor."""
        return self._ways.left(xy, envs)


class _Goals:
    """All goals of all scenes, and the cells from which each can be reached.

    Attributes:
        cells: (G, 2).
        fields: Distance to each.
    """

    def __init__(self, floors: Floors, least_way: float, most: int | None) -> None:
        cells = [_goal_cells(floors, scene, most) for scene in range(len(floors.scenes))]
        self._scene = np.repeat(np.arange(len(cells)), [len(of_scene) for of_scene in cells])
        self.cells = np.concatenate(cells)
        sources = np.zeros((len(self.cells), *floors.height.shape[1:]), bool)
        sources[(np.arange(len(self.cells)), *self.cells.T)] = True
        cell, price = floors.cell[self._scene], floors.price[self._scene]
        self.fields = DistanceFields(floors.origin[self._scene], cell, distances(price, sources, cell))
        length = distances(np.where(np.isfinite(price), np.float32(1), price), sources, cell)
        far = np.isfinite(length) & (length >= least_way)
        self._starts = Cells(far & floors.eligible[self._scene])
        used = self._starts.count > 0
        self._reachable = [np.flatnonzero((self._scene == scene) & used) for scene in range(len(cells))]
        for scene, goals in zip(floors.scenes, self._reachable, strict=True):
            if not len(goals):
                raise SimError(
                    "a scene needs starts from which a goal can be driven to",
                    found=f"no start {least_way} m from any goal of {scene.lock.reference}, of those that may be used",
                    remedy="use a larger scene, or a task with shorter ways",
                )

    def draw(self, scenes: Int, rng: np.random.Generator) -> tuple[Int, Int]:
        """Goals (M,) in scenes (M,), and cells (M, 2) to start from."""
        options = [self._reachable[scene] for scene in scenes]
        share = rng.random(len(scenes))
        goals = np.array([one[int(u * len(one))] for one, u in zip(options, share, strict=True)], np.int64)
        return goals, self._starts.draw(goals, 1, rng)[:, 0]


def _goal_cells(floors: Floors, scene: int, most: int | None) -> Int:
    """Cells (G, 2) of the scene's first goals, or the nearest that the robot can drive to."""
    regions = floors.scenes[scene].regions
    xy = np.array([pose.position[:2] for pose in regions.goals or regions.spawn_poses])[:most]
    return np.unique(floors.nearest(scene, floors.drivable[scene], xy), axis=0)
