"""What cameras see of procedural ground: Gaussians on its surface, in the colours of stones."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import SH_C0, Gaussians
from pipeline.types import F32, F64, I64, Floats
from sim.scene.terrain import RASTER, TILE, Terrain

FINE, COARSE = 2, 4
"""Edge of the squares that have a Gaussian each, near edges and in level blocks [cells of the raster]."""
LEVEL = 0.001
"""Largest difference of heights in a level block [m]."""
STEP = 0.02
"""Differences between neighbouring squares from which there is a riser between them [m]."""
STONE = 0.3
"""Edge of a stone [m]."""
WIDE = 0.45
"""Standard deviation of a Gaussian along the surface, by the edge of its square."""
THIN = 0.003  # [m]
OPAQUE = 6.0
"""Logit of the opacity."""
BRIGHT = {0: 0.72, 1: 0.85, 2: 1.0}
"""Brightness of surfaces by the axis of their normal."""


def splat_of(terrain: Terrain) -> Gaussians:
    """Gaussians on the tops, on the risers, and on the plane around the tiles."""
    parts = [_plane(terrain)]
    for kind in range(len(terrain.kinds)):
        for level in range(terrain.levels):
            corner = np.array([level, kind]) * TILE
            height = terrain.height[kind, level]
            parts += [*_tops(height, corner), *_risers(_squares(height, FINE).max((1, 3)), corner)]
    places, axes, edges = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _gaussians(places, axes, edges)


_Part = tuple[F64, I64, F64]
"""Places (N, 3) [m], axes of the normals (N,), edges of the squares (N,) [m]."""


def _squares(height: F32, size: int) -> F32:
    """Cells (R, R) in squares (S, size, S, size)."""
    count = len(height) // size
    return height.reshape(count, size, count, size)


def _tops(height: F32, corner: Floats) -> list[_Part]:
    """Level blocks, and the squares of all others."""
    blocks = _squares(height, COARSE)
    level = np.ptp(blocks, axis=(1, 3)) < LEVEL
    fine = ~np.repeat(np.repeat(level, COARSE // FINE, 0), COARSE // FINE, 1)
    parts = []
    for size, chosen in ((COARSE, level), (FINE, fine)):
        cells = np.argwhere(chosen)
        xy = corner + (cells + 0.5) * size * RASTER
        z = _squares(height, size).mean((1, 3))[chosen]
        parts.append((np.column_stack([xy, z]), np.full(len(cells), 2), np.full(len(cells), size * RASTER)))
    return parts


def _risers(height: F32, corner: Floats) -> list[_Part]:
    """Between neighbouring squares (S, S) of other heights, one Gaussian above the other."""
    edge, parts = FINE * RASTER, []
    for axis in (0, 1):
        low = np.minimum(np.delete(height, -1, axis), np.delete(height, 0, axis))
        high = np.maximum(np.delete(height, -1, axis), np.delete(height, 0, axis))
        cells = np.argwhere(high - low > STEP)
        i, j = cells.T
        count = np.ceil((high[i, j] - low[i, j]) / edge).astype(np.int64)
        row = np.repeat(np.arange(len(cells)), count)
        nth = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        share = (nth + 0.5) / count[row]
        xy = (cells[row] + 0.5) * edge
        xy[:, axis] += edge / 2
        z = low[i, j][row] * (1 - share) + high[i, j][row] * share
        parts.append((np.column_stack([corner + xy, z]), np.full(len(row), axis), np.full(len(row), edge)))
    return parts


def _plane(terrain: Terrain) -> _Part:
    """The plane around all tiles, as wide as one."""
    edge, size = 2 * COARSE * RASTER, np.array([terrain.levels, len(terrain.kinds)]) * TILE
    sides = [np.arange(-TILE + edge / 2, end + TILE, edge) for end in size]
    xy = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 2)
    xy = xy[((xy < 0) | (xy > size)).any(1)]
    return np.column_stack([xy, np.zeros(len(xy))]), np.full(len(xy), 2), np.full(len(xy), edge)


def _gaussians(places: F64, axes: I64, edges: F64) -> Gaussians:
    scales = np.tile(WIDE * edges[:, None], (1, 3))
    scales[np.arange(len(axes)), axes] = THIN
    stone = np.floor((places + 1e-3) / STONE).astype(np.int64) @ [73856093, 19349663, 83492791]
    rng = np.random.default_rng(5)
    color = (rng.uniform(0.3, 0.75, (1024, 1)) * rng.uniform([0.9, 0.85, 0.75], [1.05, 1, 0.95], (1024, 3)))[
        stone % 1024
    ]
    color *= np.array([BRIGHT[axis] for axis in (0, 1, 2)])[axes][:, None]
    return Gaussians(
        places.astype(np.float32),
        np.log(scales).astype(np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (len(places), 1)),
        np.full(len(places), OPAQUE, np.float32),
        ((color - 0.5) / SH_C0).astype(np.float32)[:, None],
    )
