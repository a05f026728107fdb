"""Which Gaussian touches which tile, in order of depth."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.splat.raster.layout import (
    CONIC_XX,
    CONIC_XY,
    CONIC_YY,
    DEPTH,
    EXTENT_X,
    EXTENT_Y,
    MEAN_X,
    MEAN_Y,
    REACH,
    TILE,
    TWO,
    ZERO,
)

Float = NDArray[np.float32]
Int = NDArray[np.int32]

TILE_SIDE, INVERSE_SIDE = np.float32(TILE), np.float32(1 / TILE)


class Tiles(NamedTuple):
    """The pairs of Gaussians and tiles; a pair's slot is its number in the order of `visible`.

    Attributes:
        visible: (V,) int32, visible Gaussians, ascending: what goes through their parameters then runs through memory.
        offsets: (V + 1,) int64, the first slot of each of `visible`.
        starts: (tiles + 1,) int64, the first pair of each tile, tiles in row-major order.
        gaussians: (S,) int32, the Gaussian of each pair; tile by tile, near to far inside.
        slots: (S,) int32, the slot of each pair.
    """

    visible: Int
    offsets: NDArray[np.int64]
    starts: NDArray[np.int64]
    gaussians: Int
    slots: Int


def bin_gaussians(records: Float, columns: int, rows: int) -> Tiles:
    """Sort the visible Gaussians by depth and distribute them over the tiles that their ellipses touch.

    Args:
        records: (N, 16) of `project`.
        columns: Tiles across.
        rows: Tiles down.
    """
    depth = records[:, DEPTH]
    visible = np.flatnonzero(depth > 0).astype(np.int32)
    # Positive floats sort as their bits do; the rank below makes the order total.
    ranks = np.arange(len(visible), dtype=np.uint64)
    keys = depth[visible].view(np.uint32).astype(np.uint64) << np.uint64(32) | ranks
    keys.sort()
    by_depth = (keys & np.uint64(0xFFFFFFFF)).astype(np.int32)
    return Tiles(visible, *_distribute(visible, by_depth, records, columns, rows))


@njit(fastmath=True, inline="always")
def _tile(coordinate: np.float32) -> int:
    """Row or column of tiles [..., -1, 0, 1, ...] at a pixel coordinate; numba's // is slow for floats."""
    return math.floor(coordinate * INVERSE_SIDE)


@njit(fastmath=True, inline="always")
def _span(record: Float, top: np.float32, bottom: np.float32) -> tuple[np.float32, np.float32]:
    """The ellipse's leftmost and rightmost x inside the band of rows [top, bottom], all relative to its centre.

    The right border x(y) of the ellipse is concave with its maximum at the y of the point farthest right; clamping that
    y into the band gives the band's maximum. The left border mirrors it.
    """
    xx, xy, yy, squared = record[CONIC_XX], record[CONIC_XY], record[CONIC_YY], TWO * record[REACH]
    low, high = max(top, -record[EXTENT_Y]), min(bottom, record[EXTENT_Y])
    y_rightmost = -xy / yy * record[EXTENT_X]
    y = min(max(y_rightmost, low), high)
    right = (-xy * y + math.sqrt(max(ZERO, xy * xy * y * y - xx * (yy * y * y - squared)))) / xx
    y = min(max(-y_rightmost, low), high)
    left = (-xy * y - math.sqrt(max(ZERO, xy * xy * y * y - xx * (yy * y * y - squared)))) / xx
    return left, right


@njit(fastmath=True, nogil=True, cache=True, error_model="numpy")
def _distribute(
    visible: Int, by_depth: Int, records: Float, columns: int, rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Int, Int]:
    """`Tiles` without its first field: a counting sort of the pairs by tile, stable in depth.

    Args:
        visible: (V,) visible Gaussians.
        by_depth: (V,) indices into `visible`, near to far.
        records: (N, 16) of `project`.
        columns: Tiles across.
        rows: Tiles down.
    """
    bound = 0
    for n in visible:
        record = records[n]
        across = _tile(record[MEAN_X] + record[EXTENT_X]) - _tile(record[MEAN_X] - record[EXTENT_X]) + 1
        down = _tile(record[MEAN_Y] + record[EXTENT_Y]) - _tile(record[MEAN_Y] - record[EXTENT_Y]) + 1
        bound += min(across, columns) * min(down, rows)

    tile_of_slot = np.empty(bound, np.int32)
    offsets = np.empty(visible.shape[0] + 1, np.int64)
    starts = np.zeros(columns * rows + 1, np.int64)
    pairs = 0
    for rank in range(visible.shape[0]):
        record = records[visible[rank]]
        offsets[rank] = pairs
        mean_x, mean_y = record[MEAN_X], record[MEAN_Y]
        first_row = max(0, _tile(mean_y - record[EXTENT_Y]))
        last_row = min(rows - 1, _tile(mean_y + record[EXTENT_Y]))
        for row in range(first_row, last_row + 1):
            top = np.float32(row * TILE) - mean_y
            left, right = _span(record, top, top + TILE_SIDE)
            first_column = max(0, _tile(mean_x + left))
            last_column = min(columns - 1, _tile(mean_x + right))
            for column in range(first_column, last_column + 1):
                tile = row * columns + column
                tile_of_slot[pairs] = tile
                starts[tile + 1] += 1
                pairs += 1
    offsets[visible.shape[0]] = pairs

    for tile in range(columns * rows):
        starts[tile + 1] += starts[tile]
    position = starts[:-1].copy()
    gaussians, slots = np.empty(pairs, np.int32), np.empty(pairs, np.int32)
    for rank in by_depth:
        n = visible[rank]
        for slot in range(offsets[rank], offsets[rank + 1]):
            tile = tile_of_slot[slot]
            gaussians[position[tile]] = n
            slots[position[tile]] = slot
            position[tile] += 1
    return offsets, starts, gaussians, slots
