"""What is measured of an environment's robots, beside images: the state that all terms of a task read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pipeline.types import F32, I64
from sim.control.controller import Controller
from sim.control.state import Sensed
from sim.episodes import Episodes
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.scene.scene import SimScene
from sim.sensors.ground.ground import Ground
from sim.sensors.height_scan import HeightScan
from sim.sensors.sensor import Moment
from sim.tasks.scenario import Scenario
from sim.tasks.task import StepState, Task
from sim.world import World


class Senses:
    """Measures N robots in a world; their controller sees the ground by a scan of its own, unless it is the task's.

    Attributes:
        ground: What the controller knows of it.
    """

    def __init__(
        self,
        task: Task,
        scenes: Sequence[SimScene],
        robot: Robot,
        controller: Controller,
        scenario: Scenario[Any],
        world: World,
        episodes: Episodes,
        ground: Ground,
    ) -> None:
        self._task, self._robot, self._controller, self._scenario = task, robot, controller, scenario
        self._world, self._episodes = world, episodes
        alike = controller.height_scan in (None, task.height_scan)
        self._scan = None if alike else HeightScan(scenes, task.height_scan)
        self.ground, self._period = ground, world.period
        self._ground = np.zeros((0, 0), np.float32)

    def now(self, action: F32, state: RobotState | None = None, *, contact_force: F32 | None = None) -> StepState[Any]:
        """The state now, after actions (N, A); the engine's state, and contact forces (N,) of before, if known."""
        state, scene_of = self._world.engine.read() if state is None else state, self._episodes.scene_of
        upright = state.world_from_base[:, 2, 2]
        self._ground = self.ground.read(state, scene_of)
        true = self._ground if self.ground.exact else self.ground.true(state, scene_of)
        heights = self._scan.read(state, scene_of) if self._scan else self._ground
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
            legs=self._controller.measure(self._world.engine, state, true),
            scenario=self._scenario.state(),
            arm=self._controller.end_effectors(),
            bodies=self._world.bodies(),
        )

    def begin(self, envs: I64, rng: np.random.Generator, contact_force: F32 | None = None) -> StepState[Any]:
        """The state after episodes in environments (M,) began; contact forces (N,) of before, if known."""
        state = self._world.engine.read()
        self.ground.reset(envs, partial(self._moment, state, 0), rng)
        return self.now(self._episodes.action, state, contact_force=contact_force)

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Let the scenario and what is known of the ground go on to a state after a step."""
        self._scenario.update(state, rng)
        self.ground.update(partial(self._moment, state, 0), rng)

    def later(self, loop: int, before: StepState[Any], rng: np.random.Generator) -> Sensed:
        """What the controller senses in a later loop of a step; the command is that of before."""
        state = self._world.engine.read()
        self.ground.update(partial(self._moment, state, loop * self._period), rng)
        return Sensed(state, self.ground.read(state, self._episodes.scene_of), self._command(before))

    def by_controller(self, before: StepState[Any]) -> Sensed:
        """What the controller senses first, as it was measured last."""
        return Sensed(before.state, self._ground, self._command(before))

    def _command(self, before: StepState[Any]) -> F32 | None:
        return before.scenario.command if self._scenario.commands else None

    def _moment(self, state: RobotState, later: float) -> Moment:
        """What sensors are exposed to, so much later than the last step [s]."""
        props = self._world.shown(self._scenario.props())
        return Moment(state, self._episodes.scene_of, props, self._episodes.seconds + later, None)
