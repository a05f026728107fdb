"""Level surfaces that depth missed, and the depth maps completed with them.

Holes over black gloss, steel or glass are filled with the plane at the height of their rim, marked as guessed, in all
depth maps alike; points, mesh and splat follow. How they are found: `pipeline.points.level_search`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.depth.maps import DepthMap
from pipeline.geometry.jit import njit
from pipeline.types import F32, F64, I64, Floats, Mask

THICKNESS = 0.02
"""A measured point belongs to a level within this distance, or three sigma [m]."""
FLATTEST = 0.08
"""Least slope of a ray down to a level, along the optical axis."""


@dataclass(frozen=True)
class Level:
    """What was filled at one height."""

    height: float  # [m] above the floor
    sigma: float  # [m]
    area: float  # of cells that are filled where a view misses them [m^2]
    rim: float  # share of the rim next to measured level pieces, or over a front that ends there


@dataclass(frozen=True, eq=False)
class Levels:
    """Level surfaces in the world frame; cell (i, j) of each is the square round origin + (i, j) * step [m]."""

    origin: F64  # (2,) [m]
    step: float  # [m]
    heights: F64  # (L,) [m]
    sigmas: F64  # (L,) [m]
    cells: Mask  # (L, X, Y) that are filled where a view misses them
    hidden: Mask  # (L, X, Y) on which they go on below and behind what stands there

    @staticmethod
    def none(origin: F64, step: float, shape: tuple[int, int]) -> Levels:
        """No level on a grid."""
        empty = np.zeros((0, *shape), bool)
        return Levels(origin, step, np.zeros(0), np.zeros(0), empty, empty)

    def plus(self, level: Level, cells: Mask, hidden: Mask) -> Levels:
        """These and one more, with cells (X, Y)."""
        return replace(
            self,
            heights=np.append(self.heights, level.height),
            sigmas=np.append(self.sigmas, level.sigma),
            cells=np.concatenate([self.cells, cells[None]]),
            hidden=np.concatenate([self.hidden, hidden[None]]),
        )

    def cells_of(self, points: Floats) -> tuple[I64, I64, Mask]:
        """Row and column (N,) of the cells that points (N, >= 2) lie in, and whether these exist; else they are 0."""
        index = np.round((points[..., :2] - self.origin) / self.step).astype(np.int64)
        inside = np.asarray(((index >= 0) & (index < self.cells.shape[1:])).all(-1))
        index[~inside] = 0
        return index[..., 0], index[..., 1], inside

    def mark(self, points: Floats) -> Mask:
        """Cells (X, Y) that points (N, >= 2) lie in."""
        row, column, inside = self.cells_of(points)
        marked = np.zeros(self.cells.shape[1:], bool)
        marked[row[inside], column[inside]] = True
        return marked

    def save(self, path: Path) -> None:
        """Write as an .npz file."""
        with path.open("wb") as file:
            np.savez_compressed(file, **asdict(self))

    @staticmethod
    def load(path: Path) -> Levels:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as data:
            return Levels(
                data["origin"], float(data["step"]), data["heights"], data["sigmas"], data["cells"], data["hidden"]
            )

    def complete(self, depth_map: DepthMap) -> DepthMap:
        """The map [world frame] with guessed depth where it has none, or a mirror image, in a level's cells."""
        for height, sigma, cells in zip(self.heights, self.sigmas, self.cells, strict=True):
            depth_map = self._completed(depth_map, float(height), float(sigma), cells)
        return depth_map

    def _completed(self, depth_map: DepthMap, height: float, sigma: float, cells: Mask) -> DepthMap:
        pose, camera = depth_map.world_from_camera, depth_map.camera
        reach, down = _reach(
            depth_map.depth,
            depth_map.sigma,
            np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
            pose.rotation,
            pose.translation,
            height,
            cells,
            self.origin,
            self.step,
        )
        filled = reach > 0
        if not filled.any():
            return depth_map
        return depth_map.inferred(filled, reach, np.float32(sigma) / down, np.array([0, 0, 1.0]))


@njit(nogil=True, cache=True, error_model="numpy")
def _reach(
    depth: F32,
    sigma: F32,
    lens: F64,
    rotation: F64,
    translation: F64,
    height: float,
    cells: Mask,
    origin: F64,
    step: float,
) -> tuple[F32, F32]:
    """Depth (H, W) [m] of a level's cells where a map has none or depth below them, else 0; and the slope there."""
    reach, slope = np.zeros(depth.shape, np.float32), np.ones(depth.shape, np.float32)
    rows, columns = depth.shape
    above = translation[2] - height
    if above <= 0:
        return reach, slope
    for row in range(rows):
        y = (row + 0.5 - lens[3]) / lens[1]
        for column in range(columns):
            x = (column + 0.5 - lens[2]) / lens[0]
            down = -(rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2])
            seen = depth[row, column]
            if down < FLATTEST or (seen > 0 and seen * down - above <= max(THICKNESS, 3 * sigma[row, column] * down)):
                continue
            far = above / down
            east = translation[0] + far * (rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2])
            north = translation[1] + far * (rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2])
            i, j = int(np.rint((east - origin[0]) / step)), int(np.rint((north - origin[1]) / step))
            if i >= 0 and j >= 0 and i < cells.shape[0] and j < cells.shape[1] and cells[i, j]:
                reach[row, column], slope[row, column] = far, down
    return reach, slope
