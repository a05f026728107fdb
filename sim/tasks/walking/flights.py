"""Walking over staircases that were drawn: where robots begin, how they are led, and when the way is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import SimError
from pipeline.types import F32, F64, I64, Mask
from sim.climbing.climber import AHEAD, towards
from sim.climbing.stairs import find_stairs
from sim.robots.state import RobotState, turned_to
from sim.scene.flights import SPARE
from sim.scene.floors import Floors
from sim.scene.terrain import Flight
from sim.sensors.cameras.props import Props
from sim.tasks.scenario import ResetPoses, Scenario

STAYS = 0.3
"""A way is over for a robot that is beyond its end so long [s],"""
LEVEL = 0.15
"""with its base within this of the height over the ground that it has at rest [m]."""
PATIENCE, ADVANCE = 4.0, 0.1
"""Who in so long [s] gets no farther than so [m] is stuck."""
BELOW = (-0.2, -0.1, 0.0, 0.1, 0.2)
"""The ground below a base is that so far ahead of its middle [m]."""
BESIDE = 1.0
"""Farther beside its end nobody is over a way [m]."""
BACK = 1.5
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
        speed: (N,) along the way [m/s].
    """

    command: F32
    height: F32
    hill: Mask
    over: Mask
    stuck: Mask
    up: Mask
    speed: F32


class FlightScenario(Scenario[FlightState]):
    """Staircases, drawn anew in each episode from those of the scene.

    Raises:
        SimError: When a scene has none.
    """

    ROWS = ("_flight", "_scene_of", "_along", "_best", "_since", "_stays", "_command", "_height", "_speed")
    commands = True

    def __init__(self, floors: Floors, num_envs: int, period: float) -> None:
        self._robot, self._period, self._floors = floors.robot, period, floors
        found = [_flights(floors, number) for number in range(len(floors.scenes))]
        self._count = np.array([len(flights) for flights in found])
        self._flights = tuple(flight for flights in found for flight in flights)
        self._scene_of = np.zeros(num_envs, np.int64)
        self._read(self._flights)
        self._flight = np.zeros(num_envs, np.int64)
        self._along, self._best, self._since, self._stays = (np.zeros(num_envs) for _ in range(4))
        self._command, self._height = np.zeros((num_envs, 3), np.float32), np.zeros(num_envs, np.float32)
        self._speed = np.zeros(num_envs, np.float32)

    def _read(self, flights: Sequence[Flight]) -> None:
        """Ways, starts and ends of all staircases, in the scene's frame."""
        longest = max(len(flight.path) for flight in flights)
        self._path = np.array([[*flight.path, *[flight.path[-1]] * (longest - len(flight.path))] for flight in flights])
        part = np.diff(self._path, axis=1)
        self._length = np.linalg.norm(part, axis=2)
        self._ahead = part / np.maximum(self._length, 1e-9)[..., None]
        self._before = np.cumsum(self._length, 1) - self._length
        self._start = np.array([flight.start for flight in flights])
        self._end = self._length.sum(1) - SPARE
        self._level = np.array([flight.level for flight in flights])
        self._up = np.array([flight.way == "up" for flight in flights])

    def reset(self, envs: I64, scenes: I64, levels: I64, rng: np.random.Generator) -> ResetPoses:
        """Put environments (M,) before staircases of their own, as evenly as there are."""
        first = np.cumsum(self._count) - self._count
        for scene in np.unique(scenes).tolist():
            there = envs[scenes == scene]
            self._flight[there] = first[scene] + np.resize(rng.permutation(self._count[scene]), len(there))
        self._scene_of[envs] = scenes
        start = self._start[self._flight[envs]]
        self._along[envs], self._best[envs], self._since[envs], self._stays[envs] = 0, 0, 0, 0
        self._height[envs] = self._robot.base_height
        self._command, self._speed = self._command.copy(), self._speed.copy()
        self._command[envs], self._speed[envs] = 0, 0
        position = np.column_stack([start[:, :2], self.ground(start[:, :2], scenes) + self._robot.base_height])
        return ResetPoses(position, start[:, 2])

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Measure how far robots have come, and lead them on."""
        place, flight = state.planar, self._flight
        before, self._along = self._along, self._progress(place[:, :2])
        self._speed = ((self._along - before) / self._period).astype(np.float32)
        farther = self._along > self._best + ADVANCE
        self._best = np.where(farther, self._along, self._best)
        self._since = np.where(farther, 0, self._since + self._period)
        level = np.abs(state.position[:, 2] - self._level[flight] - self._robot.base_height) < LEVEL
        beyond = (self._along > self._end[flight]) & (self._aside < BESIDE)
        self._stays = np.where(beyond & level, self._stays + self._period, 0)
        self._height = self._over_ground(state)
        speed, turn = towards(turned_to(self._at(self._along + AHEAD) - place[:, :2], place[:, 2]))
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
            self._speed,
        )

    def flights(self) -> tuple[Flight, ...]:
        """The staircases of the running episodes, N."""
        return tuple(self._flights[number] for number in self._flight)

    def _over_ground(self, state: RobotState) -> F32:
        """Heights of the bases (N,) over the mean ground below them [m]: on stairs their middle is near an edge."""
        x, y, yaw = state.planar.T
        below = [
            self.ground(np.stack([x + ahead * np.cos(yaw), y + ahead * np.sin(yaw)], 1), self._scene_of)
            for ahead in BELOW
        ]
        known = np.isfinite(below)
        ground = np.where(known, below, 0).sum(0) / np.maximum(known.sum(0), 1)
        return np.where(known.any(0), state.position[:, 2] - ground, self._height).astype(np.float32)

    def kinds(self) -> Sequence[str]:
        """Up or down, by the height of steps."""
        lowest = [2 * int(50 * flight.riser + 1e-6) for flight in self.flights()]
        return [f"{flight.way}, {cm} to {cm + 2} cm" for flight, cm in zip(self.flights(), lowest, strict=True)]

    def ground(self, xy: F64, scenes: I64) -> F32:
        """Heights of the ground (M,) at positions (M, 2) in scenes (M,) [m]; NaN where it is unknown."""
        result = np.empty(len(xy), np.float32)
        for scene in np.unique(scenes).tolist():
            there, terrain = scenes == scene, self._floors.scenes[scene].terrain
            cells = self._floors.cells(scenes[there], xy[there])
            result[there] = terrain.heights(xy[there]) if terrain else self._floors.height[(scenes[there], *cells)]
        return result

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
        best = np.where(far, 1e3 + away, away).argmin(1)
        self._aside = away[rows, best]
        return along[rows, best]

    def _at(self, along: F64) -> F64:
        """Positions (N, 2) so far along the ways (N,) [m]."""
        flight = self._flight
        part = np.minimum((along[:, None] >= (self._before + self._length)[flight]).sum(1), self._length.shape[1] - 1)
        rest = np.minimum(along - self._before[flight, part], self._length[flight, part])
        return self._path[flight, part] + self._ahead[flight, part] * rest[:, None]


def _flights(floors: Floors, number: int) -> tuple[Flight, ...]:
    """The staircases of a scene, which were drawn or are found.

    Raises:
        SimError: When there are none.
    """
    scene = floors.scenes[number]
    found = scene.terrain.flights if scene.terrain else None
    if found is None:
        found = find_stairs(scene.regions)
    if not found:
        raise SimError(
            "this task is about stairs of two steps or more, with level floor before and behind them",
            found=f"none in {scene.lock.reference}",
            remedy="take a scene with stairs, leave --scene out, or give terrain:0:flights",
        )
    return found
