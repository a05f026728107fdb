"""From Gaussians in the world to ellipses on the screen, and the gradients back.

Source: M. Zwicker et al., EWA Splatting, TVCG 2002, section 6 (affine approximation of the perspective); B. Kerbl et
al., 3D Gaussian Splatting, SIGGRAPH 2023, section 4 and appendix A (the gradients). The slope x/z inside the
approximation is clamped to 30 % of half the picture beyond its border as there, so that Gaussians beside the camera
don't blow up.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from pipeline.splat.raster.harmonics import direction_gradient, evaluate_basis
from pipeline.splat.raster.layout import (
    BLUE,
    CONIC_XX,
    CONIC_XY,
    CONIC_YY,
    DEPTH,
    EXTENT_X,
    EXTENT_Y,
    GREEN,
    HALF,
    MEAN_X,
    MEAN_Y,
    ONE,
    OPACITY,
    REACH,
    RED,
    SCREEN_BLUR,
    SLOT_COLUMNS,
    TWO,
    ZERO,
    ViewConstants,
)

Float = NDArray[np.float32]
Int = NDArray[np.int32]
Scalar = np.float32 | float
"""numba's scalar functions of float32 give float32; a type checker believes float."""
Vector = tuple[Scalar, Scalar, Scalar]
Matrix = tuple[Vector, Vector, Vector]

BLOCKS = 64
"""Fixed shares of the work, so that nothing depends on the number of threads."""
SLOPE_MARGIN = np.float32(0.15)
"""The clamp of the slope, as a share of the picture beyond its border (30 % of half the picture)."""


@njit(fastmath=True, error_model="numpy")
def _slope_limits(view: ViewConstants) -> tuple[Scalar, Scalar, Scalar, Scalar]:
    """Lowest and highest x/z, lowest and highest y/z that the affine approximation uses."""
    margin_x, margin_y = SLOPE_MARGIN * view.width, SLOPE_MARGIN * view.height
    return (
        (-margin_x - view.cx) / view.fx,
        (view.width + margin_x - view.cx) / view.fx,
        (-margin_y - view.cy) / view.fy,
        (view.height + margin_y - view.cy) / view.fy,
    )


@njit(fastmath=True, error_model="numpy")
def _rows(matrix: Float) -> Matrix:
    """The rows of a (3, 3) array as scalars, which stay in registers."""
    return (
        (matrix[0, 0], matrix[0, 1], matrix[0, 2]),
        (matrix[1, 0], matrix[1, 1], matrix[1, 2]),
        (matrix[2, 0], matrix[2, 1], matrix[2, 2]),
    )


@njit(fastmath=True, error_model="numpy")
def _dot(a: Vector, b: Vector) -> Scalar:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(fastmath=True, error_model="numpy")
def _own_axes(w: Scalar, x: Scalar, y: Scalar, z: Scalar) -> Matrix:
    """The columns of a unit quaternion's rotation matrix: the Gaussian's own axes in the world."""
    return (
        (ONE - TWO * (y * y + z * z), TWO * (x * y + w * z), TWO * (x * z - w * y)),
        (TWO * (x * y - w * z), ONE - TWO * (x * x + z * z), TWO * (y * z + w * x)),
        (TWO * (x * z + w * y), TWO * (y * z - w * x), ONE - TWO * (x * x + y * y)),
    )


@njit(fastmath=True, error_model="numpy")
def _clamp(value: Scalar, low: Scalar, high: Scalar) -> Scalar:
    return min(max(value, low), high)


@njit(fastmath=True, error_model="numpy")
def _project_axis(
    world: Matrix, axis: Vector, scale: Scalar, jx: Scalar, jy: Scalar, slope_x: Scalar, slope_y: Scalar
) -> tuple[Scalar, Scalar]:
    """An own axis (unit, world) times its standard deviation, on the screen [px]."""
    x, y, z = _dot(world[0], axis), _dot(world[1], axis), _dot(world[2], axis)
    return scale * jx * (x - slope_x * z), scale * jy * (y - slope_y * z)


@njit(fastmath=True, nogil=True, error_model="numpy")
def _project_range(
    first: int,
    last: int,
    means: Float,
    log_scales: Float,
    quaternions: Float,
    opacity_logits: Float,
    sh: Float,
    sh_count: int,
    view: ViewConstants,
    records: Float,
) -> None:
    """`project` for the Gaussians first..last-1."""
    low_x, high_x, low_y, high_y = _slope_limits(view)
    basis = np.empty(16, np.float32)
    world = _rows(view.rotation)
    for n in range(first, last):
        record = records[n]
        record[DEPTH] = ZERO
        mean = (means[n, 0], means[n, 1], means[n, 2])
        z = _dot(world[2], mean) + view.translation[2]
        if z < view.near:
            continue
        opacity = ONE / (ONE + math.exp(-opacity_logits[n]))
        if opacity <= view.alpha:
            continue
        inverse_z = ONE / z
        raw_x = (_dot(world[0], mean) + view.translation[0]) * inverse_z
        raw_y = (_dot(world[1], mean) + view.translation[1]) * inverse_z

        # Covariance on the screen: sum over the own axes of the outer products of their projections.
        slope_x, slope_y = _clamp(raw_x, low_x, high_x), _clamp(raw_y, low_y, high_y)
        jx, jy = view.fx * inverse_z, view.fy * inverse_z
        w, x, y, z_ = quaternions[n, 0], quaternions[n, 1], quaternions[n, 2], quaternions[n, 3]
        unit = ONE / math.sqrt(w * w + x * x + y * y + z_ * z_)
        own = _own_axes(w * unit, x * unit, y * unit, z_ * unit)
        u0, v0 = _project_axis(world, own[0], math.exp(log_scales[n, 0]), jx, jy, slope_x, slope_y)
        u1, v1 = _project_axis(world, own[1], math.exp(log_scales[n, 1]), jx, jy, slope_x, slope_y)
        u2, v2 = _project_axis(world, own[2], math.exp(log_scales[n, 2]), jx, jy, slope_x, slope_y)
        xx = SCREEN_BLUR + u0 * u0 + u1 * u1 + u2 * u2
        xy = u0 * v0 + u1 * v1 + u2 * v2
        yy = SCREEN_BLUR + v0 * v0 + v1 * v1 + v2 * v2

        reach = math.log(opacity / view.alpha)
        extent_x, extent_y = math.sqrt(TWO * reach * xx), math.sqrt(TWO * reach * yy)
        mean_x, mean_y = view.fx * raw_x + view.cx, view.fy * raw_y + view.cy
        if mean_x + extent_x < ZERO or mean_x - extent_x > view.width:
            continue
        if mean_y + extent_y < ZERO or mean_y - extent_y > view.height:
            continue
        inverse_determinant = ONE / (xx * yy - xy * xy)

        dx, dy, dz = mean[0] - view.center[0], mean[1] - view.center[1], mean[2] - view.center[2]
        inverse_distance = ONE / math.sqrt(dx * dx + dy * dy + dz * dz)
        evaluate_basis(sh_count, dx * inverse_distance, dy * inverse_distance, dz * inverse_distance, basis)
        red = green = blue = HALF
        for k in range(sh_count):
            red += basis[k] * sh[n, k, 0]
            green += basis[k] * sh[n, k, 1]
            blue += basis[k] * sh[n, k, 2]

        record[MEAN_X], record[MEAN_Y] = mean_x, mean_y
        record[CONIC_XX] = yy * inverse_determinant
        record[CONIC_XY] = -xy * inverse_determinant
        record[CONIC_YY] = xx * inverse_determinant
        record[OPACITY] = opacity
        record[RED], record[GREEN], record[BLUE] = max(red, ZERO), max(green, ZERO), max(blue, ZERO)
        record[EXTENT_X], record[EXTENT_Y], record[REACH] = extent_x, extent_y, reach
        record[DEPTH] = z


@njit(parallel=True, fastmath=True, nogil=True, cache=True, error_model="numpy")
def project(
    means: Float,
    log_scales: Float,
    quaternions: Float,
    opacity_logits: Float,
    sh: Float,
    sh_count: int,
    view: ViewConstants,
    records: Float,
) -> None:
    """Write the record (see `layout`) of each Gaussian; a depth of 0 marks what the view does not show.

    Args:
        means: (N, 3), world.
        log_scales: (N, 3).
        quaternions: (N, 4) wxyz.
        opacity_logits: (N,).
        sh: (N, K, 3).
        sh_count: How many of the K coefficients are in use: 1, 4, 9 or 16.
        view: The camera.
        records: (N, 16), written.
    """
    count = means.shape[0]
    for block in prange(BLOCKS):
        _project_range(
            block * count // BLOCKS,
            (block + 1) * count // BLOCKS,
            means,
            log_scales,
            quaternions,
            opacity_logits,
            sh,
            sh_count,
            view,
            records,
        )


@njit(fastmath=True, error_model="numpy")
def _axis_gradient(
    world: Matrix,
    axis: Vector,
    scale: Scalar,
    jx: Scalar,
    jy: Scalar,
    slope_x: Scalar,
    slope_y: Scalar,
    by_xx: Scalar,
    by_xy: Scalar,
    by_yy: Scalar,
) -> tuple[Vector, Scalar, Scalar, Scalar, Scalar, Scalar]:
    """Derivatives of the loss through one own axis, given half the symmetric derivative by the covariance.

    Returns:
        By the unit axis (in the world), by log(scale), by jx, by jy, by slope_x, by slope_y.
    """
    z = scale * _dot(world[2], axis)
    offset_x, offset_y = scale * _dot(world[0], axis) - slope_x * z, scale * _dot(world[1], axis) - slope_y * z
    u, v = jx * offset_x, jy * offset_y
    by_u, by_v = TWO * (by_xx * u + by_xy * v), TWO * (by_xy * u + by_yy * v)
    by_x, by_y = by_u * jx, by_v * jy
    by_z = -(by_x * slope_x + by_y * slope_y)
    by_axis = (
        scale * (world[0][0] * by_x + world[1][0] * by_y + world[2][0] * by_z),
        scale * (world[0][1] * by_x + world[1][1] * by_y + world[2][1] * by_z),
        scale * (world[0][2] * by_x + world[1][2] * by_y + world[2][2] * by_z),
    )
    return by_axis, _dot(by_axis, axis), by_u * offset_x, by_v * offset_y, -by_x * z, -by_y * z


@njit(fastmath=True, error_model="numpy")
def _quaternion_gradient(
    w: Scalar, x: Scalar, y: Scalar, z: Scalar, unit: Scalar, a: Vector, b: Vector, c: Vector, gradient: Float
) -> None:
    """Write the derivative by a quaternion that is normalised before use.

    Args:
        w: The normalised quaternion.
        x: See `w`.
        y: See `w`.
        z: See `w`.
        unit: One over the length that it had.
        a: Derivative by the first column of its rotation matrix.
        b: By the second column.
        c: By the third column.
        gradient: (4,), written.
    """
    by_w = TWO * (x * (b[2] - c[1]) + y * (c[0] - a[2]) + z * (a[1] - b[0]))
    by_x = TWO * (-TWO * x * (b[1] + c[2]) + y * (b[0] + a[1]) + z * (c[0] + a[2]) + w * (b[2] - c[1]))
    by_y = TWO * (x * (b[0] + a[1]) - TWO * y * (a[0] + c[2]) + z * (c[1] + b[2]) + w * (c[0] - a[2]))
    by_z = TWO * (x * (c[0] + a[2]) + y * (c[1] + b[2]) - TWO * z * (a[0] + b[1]) + w * (a[1] - b[0]))
    along = by_w * w + by_x * x + by_y * y + by_z * z
    gradient[0] = (by_w - along * w) * unit
    gradient[1] = (by_x - along * x) * unit
    gradient[2] = (by_y - along * y) * unit
    gradient[3] = (by_z - along * z) * unit


@njit(fastmath=True, nogil=True, error_model="numpy")
def _project_backward_range(
    first: int,
    last: int,
    visible: Int,
    offsets: NDArray[np.int64],
    slots: Float,
    records: Float,
    means: Float,
    log_scales: Float,
    quaternions: Float,
    sh: Float,
    sh_count: int,
    view: ViewConstants,
    by_means: Float,
    by_log_scales: Float,
    by_quaternions: Float,
    by_opacity_logits: Float,
    by_sh: Float,
    by_screen: Float,
) -> None:
    """`project_backward` for the visible Gaussians first..last-1."""
    low_x, high_x, low_y, high_y = _slope_limits(view)
    basis = np.empty(16, np.float32)
    by_xyz = np.empty((16, 3), np.float32)
    color = np.empty(3, np.float32)
    slot = np.empty(SLOT_COLUMNS, np.float32)
    world = _rows(view.rotation)
    for v in range(first, last):
        n = visible[v]
        slot[:] = ZERO
        for s in range(offsets[v], offsets[v + 1]):
            for j in range(SLOT_COLUMNS):
                slot[j] += slots[s, j]
        by_mean_x, by_mean_y = slot[0], slot[1]
        by_screen[n] = math.sqrt(by_mean_x * by_mean_x + by_mean_y * by_mean_y)
        record = records[n]
        opacity = record[OPACITY]
        by_opacity_logits[n] = slot[5] * opacity * (ONE - opacity)

        mean = (means[n, 0], means[n, 1], means[n, 2])
        dx, dy, dz = mean[0] - view.center[0], mean[1] - view.center[1], mean[2] - view.center[2]
        inverse_distance = ONE / math.sqrt(dx * dx + dy * dy + dz * dz)
        dx *= inverse_distance
        dy *= inverse_distance
        dz *= inverse_distance
        evaluate_basis(sh_count, dx, dy, dz, basis)
        for channel in range(3):
            color[channel] = slot[6 + channel] if record[RED + channel] > ZERO else ZERO
        for k in range(sh_count):
            for channel in range(3):
                by_sh[n, k, channel] = basis[k] * color[channel]
        for k in range(sh_count, sh.shape[1]):
            for channel in range(3):
                by_sh[n, k, channel] = ZERO

        # By the covariance: -Q G Q, with Q the conic and G the symmetric gradient by it.
        xx, xy, yy = record[CONIC_XX], record[CONIC_XY], record[CONIC_YY]
        g_xx, g_xy, g_yy = slot[2], HALF * slot[3], slot[4]
        t00, t01 = xx * g_xx + xy * g_xy, xx * g_xy + xy * g_yy
        t10, t11 = xy * g_xx + yy * g_xy, xy * g_xy + yy * g_yy
        by_xx, by_xy, by_yy = -(t00 * xx + t01 * xy), -(t00 * xy + t01 * yy), -(t10 * xy + t11 * yy)

        inverse_z = ONE / record[DEPTH]
        raw_x = (_dot(world[0], mean) + view.translation[0]) * inverse_z
        raw_y = (_dot(world[1], mean) + view.translation[1]) * inverse_z
        slope_x, slope_y = _clamp(raw_x, low_x, high_x), _clamp(raw_y, low_y, high_y)
        jx, jy = view.fx * inverse_z, view.fy * inverse_z
        w, x, y, z = quaternions[n, 0], quaternions[n, 1], quaternions[n, 2], quaternions[n, 3]
        unit = ONE / math.sqrt(w * w + x * x + y * y + z * z)
        w *= unit
        x *= unit
        y *= unit
        z *= unit
        own = _own_axes(w, x, y, z)
        by_a, by_log_a, jx_a, jy_a, slope_x_a, slope_y_a = _axis_gradient(
            world, own[0], math.exp(log_scales[n, 0]), jx, jy, slope_x, slope_y, by_xx, by_xy, by_yy
        )
        by_b, by_log_b, jx_b, jy_b, slope_x_b, slope_y_b = _axis_gradient(
            world, own[1], math.exp(log_scales[n, 1]), jx, jy, slope_x, slope_y, by_xx, by_xy, by_yy
        )
        by_c, by_log_c, jx_c, jy_c, slope_x_c, slope_y_c = _axis_gradient(
            world, own[2], math.exp(log_scales[n, 2]), jx, jy, slope_x, slope_y, by_xx, by_xy, by_yy
        )
        by_log_scales[n, 0], by_log_scales[n, 1], by_log_scales[n, 2] = by_log_a, by_log_b, by_log_c
        _quaternion_gradient(w, x, y, z, unit, by_a, by_b, by_c, by_quaternions[n])

        # Camera frame: the centre's pixel, the Jacobian (through z and the slopes) and the depth itself.
        by_x, by_y = by_mean_x * jx, by_mean_y * jy
        by_z = slot[9] - by_x * raw_x - by_y * raw_y
        by_z -= ((jx_a + jx_b + jx_c) * jx + (jy_a + jy_b + jy_c) * jy) * inverse_z
        if low_x < raw_x < high_x:
            by_slope_x = (slope_x_a + slope_x_b + slope_x_c) * inverse_z
            by_x += by_slope_x
            by_z -= by_slope_x * raw_x
        if low_y < raw_y < high_y:
            by_slope_y = (slope_y_a + slope_y_b + slope_y_c) * inverse_z
            by_y += by_slope_y
            by_z -= by_slope_y * raw_y
        for row in range(3):
            by_means[n, row] = world[0][row] * by_x + world[1][row] * by_y + world[2][row] * by_z
        direction_gradient(sh_count, dx, dy, dz, inverse_distance, by_xyz, sh[n], color, by_means[n])


@njit(parallel=True, fastmath=True, nogil=True, cache=True, error_model="numpy")
def project_backward(
    visible: Int,
    offsets: NDArray[np.int64],
    slots: Float,
    records: Float,
    means: Float,
    log_scales: Float,
    quaternions: Float,
    sh: Float,
    sh_count: int,
    view: ViewConstants,
    by_means: Float,
    by_log_scales: Float,
    by_quaternions: Float,
    by_opacity_logits: Float,
    by_sh: Float,
    by_screen: Float,
) -> None:
    """Sum each visible Gaussian's slots and carry the gradient on to its parameters.

    Args:
        visible: (V,) visible Gaussians, as in `Tiles`.
        offsets: (V + 1,) first slot of each.
        slots: (S, 10) gradients by record, see `layout`.
        records: (N, 16) as `project` wrote them.
        means: (N, 3), and so on: what `project` was given.
        log_scales: (N, 3).
        quaternions: (N, 4).
        sh: (N, K, 3).
        sh_count: As given to `project`.
        view: The camera.
        by_means: (N, 3), written for visible Gaussians only, as all that follow.
        by_log_scales: (N, 3).
        by_quaternions: (N, 4).
        by_opacity_logits: (N,).
        by_sh: (N, K, 3); coefficients not in use get 0.
        by_screen: (N,) length of the gradient by the position on the screen [loss / px].
    """
    count = visible.shape[0]
    for block in prange(BLOCKS):
        _project_backward_range(
            block * count // BLOCKS,
            (block + 1) * count // BLOCKS,
            visible,
            offsets,
            slots,
            records,
            means,
            log_scales,
            quaternions,
            sh,
            sh_count,
            view,
            by_means,
            by_log_scales,
            by_quaternions,
            by_opacity_logits,
            by_sh,
            by_screen,
        )
