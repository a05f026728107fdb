"""Blending for small images of many small Gaussians: blocks of 4x4 pixels, each drawn at one go.

A block's 16 pixels are one `Lanes` a plane, which stay in registers while all of the block's Gaussians go by. Each tile
of 16x16 pixels has a list of its Gaussians, near to far, with a bit for each of the tile's 16 blocks that the
Gaussian's bounding box touches; a block looks at 64 of them at once. Small Gaussians touch fewer blocks than rows.

Records have the columns of `layout`, but half of the conic's xx and yy, and `LEFT` to `BOTTOM`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipeline.raster import layout
from pipeline.raster.blending import STRICT_MATH
from pipeline.raster.lanes import MARKS, WIDTH, Lanes, largest, load, lowest, marked, select, spread, store
from pipeline.raster.layout import ALPHA_MAX, HALF, ONE, OPAQUE_ENOUGH, TILE, ZERO
from pipeline.types import F32, U16, U32

BLOCK = 4
"""Side of a block [px]."""
LEFT, RIGHT, TOP, BOTTOM = 10, 11, 12, 14
"""Columns of a record: first and last column and row of the blocks that the Gaussian's bounding box touches."""
OUTPUTS = 6
"""Values of a pixel: red, green, blue, alpha, depth, median depth."""
FAR = np.float32(1e30)
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


@njit(error_model="numpy")
def _put(tile: int | np.int64, row: np.uint32, bits: int | np.int64, ends: U32, gaussians: U32, blocks: U16) -> None:
    """Append to a tile's list unless there are no bits. Without a branch: it would be unpredictable."""
    at = np.uint32(tile)  # a signed index costs numba's look whether it counts from the end
    n = ends[at]
    gaussians[n], blocks[n] = row, bits
    ends[at] = n + np.uint32(bits != 0)


@njit(nogil=True, error_model="numpy")
def list_tiles(records: F32, order: U32, across: int, down: int) -> tuple[U32, U32, U32, U16]:
    """Which Gaussians touch which tile, tile by tile, near to far, and which of its blocks.

    All Gaussians of `order` (V,), the result of `order_by_depth`, must touch a block of the image. Given are where the
    list of each tile begins and where it ends, for one column and row of tiles more than there are; (S,) rows of
    records; (S + 64,) the tile's blocks that each touches, as bits.
    """
    stride = across + 1
    change = np.zeros(stride * (down + 1), np.int32)  # of the number of Gaussians, against the tiles above and left
    for rank in range(order.shape[0]):
        record = records[rank]
        left, right = np.int64(record[LEFT]) >> 2, (np.int64(record[RIGHT]) >> 2) + 1
        top, bottom = (np.int64(record[TOP]) >> 2) * stride, ((np.int64(record[BOTTOM]) >> 2) + 1) * stride
        change[np.uint32(top + left)] += 1
        change[np.uint32(top + right)] -= 1
        change[np.uint32(bottom + left)] -= 1
        change[np.uint32(bottom + right)] += 1
    starts, above, total = np.empty(change.shape[0], np.uint32), np.zeros(stride, np.int64), 0
    for row in range(down + 1):
        count = 0
        for column in range(stride):
            tile = row * stride + column
            count += change[tile]
            above[column] += count
            starts[tile] = total
            total += above[column] + 1  # one to spare for what is written but not kept
    ends = starts.copy()
    gaussians, blocks = np.empty(total, np.uint32), np.empty(total + MARKS, np.uint16)
    rows = np.empty(16, np.int64)  # from bits of a tile's rows to bits of the rows' first blocks
    for some in range(16):
        rows[some] = some & 1 | (some & 2) << 3 | (some & 4) << 6 | (some & 8) << 9
    for rank in order:
        record = records[rank]
        left, right = np.int64(record[LEFT]), np.int64(record[RIGHT])
        top, bottom = np.int64(record[TOP]), np.int64(record[BOTTOM])
        tile = (top >> 2) * stride + (left >> 2)
        right, bottom, left, top = right - (left & ~3), bottom - (top & ~3), left & 3, top & 3  # from the tile's corner
        if right < 8 and bottom < 8:  # as most do: two by two tiles hold it
            columns, some = (2 << right) - (1 << left), (2 << bottom) - (1 << top)
            upper, lower = rows[np.uint32(some & 15)], rows[np.uint32(some >> 4)]
            _put(tile, rank, upper * (columns & 15), ends, gaussians, blocks)
            _put(tile + 1, rank, upper * (columns >> 4), ends, gaussians, blocks)
            _put(tile + stride, rank, lower * (columns & 15), ends, gaussians, blocks)
            _put(tile + stride + 1, rank, lower * (columns >> 4), ends, gaussians, blocks)
            continue
        for row in range((bottom >> 2) + 1):
            some = rows[np.uint32((2 << min(bottom - 4 * row, 3)) - (1 << max(top - 4 * row, 0)))]
            for column in range((right >> 2) + 1):
                columns = (2 << min(right - 4 * column, 3)) - (1 << max(left - 4 * column, 0))
                _put(tile + row * stride + column, rank, some * columns, ends, gaussians, blocks)
    return starts, ends, gaussians, blocks


@njit
def block_pixels(size: int) -> tuple[F32, F32]:
    """Centres of the pixels of the blocks along an axis of `size` pixels, 16 a block: along rows, along columns."""
    count = -(-size // BLOCK)
    xs, ys = np.empty(WIDTH * count, np.float32), np.empty(WIDTH * count, np.float32)
    for block in range(count):
        for pixel in range(WIDTH):
            xs[WIDTH * block + pixel] = np.float32(BLOCK * block + pixel % BLOCK) + HALF
            ys[WIDTH * block + pixel] = np.float32(BLOCK * block + pixel // BLOCK) + HALF
    return xs, ys


@njit(fastmath=STRICT_MATH, error_model="numpy")
def _exp_negative(p: Lanes) -> Lanes:
    value = p * (p * (p * (p * EXP_4 + EXP_3) + EXP_2) + EXP_1) + EXP_0
    value = value * value
    value = value * value
    return value * value


@njit(fastmath=STRICT_MATH, error_model="numpy")
def _blend(
    xs: Lanes,
    ys: Lanes,
    bit: np.uint16,
    start: int | np.int64,
    end: int | np.int64,
    gaussians: U32,
    blocks: U16,
    records: F32,
    limit: np.float32,
    threshold: np.float32,
) -> tuple[Lanes, Lanes, Lanes, Lanes, Lanes, Lanes]:
    """Blend the entries start..end-1 of `list_tiles` into the block with this bit, whose pixels' centres are (xs, ys).

    `limit` is -log of the least alpha that counts; the block is finished when no pixel's transmittance is above the
    threshold. Given are the transmittance; red, green, blue and depth times weight; median depth, `FAR` without one.
    """
    light, median = spread(ONE), spread(FAR)
    red = green = blue = whole = spread(ZERO)
    for group in range(start, end, MARKS):
        touching = marked(blocks, group, bit)
        if end - group < MARKS:
            touching &= (1 << (end - group)) - 1
        while touching != 0:
            record = records[gaussians[np.uint32(group + lowest(touching))]]
            touching &= touching - 1
            dx, dy = xs - record[layout.MEAN_X], ys - record[layout.MEAN_Y]
            power = dx * (dx * record[layout.CONIC_XX] + dy * record[layout.CONIC_XY]) + (
                dy * dy * record[layout.CONIC_YY] + record[layout.FAINT]
            )
            alpha = select(power <= limit, min(_exp_negative(power), spread(ALPHA_MAX)), spread(ZERO))
            weight = alpha * light
            light = light - weight
            red = red + weight * record[layout.RED]
            green = green + weight * record[layout.GREEN]
            blue = blue + weight * record[layout.BLUE]
            whole = whole + weight * record[layout.DEPTH]
            median = select(light <= HALF, min(median, spread(record[layout.DEPTH])), median)
        if largest(light) < threshold:
            break
    return light, red, green, blue, whole, median


@njit(fastmath=STRICT_MATH, nogil=True, error_model="numpy")
def draw(
    starts: U32,
    ends: U32,
    gaussians: U32,
    blocks: U16,
    records: F32,
    limit: np.float32,
    threshold: np.float32,
    background: F32,
    rgb: F32,
    depth: F32,
    alpha: F32,
    median: F32,
) -> None:
    """Draw an image (H, W) from the lists of `list_tiles`; for the arguments see `_blend` and `render_batch`."""
    height, width = depth.shape
    xs, ys = block_pixels(width)[0], block_pixels(height)[1]
    outputs, stride = np.empty(OUTPUTS * WIDTH, np.float32), -(-width // TILE) + 1
    for y in range(0, height, BLOCK):
        for x in range(0, width, BLOCK):
            tile = y // TILE * stride + x // TILE
            light, red, green, blue, whole, middle = _blend(
                load(xs, x // BLOCK * WIDTH),
                load(ys, y // BLOCK * WIDTH),
                np.uint16(1 << (y % TILE + x % TILE // BLOCK)),  # four blocks in each of the tile's rows of them
                np.int64(starts[tile]),
                np.int64(ends[tile]),
                gaussians,
                blocks,
                records,
                limit,
                threshold,
            )
            opaque = ONE - light
            store(outputs, 0, red + light * background[0])
            store(outputs, WIDTH, green + light * background[1])
            store(outputs, 2 * WIDTH, blue + light * background[2])
            store(outputs, 3 * WIDTH, opaque)
            store(outputs, 4 * WIDTH, select(spread(OPAQUE_ENOUGH) <= opaque, whole / opaque, spread(ZERO)))
            store(outputs, 5 * WIDTH, select(middle <= HALF * FAR, middle, spread(ZERO)))
            for row in range(min(BLOCK, height - y)):
                for column in range(min(BLOCK, width - x)):
                    at = row * BLOCK + column
                    for channel in range(3):
                        rgb[y + row, x + column, channel] = outputs[at + channel * WIDTH]
                    alpha[y + row, x + column] = outputs[at + 3 * WIDTH]
                    depth[y + row, x + column] = outputs[at + 4 * WIDTH]
                    median[y + row, x + column] = outputs[at + 5 * WIDTH]
