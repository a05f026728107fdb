"""Domain randomisation: friction, mass, motors, latency, pushes, tables of each episode; and friction of the ground."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.regions.regions import Regions
from pipeline.types import F32, F64, I64
from sim.physics.state import Dynamics, PhysicsEngine
from sim.ranges import NotNegative, Range, draw
from sim.robots.kinematics import lowest_points
from sim.robots.model import Robot
from sim.saved import Saved

FRICTION, MASS, STRENGTH = range(3)
"""Columns of the array of factors."""
MAX_LATENCY = 2.0
GROUND_PERIOD = 0.02
"""Time between two looks at what links stand on [s]: robots come 2 cm far in it."""
MAX_BASE_HEIGHT, MAX_DISTRACTORS = 0.05, 4
"""Beyond, hands don't reach all of a table any more [m]; more don't fit on one, apart from what a task is about."""


@dataclass(frozen=True)
class Randomisation:
    """Ranges to draw from, for each environment at the beginning of each episode; all off by default.

    Attributes:
        friction: Factor of all the robot's friction coefficients.
        mass: Factor of the base's mass and inertia, above 0; drawn once only if the engine would have to rebuild its
            world (`PhysicsEngine.mass_requires_rebuild`).
        strength: Factor of the actuators' stiffness, damping and largest force.
        latency: Delay between an action and the actuators [s], rounded to a physics step; until the first action
            arrives, the robot holds its pose.
        push_interval: Time between two pushes [s], drawn after each push; pushes come at control steps.
        push_speed: Largest change of the base's velocity by a push [m/s]; horizontal, in any direction.
        base_height: How far an arm's base may be above or below the surface that things lie on [m].
        distractors: Number of things on an arm's table that have nothing to do with its task.
    """

    friction: Range = (1.0, 1.0)
    mass: Range = (1.0, 1.0)
    strength: Range = (1.0, 1.0)
    latency: Range = (0.0, 0.0)
    push_interval: Range = (0.0, 0.0)
    push_speed: NotNegative = 0.0
    base_height: Annotated[float, Field(ge=0, le=MAX_BASE_HEIGHT)] = 0.0
    distractors: Annotated[int, Field(ge=0, le=MAX_DISTRACTORS)] = 0

    def __post_init__(self) -> None:
        if not self.mass[0] > 0:
            raise ValueError(f"mass must be greater than 0, got {self.mass[0]}")
        if not self.latency[1] <= MAX_LATENCY:
            raise ValueError(f"latency must be at most {MAX_LATENCY} s, got {self.latency[1]}")
        if (self.push_speed > 0) != (self.push_interval[0] > 0):
            raise ValueError(f"push_speed and push_interval go together, got {self.push_speed}, {self.push_interval}")


class Randomiser(Saved):
    """Sets the dynamics of each robot in an engine, delays its actions and pushes it.

    The friction of each link is multiplied by that of the area (`Regions.areas`) under its lowest shape, which is
    looked up every `GROUND_PERIOD`: each wheel and each foot has its own ground.
    """

    ROWS = ("_factors", "_ground", "_in_engine", "_delay", "_targets", "_until_push")

    def __init__(
        self, settings: Randomisation, engine: PhysicsEngine, robot: Robot, regions: Sequence[Regions], substeps: int
    ) -> None:
        count, self._robot = engine.num_robots, robot
        self._settings, self._engine, self._regions, self._substeps = settings, engine, regions, substeps
        self._patchy = any(region.areas for region in regions)
        self._factors = np.ones((count, 3), np.float32)
        self._ground = np.ones((count, len(robot.links)) if self._patchy else count, np.float32)
        self._in_engine = np.ones((count, 3), np.float32)
        columns = robot.driven
        held = np.array([actuator.mode == "position" for actuator in robot.actuators], np.float32)
        self._at_rest = robot.default_position[columns].astype(np.float32) * held
        self._delay = np.zeros(count, np.int64)
        oldest = -(-self._in_substeps(settings.latency[1]) // substeps)
        self._targets = np.zeros((count, int(oldest) + 1, len(columns)), np.float32)  # the newest first
        self._until_push = np.zeros(count)

    def reset(self, envs: I64, rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,)."""
        settings, count = self._settings, len(envs)
        self._factors[envs, FRICTION] = draw(settings.friction, rng, count)
        masses = draw(settings.mass, rng, count)
        keeps = self._engine.mass_requires_rebuild & (self._in_engine[envs, MASS] != 1)  # nobody draws a factor of 1
        self._factors[envs, MASS] = np.where(keeps, self._factors[envs, MASS], masses)
        self._factors[envs, STRENGTH] = draw(settings.strength, rng, count)
        self._delay[envs] = self._in_substeps(draw(settings.latency, rng, count))
        self._targets[envs] = self._at_rest
        self._until_push[envs] = draw(settings.push_interval, rng, count)
        factors = self._factors[envs]
        changed = (factors != self._in_engine[envs]).any(1)
        if changed.any():
            self._engine.set_dynamics(envs[changed], Dynamics(*factors[changed].T))
            self._in_engine[envs] = factors

    def _feel(self) -> None:
        """Pass the friction of the ground under each link to the engine, where it is another than before."""
        scenes, points = self._engine.scene_of, lowest_points(self._robot, self._engine.read())
        ground = np.ones_like(self._ground)
        for scene in np.unique(scenes):
            rows = scenes == scene
            found = self._regions[scene].surface(points[rows].reshape(-1, 3))[0]
            ground[rows] = found.reshape(-1, ground.shape[1])
        changed = np.flatnonzero((ground != self._ground).any(1))
        if len(changed):
            self._engine.set_ground(changed, ground[changed])
            self._ground = ground

    def step(self, targets: F32, rng: np.random.Generator) -> None:
        """Push the robots that are due, and advance the engine by one control period.

        Targets (N, A) of the actuators arrive after the latency.
        """
        if self._settings.push_speed:
            self._push(rng)
        self._targets = np.roll(self._targets, 1, axis=1)
        self._targets[:, 0] = targets
        changes = np.unique(np.append(self._delay % self._substeps, 0))  # the substeps before which targets arrive
        if self._patchy:
            often = max(1, round(GROUND_PERIOD / self._engine.time_step))
            changes = np.union1d(changes, np.arange(0, self._substeps, often))
        robots = np.arange(len(targets))
        for now, then in zip(changes, [*changes[1:], self._substeps], strict=True):
            steps_old = -((now - self._delay) // self._substeps)
            self._engine.set_targets(self._targets[robots, np.maximum(steps_old, 0)])
            if self._patchy:
                self._feel()
            self._engine.step(int(then - now))

    def _push(self, rng: np.random.Generator) -> None:
        due = np.flatnonzero(self._until_push <= 0)
        if len(due):
            heading, speed = rng.uniform(-np.pi, np.pi, len(due)), rng.uniform(0, self._settings.push_speed, len(due))
            change = np.column_stack([speed * np.cos(heading), speed * np.sin(heading), np.zeros(len(due))])
            self._engine.push(due, change.astype(np.float32))
            self._until_push[due] += draw(self._settings.push_interval, rng, len(due))
        self._until_push -= self._engine.time_step * self._substeps

    def _in_substeps(self, seconds: F64 | float) -> I64:
        return np.round(np.asarray(seconds) / self._engine.time_step).astype(np.int64)
