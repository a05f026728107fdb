"""Front-to-back blending of a tile's Gaussians, forward and backward.

The form matters more than anything else for speed: LLVM vectorises a loop when it is one flat loop in its own
function, over one scratch buffer at constant offsets, with unsigned indices and if-expressions instead of branches.
Each Gaussian visits the rows of the tile that its ellipse spans, all 16 pixels of a row.

The backward pass also runs front to back. With q = dL/dC · c of a Gaussian, the light that everything behind it adds,
R = sum of w q behind (plus the share of the transmittance), gives dL/dalpha = T q - R / (1 - alpha); R starts as the
whole sum, known from the forward pass, and loses w q with each Gaussian. No atomics: every (Gaussian, tile) pair
writes a slot of its own.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from pipeline.splat.raster.layout import (
    ALPHA_MAX,
    BLUE,
    CONIC_XX,
    CONIC_XY,
    CONIC_YY,
    DEPTH,
    EXTENT_Y,
    GREEN,
    HALF,
    MEAN_X,
    MEAN_Y,
    ONE,
    OPACITY,
    REACH,
    RED,
    SLOT_COLUMNS,
    TILE,
    TILE_PIXELS,
    ZERO,
)

Float = NDArray[np.float32]
Int = NDArray[np.int32]

PLANES = 4
"""Accumulated channels: red, green, blue, depth."""
CHECK_EVERY = 8
"""Gaussians between two looks whether a tile is finished."""
STRICT_MATH = {"reassoc", "contract", "arcp", "nsz"}
"""Reductions may be reordered, but infinities keep their meaning: far outside an ellipse the exponential overflows
before the cutoff discards it."""
SECOND, THIRD, FOURTH, FIFTH, SIXTH = (np.uint64(TILE_PIXELS * k) for k in range(1, 6))
"""Offsets of the scratch buffer's planes; the first lies at 0."""

# exp(-p) as a polynomial of degree 4 in p/16, to the 16th power: relative error 6e-5 for p in [0, 12]. The coefficients
# are a weighted minimax fit of exp(-u) on [0, 0.75] with the division by 16 folded in.
EXP_0, EXP_1, EXP_2, EXP_3, EXP_4 = (
    np.float32(c / 16**k) for k, c in enumerate((0.99999616, -0.99977087, 0.49769716, -0.15825127, 0.02846958))
)


@njit(fastmath=STRICT_MATH, inline="always")
def _exp_negative(p: np.float32) -> np.float32:
    value = EXP_0 + p * (EXP_1 + p * (EXP_2 + p * (EXP_3 + p * EXP_4)))
    value *= value
    value *= value
    value *= value
    return value * value


@njit(inline="always")
def _pixel_grid() -> Float:
    """Column (first half) and row (second half) of each pixel of a tile, as float32."""
    grid = np.empty(2 * TILE_PIXELS, np.float32)
    for p in range(TILE_PIXELS):
        grid[p] = np.float32(p % TILE)
        grid[TILE_PIXELS + p] = np.float32(p // TILE)
    return grid


@njit(inline="always")
def _pixel_range(record: Float, top: np.float32) -> tuple[int, int]:
    """First and one past the last pixel of the tile's rows that the ellipse spans; `top` is the first row's centre."""
    middle = record[MEAN_Y] - top
    first = max(0, math.ceil(middle - record[EXTENT_Y]))
    last = min(TILE - 1, math.floor(middle + record[EXTENT_Y]))
    return first * TILE, (last + 1) * TILE


@njit(fastmath=STRICT_MATH, nogil=True, error_model="numpy", cache=True)
def _blend(
    buffer: Float,
    grid: Float,
    first: int,
    last: int,
    left: np.float32,
    top: np.float32,
    half_xx: np.float32,
    xy: np.float32,
    half_yy: np.float32,
    opacity: np.float32,
    reach: np.float32,
    red: np.float32,
    green: np.float32,
    blue: np.float32,
    depth: np.float32,
) -> None:
    """Blend one Gaussian; buffer planes: transmittance, red, green, blue, depth."""
    for p in range(first, last):
        i = np.uint64(p)
        dx, dy = left + grid[i], top + grid[i + SECOND]
        power = dx * (half_xx * dx + xy * dy) + half_yy * dy * dy
        falloff = opacity * _exp_negative(power)
        alpha = falloff if falloff < ALPHA_MAX else ALPHA_MAX
        alpha = alpha if power <= reach else ZERO
        transmittance = buffer[i]
        weight = alpha * transmittance
        buffer[i + SECOND] += weight * red
        buffer[i + THIRD] += weight * green
        buffer[i + FOURTH] += weight * blue
        buffer[i + FIFTH] += weight * depth
        buffer[i] = transmittance - weight


@njit(fastmath=STRICT_MATH, nogil=True, error_model="numpy", cache=True)
def _blend_median(
    buffer: Float,
    grid: Float,
    first: int,
    last: int,
    left: np.float32,
    top: np.float32,
    half_xx: np.float32,
    xy: np.float32,
    half_yy: np.float32,
    opacity: np.float32,
    reach: np.float32,
    depth: np.float32,
) -> None:
    """Buffer planes: transmittance, depth at which it fell to one half."""
    for p in range(first, last):
        i = np.uint64(p)
        dx, dy = left + grid[i], top + grid[i + SECOND]
        power = dx * (half_xx * dx + xy * dy) + half_yy * dy * dy
        falloff = opacity * _exp_negative(power)
        alpha = falloff if falloff < ALPHA_MAX else ALPHA_MAX
        alpha = alpha if power <= reach else ZERO
        transmittance = buffer[i]
        rest = transmittance - alpha * transmittance
        before, median = buffer[i + SECOND], depth if rest <= HALF else ZERO
        buffer[i + SECOND] = median if before == ZERO else before
        buffer[i] = rest


@njit(fastmath=STRICT_MATH, nogil=True, error_model="numpy", cache=True)
def _unblend(
    buffer: Float,
    grid: Float,
    first: int,
    last: int,
    left: np.float32,
    top: np.float32,
    half_xx: np.float32,
    xy: np.float32,
    half_yy: np.float32,
    opacity: np.float32,
    reach: np.float32,
    red: np.float32,
    green: np.float32,
    blue: np.float32,
    depth: np.float32,
    sums: Float,
) -> None:
    """Gradient of one Gaussian; buffer planes: transmittance, R, gradients by red, green, blue, depth.

    Writes to `sums` (10,): with g = dL/dpower the sums of g, g dx, g dx^2, g dy, g dx dy, g dy^2, and of the weight
    times each channel's gradient.
    """
    s = sx = sxx = sy = sxy = syy = s_red = s_green = s_blue = s_depth = ZERO
    for p in range(first, last):
        i = np.uint64(p)
        dx, dy = left + grid[i], top + grid[i + SECOND]
        power = dx * (half_xx * dx + xy * dy) + half_yy * dy * dy
        falloff = opacity * _exp_negative(power)
        alpha = falloff if falloff < ALPHA_MAX else ALPHA_MAX
        alpha = alpha if power <= reach else ZERO
        transmittance = buffer[i]
        weight = alpha * transmittance
        by_red, by_green, by_blue, by_depth = (
            buffer[i + THIRD],
            buffer[i + FOURTH],
            buffer[i + FIFTH],
            buffer[i + SIXTH],
        )
        pull = by_red * red + by_green * green + by_blue * blue + by_depth * depth
        behind = buffer[i + SECOND] - weight * pull
        buffer[i + SECOND] = behind
        buffer[i] = transmittance - weight
        by_alpha = transmittance * pull - behind / (ONE - alpha)
        by_power = -alpha * by_alpha
        by_power = by_power if falloff <= ALPHA_MAX else ZERO
        gx, gy = by_power * dx, by_power * dy
        s += by_power
        sx += gx
        sxx += gx * dx
        sy += gy
        sxy += gx * dy
        syy += gy * dy
        s_red += weight * by_red
        s_green += weight * by_green
        s_blue += weight * by_blue
        s_depth += weight * by_depth
    sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = s, sx, sxx, sy, sxy, syy
    sums[6], sums[7], sums[8], sums[9] = s_red, s_green, s_blue, s_depth


@njit(inline="always")
def _is_finished(buffer: Float, transmittance: np.float32) -> bool | np.bool_:
    brightest = ZERO
    for p in range(TILE_PIXELS):
        brightest = max(brightest, buffer[p])
    return brightest < transmittance


@njit(parallel=True, fastmath=STRICT_MATH, nogil=True, cache=True, error_model="numpy")
def blend_tiles(
    columns: int,
    rows: int,
    starts: NDArray[np.int64],
    gaussians: Int,
    records: Float,
    threshold: np.float32,
    planes: Float,
    transmittance: Float,
    ends: NDArray[np.int64],
) -> None:
    """Draw all tiles.

    Args:
        columns: Tiles across.
        rows: Tiles down.
        starts: (tiles + 1,), see `Tiles`.
        gaussians: (S,), see `Tiles`.
        records: (N, 16) of `project`.
        threshold: A tile is finished when no pixel's transmittance is above.
        planes: (4, 16 rows, 16 columns), written: sums of weight times red, green, blue, depth.
        transmittance: (16 rows, 16 columns), written: the light that passes all Gaussians.
        ends: (tiles,), written: one past the last pair that was drawn.
    """
    for tile in prange(columns * rows):
        grid = _pixel_grid()
        buffer = np.zeros((1 + PLANES) * TILE_PIXELS, np.float32)
        buffer[:TILE_PIXELS] = ONE
        tile_x, tile_y = tile % columns * TILE, tile // columns * TILE
        left, top = np.float32(tile_x) + HALF, np.float32(tile_y) + HALF
        pair, end = starts[tile], starts[tile + 1]
        while pair < end:
            record = records[gaussians[pair]]
            first, last = _pixel_range(record, top)
            _blend(
                buffer,
                grid,
                first,
                last,
                left - record[MEAN_X],
                top - record[MEAN_Y],
                HALF * record[CONIC_XX],
                record[CONIC_XY],
                HALF * record[CONIC_YY],
                record[OPACITY],
                record[REACH],
                record[RED],
                record[GREEN],
                record[BLUE],
                record[DEPTH],
            )
            pair += 1
            if pair % CHECK_EVERY == 0 and _is_finished(buffer, threshold):
                break
        ends[tile] = pair
        for row in range(TILE):
            for column in range(TILE):
                p = row * TILE + column
                transmittance[tile_y + row, tile_x + column] = buffer[p]
                for plane in range(PLANES):
                    planes[plane, tile_y + row, tile_x + column] = buffer[(1 + plane) * TILE_PIXELS + p]


@njit(parallel=True, fastmath=STRICT_MATH, nogil=True, cache=True, error_model="numpy")
def median_depth_tiles(
    columns: int,
    rows: int,
    starts: NDArray[np.int64],
    gaussians: Int,
    records: Float,
    median: Float,
) -> None:
    """Write the depth at which the transmittance falls to one half (0 where it never does) to `median`.

    Arguments as for `blend_tiles`; `median` is (16 rows, 16 columns).
    """
    for tile in prange(columns * rows):
        grid = _pixel_grid()
        buffer = np.zeros(2 * TILE_PIXELS, np.float32)
        buffer[:TILE_PIXELS] = ONE
        tile_x, tile_y = tile % columns * TILE, tile // columns * TILE
        left, top = np.float32(tile_x) + HALF, np.float32(tile_y) + HALF
        pair, end = starts[tile], starts[tile + 1]
        while pair < end:
            record = records[gaussians[pair]]
            first, last = _pixel_range(record, top)
            _blend_median(
                buffer,
                grid,
                first,
                last,
                left - record[MEAN_X],
                top - record[MEAN_Y],
                HALF * record[CONIC_XX],
                record[CONIC_XY],
                HALF * record[CONIC_YY],
                record[OPACITY],
                record[REACH],
                record[DEPTH],
            )
            pair += 1
            if pair % CHECK_EVERY == 0 and _is_finished(buffer, HALF):
                break
        for row in range(TILE):
            for column in range(TILE):
                median[tile_y + row, tile_x + column] = buffer[TILE_PIXELS + row * TILE + column]


@njit(parallel=True, fastmath=STRICT_MATH, nogil=True, cache=True, error_model="numpy")
def blend_tiles_backward(
    columns: int,
    rows: int,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    gaussians: Int,
    slots: Int,
    records: Float,
    planes: Float,
    transmittance: Float,
    by_planes: Float,
    by_transmittance: Float,
    gradients: Float,
) -> None:
    """Write the gradient of each pair to its slot.

    Args:
        columns: Tiles across.
        rows: Tiles down.
        starts: (tiles + 1,), see `Tiles`.
        ends: (tiles,) of `blend_tiles`.
        gaussians: (S,), see `Tiles`.
        slots: (S,), see `Tiles`.
        records: (N, 16) of `project`.
        planes: (4, 16 rows, 16 columns) of `blend_tiles`.
        transmittance: (16 rows, 16 columns) of `blend_tiles`.
        by_planes: (4, 16 rows, 16 columns), the loss's derivative by `planes`.
        by_transmittance: (16 rows, 16 columns), the loss's derivative by `transmittance`.
        gradients: (S, 10), written, columns as `SLOT_COLUMNS` tells.
    """
    for tile in prange(columns * rows):
        grid = _pixel_grid()
        buffer = np.empty(6 * TILE_PIXELS, np.float32)
        sums = np.empty(SLOT_COLUMNS, np.float32)
        tile_x, tile_y = tile % columns * TILE, tile // columns * TILE
        for row in range(TILE):
            for column in range(TILE):
                p, y, x = row * TILE + column, tile_y + row, tile_x + column
                whole = by_transmittance[y, x] * transmittance[y, x]
                for plane in range(PLANES):
                    gradient = by_planes[plane, y, x]
                    whole += gradient * planes[plane, y, x]
                    buffer[(2 + plane) * TILE_PIXELS + p] = gradient
                buffer[p] = ONE
                buffer[TILE_PIXELS + p] = whole
        left, top = np.float32(tile_x) + HALF, np.float32(tile_y) + HALF
        for pair in range(starts[tile], ends[tile]):
            record = records[gaussians[pair]]
            xx, xy, yy = record[CONIC_XX], record[CONIC_XY], record[CONIC_YY]
            first, last = _pixel_range(record, top)
            _unblend(
                buffer,
                grid,
                first,
                last,
                left - record[MEAN_X],
                top - record[MEAN_Y],
                HALF * xx,
                xy,
                HALF * yy,
                record[OPACITY],
                record[REACH],
                record[RED],
                record[GREEN],
                record[BLUE],
                record[DEPTH],
                sums,
            )
            slot = gradients[slots[pair]]
            slot[0] = -(xx * sums[1] + xy * sums[3])
            slot[1] = -(xy * sums[1] + yy * sums[3])
            slot[2], slot[3], slot[4] = HALF * sums[2], sums[4], HALF * sums[5]
            slot[5] = -sums[0] / record[OPACITY]
            for j in range(6, SLOT_COLUMNS):
                slot[j] = sums[j]
        for pair in range(ends[tile], starts[tile + 1]):
            slot = gradients[slots[pair]]
            for j in range(SLOT_COLUMNS):
                slot[j] = ZERO
