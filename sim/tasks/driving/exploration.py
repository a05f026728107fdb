"""Seeing as much of a floor as possible, without a goal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from pipeline.geometry.grids import Grids
from pipeline.geometry.jit import njit, prange
from pipeline.types import F32, F64, I64, Floats, Mask
from sim.robots.state import RobotState
from sim.scene.floors import NEARBY, Floors, positions_around
from sim.scene.navigation import DistanceFields, distances
from sim.sensors.cameras.props import Props
from sim.tasks.parameters import settable
from sim.tasks.scenario import ResetPoses, Scenario

MAP_SIDE, MAP_SPACING = 9, 0.5
"""Points of the robot's local map along each side, and their spacing [m]."""
_STEPS = (np.arange(MAP_SIDE) - MAP_SIDE // 2) * MAP_SPACING
MAP = np.stack(np.meshgrid(_STEPS, _STEPS, indexing="ij"), -1).reshape(-1, 2)
"""Offsets of these points ahead and to the left of the robot (MAP_SIDE**2, 2) [m]."""


@dataclass(frozen=True, eq=False)
class ExplorationState:
    """What N robots have seen of the drivable floor.

    Attributes:
        new: (N,) area seen for the first time in this step [m^2].
        share: (N,) fraction of the floor that was seen, 0..1.
        around: (N, MAP_SIDE**2) local map, from behind on the right to ahead on the left: 1 seen, 0 unseen, -1 no
            floor.
        edges: (N, 25) distance to the edge of the drivable floor, from the robot and positions around it [m].
    """

    new: F32
    share: F32
    around: F32
    edges: F32


class ExplorationScenario(Scenario[ExplorationState]):
    """Starts anywhere on the drivable floor; floor is seen once it lies ahead of the robot, in reach and not occluded.

    A robot sees as far as `sight` [m], within `half_angle` to each side [rad].
    """

    ROWS = ("_scene_of", "_new", "_share", "_pose")
    GRIDS = ("_seen",)
    has_paths = True

    def __init__(
        self,
        floors: Floors,
        num_envs: int,
        period: float,
        *,
        sight: Annotated[float, settable(0.1, 20, "how far floor counts as seen [m]")],
        half_angle: Annotated[float, settable(0.05, np.pi, "half of the angle in which it does [rad]")],
    ) -> None:
        self.floors, self._reach, self._half_angle = floors, sight, half_angle
        self._clear = floors.height.like(np.isfinite(floors.height.values))
        self._area = np.array([grid.sum() for grid in floors.drivable]) * floors.cell**2
        self._scene_of = np.zeros(num_envs, np.int64)
        self._seen: Grids[np.bool_] = Grids.of([np.zeros((1, 1), bool)] * num_envs)
        self._new, self._share = np.zeros(num_envs, np.float32), np.zeros(num_envs, np.float32)
        self._pose = np.zeros((num_envs, 3))

    def reset(self, envs: I64, scenes: I64, levels: I64, rng: np.random.Generator) -> ResetPoses:
        """Draw new starts for environments (M,), which have seen only what lies ahead of these."""
        position = self.floors.positions(scenes, self.floors.starts.draw(scenes, 1, rng)[:, 0])
        yaw = rng.uniform(-np.pi, np.pi, len(envs))
        self._scene_of[envs], self._share[envs] = scenes, 0
        unseen = [np.zeros(shape, bool) for shape in self.floors.height.shape[scenes]]
        self._seen = self._seen.with_grids(envs, unseen)
        self._see(envs, np.column_stack([position[:, :2], yaw]))
        self._new[envs] = 0
        return ResetPoses(position + np.array([0, 0, self.floors.robot.base_height]), yaw)

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Mark what the robots see now."""
        self._see(np.arange(len(state)), state.planar)

    def state(self) -> ExplorationState:
        """State that terms read."""
        i, j = self.floors.cells(self._scene_of[:, None], positions_around(self._pose, MAP))
        seen = self._seen[np.arange(len(i))[:, None], i, j]
        around = np.where(self.floors.drivable[self._scene_of[:, None], i, j], seen, np.float32(-1))
        edges = self.floors.to_edge(self._scene_of[:, None], positions_around(self._pose, NEARBY))
        return ExplorationState(self._new.copy(), self._share.copy(), around.astype(np.float32), edges)

    def props(self) -> Props:
        """No props."""
        return Props.none(len(self._share))

    def path_length(self, xy: Floats, envs: I64) -> F32:
        """Path length [m] from positions (M, 2) to the nearest unseen floor of environments (M,); inf off the floor."""
        floors, (asked, rows) = self.floors, np.unique(envs, return_inverse=True)
        scenes, lengths = self._scene_of[asked], list[F32]()
        for env, scene in zip(asked, scenes, strict=True):
            price = np.where(floors.drivable[scene], np.float32(1), np.float32(np.inf))
            seen = self._seen[env][: price.shape[0], : price.shape[1]]
            lengths += [*distances(price[None], ~seen[None], floors.cell[[scene]])]
        return DistanceFields(floors.origin[scenes], floors.cell[scenes], Grids.of(lengths)).at(rows, xy)

    def to_edge(self, xy: Floats, envs: I64) -> F32:
        """Distance [m] from positions (M, 2) in environments (M,) to the edge of the drivable floor."""
        return self.floors.to_edge(self._scene_of[envs], xy)

    def _see(self, envs: I64, pose: Floats) -> None:
        """Mark what robots of environments (M,) see from poses (M, 3)."""
        self._pose[envs] = pose
        scenes, floors = self._scene_of[envs], self.floors
        cell = floors.cell[scenes]
        position = (pose[:, :2] - floors.origin[scenes]) / cell[:, None]
        yaw, reach = np.ascontiguousarray(pose[:, 2]), self._reach / cell
        own = self._seen.values, self._seen.first[envs], self._seen.shape[envs]
        floor = self._clear.values, floors.drivable.values, self._clear.first[scenes], self._clear.shape[scenes]
        self._new[envs] = _mark(*own, *floor, position, yaw, reach, self._half_angle) * cell**2
        self._share[envs] += self._new[envs] / self._area[scenes]


@njit(parallel=True, cache=True, nogil=True)
def _mark(
    seen: Mask,
    seen_first: I64,
    seen_shape: I64,
    clear: Mask,
    drivable: Mask,
    first: I64,
    shape: I64,
    positions: F64,
    yaws: Floats,
    reaches: F64,
    half_angle: float,
) -> I64:
    """Follow rays over clear cells and mark the drivable ones in `seen`; returns how many were new (M,).

    All three are cells of grids, of which those of the robots and of their scenes begin at (M,) and have shapes (M, 2);
    they may differ, since a state of before was padded. Rays are half a cell apart at their ends and sampled every half
    cell; positions and reaches are in cells.
    """
    found = np.zeros(len(first), np.int64)
    for m in prange(len(first)):
        reach, (width, depth), (seen_width, seen_depth) = reaches[m], shape[m], seen_shape[m]
        rays = int(np.ceil(4 * half_angle * reach))
        for ray in range(rays + 1):
            angle = yaws[m] - half_angle + 2 * half_angle * ray / rays
            along, across = np.cos(angle), np.sin(angle)
            for step in range(int(2 * reach) + 1):
                i = int(np.floor(positions[m, 0] + along * step / 2))
                j = int(np.floor(positions[m, 1] + across * step / 2))
                if not (0 <= i < width and 0 <= j < depth and clear[first[m] + i * depth + j]):
                    break
                known = seen_first[m] + i * seen_depth + j
                if drivable[first[m] + i * depth + j] and i < seen_width and j < seen_depth and not seen[known]:
                    seen[known] = True
                    found[m] += 1
    return found
