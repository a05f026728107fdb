"""Goals on another level than the one that robots begin on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import farthest_points, masks
from pipeline.types import I64, Mask
from sim.climbing.levels import Levels
from sim.scene.floors import Floors
from sim.tasks.driving.goals import GoalScenario
from sim.tasks.driving.paths import MinLength
from sim.tasks.scenario import ResetPoses

GOALS = 6
"""On each level that stairs lead to."""
ROOM = 0.2
"""Starts are so far from where their level ends [m]: a robot's feet are on one level."""


class LevelScenario(GoalScenario):
    """Goals marked by a ball, up or down the stairs of a scene.

    Starts and goals are anywhere on levels between which ways lead, whatever part of the floor is to be trained on or
    held out: landings are too small to be split.

    Raises:
        SimError: When no stairs lead from one level of a scene to another.
    """

    ROWS = ("_climb",)
    climbs = True

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
        self._climb = np.zeros(num_envs)
        super().__init__(floors, num_envs, period, min_length=min_length, ball_color=ball_color)

    def goals_in(self, scene: int) -> I64:
        """The cells (G, 2) of a scene that are goals: spread over each level that stairs lead to."""
        levels, goals = self._levels[scene], list[I64]()
        for level in sorted({passage.levels[1] for passage in levels.passages}):
            cells = np.argwhere(self.floors.walkable[scene] & (levels.label == level))
            if len(cells):
                goals.append(cells[farthest_points(cells.astype(np.float64), GOALS)])
        if not goals:
            raise levels.no_way(self.floors.scenes[scene].lock.reference)
        return np.concatenate(goals)

    def starts_for(self, scene: int, goal: I64) -> Mask:
        """Where in a scene (X, Y) robots may begin that are to go to a cell (2,): on other levels."""
        levels, floors = self._levels[scene], self.floors
        inside = masks.distance_from(levels.label == 0) * floors.cell[scene] > ROOM
        other = (levels.label != levels.label[tuple(goal)]) & np.isfinite(levels.way_to(goal).cost)
        return floors.walkable[scene] & inside & other

    def reset(self, envs: I64, scenes: I64, levels: I64, rng: np.random.Generator) -> ResetPoses:
        """Draw new starts and goals for environments (M,)."""
        poses = super().reset(envs, scenes, levels, rng)
        self._climb = self._climb.copy()
        self._climb[envs] = self._paths.goal[envs, 2] - (poses.position[:, 2] - self.floors.robot.base_height)
        return poses

    def kinds(self) -> Sequence[str]:
        """Up or down."""
        return ["up" if climb > 0 else "down" for climb in self._climb]
