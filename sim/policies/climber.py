"""The driver that finds its way over stairs by the map that its robots make of the ground: up, down, or to a goal."""

from __future__ import annotations

import logging
import weakref

import numpy as np

from pipeline.errors import SimError
from pipeline.types import F32, F64, I64
from sim.climbing.climber import RIM, Climber, Orders
from sim.climbing.guide import Guide, Route, rotated
from sim.climbing.levels import Levels
from sim.climbing.surroundings import STEP, halved, high_steps
from sim.env import Observations, SceneEnv
from sim.tasks.driving.driving_tasks import GOAL
from sim.tasks.walking.walking_tasks import WAY

logger = logging.getLogger(__name__)

LOOKS_ROUND = 3.0
"""Who looks for stairs for so long names the steps that are too high [s]."""


class ClimberDriver:
    """Drives all robots of an environment over stairs: to their goal, if the task has one, else up or down as told.

    To goals they know the way by the regions of the scene, and where they begin; from then on by odometry.

    Attributes:
        climber: What the robots are about.

    Raises:
        SimError: When the robots don't walk by maps; and when it is called, if no way leads to a goal.
    """

    def __init__(self, env: SceneEnv) -> None:
        mapped, velocities = env.senses.ground.mapped, env.controller.velocities
        if not mapped or not velocities:
            raise SimError(
                "stairs drives robots that walk by a gait, and know the ground by a map of their depth camera",
                found=f"{env.robot.name} in {env.task.name}, which knows what is true or doesn't walk",
                remedy="--robot go2 --ground map, or ground=MapSettings() of sim.sensors.ground.settings in Python",
            )
        self._env, self._ground, self._velocities = weakref.proxy(env), mapped.map, velocities
        self._begun, self._lost, self._named = np.zeros(env.num_envs), np.zeros(env.num_envs), False
        self.climber, self._said = Climber(env.num_envs, env.task.control_period), False
        self._guide, self._levels = Guide(env.num_envs), dict[int, Levels]()

    def __call__(self, seen: Observations) -> F32:
        """Actions (N, A) for the last observations."""
        now, ground = self._env.now, self._ground
        assert now, "it was reset"
        self.climber.reset(np.flatnonzero((now.seconds == 0) | (ground.begun != self._begun)))
        self._begun = ground.begun.copy()
        orders = Orders.only(seen[WAY][:, 0] if WAY in seen else np.ones(len(now.seconds)))
        if GOAL in seen:
            self._begin_routes(np.flatnonzero(now.seconds == 0), seen[GOAL], now.state.planar)
            orders = self._guide.orders(ground.planar, ground.lowest, ground.highest)
        actions = self._velocities.actions(*self.climber.steer(ground, orders, now.seconds))
        self._say_who_gave_up()
        self._name_high_steps()
        return actions

    def _begin_routes(self, robots: I64, goal: F32, pose: F64) -> None:
        """Plan ways of robots (M,) whose episodes begin, by goals (N, >= 2) ahead and to the left, and poses (N, 3)."""
        scenes, of = self._env.scenes, self._env.episodes.scene_of
        for row in robots.tolist():
            number = int(of[row])
            if number not in self._levels:
                self._levels[number] = Levels(scenes[number].regions)
            there = pose[row, :2] + rotated(goal[row, :2], pose[row, 2])
            believed, name = self._ground.planar[row], scenes[number].lock.reference
            self._guide.routes[row] = Route.begin(self._levels[number], pose[row], believed, there, name)

    def _say_who_gave_up(self) -> None:
        """Say once that robots see nothing to climb."""
        count = int(self.climber.given_up.sum())
        if count and not self._said:
            logger.info("%d robots see no stairs, or none with steps below %.0f cm: they stand", count, 100 * STEP)
            self._said = True

    def _name_high_steps(self) -> None:
        """Say once how high steps are before which robots look for others."""
        lost = self.climber.goes_by == RIM
        self._lost = np.where(lost, self._lost + self._env.task.control_period, 0)
        if self._named or self._lost.max() < LOOKS_ROUND:
            return
        maps = self._ground.maps
        seen = [high_steps(halved(maps.height[one], maps.variance[one])) for one in np.flatnonzero(self._lost)]
        if np.isfinite(seen).any():
            self._named = True
            logger.info(
                "%d robots stop before steps of %.0f cm: they climb none above %.0f cm",
                np.isfinite(seen).sum(),
                100 * np.nanmedian(seen),
                100 * STEP,
            )
