"""What is measured of an environment's robots, beside images: the state that all terms of a task read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.types import F32
from sim.control.controller import Controller
from sim.control.state import Sensed
from sim.episodes import Episodes
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.scene.scene import SimScene
from sim.sensors.height_scan import HeightScan
from sim.tasks.scenario import Scenario
from sim.tasks.task import StepState, Task
from sim.world import World


class Senses:
    """Measures N robots in a world; their controller sees the ground by a scan of its own, unless it is the task's."""

    def __init__(
        self,
        task: Task,
        scenes: Sequence[SimScene],
        robot: Robot,
        controller: Controller,
        scenario: Scenario[Any],
        world: World,
        episodes: Episodes,
    ) -> None:
        self._task, self._robot, self._controller, self._scenario = task, robot, controller, scenario
        self._world, self._episodes = world, episodes
        self._scan = HeightScan(scenes, task.height_scan)
        alike = controller.height_scan in (None, task.height_scan)
        self._feeler = self._scan if alike else HeightScan(scenes, controller.height_scan)
        self._ground = np.zeros((0, 0), np.float32)

    def now(self, action: F32, state: RobotState | None = None, *, contact_force: F32 | None = None) -> StepState[Any]:
        """The state now, after actions (N, A); the engine's state, and contact forces (N,) of before, if known."""
        state, scene_of = self._world.engine.read() if state is None else state, self._episodes.scene_of
        heights, upright = self._scan.read(state, scene_of), state.world_from_base[:, 2, 2]
        self._ground = heights if self._feeler is self._scan else self._feeler.read(state, scene_of)
        return StepState(
            robot=self._robot,
            state=state,
            action=action,
            last_action=self._episodes.action,
            contact_force=self._world.contact_force() if contact_force is None else contact_force,
            heights=heights,
            tilt=np.arccos(np.clip(upright, -1, 1)).astype(np.float32),
            seconds=self._episodes.seconds,
            elapsed=(self._episodes.seconds / self._task.seconds).astype(np.float32),
            legs=self._controller.measure(self._world.engine, state, self._ground),
            scenario=self._scenario.state(),
            arm=self._controller.end_effectors(),
            bodies=self._world.bodies(),
        )

    def by_controller(self, state: RobotState | None, before: StepState[Any]) -> Sensed:
        """What the controller senses: by a state, or what was measured last; and the task's command of before."""
        command = before.scenario.command if self._scenario.commands else None
        if state is None:
            return Sensed(before.state, self._ground, command)
        return Sensed(state, self._feeler.read(state, self._episodes.scene_of), command)
