"""Goals on another level than the one that robots begin on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.geometry import farthest_points, masks
from pipeline.geometry.grids import Grids
from pipeline.types import F32, I64, Mask
from sim.climbing.levels import Levels
from sim.robots.state import RobotState
from sim.scene.floors import Floors
from sim.tasks.driving.goals import GoalScenario
from sim.tasks.driving.paths import MinLength, PathState
from sim.tasks.scenario import ResetPoses

GOALS = 6
"""On each level that stairs lead to."""
ROOM = 0.2
"""Starts are so far from where their level ends [m]: robots have room to turn, and all feet on one level. So are goals,
or in the middle of a smaller level."""


@dataclass(frozen=True, eq=False)
class LevelState(PathState):
    """Paths of N robots to goals on other levels.

    Attributes:
        above: (N,) height of the base over where it is at rest on the goal's level; negative below [m].
    """

    above: F32


class LevelScenario(GoalScenario):
    """Goals marked by a ball, up or down the stairs of a scene.

    Starts and goals are anywhere on levels between which ways lead, whatever part of the floor is to be trained on or
    held out: landings are too small to be split.

    Raises:
        SimError: When no stairs lead from one level of a scene to another.
    """

    ROWS = ("_climb", "_above")

    def __init__(
        self,
        floors: Floors,
        num_envs: int,
        period: float,
        *,
        min_length: MinLength,
        ball_color: tuple[float, float, float],
    ) -> None:
        self._levels = [Levels(scene.regions) for scene in floors.scenes]
        self._climb, self._above = np.zeros(num_envs), np.zeros(num_envs, np.float32)
        super().__init__(floors, num_envs, period, min_length=min_length, ball_color=ball_color)

    def price(self) -> Grids[np.float32]:
        """Price of paths per metre on all walkable floor: robots that turn around need more room than stairs have."""
        return self.floors.price_on(Grids.of(scene.regions.walkable for scene in self.floors.scenes))

    def goals_in(self, scene: int) -> I64:
        """The cells (G, 2) of a scene that are goals: spread over each level that stairs lead to."""
        levels, goals = self._levels[scene], list[I64]()
        for level in sorted({passage.levels[1] for passage in levels.passages}):
            inside = masks.distance_from(levels.label != level) * self.floors.cell[scene]
            cells = np.argwhere(inside >= min(ROOM, inside.max()))
            goals.append(cells[farthest_points(cells.astype(np.float64), GOALS)])
        if not goals:
            raise levels.no_way(self.floors.scenes[scene].lock.reference)
        return np.concatenate(goals)

    def starts_for(self, scene: int, goal: I64) -> Mask:
        """Where in a scene (X, Y) robots may begin that are to go to a cell (2,): on other levels."""
        levels = self._levels[scene]
        inside = masks.distance_from(levels.label == 0) * self.floors.cell[scene] > ROOM
        return inside & (levels.label != levels.label[tuple(goal)]) & np.isfinite(levels.way_to(goal).cost)

    def reset(self, envs: I64, scenes: I64, levels: I64, rng: np.random.Generator) -> ResetPoses:
        """Draw new starts and goals for environments (M,)."""
        poses = super().reset(envs, scenes, levels, rng)
        self._climb = self._climb.copy()
        self._climb[envs] = self._paths.goal[envs, 2] - (poses.position[:, 2] - self.floors.robot.base_height)
        self._above = np.where(np.isin(np.arange(len(self._above)), envs), -self._climb, self._above).astype(np.float32)
        return poses

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Update the remaining paths, and how far above their goals robots are."""
        super().update(state, rng)
        rest = self._paths.goal[:, 2] + self.floors.robot.base_height
        self._above = (state.position[:, 2] - rest).astype(np.float32)

    def state(self) -> LevelState:
        """State that terms read."""
        return LevelState(**vars(super().state()), above=self._above.copy())

    def kinds(self) -> Sequence[str]:
        """Up or down."""
        return ["up" if climb > 0 else "down" for climb in self._climb]
