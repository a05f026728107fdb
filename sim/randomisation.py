"""Domain randomisation: friction, mass, motors, latency, pushes, tables of each episode; and friction of the ground."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.regions.regions import Regions
from pipeline.types import F32, F64, I64, Floats
from sim.physics.state import Dynamics, PhysicsEngine
from sim.ranges import NotNegative, Range, draw
from sim.robots.model import Robot
from sim.saved import Saved

FRICTION, MASS, STRENGTH = range(3)
"""Columns of the array of factors."""
MAX_LATENCY = 2.0
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

    A robot's friction is multiplied by that of the area (`Regions.areas`) under the origin of its base, looked up at
    control steps: the wheels or feet of a robot share one ground.
    """

    ROWS = ("_factors", "_ground", "_in_engine", "_delay", "_targets", "_until_push")

    def __init__(
        self, settings: Randomisation, engine: PhysicsEngine, robot: Robot, regions: Sequence[Regions], substeps: int
    ) -> None:
        count = engine.num_robots
        self._settings, self._engine, self._regions, self._substeps = settings, engine, regions, substeps
        self._patchy = any(region.areas for region in regions)
        self._factors = np.ones((count, 3), np.float32)
        self._ground = np.ones(count, np.float32)
        self._in_engine = np.ones((count, 3), np.float32)
        columns = robot.driven
        held = np.array([actuator.mode == "position" for actuator in robot.actuators], np.float32)
        self._at_rest = robot.default_position[columns].astype(np.float32) * held
        self._delay = np.zeros(count, np.int64)
        oldest = -(-self._in_substeps(settings.latency[1]) // substeps)
        self._targets = np.zeros((count, int(oldest) + 1, len(columns)), np.float32)  # the newest first
        self._until_push = np.zeros(count)

    def reset(self, envs: I64, scenes: I64, position: Floats, rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,), in scenes (M,), at positions (M, 3) [m]."""
        settings, count = self._settings, len(envs)
        self._factors[envs, FRICTION] = draw(settings.friction, rng, count)
        masses = draw(settings.mass, rng, count)
        keeps = self._engine.mass_requires_rebuild & (self._in_engine[envs, MASS] != 1)  # nobody draws a factor of 1
        self._factors[envs, MASS] = np.where(keeps, self._factors[envs, MASS], masses)
        self._factors[envs, STRENGTH] = draw(settings.strength, rng, count)
        self._delay[envs] = self._in_substeps(draw(settings.latency, rng, count))
        self._targets[envs] = self._at_rest
        self._until_push[envs] = draw(settings.push_interval, rng, count)
        self._apply(envs, scenes, position)

    def moved(self, scene_of: I64, position: Floats) -> None:
        """Robots in scenes (N,) are at positions (N, 3) [m] now: friction changes where the area does."""
        if self._patchy:
            self._apply(np.arange(len(scene_of)), scene_of, position)

    def _apply(self, envs: I64, scenes: I64, position: Floats) -> None:
        """Pass the dynamics of environments (M,) that differ from the engine's, with the ground's friction, to it."""
        for scene in np.unique(scenes):
            rows = scenes == scene
            self._ground[envs[rows]] = self._regions[scene].surface(position[rows])[0]
        factors = self._factors[envs]
        factors[:, FRICTION] *= self._ground[envs]
        changed = (factors != self._in_engine[envs]).any(1)
        if changed.any():
            self._engine.set_dynamics(envs[changed], Dynamics(*factors[changed].T))
            self._in_engine[envs] = factors

    def step(self, targets: F32, rng: np.random.Generator) -> None:
        """Push the robots that are due, and advance the engine by one control period.

        Targets (N, A) of the actuators arrive after the latency.
        """
        if self._settings.push_speed:
            self._push(rng)
        self._targets = np.roll(self._targets, 1, axis=1)
        self._targets[:, 0] = targets
        changes = np.unique(np.append(self._delay % self._substeps, 0))  # the substeps before which targets arrive
        robots = np.arange(len(targets))
        for now, then in zip(changes, [*changes[1:], self._substeps], strict=True):
            steps_old = -((now - self._delay) // self._substeps)
            self._engine.set_targets(self._targets[robots, np.maximum(steps_old, 0)])
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
