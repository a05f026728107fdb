"""Seeing as much of a floor as one can: a course without a goal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from sim.cameras.things import Things
from sim.navigation import DistanceFields, distances
from sim.physics.state import Float, Int, RobotState
from sim.places import Floors, Split
from sim.robots.model import Robot
from sim.scene import SimScene
from sim.surroundings import HERE_AND_NEAR, places_around
from sim.tasks.task import Bool, Starts

MAP_SIDE, MAP_SPACING = 9, 0.5
"""Points of the map that a robot has of what is round it, each way, and metres between them."""
_STEPS = (np.arange(MAP_SIDE) - MAP_SIDE // 2) * MAP_SPACING
MAP = np.stack(np.meshgrid(_STEPS, _STEPS, indexing="ij"), -1).reshape(-1, 2)
"""Where these are, ahead and to the left of the robot (MAP_SIDE**2, 2) [m]."""


@dataclass(frozen=True, eq=False)
class Explored:
    """What N robots have seen of the drivable floor.

    Attributes:
        new: (N,) area that was seen first in this step [m^2].
        share: (N,) of the floor that was seen, 0..1.
        around: (N, MAP_SIDE**2) the floor round the robot, from behind on the right to ahead on the left: 1 seen,
            0 not yet, -1 no floor.
        edges: (N, 25) from the robot and from places round it to the edge of the drivable floor [m].
    """

    new: Float
    share: Float
    around: Float
    edges: Float


class ExploreCourse:
    """Starts anywhere on the drivable floor; floor counts as seen once it was before the robot, near and not hidden.

    Args:
        scenes: Where.
        robot: Who.
        num_envs: N.
        period: Between two steps [s].
        reach: How far the robot sees [m].
        half_angle: To either side of its heading [rad].
        starts: Which places episodes may begin at.

    Raises:
        SimError: When a scene has no such places.
    """

    def __init__(
        self,
        scenes: Sequence[SimScene],
        robot: Robot,
        num_envs: int,
        period: float,
        *,
        reach: float,
        half_angle: float,
        starts: Split = "all",
    ) -> None:
        self.floors = Floors(scenes, robot, starts)
        self._rise, self._reach, self._half_angle = robot.base_height, reach, half_angle
        self._clear = np.isfinite(self.floors.height)
        self._area = self.floors.drivable.sum((1, 2)) * self.floors.cell**2
        self._scene_of = np.zeros(num_envs, np.int64)
        self._seen = np.zeros((num_envs, *self.floors.height.shape[1:]), bool)
        self._new, self._share = np.zeros(num_envs, np.float32), np.zeros(num_envs, np.float32)
        self._pose = np.zeros((num_envs, 3))

    def begin(self, envs: Int, scenes: Int, levels: Int, rng: np.random.Generator) -> Starts:
        """Environments (M,) have seen only what lies before their starts."""
        place = self.floors.places(scenes, self.floors.starts.draw(scenes, 1, rng)[:, 0])
        yaw = rng.uniform(-np.pi, np.pi, len(envs))
        self._scene_of[envs], self._seen[envs], self._share[envs] = scenes, False, 0
        self._see(envs, np.column_stack([place[:, :2], yaw]))
        self._new[envs] = 0
        return Starts(place + np.array([0, 0, self._rise]), yaw)

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Look round."""
        self._see(np.arange(len(state)), state.planar)

    def now(self) -> Explored:
        """For the terms."""
        i, j = self.floors.cells(self._scene_of[:, None], places_around(self._pose, MAP))
        seen = self._seen[np.arange(len(i))[:, None], i, j]
        around = np.where(self.floors.drivable[self._scene_of[:, None], i, j], seen, np.float32(-1))
        edges = self.floors.to_edge(self._scene_of[:, None], places_around(self._pose, HERE_AND_NEAR))
        return Explored(self._new.copy(), self._share.copy(), around.astype(np.float32), edges)

    def things(self) -> Things:
        """Nothing."""
        return Things.none(len(self._share))

    def way_left(self, xy: NDArray[np.floating], envs: Int) -> Float:
        """The way [m] from places (M, 2) to the nearest floor unseen in environments (M,); inf off the floor."""
        floors, scenes = self.floors, self._scene_of
        price = np.where(floors.drivable, np.float32(1), np.float32(np.inf))[scenes]
        ways = distances(price, ~self._seen, floors.cell[scenes])
        return DistanceFields(floors.origin[scenes], floors.cell[scenes], ways).at(envs, xy)

    def _see(self, envs: Int, pose: NDArray[np.floating]) -> None:
        """Mark what robots of environments (M,) see from poses (M, 3)."""
        self._pose[envs] = pose
        scenes, floors = self._scene_of[envs], self.floors
        cell = floors.cell[scenes]
        place = (pose[:, :2] - floors.origin[scenes]) / cell[:, None]
        reach = self._reach / cell
        found = _mark(
            self._seen,
            envs,
            scenes,
            self._clear,
            floors.drivable,
            place,
            np.ascontiguousarray(pose[:, 2]),
            reach,
            self._half_angle,
        )
        self._new[envs] = found * cell**2
        self._share[envs] += self._new[envs] / self._area[scenes]


@njit(parallel=True, cache=True, nogil=True)
def _mark(
    seen: Bool,
    envs: Int,
    scenes: Int,
    clear: Bool,
    drivable: Bool,
    places: NDArray[np.float64],
    yaws: NDArray[np.floating],
    reaches: NDArray[np.float64],
    half_angle: float,
) -> Int:
    """Follow rays over clear cells and mark the drivable ones in `seen` (N, X, Y); how many were new (M,).

    Rays lie half a cell apart at their ends and are looked at every half cell; places and reaches are in cells.
    """
    found = np.zeros(len(envs), np.int64)
    for m in prange(len(envs)):
        env, scene, reach = envs[m], scenes[m], reaches[m]
        rays = int(np.ceil(4 * half_angle * reach))
        for ray in range(rays + 1):
            angle = yaws[m] - half_angle + 2 * half_angle * ray / rays
            along, across = np.cos(angle), np.sin(angle)
            for step in range(int(2 * reach) + 1):
                i = int(np.floor(places[m, 0] + along * step / 2))
                j = int(np.floor(places[m, 1] + across * step / 2))
                if not (0 <= i < clear.shape[1] and 0 <= j < clear.shape[2] and clear[scene, i, j]):
                    break
                if drivable[scene, i, j] and not seen[env, i, j]:
                    seen[env, i, j] = True
                    found[m] += 1
    return found
