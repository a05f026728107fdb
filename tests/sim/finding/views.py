"""Depth images of floors, boxes and balls by exact geometry, for what maps are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.geometry import Camera, Pose
from sim.finding.maps import CELL, SIDE

LENS = Camera(96, 48, 27.7, 28.5, 45.0, 22.0)
MOUNT = Pose(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([0.15, 0.0, 0.27]))
"""Level, a little before the base; the base's frame from the camera's."""
RADIUS, HEIGHT = 0.21, 0.3


@dataclass(frozen=True)
class View:
    """What is there.

    Attributes:
        floor: Whether there is floor at places x, y.
        below: Height of what is seen where there is none [m]; None for nothing.
        boxes: Low and high corners (2, 3) [m].
        balls: Middles and radii (4,) [m].
    """

    floor: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda x, y: np.ones(np.shape(x), bool)
    below: float | None = None
    boxes: tuple[np.ndarray, ...] = ()
    balls: tuple[np.ndarray, ...] = ()

    def depth(self, map_from_camera: np.ndarray) -> np.ndarray:
        """As seen from a pose (4, 4): (H, W) [m]."""
        return np.where(np.isfinite(first := self._first(map_from_camera)), first, 0).astype(np.float32)

    def _first(self, pose: np.ndarray) -> np.ndarray:
        eye, rays = pose[:3, 3], rays_of(pose)
        with np.errstate(divide="ignore", invalid="ignore"):
            down = rays[..., 2] < 0
            far = np.where(down, -eye[2] / rays[..., 2], np.inf)
            at = eye[:2] + far[..., None] * rays[..., :2]
            there = down & self.floor(at[..., 0], at[..., 1])
            under = np.inf if self.below is None else np.where(down, (self.below - eye[2]) / rays[..., 2], np.inf)
            far = np.where(there, far, under)
            for low, high in self.boxes:
                ends = np.sort([(low - eye) / rays, (high - eye) / rays], 0)
                enters, leaves = ends[0].max(-1), ends[1].min(-1)
                far = np.where((enters > 0) & (enters < leaves), np.minimum(far, enters), far)
        return np.minimum(far, self.ball_depth(pose))

    def ball_depth(self, pose: np.ndarray) -> np.ndarray:
        """Of the balls alone; inf beside them."""
        eye, rays = pose[:3, 3], rays_of(pose)
        far = np.full(rays.shape[:2], np.inf)
        for *middle, radius in self.balls:
            offset = eye - middle
            a, b, c = (rays**2).sum(-1), rays @ offset, offset @ offset - radius**2
            inside = b**2 - a * c
            far = np.where(inside > 0, np.minimum(far, (-b - np.sqrt(np.maximum(inside, 0))) / a), far)
        return far


def rays_of(pose: np.ndarray) -> np.ndarray:
    """Rays (H, W, 3) of the camera's pixels, 1 long along its axis."""
    row, column = np.indices((LENS.height, LENS.width)) + 0.5
    own = np.stack([(column - LENS.cx) / LENS.fx, (row - LENS.cy) / LENS.fy, np.ones(row.shape)], -1)
    return own @ pose[:3, :3].T


def tilted(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """The map's axes from the base's (3, 3)."""
    return Rotation.from_euler("ZYX", [yaw, pitch, roll]).as_matrix()


def camera_at(x: float, y: float, yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Its pose (4, 4) when the base is there."""
    base = np.eye(4)
    base[:3, :3], base[:2, 3] = tilted(yaw, pitch, roll), (x, y)
    return base @ MOUNT.matrix


def cell(x: float, y: float) -> tuple[int, int]:
    """Of a place."""
    return int(np.floor(x / CELL)) + SIDE // 2, int(np.floor(y / CELL)) + SIDE // 2


def places() -> tuple[np.ndarray, np.ndarray]:
    """The middles of all cells, x and y (SIDE, SIDE) [m]."""
    x, y = (np.indices((SIDE, SIDE)) - SIDE // 2 + 0.5) * CELL
    return x, y
