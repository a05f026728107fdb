"""Regions: where a robot can stand and walk in a scene, and where it may start and go."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import FARTHEST, Pose
from pipeline.io.arrays import arrays_of_npz
from pipeline.regions.params import Area
from pipeline.types import F32, F64, I64, Floats, Mask

REGIONS_FILE, GRID_FILE = "regions.json", "walkable.npz"
AN_OBJECT = "the bundle is an object by itself, which has no floor"
"""Why there is none, where that is as it should be."""
GRIDS = {"height": "f", "walkable": "b", "drivable": "b", "guessed": "b"}
"""The grids that every file has, with their kind of number."""


@dataclass(frozen=True)
class RobotPose:
    """A pose to start from or to go to."""

    position: tuple[float, float, float]  # (x, y, z) [m, world frame], z is the floor's height there
    yaw: float  # heading about +Z, 0 along +X [rad]
    trust: float  # 0..1, how much the splat's images from there can be trusted (`CoverageMap.trust`)

    @property
    def world_from_base(self) -> Pose:
        """The pose of a robot's base frame (x forward, z up) on the floor."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return Pose(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]), np.array(self.position))


@dataclass(frozen=True, eq=False)
class Regions:
    """The walkable floor as a grid; cell (i, j) spans origin + [i, i + 1) x [j, j + 1) cells along x and y.

    `area` (X, Y) int16 says which of `areas` a cell belongs to, -1 = none; it is empty where there are no areas.
    """

    origin: tuple[float, float]  # (x, y) of the grid's low corner [m, world frame]
    cell: float  # edge of a cell [m]
    height: F32  # (X, Y) float32, the floor's z at the cell's centre [m]; NaN where there is no floor in reach
    walkable: Mask  # (X, Y) bool, a legged robot's centre may be there: footprint clear, steps low enough
    drivable: Mask  # (X, Y) bool, part of walkable that a wheeled robot reaches without climbing
    guessed: Mask  # (X, Y) bool, the floor there was closed, not measured
    floor_height: float  # median z of the drivable floor [m]
    spawn_poses: tuple[RobotPose, ...]  # spread over the drivable floor, heading towards open, well-captured space
    goals: tuple[RobotPose, ...]  # spread likewise, away from the spawn poses
    note: str = ""  # why there is no walkable floor; empty where there is one
    areas: tuple[Area, ...] = ()  # parts of the floor with a friction and a cost of their own
    area: NDArray[np.int16] = field(default_factory=lambda: np.zeros((0, 0), np.int16))

    @staticmethod
    def without_floor(cell: float, note: str) -> Regions:
        """The regions of a scene in which nobody can stand, with the reason."""
        nothing, height = np.zeros((1, 1), bool), np.full((1, 1), np.nan, np.float32)
        return Regions((0.0, 0.0), cell, height, nothing, nothing, nothing, 0.0, (), (), note)

    @property
    def walkable_area(self) -> float:
        """Area that a robot's centre may be in [m^2]."""
        return float(self.walkable.sum() * self.cell**2)

    def centres(self) -> F64:
        """The cells' centres (X, Y, 2) [m]."""
        x, y = np.meshgrid(*((np.arange(n) + 0.5) * self.cell for n in self.height.shape), indexing="ij")
        return np.stack([x, y], -1) + np.array(self.origin)

    def cells_of(self, xy: Floats) -> tuple[I64, Mask]:
        """Cell indices (N, 2) of points (N, >= 2) [m] and which of the points lie on the grid (N,)."""
        index = np.floor((np.asarray(xy)[:, :2] - np.array(self.origin)) / self.cell).astype(np.int64)
        inside = (index >= 0) & (index < np.array(self.height.shape))
        return index, np.asarray(inside.all(axis=1))

    def surface(self, xy: Floats) -> tuple[F32, F32]:
        """Friction factor (N,) and cost (N,) of the floor at points (N, >= 2) [m]; 1 and 0 outside of all areas."""
        chosen = np.full(len(xy), -1)
        if self.areas:
            cells, inside = self.cells_of(xy)
            chosen[inside] = self.area[tuple(cells[inside].T)]
        friction = np.array([*(area.friction for area in self.areas), 1], np.float32)  # -1 is the last
        cost = np.array([*(area.cost for area in self.areas), 0], np.float32)
        return friction[chosen], cost[chosen]

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
            "areas": [area.model_dump() for area in self.areas],
        }
        (folder / REGIONS_FILE).write_text(json.dumps(content, indent=1))
        with (folder / GRID_FILE).open("wb") as file:
            grids = {name: getattr(self, name) for name in ("height", "walkable", "drivable", "guessed", "area")}
            np.savez(file, **grids)

    @staticmethod
    def load(folder: Path) -> Regions:
        """Read what `save` wrote.

        Raises:
            ValueError: When a file is damaged, promises more than it holds, or the grids don't belong together.
        """
        content, grid_file = json.loads((folder / REGIONS_FILE).read_text()), folder / GRID_FILE
        limit = grid_file.stat().st_size  # nothing in it is compressed
        grids = arrays_of_npz(grid_file, tuple(GRIDS), ("area",), limit=limit)  # older bundles have no areas
        if wrong := [name for name, grid in grids.items() if grid.dtype.kind != GRIDS.get(name, "i")]:
            raise ValueError(f"{GRID_FILE} has numbers of another kind in {', '.join(wrong)}")
        x, y = map(float, content["origin"])
        areas = tuple(map(_area, content.get("areas", ())))
        shapes = {name: grid.shape for name, grid in grids.items() if areas or name != "area"}
        if len(set(shapes.values())) != 1 or any(len(shape) != 2 for shape in shapes.values()):
            raise ValueError(f"the grids in {GRID_FILE} must be two-dimensional and of one size, got {shapes}")
        if areas and not (grids["area"].min() >= -1 and grids["area"].max() < len(areas)):
            raise ValueError(f"{GRID_FILE} names an area that {REGIONS_FILE} hasn't")
        cell, floor_height = float(content["cell"]), float(content["floor_height"])
        if not (0 < cell < FARTHEST and _is_near(x, y, floor_height)):
            raise ValueError(f"{REGIONS_FILE} has a cell of {cell} m, its origin at {x}, {y}, floor at {floor_height}")
        if (np.abs(grids["height"][~np.isnan(grids["height"])]) > FARTHEST).any():
            raise ValueError(f"{GRID_FILE} has floor more than {FARTHEST:.0f} m high or low")
        return Regions(
            origin=(x, y),
            cell=cell,
            floor_height=floor_height,
            spawn_poses=tuple(map(_robot_pose, content["spawn_poses"])),
            goals=tuple(map(_robot_pose, content["goals"])),
            note=str(content.get("note", "")),
            areas=areas,
            **grids,
        )


def _is_near(*values: float) -> bool:
    """Whether all can be places in a scene; NaN can't."""
    return all(abs(value) < FARTHEST for value in values)


def _robot_pose(content: dict[str, Any]) -> RobotPose:
    x, y, z = map(float, content["position"])
    yaw, trust = float(content["yaw"]), float(content["trust"])
    if not (_is_near(x, y, z, yaw) and 0 <= trust <= 1):
        raise ValueError(f"a robot at {x}, {y}, {z}, heading {yaw}, trust {trust}")
    return RobotPose((x, y, z), yaw, trust)


def _area(content: dict[str, Any]) -> Area:
    known = {name: content[name] for name in Area.model_fields if name in content}  # later formats may have more
    return Area(**{**known, "polygon": tuple((x, y) for x, y in content["polygon"])})
