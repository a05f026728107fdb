"""Blending for small images of many small Gaussians: one Gaussian after another, near to far, into the whole image.

An image of the size of a robot's fits into a core's cache. So nothing has to know which Gaussians touch which part of
it, and a Gaussian costs what its bounding box covers: most cover few pixels. Pixels are blended 16 at a time, 8 columns
of 2 rows, which lie side by side in memory.

Records have the columns of `layout`, but half of the conic's xx and yy, and `LEFT` to `BOTTOM`.
"""

from __future__ import annotations

import numpy as np

from pipeline.geometry.jit import njit
from pipeline.raster import layout
from pipeline.raster.lanes import WIDTH, Lanes, largest, line_aligned_buffer, load, prefetch, select, spread, store
from pipeline.raster.layout import ALPHA_MAX, HALF, ONE, OPAQUE_ENOUGH, STRICT_MATH, TILE, ZERO
from pipeline.types import F32, U8, U32

PAIR = 2
"""Rows of pixels that lie side by side."""
ACROSS = WIDTH // PAIR
"""Columns that are blended at once."""
LEFT, RIGHT, TOP, BOTTOM = 10, 11, 12, 14
"""Columns of a record: first and last column and row of the pixels that the Gaussian's bounding box touches."""
LIGHT, RED, GREEN, BLUE, WHOLE, MEDIAN = range(6)
"""Planes of a frame: transmittance; red, green, blue and depth times weight; -median depth."""
PLANES = 6
INTERVAL = 256
"""Gaussians between two looks at which tiles are finished."""
AHEAD = 8
"""Gaussians that are fetched before they are needed: they lie scattered in memory."""
DIGIT_BITS = 11
RADIX = 1 << DIGIT_BITS
DIGIT_MASK, LAST_KEY = RADIX - 1, RADIX * RADIX - 1
"""Constants of the radix sort by two digits."""

# exp(-p) as a polynomial of degree 4 in p/8, to the 8th power: a minimax fit on [0, 0.7] with the division by 8 folded
# in. Relative error 2e-5 for p up to 5.6, where alpha is 1/255; beyond, up to 12, absolute error 3e-6.
EXP_0, EXP_1, EXP_2, EXP_3, EXP_4 = (
    np.float32(c / 8**k) for k, c in enumerate((0.99999728, -0.99982466, 0.49810500, -0.15923826, 0.02921247))
)


@njit(nogil=True, error_model="numpy")
def order_by_depth(records: F32, count: int) -> U32:
    """The first `count` of records (N, 16) from near to far, stable: a radix sort of 22 bits of the depths.

    Positive floats sort as their bits do. Depths that differ by less than a millionth or so count as equal.
    """
    keys, other_keys = np.empty(count, np.uint32), np.empty(count, np.uint32)
    order, other_order = np.empty(count, np.uint32), np.empty(count, np.uint32)
    first, second = np.zeros(RADIX + 1, np.uint32), np.zeros(RADIX + 1, np.uint32)
    depths = records.reshape(-1).view(np.uint32)
    least, most = np.uint32(0xFFFFFFFF), np.uint32(0)
    for rank in range(np.uint32(count)):
        key = depths[np.uint32(rank * layout.RECORD_COLUMNS + layout.DEPTH)]
        keys[rank], least, most = key, min(least, key), max(most, key)
    shift = np.uint32(0)
    while count > 0 and (most - least) >> shift > LAST_KEY:
        shift += np.uint32(1)
    for rank in range(np.uint32(count)):
        key = np.uint32((keys[rank] - least) >> shift)
        keys[rank] = key
        first[np.uint32((key & DIGIT_MASK) + 1)] += np.uint32(1)
        second[np.uint32((key >> DIGIT_BITS) + 1)] += np.uint32(1)
    for value in range(RADIX):
        first[value + 1] += first[value]
        second[value + 1] += second[value]
    for rank in range(np.uint32(count)):
        key = keys[rank]
        value = np.uint32(key & DIGIT_MASK)
        position = first[value]
        first[value] = position + np.uint32(1)
        other_keys[position], other_order[position] = key, rank
    for rank in range(np.uint32(count)):
        value = np.uint32(other_keys[rank] >> DIGIT_BITS)
        position = second[value]
        second[value] = position + np.uint32(1)
        order[position] = other_order[rank]
    return order


@njit(fastmath=STRICT_MATH, error_model="numpy")
def _exp_negative(p: Lanes) -> Lanes:
    value = p * (p * (p * (p * EXP_4 + EXP_3) + EXP_2) + EXP_1) + EXP_0
    value = value * value
    value = value * value
    return value * value


@njit(error_model="numpy")
def new_frame(height: int, width: int) -> F32:
    """Memory for the planes of an image (rows / 2, planes, columns, 2), with some columns to spare on the right."""
    pairs, columns = -(-height // PAIR), width + ACROSS
    return line_aligned_buffer(pairs * PLANES * columns * PAIR).reshape(pairs, PLANES, columns, PAIR)


@njit(fastmath=STRICT_MATH, error_model="numpy")
def _finish(frame: F32, threshold: np.float32, finished: U8) -> bool:
    """Mark the tiles (rows, columns) of 16x16 pixels none of which lets more light through than the threshold.

    Returns whether those are all.
    """
    pairs, _, columns, _ = frame.shape
    left = False
    for row in range(finished.shape[0]):
        for column in range(finished.shape[1]):
            most = spread(ZERO)
            for pair in range(row * (TILE // PAIR), min((row + 1) * (TILE // PAIR), pairs)):
                for x in range(column * TILE, min((column + 1) * TILE, columns - ACROSS), ACROSS):
                    most = max(most, load(frame, ((pair * PLANES + LIGHT) * columns + x) * PAIR))
            finished[row, column] = largest(most) < threshold
            left |= finished[row, column] == 0
    return not left


@njit(error_model="numpy")
def clear(frame: F32) -> None:
    """Begin an image: all light passes."""
    frame[:] = ZERO
    frame[:, LIGHT] = ONE


@njit(fastmath=STRICT_MATH, error_model="numpy")
def blend(records: F32, order: U32, limit: np.float32, threshold: np.float32, frame: F32, finished: U8) -> None:
    """Blend records (N, 16) in an order, near to far, into a frame, behind what is there.

    `limit` is -log of the least alpha that counts. A tile of 16x16 pixels is finished when none of them has a
    transmittance above the threshold; Gaussians of up to its size that touch no other tiles are left out, and all
    when no other tiles are left. `finished` (rows, columns) is memory for that.
    """
    columns = frame.shape[2]
    plane = columns * PAIR
    finished[:] = 0
    first = np.empty(2 * WIDTH, np.float32)
    for lane in range(WIDTH):
        first[lane] = np.float32(lane // PAIR) + HALF
        first[WIDTH + lane] = np.float32(lane % PAIR) + HALF
    xs, ys = load(first, 0), load(first, WIDTH)
    for rank in range(order.shape[0]):
        if rank % INTERVAL == INTERVAL - 1 and _finish(frame, threshold, finished):
            break
        prefetch(records, np.int64(order[min(rank + AHEAD, order.shape[0] - 1)]) * layout.RECORD_COLUMNS)
        record = records[order[rank]]
        left, right = np.int64(record[LEFT]), np.int64(record[RIGHT])
        top, bottom = np.int64(record[TOP]), np.int64(record[BOTTOM])
        if right - left <= TILE and bottom - top <= TILE:  # no more tiles than those of its corners
            west, east, north, south = left // TILE, right // TILE, top // TILE, bottom // TILE
            if finished[north, west] & finished[north, east] & finished[south, west] & finished[south, east]:
                continue
        mean_x, mean_y, faint = record[layout.MEAN_X], record[layout.MEAN_Y], record[layout.FAINT]
        xx, xy, yy = record[layout.CONIC_XX], record[layout.CONIC_XY], record[layout.CONIC_YY]
        red, green, blue = spread(record[layout.RED]), spread(record[layout.GREEN]), spread(record[layout.BLUE])
        depth, nearer = spread(record[layout.DEPTH]), spread(ZERO - record[layout.DEPTH])
        for column in range(left, right + 1, ACROSS):
            dx = xs + (np.float32(column) - mean_x)
            along, across = dx * dx * xx + faint, dx * xy
            for pair in range(top // PAIR, bottom // PAIR + 1):
                dy = ys + (np.float32(PAIR * pair) - mean_y)
                power = dy * (dy * yy + across) + along
                alpha = select(power <= limit, min(_exp_negative(power), spread(ALPHA_MAX)), spread(ZERO))
                at = (pair * PLANES * columns + column) * PAIR
                light = load(frame, at)
                weight = alpha * light
                store(frame, at, light - weight)
                store(frame, at + RED * plane, load(frame, at + RED * plane) + weight * red)
                store(frame, at + GREEN * plane, load(frame, at + GREEN * plane) + weight * green)
                store(frame, at + BLUE * plane, load(frame, at + BLUE * plane) + weight * blue)
                store(frame, at + WHOLE * plane, load(frame, at + WHOLE * plane) + weight * depth)
                # the largest depth while more than half of the light is left, negative: of any select or max LLVM makes
                # a masked store, which takes AMD's processors as long as all the rest
                reached = select(light <= HALF, spread(ZERO), nearer)
                store(frame, at + MEDIAN * plane, min(load(frame, at + MEDIAN * plane), reached))


@njit(fastmath=STRICT_MATH, error_model="numpy")
def develop(frame: F32, background: F32, rgb: F32, depth: F32, alpha: F32, median: F32) -> None:
    """Write the images (H, W) of a frame; for them and the background see `render_batch`."""
    height, width = depth.shape
    for y in range(height):
        for x in range(width):
            pixel = frame[y // PAIR, :, x, y % PAIR]
            light = pixel[LIGHT]
            opaque = ONE - light
            rgb[y, x, 0] = pixel[RED] + light * background[0]
            rgb[y, x, 1] = pixel[GREEN] + light * background[1]
            rgb[y, x, 2] = pixel[BLUE] + light * background[2]
            alpha[y, x] = opaque
            depth[y, x] = pixel[WHOLE] / opaque if opaque >= OPAQUE_ENOUGH else ZERO
            median[y, x] = -pixel[MEDIAN] if light <= HALF else ZERO
