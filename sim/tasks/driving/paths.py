"""Paths over the drivable floor to goals, as long as they remain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry.grids import Grids
from pipeline.types import F32, I64, Floats
from sim.saved import Saved
from sim.scene.floors import BESIDE, NEARBY, NEXT_POSITIONS, Floors, positions_around
from sim.scene.navigation import DistanceFields, lengths_to
from sim.tasks.parameters import settable
from sim.tasks.scenario import Scenario, ScenarioState

STARTS, ROUNDS = 32, 20
"""Starts that are drawn for a goal, and goals that are drawn until one of them can be driven from."""


@dataclass(frozen=True, eq=False)
class PathState:
    """Paths of N robots to their goals.

    Attributes:
        goal: (N, 2) position of the goal [m], world frame of each robot's scene.
        length: (N,) remaining path length [m], weighted by `Floors.price`.
        previous_length: (N,) remaining path length one step ago [m].
        edges: (N, 25) distance to the edge of the drivable floor, from the robot and positions around it [m].
        detours: (N, 8) by how much the path gets longer from positions where the robot could go next [m]; inf off the
            floor.
    """

    goal: F32
    length: F32
    previous_length: F32
    edges: F32
    detours: F32


class PathTracker(Saved):
    """Remaining path lengths of N robots.

    Attributes:
        scene_of: (N,) scene of each robot.
        goal: (N, 3) position of the goal on the floor [m], world frame of its scene.
    """

    ROWS = ("scene_of", "goal", "_field", "_length", "_previous", "_pose")

    def __init__(self, floors: Floors, num_envs: int, fields: DistanceFields) -> None:
        self._floors, self._fields, self._field = floors, fields, np.zeros(num_envs, np.int64)
        self.scene_of, self.goal = np.zeros(num_envs, np.int64), np.zeros((num_envs, 3), np.float32)
        self._length, self._previous = np.zeros(num_envs, np.float32), np.zeros(num_envs, np.float32)
        self._pose = np.zeros((num_envs, 3))

    def reset(self, envs: I64, scenes: I64, goal: Floats, field: I64, pose: Floats) -> None:
        """Put robots (M,) at poses (M, 3) in scenes (M,), with goals (M, 3) to which fields (M,) lead.

        Poses are x, y [m] and heading [rad].
        """
        self.scene_of[envs], self.goal[envs], self._field[envs] = scenes, goal, field
        self._length[envs] = self._previous[envs] = self.length(pose[:, :2], envs)
        self._pose[envs] = pose

    def update(self, pose: Floats) -> None:
        """Move all robots to poses (N, 3); off the floor paths begin beside them, far off they stay as they were."""
        length = self.length(pose[:, :2], np.arange(len(pose)))
        off = np.flatnonzero(np.isinf(length))
        length[off] = self._lengths_beside(pose[off], off).min(1) + np.float32(BESIDE)
        self._previous, self._length = self._length, np.where(np.isfinite(length), length, self._length)
        self._pose = pose

    def _lengths_beside(self, pose: Floats, envs: I64) -> F32:
        """Path lengths from positions beside poses (M, 3) in environments (M,), (M, 8) [m]; inf off the floor."""
        positions = positions_around(pose, NEXT_POSITIONS)
        count = len(NEXT_POSITIONS)
        return self.length(positions.reshape(-1, 2), np.repeat(envs, count)).reshape(len(pose), count)

    def length(self, xy: Floats, envs: I64) -> F32:
        """Path length to the goals of environments (M,) from positions (M, 2) [m]; inf off the floor."""
        return self._fields.at(self._field[envs], xy)

    def state(self) -> PathState:
        """State that terms read."""
        edges = self._floors.to_edge(self.scene_of[:, None], positions_around(self._pose, NEARBY))
        detours = self._lengths_beside(self._pose, np.arange(len(self._pose))) - self._length[:, None]
        return PathState(self.goal[:, :2].copy(), self._length.copy(), self._previous.copy(), edges, detours)


MinLength = Annotated[float, settable(0.1, 50, "length of the shortest path from a start to its goal [m]")]


class PathScenario(Scenario[ScenarioState]):
    """Goals to which paths lead over the drivable floor; `_paths` are those of N environments."""

    floors: Floors
    _paths: PathTracker
    has_paths = True

    def path_length(self, xy: Floats, envs: I64) -> F32:
        """Path length to the goals of environments (M,) from positions (M, 2) [m]; inf off the floor."""
        return self._paths.length(xy, envs)

    def to_edge(self, xy: Floats, envs: I64) -> F32:
        """Distance [m] from positions (M, 2) in environments (M,) to the edge of the drivable floor."""
        return self.floors.to_edge(self._paths.scene_of[envs], xy)


def even(price: Grids[np.float32]) -> Grids[np.float32]:
    """Every metre of the floor at the price of one, so that paths cost what they are long."""
    return price.like(np.where(np.isfinite(price.values), np.float32(1), price.values))


class Ends:
    """Starts and goals of paths, anywhere on the floor; from start to goal there are at least `min_length` [m]."""

    def __init__(self, floors: Floors, min_length: float) -> None:
        self._floors, self._min_length = floors, min_length
        self._even = even(floors.price)

    def draw(self, scenes: I64, rng: np.random.Generator) -> tuple[I64, I64]:
        """Cells of starts and goals (M, 2) in scenes (M,).

        Raises:
            SimError: When no start in a scene leads to a goal that far away.
        """
        floors, starts, goals = self._floors, np.zeros((len(scenes), 2), np.int64), np.zeros((len(scenes), 2), np.int64)
        missing = np.arange(len(scenes))
        for _ in range(ROUNDS):
            at = scenes[missing]
            goals[missing] = floors.draw(at, 1, rng)[:, 0]
            paths = lengths_to(self._even, at, goals[missing], floors.cell[at])
            options = floors.starts.draw(at, STARTS, rng)
            length = np.array([path[tuple(option.T)] for path, option in zip(paths, options, strict=True)])
            usable = np.isfinite(length) & (length >= self._min_length)
            starts[missing] = options[np.arange(len(at)), usable.argmax(1)]
            missing = missing[~usable.any(1)]
            if not len(missing):
                return starts, goals
        raise SimError(
            "a scene needs starts from which a goal can be driven to",
            found=f"no start {self._min_length} m from any of {ROUNDS} goals of "
            f"{floors.scenes[scenes[missing[0]]].lock.reference}",
            remedy="leave the scene out, or set task.parameters.min_length",
        )
