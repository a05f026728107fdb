"""Ground of boxes, which engines that know no other collide with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.geometry import Mesh
from pipeline.types import F64, I64, Floats


@dataclass(frozen=True, eq=False)
class BoxMesh(Mesh):
    """The surface of boxes on a plane at height 0, in square tiles that lie row by row.

    Attributes:
        tiles: Boxes (B, 10) of each tile.
        columns: Number of tiles along x.
        side: Edge of a tile [m].
    """

    tiles: tuple[F64, ...]
    columns: int
    side: float

    def tile_at(self, xy: Floats) -> I64:
        """Index (N,) of the tile at positions (N, >= 2) [m], or of the nearest one."""
        rows = len(self.tiles) // self.columns
        column, row = np.floor(np.asarray(xy)[:, :2] / self.side).astype(np.int64).T
        return np.clip(row, 0, rows - 1) * self.columns + np.clip(column, 0, self.columns - 1)
