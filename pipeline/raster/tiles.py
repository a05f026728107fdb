"""Which Gaussian touches which tile, in order of depth."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pipeline.geometry.jit import njit
from pipeline.raster import layout
from pipeline.raster.layout import HALF, ONE, TILE, TWO, ZERO
from pipeline.types import F32, I32, I64, U8

PER_TILE = np.float32(2 / TILE)
"""Half an extent to tiles."""
LAST, TILE_BITS = np.float32(TILE - 1), 4
DIGITS, DIGIT_BITS, RADIX = 3, 11, 1 << 11
"""Constants of the radix sort: positive floats have 31 bits."""
DIGIT_MASK = np.uint32(RADIX - 1)


class Tiles(NamedTuple):
    """The pairs of Gaussians and tiles; a pair's slot is its number in the order of `visible`."""

    visible: I32  # (V,) int32, visible Gaussians, ascending: their parameters are then read in memory order
    offsets: I64  # (V + 1,) int64, the first slot of each of `visible`
    starts: I64  # (tiles + 1,) int64, the first pair of each tile, tiles in row-major order
    gaussians: I32  # (S,) int32, the Gaussian of each pair; tile by tile, near to far inside
    slots: I32  # (S,) int32, the slot of each pair
    rows: U8  # (S,) uint8, 16 times the first plus the last of the tile's rows that the ellipse touches


def bin_gaussians(records: F32, across: int, down: int) -> Tiles:
    """Sort what `records` (N, 16) of `project` show by depth and distribute it over the tiles that ellipses touch."""
    visible = np.flatnonzero(records[:, layout.DEPTH] > 0).astype(np.int32)
    return Tiles(visible, *distribute(visible, order_by_depth(visible, records), records, across, down))


@njit(nogil=True, cache=True)
def order_by_depth(visible: I32, records: F32) -> I32:
    """Indices into `visible` (V,) from near to far, stable: a radix sort of the bits of positive depths."""
    count = visible.shape[0]
    depths = np.empty(count, np.float32)
    for rank in range(count):
        depths[rank] = records[visible[rank], layout.DEPTH]
    keys, order = depths.view(np.uint32), np.arange(count).astype(np.int32)
    starts = np.zeros((DIGITS, RADIX + 1), np.int32)
    for key in keys:
        for digit in range(DIGITS):
            starts[digit, ((key >> np.uint32(digit * DIGIT_BITS)) & DIGIT_MASK) + np.uint32(1)] += 1
    other_keys, other_order = np.empty_like(keys), np.empty_like(order)
    for digit in range(DIGITS):
        start = starts[digit]
        for value in range(RADIX):
            start[value + 1] += start[value]
        for rank in range(count):
            key = keys[rank]
            value = (key >> np.uint32(digit * DIGIT_BITS)) & DIGIT_MASK
            position = start[value]
            start[value] = position + 1
            other_keys[position] = key
            other_order[position] = order[rank]
        keys, other_keys, order, other_order = other_keys, keys, other_order, order
    return order


@njit(fastmath=True, error_model="numpy")
def _ceil(value: np.float32) -> int:
    """Rounded up; numba's own calls a function."""
    truncated = int(value)
    return truncated + 1 if value > np.float32(truncated) else truncated


@njit(fastmath=True, error_model="numpy")
def _floor(value: np.float32) -> int:
    """Rounded down."""
    truncated = int(value)
    return truncated - 1 if value < np.float32(truncated) else truncated


@njit(fastmath=True, error_model="numpy")
def _strip(record: F32, left: np.float32, right: np.float32) -> tuple[np.float32, np.float32]:
    """The ellipse's smallest and largest y inside the strip of columns [left, right], all relative to its centre.

    The lower border y(x) of the ellipse is concave with its maximum at the x of the lowest point; clamping that x into
    the strip gives the strip's maximum. The upper border mirrors it.
    """
    xx, xy, yy = record[layout.CONIC_XX], record[layout.CONIC_XY], record[layout.CONIC_YY]
    left, right = max(left, -record[layout.EXTENT_X]), min(right, record[layout.EXTENT_X])
    # solved for y: (-xy x +- sqrt(whole - determinant x^2)) / yy
    determinant, whole, inverse = xx * yy - xy * xy, TWO * record[layout.REACH] * yy, ONE / yy
    x_lowest = -xy / xx * record[layout.EXTENT_Y]
    x = min(max(x_lowest, left), right)
    largest = (math.sqrt(max(ZERO, whole - determinant * x * x)) - xy * x) * inverse
    x = min(max(-x_lowest, left), right)
    smallest = (-math.sqrt(max(ZERO, whole - determinant * x * x)) - xy * x) * inverse
    return smallest, largest


@njit(fastmath=True, nogil=True, cache=True, error_model="numpy")
def distribute(visible: I32, by_depth: I32, records: F32, across: int, down: int) -> tuple[I64, I64, I32, I32, U8]:
    """`Tiles` without its first field: a counting sort of the pairs by tile, stable in depth.

    What is not finite becomes the lowest integer, so that such an ellipse touches no tile.
    """
    bound = 0
    for n in visible:
        record = records[n]
        spans_x, spans_y = int(record[layout.EXTENT_X] * PER_TILE) + 2, int(record[layout.EXTENT_Y] * PER_TILE) + 2
        bound += max(0, min(spans_x, across)) * max(0, min(spans_y, down))

    position_of_slot = np.empty(bound, np.int32)
    offsets = np.empty(visible.shape[0] + 1, np.int64)
    starts = np.zeros(across * down + 1, np.int64)
    pairs = 0
    for rank in range(visible.shape[0]):
        record = records[visible[rank]]
        offsets[rank] = pairs
        # in units of pixels, 0 is the centre of the first
        x, y = record[layout.MEAN_X] - HALF, record[layout.MEAN_Y] - HALF
        first_column = max(0, _ceil(x - record[layout.EXTENT_X])) >> TILE_BITS
        last_column = min(across * TILE - 1, _floor(x + record[layout.EXTENT_X])) >> TILE_BITS
        for column in range(first_column, last_column + 1):
            left = np.float32(column * TILE) - x
            smallest, largest = -record[layout.EXTENT_Y], record[layout.EXTENT_Y]
            if first_column < last_column:
                smallest, largest = _strip(record, left, left + LAST)
            first, last = max(0, _ceil(y + smallest)), min(down * TILE - 1, _floor(y + largest))
            if first > last:
                continue
            for row in range(first >> TILE_BITS, (last >> TILE_BITS) + 1):
                tile = row * across + column
                position_of_slot[pairs] = tile << 8 | max(0, first - row * TILE) << 4 | min(TILE - 1, last - row * TILE)
                starts[tile + 1] += 1
                pairs += 1
    offsets[visible.shape[0]] = pairs

    for tile in range(across * down):
        starts[tile + 1] += starts[tile]
    position = starts[:-1].copy()
    gaussians, slots, rows = np.empty(pairs, np.int32), np.empty(pairs, np.int32), np.empty(pairs, np.uint8)
    for rank in by_depth:
        for slot in range(offsets[rank], offsets[rank + 1]):
            packed = position_of_slot[slot]
            pair = position[packed >> 8]
            position[packed >> 8] = pair + 1
            gaussians[pair] = visible[rank]
            slots[pair] = slot
            rows[pair] = packed & 255
    return offsets, starts, gaussians, slots, rows
