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
from sim.places import Floors
from sim.robots.model import Robot
from sim.scene import SimScene
from sim.tasks.task import Starts

BALL_RADIUS = 0.15  # [m]


@dataclass(frozen=True, eq=False)
class Way:
    """The ways of N robots to their goals.

    Attributes:
        goal: (N, 2) where to go [m], in the world frame of each robot's scene.
        left: (N,) what is left of the way [m].
        left_before: (N,) what was left one step ago [m].
    """

    goal: Float
    left: Float
    left_before: Float


class WayCourse:
    """Goals with a ball, each with starts from which a way leads there.

    Args:
        scenes: Where.
        robot: Who.
        num_envs: N.
        period: Between two steps [s].
        least_way: Between start and goal [m].
        ball_color: 0..1.

    Raises:
        SimError: When a scene has no such way.
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
    ) -> None:
        self.floors = Floors(scenes, robot)
        self._goals = _Goals(self.floors, least_way)
        self._fields, self._row = self._goals.fields, np.zeros(num_envs, np.int64)
        self._rise = robot.base_height
        self._scene_of = np.zeros(num_envs, np.int64)
        self._place = np.zeros((num_envs, 3), np.float32)
        self._left, self._before = np.zeros(num_envs, np.float32), np.zeros(num_envs, np.float32)
        self._color = np.array(ball_color, np.float32)

    def begin(self, envs: Int, scenes: Int, levels: Int, rng: np.random.Generator) -> Starts:
        """Other goals for environments (M,)."""
        goals, starts = self._goals.draw(scenes, rng)
        self._scene_of[envs] = scenes
        place = self.floors.places(scenes, starts)
        self._place[envs] = self.floors.places(scenes, self._goals.cells[goals])
        self._lay(envs, goals, starts, rng)
        self._left[envs] = self._before[envs] = self.way_left(place[:, :2], envs)
        return Starts(place + np.array([0, 0, self._rise]), rng.uniform(-np.pi, np.pi, len(envs)))

    def _lay(self, envs: Int, goals: Int, starts: Int, rng: np.random.Generator) -> None:
        """The ways of environments (M,) from cells (M, 2) to goals (M,)."""
        self._row[envs] = goals

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Off the floor, what is left is what it was."""
        left = self.way_left(state.position[:, :2], np.arange(len(state)))
        self._before, self._left = self._left, np.where(np.isfinite(left), left, self._left)

    def now(self) -> Way:
        """For the terms."""
        return Way(self._place[:, :2].copy(), self._left.copy(), self._before.copy())

    def things(self) -> Things:
        """A ball at each goal."""
        count = len(self._place)
        center = self._place[:, None] + np.array([0, 0, BALL_RADIUS], np.float32)
        balls = Balls(center, np.full((count, 1), BALL_RADIUS), np.tile(self._color, (count, 1, 1)))
        return Things(balls, Posts.none(count), Patches.none(count))

    def way_left(self, xy: NDArray[np.floating], envs: Int) -> Float:
        """What would be left of the way [m] to the goals of environments (M,) at places (M, 2); inf off the floor."""
        return self._fields.at(self._row[envs], xy)


class _Goals:
    """All goals of all scenes, and the cells from which each can be reached.

    Attributes:
        cells: (G, 2).
        fields: Distance to each.
    """

    def __init__(self, floors: Floors, least_way: float) -> None:
        cells = [_goal_cells(floors, scene) for scene in range(len(floors.scenes))]
        self._scene = np.repeat(np.arange(len(cells)), [len(of_scene) for of_scene in cells])
        self.cells = np.concatenate(cells)
        sources = np.zeros((len(self.cells), *floors.height.shape[1:]), bool)
        sources[(np.arange(len(self.cells)), *self.cells.T)] = True
        price = np.where(floors.drivable, np.float32(1), np.float32(np.inf))[self._scene]
        distance = distances(price, sources, floors.cell[self._scene])
        self.fields = DistanceFields(floors.origin[self._scene], floors.cell[self._scene], distance)
        far = np.argwhere(np.isfinite(distance) & (distance >= least_way))
        self._starts = far[:, 1:]
        self._count = np.bincount(far[:, 0], minlength=len(self.cells))
        self._first = np.cumsum(self._count) - self._count
        self._reachable = [np.flatnonzero((self._scene == scene) & (self._count > 0)) for scene in range(len(cells))]
        for scene, goals in zip(floors.scenes, self._reachable, strict=True):
            if not len(goals):
                raise SimError(
                    "a scene needs starts from which a goal can be driven to",
                    found=f"no start {least_way} m from any goal of {scene.lock.reference}",
                    remedy="use a larger scene, or a task with shorter ways",
                )

    def draw(self, scenes: Int, rng: np.random.Generator) -> tuple[Int, Int]:
        """Goals (M,) in scenes (M,), and cells (M, 2) to start from."""
        share = rng.random((2, len(scenes)))
        options = [self._reachable[scene] for scene in scenes]
        goals = np.array([one[int(u * len(one))] for one, u in zip(options, share[0], strict=True)], np.int64)
        starts = self._first[goals] + (share[1] * self._count[goals]).astype(np.int64)
        return goals, self._starts[starts]


def _goal_cells(floors: Floors, scene: int) -> Int:
    """Cells (G, 2) of the scene's goals, or the nearest that the robot can drive to."""
    regions = floors.scenes[scene].regions
    xy = np.array([pose.position[:2] for pose in regions.goals or regions.spawn_poses])
    return np.unique(floors.nearest(scene, floors.drivable[scene], xy), axis=0)
