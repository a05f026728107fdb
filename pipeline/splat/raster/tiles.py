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


class Tiles(NamedTuple):
    """The pairs of Gaussians and tiles; a pair's slot is its number in the order of `order`.

    Attributes:
        order: (V,) int32, visible Gaussians from near to far.
        offsets: (V + 1,) int64, the first slot of each of `order`.
        starts: (tiles + 1,) int64, the first pair of each tile, tiles in row-major order.
        gaussians: (S,) int32, the Gaussian of each pair; tile by tile, near to far inside.
        slots: (S,) int32, the slot of each pair.
    """

    order: Int
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
    visible = np.flatnonzero(depth > 0)
    # Positive floats sort as their bits do; the index below makes the order total.
    keys = depth[visible].view(np.uint32).astype(np.uint64) << np.uint64(32) | visible.astype(np.uint64)
    keys.sort()
    order = (keys & np.uint64(0xFFFFFFFF)).astype(np.int32)
    return Tiles(order, *_distribute(order, records, columns, rows))


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


@njit(fastmath=True, nogil=True, cache=True)
def _distribute(
    order: Int, records: Float, columns: int, rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Int, Int]:
    """`Tiles` without its first field: a counting sort of the pairs by tile, stable in depth."""
    side = np.float32(TILE)
    visible = order.shape[0]
    bound = 0
    for o in range(visible):
        record = records[order[o]]
        across = int((record[MEAN_X] + record[EXTENT_X]) // side) - int((record[MEAN_X] - record[EXTENT_X]) // side)
        down = int((record[MEAN_Y] + record[EXTENT_Y]) // side) - int((record[MEAN_Y] - record[EXTENT_Y]) // side)
        bound += min(across + 1, columns) * min(down + 1, rows)

    tile_of_slot = np.empty(bound, np.int32)
    offsets = np.empty(visible + 1, np.int64)
    starts = np.zeros(columns * rows + 1, np.int64)
    pairs = 0
    for o in range(visible):
        record = records[order[o]]
        offsets[o] = pairs
        mean_x, mean_y = record[MEAN_X], record[MEAN_Y]
        first_row = max(0, int((mean_y - record[EXTENT_Y]) // side))
        last_row = min(rows - 1, int((mean_y + record[EXTENT_Y]) // side))
        for row in range(first_row, last_row + 1):
            top = np.float32(row * TILE) - mean_y
            left, right = _span(record, top, top + side)
            first_column = max(0, int((mean_x + left) // side))
            last_column = min(columns - 1, int((mean_x + right) // side))
            for column in range(first_column, last_column + 1):
                tile = row * columns + column
                tile_of_slot[pairs] = tile
                starts[tile + 1] += 1
                pairs += 1
    offsets[visible] = pairs

    for tile in range(columns * rows):
        starts[tile + 1] += starts[tile]
    position = starts[:-1].copy()
    gaussians, slots = np.empty(pairs, np.int32), np.empty(pairs, np.int32)
    for o in range(visible):
        for slot in range(offsets[o], offsets[o + 1]):
            tile = tile_of_slot[slot]
            gaussians[position[tile]] = order[o]
            slots[position[tile]] = slot
            position[tile] += 1
    return offsets, starts, gaussians, slots
