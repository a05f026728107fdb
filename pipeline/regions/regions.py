"""Regions: where a robot can stand and walk in a scene, and where it may start and go."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Pose

REGIONS_FILE, GRID_FILE = "regions.json", "walkable.npz"


@dataclass(frozen=True)
class RobotPose:
    """A place to start from or to go to.

    Attributes:
        position: (x, y, z) [m, world frame], z is the floor's height there.
        yaw: Heading about +Z, 0 along +X [rad].
        trust: 0..1, how much the splat's pictures from there can be trusted (`CoverageMap.trust`).
    """

    position: tuple[float, float, float]
    yaw: float
    trust: float

    @property
    def world_from_base(self) -> Pose:
        """The pose of a robot's base frame (x forward, z up) on the floor."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return Pose(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]), np.array(self.position))


@dataclass(frozen=True, eq=False)
class Regions:
    """The walkable floor as a grid; cell (i, j) spans origin + [i, i + 1) x [j, j + 1) cells along x and y.

    Attributes:
        origin: (x, y) of the grid's low corner [m, world frame].
        cell: Edge of a cell [m].
        height: (X, Y) float32, the floor's z at the cell's centre [m]; NaN where there is no floor in reach.
        walkable: (X, Y) bool, a legged robot's centre may be there: footprint clear, steps low enough.
        drivable: (X, Y) bool, part of walkable that a wheeled robot reaches without climbing.
        guessed: (X, Y) bool, the floor there was closed, not measured.
        floor_height: Median z of the drivable floor [m].
        spawn_poses: Spread over the drivable floor, heading towards open space that the pictures show well.
        goals: Spread likewise, away from the spawn poses.
        note: Why there is no walkable floor; empty where there is one.
    """

    origin: tuple[float, float]
    cell: float
    height: NDArray[np.float32]
    walkable: NDArray[np.bool_]
    drivable: NDArray[np.bool_]
    guessed: NDArray[np.bool_]
    floor_height: float
    spawn_poses: tuple[RobotPose, ...]
    goals: tuple[RobotPose, ...]
    note: str = ""

    @staticmethod
    def without_floor(cell: float, note: str) -> Regions:
        """The regions of a scene in which nobody can stand, with the reason."""
        nothing, height = np.zeros((1, 1), bool), np.full((1, 1), np.nan, np.float32)
        return Regions((0.0, 0.0), cell, height, nothing, nothing, nothing, 0.0, (), (), note)

    @property
    def walkable_area(self) -> float:
        """Area that a robot's centre may be in [m^2]."""
        return float(self.walkable.sum() * self.cell**2)

    def centres(self) -> NDArray[np.float64]:
        """The cells' centres (X, Y, 2) [m]."""
        x, y = np.meshgrid(*((np.arange(n) + 0.5) * self.cell for n in self.height.shape), indexing="ij")
        return np.stack([x, y], -1) + np.array(self.origin)

    def cells_of(self, xy: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Cell indices (N, 2) of points (N, >= 2) [m] and which of the points lie on the grid (N,)."""
        index = np.floor((np.asarray(xy)[:, :2] - np.array(self.origin)) / self.cell).astype(np.int64)
        inside = (index >= 0) & (index < np.array(self.height.shape))
        return index, np.asarray(inside.all(axis=1))

    def save(self, folder: Path) -> None:
        """Write `regions.json` and `walkable.npz`."""
        content = {
            "floor_height": self.floor_height,
            "walkable_area_m2": self.walkable_area,
            "drivable_area_m2": float(self.drivable.sum() * self.cell**2),
            "guessed_area_m2": float((self.walkable & self.guessed).sum() * self.cell**2),
            "note": self.note,
            "cell": self.cell,
            "origin": list(self.origin),
            "spawn_poses": [asdict(pose) for pose in self.spawn_poses],
            "goals": [asdict(pose) for pose in self.goals],
        }
        (folder / REGIONS_FILE).write_text(json.dumps(content, indent=1))
        with (folder / GRID_FILE).open("wb") as file:
            np.savez(file, height=self.height, walkable=self.walkable, drivable=self.drivable, guessed=self.guessed)

    @staticmethod
    def load(folder: Path) -> Regions:
        """Read what `save` wrote."""
        content = json.loads((folder / REGIONS_FILE).read_text())
        with np.load(folder / GRID_FILE, allow_pickle=False) as data:
            grids = {name: data[name] for name in ("height", "walkable", "drivable", "guessed")}
        x, y = content["origin"]
        return Regions(
            origin=(x, y),
            cell=content["cell"],
            floor_height=content["floor_height"],
            spawn_poses=tuple(map(_robot_pose, content["spawn_poses"])),
            goals=tuple(map(_robot_pose, content["goals"])),
            note=content.get("note", ""),
            **grids,
        )


def _robot_pose(content: dict[str, Any]) -> RobotPose:
    x, y, z = content["position"]
    return RobotPose((x, y, z), content["yaw"], content["trust"])
