"""Front-to-back blending of a tile's Gaussians, forward and backward.

Each Gaussian visits the rows of the tile that its ellipse touches; a row of 16 pixels is one `Lanes`. A tile's buffer
has a row's planes side by side: planes 4096 bytes apart would make stores wait for loads. The opacity is folded into
the exponent: alpha = exp(-(power + faint)) with faint = -log(opacity), so the cutoff is the same for every Gaussian.

The backward pass also runs front to back. With q = dL/dC · c of a Gaussian, the light that everything behind it adds,
R = sum of w q behind (plus the share of the transmittance), gives dL/dalpha = T q - R / (1 - alpha); R starts as the
whole sum, known from the forward pass, and loses w q with each Gaussian. No atomics: every (Gaussian, tile) pair
writes a slot of its own. Along a column dx is constant, so only three of the six moments are summed in the loop. A
Gaussian goes through its rows twice, for the derivatives and for their sums: together they need more registers than
AVX2 has. Records and slots lie all over memory; asking for both ahead of time
takes a third off the pass.
"""

from __future__ import annotations

import numpy as np

from pipeline.geometry.jit import njit, prange
from pipeline.raster import layout
from pipeline.raster.lanes import Lanes, largest, line_aligned_buffer, load, prefetch, select, spread, store, sum_each
from pipeline.raster.layout import ALPHA_MAX, HALF, ONE, STRICT_MATH, TILE, TWO, ZERO
from pipeline.raster.tiles import Tiles
from pipeline.types import F32, I64

PLANES = 4
"""Accumulated channels: red, green, blue, depth."""
CHECK_EVERY = 8
"""Gaussians between two looks whether a tile is finished."""
AHEAD = 6
"""Gaussians between asking for a record, or a slot, and using it."""

BUFFER_ROW = (4 + PLANES) * TILE
"""Floats of a row of the buffer: transmittance; R; four planes; weight and dL/dlog(alpha) of the latest Gaussian."""
SECOND, FIRST_PLANE, WEIGHT, BY_LOG = (k * TILE for k in (1, 2, 2 + PLANES, 3 + PLANES))
"""Offsets of these in a row; the forward pass needs only the transmittance and the planes."""

# exp(-p) as a polynomial of degree 4 in p/16, to the 16th power: relative error 6e-5 for p in [0, 12]. The coefficients
# are a weighted minimax fit of exp(-u) on [0, 0.75] with the division by 16 folded in.
EXP_0, EXP_1, EXP_2, EXP_3, EXP_4 = (
    np.float32(c / 16**k) for k, c in enumerate((0.99999616, -0.99977087, 0.49769716, -0.15825127, 0.02846958))
)


@njit(fastmath=STRICT_MATH, error_model="numpy")
def _exp_negative(p: Lanes) -> Lanes:
    value = p * (p * (p * (p * EXP_4 + EXP_3) + EXP_2) + EXP_1) + EXP_0
    value = value * value
    value = value * value
    value = value * value
    return value * value


@njit
def row_columns() -> F32:
    """The column of each pixel of a row."""
    columns = line_aligned_buffer(TILE)
    for x in range(TILE):
        columns[x] = np.float32(x)
    return columns


@njit(fastmath=STRICT_MATH, error_model="numpy")
def _first_power(dx: Lanes, dy: np.float32, record: F32) -> tuple[Lanes, Lanes]:
    """The exponent, opacity included, in a row of pixels, and what the next row adds: more by the conic's yy each."""
    xy, half_yy = record[layout.CONIC_XY], HALF * record[layout.CONIC_YY]
    power = dx * (dx * (HALF * record[layout.CONIC_XX]) + dy * xy) + (dy * dy * half_yy + record[layout.FAINT])
    return power, dx * xy + half_yy * (TWO * dy + ONE)


@njit(fastmath=STRICT_MATH, error_model="numpy")
def _alpha(power: Lanes, limit: np.float32) -> tuple[Lanes, Lanes]:
    """Opacity of a row's pixels, 0 where the exponent is beyond the limit; and before it was bounded."""
    falloff = _exp_negative(power)
    alpha = select(falloff <= ALPHA_MAX, falloff, spread(ALPHA_MAX))
    return select(power <= limit, alpha, spread(ZERO)), falloff


@njit
def _values(record: F32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """The values that a Gaussian adds to the four planes."""
    return record[layout.RED], record[layout.GREEN], record[layout.BLUE], record[layout.DEPTH]


@njit(fastmath=STRICT_MATH, error_model="numpy")
def _blend(buffer: F32, columns: F32, rows: int | np.int64, left: np.float32, top: np.float32, record: F32) -> None:
    """Blend one Gaussian into a tile's `buffer` (16 rows, BUFFER_ROW), flat.

    `rows` are those that its ellipse touches, see `Tiles`; (`left`, `top`) is the centre of the tile's first pixel.
    """
    first, last = rows >> 4, rows & 15
    dx = load(columns, 0) + (left - record[layout.MEAN_X])
    power, step = _first_power(dx, top - record[layout.MEAN_Y] + np.float32(first), record)
    # read before the loop: its stores might change the record, for all that the compiler knows
    limit, yy, values = record[layout.REACH] + record[layout.FAINT], record[layout.CONIC_YY], _values(record)
    for i in range(first * BUFFER_ROW, (last + 1) * BUFFER_ROW, BUFFER_ROW):
        alpha, _ = _alpha(power, limit)
        transmittance = load(buffer, i)
        weight = alpha * transmittance
        store(buffer, i, transmittance - weight)
        for plane in range(PLANES):
            at = i + FIRST_PLANE + plane * TILE
            store(buffer, at, load(buffer, at) + weight * values[plane])
        power = power + step
        step = step + yy


@njit(fastmath=STRICT_MATH, error_model="numpy")
def _unblend(
    buffer: F32,
    columns: F32,
    rows: int | np.int64,
    left: np.float32,
    top: np.float32,
    record: F32,
    slots: F32,
    slot: int | np.int64,
) -> None:
    """Write the gradient of one Gaussian in a tile to its slot; arguments as for `_blend`."""
    first, last = rows >> 4, rows & 15
    dx, first_dy = load(columns, 0) + (left - record[layout.MEAN_X]), top - record[layout.MEAN_Y] + np.float32(first)
    power, step = _first_power(dx, first_dy, record)
    limit, yy = record[layout.REACH] + record[layout.FAINT], record[layout.CONIC_YY]
    red, green, blue, depth = _values(record)
    zero = spread(ZERO)
    for i in range(first * BUFFER_ROW, (last + 1) * BUFFER_ROW, BUFFER_ROW):
        alpha, falloff = _alpha(power, limit)
        transmittance = load(buffer, i)
        weight = alpha * transmittance
        store(buffer, i, transmittance - weight)
        by_color = load(buffer, i + FIRST_PLANE) * red + load(buffer, i + FIRST_PLANE + TILE) * green
        by_color = by_color + load(buffer, i + FIRST_PLANE + 2 * TILE) * blue
        pull = by_color + load(buffer, i + FIRST_PLANE + 3 * TILE) * depth
        behind = load(buffer, i + SECOND) - weight * pull
        store(buffer, i + SECOND, behind)
        by_alpha = transmittance * pull - behind / (ONE - alpha)
        store(buffer, i + WEIGHT, weight)
        store(buffer, i + BY_LOG, select(falloff <= ALPHA_MAX, alpha * by_alpha, zero))
        power = power + step
        step = step + yy
    dy = spread(first_dy)
    s = sy = syy = s_red = s_green = s_blue = s_depth = zero
    for i in range(first * BUFFER_ROW, (last + 1) * BUFFER_ROW, BUFFER_ROW):
        weight, by_log = load(buffer, i + WEIGHT), load(buffer, i + BY_LOG)
        by_log_y = by_log * dy
        s = s + by_log
        sy = sy + by_log_y
        syy = syy + by_log_y * dy
        s_red = s_red + weight * load(buffer, i + FIRST_PLANE)
        s_green = s_green + weight * load(buffer, i + FIRST_PLANE + TILE)
        s_blue = s_blue + weight * load(buffer, i + FIRST_PLANE + 2 * TILE)
        s_depth = s_depth + weight * load(buffer, i + FIRST_PLANE + 3 * TILE)
        dy = dy + ONE
    sx = s * dx
    store(slots, slot, sum_each((s, sx, sx * dx, sy, sy * dx, syy, s_red, s_green, s_blue, s_depth)))


@njit
def _is_finished(buffer: F32, threshold: np.float32) -> bool:
    """Whether no pixel of the tile lets more light through."""
    brightest = load(buffer, 0)
    for i in range(BUFFER_ROW, TILE * BUFFER_ROW, BUFFER_ROW):
        row = load(buffer, i)
        brightest = select(row <= brightest, brightest, row)
    return largest(brightest) < threshold


@njit(fastmath=STRICT_MATH, error_model="numpy")
def draw_tile(
    buffer: F32,
    columns: F32,
    left: np.float32,
    top: np.float32,
    start: int,
    end: int,
    tiles: Tiles,
    records: F32,
    threshold: np.float32,
) -> int:
    """Blend the pairs start..end-1 into an empty tile; returns one past the last that was drawn.

    The tile is finished when no pixel's transmittance is above the threshold. For the other arguments see `_blend`.
    """
    for i in range(0, TILE * BUFFER_ROW, TILE):
        store(buffer, i, spread(ZERO))
    for i in range(0, TILE * BUFFER_ROW, BUFFER_ROW):
        store(buffer, i, spread(ONE))
    gaussians, rows = tiles.gaussians, tiles.rows
    for pair in range(start, end):
        prefetch(records, np.int64(gaussians[min(pair + AHEAD, end - 1)]) * layout.RECORD_COLUMNS)
        _blend(buffer, columns, np.int64(rows[pair]), left, top, records[gaussians[pair]])
        if (pair - start) % CHECK_EVERY == CHECK_EVERY - 1 and _is_finished(buffer, threshold):
            return pair + 1
    return end


@njit(parallel=True, fastmath=STRICT_MATH, nogil=True, cache=True, error_model="numpy")
def blend_tiles(
    across: int,
    down: int,
    tiles: Tiles,
    records: F32,
    threshold: np.float32,
    planes: F32,
    transmittance: F32,
    ends: I64,
) -> None:
    """Draw all tiles, `across` by `down`; each is finished when no pixel's transmittance is above the threshold.

    Written are `planes` (4, 16 down, 16 across) and `transmittance`, see `Raster`, and `ends` (tiles,): one past the
    last pair that was drawn.
    """
    for tile in prange(across * down):
        columns, buffer = row_columns(), line_aligned_buffer(TILE * BUFFER_ROW)
        x, y = tile % across * TILE, tile // across * TILE
        left, top = np.float32(x) + HALF, np.float32(y) + HALF
        start, end = tiles.starts[tile], tiles.starts[tile + 1]
        ends[tile] = draw_tile(buffer, columns, left, top, start, end, tiles, records, threshold)
        for row in range(TILE):
            to, at = (y + row) * across * TILE + x, row * BUFFER_ROW
            store(transmittance, to, load(buffer, at))
            for plane in range(PLANES):
                value = load(buffer, at + FIRST_PLANE + plane * TILE)
                store(planes, to + plane * across * down * layout.TILE_PIXELS, value)


@njit(parallel=True, fastmath=STRICT_MATH, nogil=True, cache=True, error_model="numpy")
def blend_tiles_backward(
    across: int,
    down: int,
    tiles: Tiles,
    ends: I64,
    records: F32,
    planes: F32,
    transmittance: F32,
    by_planes: F32,
    by_transmittance: F32,
    gradients: F32,
) -> None:
    """Write the gradient of each pair to its slot of `gradients` (S, 16), see `SLOT_COLUMNS`.

    The other arrays are as `blend_tiles` wrote them, or the loss's derivatives by them.
    """
    for tile in prange(across * down):
        columns, buffer = row_columns(), line_aligned_buffer(TILE * BUFFER_ROW)
        x, y = tile % across * TILE, tile // across * TILE
        for row in range(TILE):
            pixel, at = (y + row) * across * TILE + x, row * BUFFER_ROW
            whole = load(by_transmittance, pixel) * load(transmittance, pixel)
            for plane in range(PLANES):
                gradient = load(by_planes, pixel + plane * across * down * layout.TILE_PIXELS)
                whole = whole + gradient * load(planes, pixel + plane * across * down * layout.TILE_PIXELS)
                store(buffer, at + FIRST_PLANE + plane * TILE, gradient)
            store(buffer, at, spread(ONE))
            store(buffer, at + SECOND, whole)
        left, top = np.float32(x) + HALF, np.float32(y) + HALF
        start, end = tiles.starts[tile], ends[tile]
        for pair in range(start, end):
            ahead = min(pair + AHEAD, end - 1)
            prefetch(records, np.int64(tiles.gaussians[ahead]) * layout.RECORD_COLUMNS)
            prefetch(gradients, np.int64(tiles.slots[ahead]) * layout.SLOT_COLUMNS)
            slot = np.int64(tiles.slots[pair]) * layout.SLOT_COLUMNS
            record = records[tiles.gaussians[pair]]
            _unblend(buffer, columns, np.int64(tiles.rows[pair]), left, top, record, gradients, slot)
        for pair in range(end, tiles.starts[tile + 1]):
            store(gradients, np.int64(tiles.slots[pair]) * layout.SLOT_COLUMNS, spread(ZERO))
