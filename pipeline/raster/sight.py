"""Which Gaussians of a set a camera may see, and how they look on its image, 16 at a time; for `batch`.

Source of the projection as in `projection`: M. Zwicker et al., EWA Splatting, TVCG 2002, section 6.
"""

from __future__ import annotations

import numpy as np

from pipeline.geometry.jit import njit
from pipeline.raster import layout
from pipeline.raster.harmonics import seen_color
from pipeline.raster.lanes import WIDTH, Lanes, bits, floor, load, logarithm, lowest, root, select, spread, store_rows
from pipeline.raster.layout import (
    COLOR_FIELD,
    FAINT_FIELD,
    HALF,
    ONE,
    RADIUS,
    SPREAD,
    TWO,
    ZERO,
    ViewConstants,
    slope_limits,
)
from pipeline.types import F32, I32


@njit(fastmath=True, error_model="numpy")
def _bounded(value: Lanes, low: np.float32 | float, high: np.float32 | float) -> Lanes:
    above = select(value <= low, spread(low), value)
    return select(above <= high, above, spread(high))


@njit(fastmath=True, error_model="numpy")
def _beyond(value: Lanes, size: np.float32) -> Lanes:
    """Signed distance outside of [0, size], 0 within."""
    return value - _bounded(value, ZERO, size)


@njit(fastmath=True, error_model="numpy")
def in_sight(bounds: F32, first: int, end: int, view: ViewConstants, limit: np.float32, groups: I32) -> int:
    """Write the indices of the groups of Gaussians of which the camera may see any; returns their number.

    Of bounds as `PackedGaussians` has them, 16 columns at a time, from the `first` to the `end`.

    An ellipse reaches sqrt(2 reach (|u|^2 spread^2 + blur)) pixels from its centre, with u as in `project`; that is at
    most share * (f * slope * spread / z + sqrt(blur)) with share = sqrt(2 limit) and slope = |(1, slope's bound)|.
    Times z this is linear in the centre's position, so that a sphere's outermost point tells.
    """
    rotation, translation = view.rotation, view.translation
    size = bounds.shape[1]
    share = np.sqrt(TWO * limit)
    border = share * np.sqrt(view.blur)
    found = 0
    for n in range(first, end, WIDTH):
        a, b, c = load(bounds, n), load(bounds, n + size), load(bounds, n + 2 * size)
        radius, spread_out = load(bounds, n + RADIUS * size), load(bounds, n + SPREAD * size)
        z = a * rotation[2, 0] + b * rotation[2, 1] + c * rotation[2, 2] + translation[2]
        left = bits(view.near <= z + radius)
        for axis in range(2):
            along = a * rotation[axis, 0] + b * rotation[axis, 1] + c * rotation[axis, 2] + translation[axis]
            if axis == 0:
                focal, middle, extent = view.fx, view.cx, view.width
            else:
                focal, middle, extent = view.fy, view.cy, view.height
            slope = max(middle, extent - middle) / focal
            reach = spread_out * (share * focal * np.sqrt(ONE + slope * slope))
            low, high = middle + border, extent - middle + border
            left &= bits(ZERO - along * focal - z * low <= reach + radius * np.sqrt(focal * focal + low * low))
            left &= bits(along * focal - z * high <= reach + radius * np.sqrt(focal * focal + high * high))
        while left != 0:
            groups[found] = n + lowest(left)
            found += 1
            left &= left - 1
    return found


@njit(fastmath=True, error_model="numpy")
def project(table: F32, groups: I32, view: ViewConstants, limit: np.float32, records: F32, visible: I32) -> int:
    """Write the records (M + 1, 16), see `frame`, of what the camera sees of some groups; gives their number.

    Colours are those of degree 0. `limit` is -log of the least alpha that counts; `visible` (M + 1,) is written: the
    Gaussian of each record.
    """
    rotation, translation, near = view.rotation, view.translation, view.near
    fx, fy, cx, cy, width, height = view.fx, view.fy, view.cx, view.cy, view.width, view.height
    low_x, high_x, low_y, high_y = slope_limits(view)
    zero = spread(ZERO)
    size = table.shape[1]
    seen = 0
    for group in groups:
        n = group * WIDTH
        a, b, c = load(table, n), load(table, n + size), load(table, n + 2 * size)
        z = a * rotation[2, 0] + b * rotation[2, 1] + c * rotation[2, 2] + translation[2]
        if bits(near <= z) == 0:
            continue
        inverse = ONE / z
        slope_x = (a * rotation[0, 0] + b * rotation[0, 1] + c * rotation[0, 2] + translation[0]) * inverse
        slope_y = (a * rotation[1, 0] + b * rotation[1, 1] + c * rotation[1, 2] + translation[1]) * inverse
        mean_x, mean_y = slope_x * fx + cx, slope_y * fy + cy
        slope_x, slope_y = _bounded(slope_x, low_x, high_x), _bounded(slope_y, low_y, high_y)
        jx, jy = inverse * fx, inverse * fy
        u0 = (rotation[0, 0] - slope_x * rotation[2, 0]) * jx
        u1 = (rotation[0, 1] - slope_x * rotation[2, 1]) * jx
        u2 = (rotation[0, 2] - slope_x * rotation[2, 2]) * jx
        v0 = (rotation[1, 0] - slope_y * rotation[2, 0]) * jy
        v1 = (rotation[1, 1] - slope_y * rotation[2, 1]) * jy
        v2 = (rotation[1, 2] - slope_y * rotation[2, 2]) * jy
        c00, c01, c02 = load(table, n + 3 * size), load(table, n + 4 * size), load(table, n + 5 * size)
        c11, c12, c22 = load(table, n + 6 * size), load(table, n + 7 * size), load(table, n + 8 * size)
        w0, w1, w2 = c00 * u0 + c01 * u1 + c02 * u2, c01 * u0 + c11 * u1 + c12 * u2, c02 * u0 + c12 * u1 + c22 * u2
        xx, xy = u0 * w0 + u1 * w1 + u2 * w2, v0 * w0 + v1 * w1 + v2 * w2
        w0, w1, w2 = c00 * v0 + c01 * v1 + c02 * v2, c01 * v0 + c11 * v1 + c12 * v2, c02 * v0 + c12 * v1 + c22 * v2
        yy = v0 * w0 + v1 * w1 + v2 * w2
        squared_area = max(xx * yy - xy * xy, zero)
        xx, yy = xx + view.blur, yy + view.blur
        inverse = ONE / (xx * yy - xy * xy)
        faint = load(table, n + FAINT_FIELD * size)
        if view.antialiased:
            faint = faint - HALF * logarithm(squared_area * inverse)
        reach = limit - faint
        squared_x, squared_y = TWO * reach * xx, TWO * reach * yy
        outside_x, outside_y = _beyond(mean_x, width), _beyond(mean_y, height)
        left = bits(near <= z) & bits(faint <= limit)
        left &= bits(outside_x * outside_x <= squared_x) & bits(outside_y * outside_y <= squared_y)
        if left == 0:
            continue
        # the pixels whose centres are in the bounding box
        x, y = mean_x - HALF, mean_y - HALF
        extent_x, extent_y = root(squared_x), root(squared_y)
        first_x, first_y = max(ZERO - floor(extent_x - x), zero), max(ZERO - floor(extent_y - y), zero)
        last_x = min(floor(x + extent_x), spread(width - ONE))
        last_y = min(floor(y + extent_y), spread(height - ONE))
        left &= bits(first_x <= last_x) & bits(first_y <= last_y)
        values = (  # in the order of the records' columns
            mean_x,
            mean_y,
            HALF * yy * inverse,
            ZERO - xy * inverse,
            HALF * xx * inverse,
            zero,
            load(table, n + COLOR_FIELD * size),
            load(table, n + (COLOR_FIELD + 1) * size),
            load(table, n + (COLOR_FIELD + 2) * size),
            z,
            first_x,
            last_x,
            first_y,
            faint,
            last_y,
            zero,
        )
        store_rows(records, seen, left, values)
        for lane in range(WIDTH):
            visible[seen] = n + lane
            seen += left >> lane & 1
    return seen


@njit(fastmath=True, error_model="numpy")
def color(table: F32, sh: F32, sh_count: int, center: F32, visible: I32, basis: F32, records: F32) -> None:
    """Write the colours of the records of `visible`, seen from `center`, where they depend on that."""
    size = table.shape[1]
    flat = table.reshape(-1)
    for rank in range(visible.shape[0]):
        n = visible[rank]
        x, y, z = flat[n] - center[0], flat[n + size] - center[1], flat[n + 2 * size] - center[2]
        record = records[rank]
        record[layout.RED], record[layout.GREEN], record[layout.BLUE] = seen_color(sh_count, x, y, z, sh, n, basis)
