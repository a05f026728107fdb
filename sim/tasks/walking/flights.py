"""Walking over staircases that were drawn: where robots begin, how they are led, and when the way is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.types import F32, F64, I64, Mask
from sim.robots.state import RobotState
from sim.scene.floors import Floors
from sim.scene.terrain import Flight
from sim.sensors.cameras.props import Props
from sim.tasks.scenario import ResetPoses, Scenario
from sim.tasks.walking.procedural import terrain_of

LOOK_AHEAD = 0.45
"""Robots are led to where the way is so far ahead [m]."""
SPEED, TURN, TURN_GAIN = 0.4, 1.0, 1.8
"""Speed they are led with [m/s], largest yaw rate [rad/s], and yaw rate by the angle to where they are led [1/s]."""
STAYS = 0.3
"""A way is over for a robot that is beyond its end so long [s],"""
LEVEL = 0.15
"""with its base within this of the height over the ground that it has at rest [m]."""
PATIENCE, ADVANCE = 4.0, 0.1
"""Who in so long [s] gets no farther than so [m] is stuck."""
BACK = 0.8
"""No farther behind or ahead on the way than this a robot is looked for [m]: turned flights come near themselves."""


@dataclass(frozen=True, eq=False)
class FlightState:
    """Ways of N robots over their staircases.

    Attributes:
        command: (N, 3) speed ahead and to the left [m/s] and yaw rate [rad/s] along the middle of the way.
        height: (N,) height of the base over the ground [m].
        hill: (N,) true.
        over: (N,) whether the robot has come to the end.
        stuck: (N,) whether it doesn't get on.
        up: (N,) whether the way leads up.
    """

    command: F32
    height: F32
    hill: Mask
    over: Mask
    stuck: Mask
    up: Mask


class FlightScenario(Scenario[FlightState]):
    """Staircases, drawn anew in each episode from those of the scene.

    Raises:
        SimError: When the scene has none.
    """

    ROWS = ("_flight", "_along", "_best", "_since", "_stays", "_command", "_height")
    commands = True

    def __init__(self, floors: Floors, num_envs: int, period: float) -> None:
        rule, remedy = "this task is about staircases that were drawn", "leave --scene out, or give terrain:0:flights"
        self.terrain = terrain_of(floors, rule, remedy, drawn=True)
        self._robot, self._period = floors.robot, period
        self._read(self.terrain.flights)
        self._flight = np.zeros(num_envs, np.int64)
        self._along, self._best, self._since, self._stays = (np.zeros(num_envs) for _ in range(4))
        self._command, self._height = np.zeros((num_envs, 3), np.float32), np.zeros(num_envs, np.float32)

    def _read(self, flights: Sequence[Flight]) -> None:
        """Ways, starts and ends of all staircases, in the scene's frame."""
        longest = max(len(flight.path) for flight in flights)
        row, column = np.divmod(np.arange(len(flights)), self.terrain.levels)
        centre = self.terrain.centre(row, column)[:, :2]
        paths = [[*flight.path, *[flight.path[-1]] * (longest - len(flight.path))] for flight in flights]
        self._path = np.array(paths) + centre[:, None]
        part = np.diff(self._path, axis=1)
        self._length = np.linalg.norm(part, axis=2)
        self._ahead = part / np.maximum(self._length, 1e-9)[..., None]
        self._before = np.cumsum(self._length, 1) - self._length
        self._start = np.array([flight.start for flight in flights]) + np.pad(centre, ((0, 0), (0, 1)))
        self._goal = np.array([flight.goal for flight in flights]) + centre[:, None]
        self._level = np.array([flight.level for flight in flights])
        self._up = np.array([flight.way == "up" for flight in flights])

    def reset(self, envs: I64, scenes: I64, levels: I64, rng: np.random.Generator) -> ResetPoses:
        """Put environments (M,) before staircases of their own, as evenly as there are."""
        order = rng.permutation(len(self._start))
        self._flight[envs] = np.resize(order, len(envs))
        start = self._start[self._flight[envs]]
        self._along[envs], self._best[envs], self._since[envs], self._stays[envs] = 0, 0, 0, 0
        self._height[envs] = self._robot.base_height
        self._command = self._command.copy()
        self._command[envs] = 0
        position = np.column_stack([start[:, :2], self.terrain.heights(start[:, :2]) + self._robot.base_height])
        return ResetPoses(position, start[:, 2])

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Measure how far robots have come, and lead them on."""
        place, flight = state.planar, self._flight
        self._along = self._progress(place[:, :2])
        farther = self._along > self._best + ADVANCE
        self._best = np.where(farther, self._along, self._best)
        self._since = np.where(farther, 0, self._since + self._period)
        goal = self._goal[flight]
        inside = ((place[:, :2] > goal[:, 0]) & (place[:, :2] < goal[:, 1])).all(1)
        level = np.abs(state.position[:, 2] - self._level[flight] - self._robot.base_height) < LEVEL
        self._stays = np.where(inside & level, self._stays + self._period, 0)
        self._height = (state.position[:, 2] - self.terrain.heights(place[:, :2])).astype(np.float32)
        to = self._at(self._along + LOOK_AHEAD) - place[:, :2]
        off = (np.arctan2(to[:, 1], to[:, 0]) - place[:, 2] + np.pi) % (2 * np.pi) - np.pi
        speed = SPEED * np.clip(1.2 - 1.6 * np.abs(off), 0, 1)
        turn = np.clip(TURN_GAIN * off, -TURN, TURN)
        self._command = np.column_stack([speed, np.zeros_like(speed), turn]).astype(np.float32)

    def state(self) -> FlightState:
        """State that terms read."""
        return FlightState(
            self._command.copy(),
            self._height.copy(),
            np.ones(len(self._flight), bool),
            self._stays > STAYS,
            self._since > PATIENCE,
            self._up[self._flight],
        )

    def flights(self) -> tuple[Flight, ...]:
        """The staircases of the running episodes, N."""
        return tuple(self.terrain.flights[number] for number in self._flight)

    def props(self) -> Props:
        """No props."""
        return Props.none(len(self._flight))

    def _progress(self, xy: F64) -> F64:
        """How far along their ways robots at positions (N, 2) are (N,) [m]."""
        flight, rows = self._flight, np.arange(len(xy))
        offset = xy[:, None] - self._path[flight, :-1]
        part = np.clip((offset * self._ahead[flight]).sum(-1), 0, self._length[flight])
        away = np.linalg.norm(offset - self._ahead[flight] * part[..., None], axis=-1)
        along = self._before[flight] + part
        far = (np.abs(along - self._along[:, None]) > BACK) | (self._length[flight] < 1e-6)
        return along[rows, np.where(far, 1e3 + away, away).argmin(1)]

    def _at(self, along: F64) -> F64:
        """Positions (N, 2) so far along the ways (N,) [m]."""
        flight = self._flight
        part = np.minimum((along[:, None] >= (self._before + self._length)[flight]).sum(1), self._length.shape[1] - 1)
        rest = np.minimum(along - self._before[flight, part], self._length[flight, part])
        return self._path[flight, part] + self._ahead[flight, part] * rest[:, None]
