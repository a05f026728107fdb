"""Height scan: the ground's height on a grid of points around each robot, as from a perfect elevation map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.geometry import Mesh
from pipeline.geometry.rays import RayCaster
from pipeline.types import F32, F64, I64, Floats
from sim.robots.state import RobotState, headings
from sim.scene.scene import SimScene
from sim.scene.terrain import Terrain
from sim.sensors.scan_grid import ScanGrid

HEADROOM = 0.3
"""Height of the rays' start above the base [m]: table tops and ceilings above it are not ground."""
DOWN = np.array([0, 0, -1.0])


class HeightScanner:
    """Measures the ground's height in the collision meshes of several scenes."""

    def __init__(self, scenes: Sequence[Mesh], grid: ScanGrid) -> None:
        self.grid = grid
        self._points = grid.points
        self._casters = [RayCaster(mesh) for mesh in scenes]
        self._upward = [np.asarray(mesh.face_normals()[:, 2] > 0) for mesh in scenes]
        self._guessed = [mesh.face_guessed() for mesh in scenes]

    def read(self, position: Floats, quaternion: Floats, scene_of: I64) -> F32:
        """Heights of the ground relative to the base's origin (N, K) [m], clipped; -clip where it is unknown.

        The ground is the first surface below a plane 0.3 m above the base. If that surface is inpainted, faces down or
        is missing, and the next surface above is hit from behind, the plane lies within a stair or a box, whose top is
        the ground. Scans show tables from above only, so a back face alone doesn't tell them from boxes; the floor
        below does. Bases are at positions (N, 3) [m], world frame, with quaternions (N, 4) wxyz, world from base, in
        scenes (N,).
        """
        forward = headings(quaternion)
        left = forward[:, ::-1] * [-1, 1]
        starts = np.empty((len(position), len(self._points), 3))
        starts[..., :2] = position[:, None, :2] + self._points @ np.stack([forward, left], 1)
        starts[..., 2] = position[:, None, 2] + HEADROOM
        height = np.empty(starts.shape[:2])
        for scene in np.unique(scene_of):
            rows = np.flatnonzero(scene_of == scene)
            height[rows] = self._ground(scene, starts[rows].reshape(-1, 3)).reshape(len(rows), -1)
        return np.clip(height + HEADROOM, -self.grid.clip, self.grid.clip).astype(np.float32)

    def _ground(self, scene: int, starts: F64) -> F64:
        """Height of the ground relative to each start (N,) [m], -inf where there is none."""
        caster, upward = self._casters[scene], self._upward[scene]
        below = caster.cast(starts, DOWN)
        floor = np.asarray(below.hit & upward[below.triangle])
        height = np.where(floor, -below.distance, -np.inf).astype(np.float64)
        unsure = np.flatnonzero(~floor | self._guessed[scene][below.triangle])
        above = caster.cast(starts[unsure], -DOWN)
        top = np.asarray(above.hit & upward[above.triangle])
        height[unsure[top]] = above.distance[top]
        return height


class RasterScanner:
    """Looks the ground's height up in a terrain."""

    def __init__(self, terrain: Terrain, grid: ScanGrid) -> None:
        self._terrain, self._points, self._clip = terrain, grid.points, grid.clip

    def read(self, position: Floats, quaternion: Floats, scene_of: I64) -> F32:
        """As `HeightScanner.read`."""
        forward = headings(quaternion)
        left = forward[:, ::-1] * [-1, 1]
        xy = position[:, None, :2] + self._points @ np.stack([forward, left], 1)
        return np.clip(self._terrain.heights(xy) - position[:, None, 2], -self._clip, self._clip).astype(np.float32)


class HeightScan:
    """The ground around N robots at the points of a grid; none without a grid."""

    def __init__(self, scenes: Sequence[SimScene], grid: ScanGrid | None) -> None:
        self._scanner = make_scanner(scenes, grid) if grid else None

    def read(self, state: RobotState, scene_of: I64, errors: F32 | None = None) -> F32:
        """Heights (N, K) relative to the bases [m] of robots in scenes (N,), see `HeightScanner.read`.

        With errors (N, 3): those of the ground so far ahead and to the left, and so much higher [m].
        """
        if not self._scanner:
            return np.zeros((len(state), 0), np.float32)
        position = state.position
        if errors is not None:
            forward = headings(state.quaternion)
            shift = forward * errors[:, :1] + forward[:, ::-1] * [-1, 1] * errors[:, 1:2]
            position = position + np.column_stack([shift, -errors[:, 2]])
        return self._scanner.read(position, state.quaternion, scene_of)


def make_scanner(scenes: Sequence[SimScene], grid: ScanGrid) -> HeightScanner | RasterScanner:
    """Make the fastest scanner for these scenes."""
    if len(scenes) == 1 and (terrain := scenes[0].terrain):
        return RasterScanner(terrain, grid)
    return HeightScanner([scene.collision for scene in scenes], grid)
