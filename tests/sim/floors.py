"""Scenes that are nothing but a floor, and a robot of a given size, for what only looks at these."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.geometry import Gaussians, Mesh
from pipeline.regions.params import Area
from pipeline.regions.regions import Regions, RobotPose
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.scene.scene import SceneLock, SimScene

ORIGIN, CELL = (-1.3, 0.45), 0.1


def floor_scene(
    drivable: np.ndarray,
    *,
    goals: tuple[tuple[float, float], ...] = (),
    height: np.ndarray | None = None,
    walkable: np.ndarray | None = None,
    areas: tuple[Area, ...] = (),
    area: np.ndarray | None = None,
    measured_for: tuple[float, float] = (0.25, 0.5),
    mesh: Mesh | None = None,
    cell: float = CELL,
) -> SimScene:
    """A scene whose grid begins at `ORIGIN`; flat at z = 0.2 by default."""
    height = np.where(drivable, np.float32(0.2), np.float32(np.nan)) if height is None else height.astype(np.float32)
    places = tuple(RobotPose((x, y, 0.2), 0.0, 1.0) for x, y in goals)
    nothing = np.zeros(drivable.shape, bool)
    numbers = np.zeros((0, 0), np.int16) if area is None else area.astype(np.int16)
    regions = Regions(
        ORIGIN,
        cell,
        height,
        drivable if walkable is None else walkable,
        drivable,
        nothing,
        0.2,
        places,
        places,
        areas=areas,
        area=numbers,
    )
    empty = Gaussians(*(np.zeros((0, *size), np.float32) for size in ((3,), (3,), (4,), (), (1, 3))))
    ground = mesh or Mesh.from_arrays(np.zeros((0, 3)), np.zeros((0, 3), int))
    return SimScene(SceneLock("floor@1.0.0", "0" * 64, ()), ground, lambda: empty, regions, measured_for)


def centre(i: int, j: int, cell: float = CELL) -> np.ndarray:
    """The middle (2,) of a cell [m]."""
    return np.array(ORIGIN) + (np.array([i, j]) + 0.5) * cell


def sized(robot: Robot, radius: float, height: float = 0.3) -> Robot:
    """A robot of another size."""
    return replace(robot, radius=radius, height=height)


def standing(xy: np.ndarray, yaw: np.ndarray, z: float = 0.2) -> RobotState:
    """Wheeled robots at rest at places (N, 2) with headings (N,)."""
    nothing = np.zeros(len(xy))
    quaternion = np.column_stack([np.cos(yaw / 2), nothing, nothing, np.sin(yaw / 2)])
    return RobotState.at_rest(np.c_[xy, np.full(len(xy), z)], quaternion, np.zeros((len(xy), 2), np.float32))
