"""From the gradients of ellipses on the screen back to the Gaussians in the world, 16 at a time.

Source: B. Kerbl et al., 3D Gaussian Splatting, SIGGRAPH 2023, appendix A; the projection is that of `projection`.
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.geometry.jit import njit, prange
from pipeline.raster import layout
from pipeline.raster.harmonics import C0, direction_gradient, evaluate_basis
from pipeline.raster.lanes import WIDTH, exponential, line_aligned_buffer, load, root, select, spread, store
from pipeline.raster.layout import HALF, ONE, TWO, ZERO, GaussianArrays, Scalar, ViewConstants, slope_limits
from pipeline.raster.projection import BLOCKS, Matrix, Vector, dot, own_axes, rows_of
from pipeline.types import F32, F64, I32, I64

MEAN, LOG_SCALE, QUATERNION, CONIC, OPAQUE, DISTANCE, SUMS = 0, 3, 6, 10, 13, 14, 15
"""First rows of what the backward pass gathers of 16 Gaussians: the last are the ten sums of their slots."""
BY_MEAN, BY_LOG_SCALE, BY_QUATERNION, BY_LOGIT, BY_SCREEN = 25, 28, 31, 35, 36
"""First rows of what it works out."""
POSE_BLOCKS = 32
"""Fixed shares of the work on the pose's gradient, so that its sums don't depend on the number of threads."""
BACKWARD_SUM, BACKWARD_ROWS = 37, 38
"""A row for the sum of one Gaussian's slots; all rows."""


@njit(fastmath=True, error_model="numpy")
def _offsets(world: Matrix, axis: Vector, scale: Scalar, slope_x: Scalar, slope_y: Scalar) -> Vector:
    """An own axis times its standard deviation: across and down the screen before jx and jy, and in depth."""
    z = scale * dot(world[2], axis)
    return scale * dot(world[0], axis) - slope_x * z, scale * dot(world[1], axis) - slope_y * z, z


@njit(fastmath=True, error_model="numpy")
def _axis_gradient(
    world: Matrix,
    axis: Vector,
    scale: Scalar,
    jx: Scalar,
    jy: Scalar,
    slope_x: Scalar,
    slope_y: Scalar,
    offsets: Vector,
    by_u: Scalar,
    by_v: Scalar,
) -> tuple[Vector, Scalar, Scalar, Scalar, Scalar, Scalar]:
    """Derivatives by the unit axis [world], log(scale), jx, jy, slope_x, slope_y, from those by (jx, jy) * offsets."""
    offset_x, offset_y, z = offsets
    by_x, by_y = by_u * jx, by_v * jy
    by_z = ZERO - by_x * slope_x - by_y * slope_y
    by_axis = (
        scale * (world[0][0] * by_x + world[1][0] * by_y + world[2][0] * by_z),
        scale * (world[0][1] * by_x + world[1][1] * by_y + world[2][1] * by_z),
        scale * (world[0][2] * by_x + world[1][2] * by_y + world[2][2] * by_z),
    )
    return by_axis, dot(by_axis, axis), by_u * offset_x, by_v * offset_y, ZERO - by_x * z, ZERO - by_y * z


@njit(fastmath=True, error_model="numpy")
def _quaternion_gradient(
    w: Scalar, x: Scalar, y: Scalar, z: Scalar, unit: Scalar, a: Vector, b: Vector, c: Vector
) -> tuple[Scalar, Scalar, Scalar, Scalar]:
    """The derivative by a quaternion that is normalised before use to (w, x, y, z); `unit` is one over its length.

    `a`, `b` and `c` are the derivatives by the columns of its rotation matrix.
    """
    by_w = TWO * (x * (b[2] - c[1]) + y * (c[0] - a[2]) + z * (a[1] - b[0]))
    by_x = TWO * (y * (b[0] + a[1]) - TWO * x * (b[1] + c[2]) + z * (c[0] + a[2]) + w * (b[2] - c[1]))
    by_y = TWO * (x * (b[0] + a[1]) - TWO * y * (a[0] + c[2]) + z * (c[1] + b[2]) + w * (c[0] - a[2]))
    by_z = TWO * (x * (c[0] + a[2]) + y * (c[1] + b[2]) - TWO * z * (a[0] + b[1]) + w * (a[1] - b[0]))
    along = by_w * w + by_x * x + by_y * y + by_z * z
    return (by_w - along * w) * unit, (by_x - along * x) * unit, (by_y - along * y) * unit, (by_z - along * z) * unit


@njit(fastmath=True, nogil=True, error_model="numpy")
def _project_backward_range(
    first: int,
    last: int,
    visible: I32,
    offsets: I64,
    slots: F32,
    records: F32,
    gaussians: GaussianArrays,
    sh_count: int,
    view: ViewConstants,
    gradients: GaussianArrays,
    by_screen: F32,
) -> None:
    """`project_backward` for the visible Gaussians first..last-1, 16 at a time."""
    means, sh = gaussians.means, gaussians.sh
    scratch = line_aligned_buffer(BACKWARD_ROWS * WIDTH)
    basis = np.empty(16, np.float32)
    by_xyz = np.empty((16, 3), np.float32)
    color = np.empty(3, np.float32)
    for group in range(first, last, WIDTH):
        size = min(WIDTH, last - group)
        for lane in range(WIDTH):
            v = group + min(lane, size - 1)
            _gather_backward(lane, visible[v], offsets[v], offsets[v + 1], slots, records, gaussians, scratch)
        _geometry_backward(view, scratch)
        for lane in range(size):
            n = visible[group + lane]
            for k in range(3):
                gradients.means[n, k] = scratch[(BY_MEAN + k) * WIDTH + lane]
                gradients.log_scales[n, k] = scratch[(BY_LOG_SCALE + k) * WIDTH + lane]
                color[k] = scratch[(SUMS + 6 + k) * WIDTH + lane] if records[n, layout.RED + k] > ZERO else ZERO
            for k in range(4):
                gradients.quaternions[n, k] = scratch[(BY_QUATERNION + k) * WIDTH + lane]
            gradients.opacity_logits[n] = scratch[BY_LOGIT * WIDTH + lane]
            by_screen[n] = scratch[BY_SCREEN * WIDTH + lane]
            dx, dy, dz = means[n, 0] - view.center[0], means[n, 1] - view.center[1], means[n, 2] - view.center[2]
            inverse_distance = ONE / math.sqrt(dx * dx + dy * dy + dz * dz)
            dx *= inverse_distance
            dy *= inverse_distance
            dz *= inverse_distance
            evaluate_basis(sh_count, dx, dy, dz, basis)
            for k in range(sh_count):
                for channel in range(3):
                    gradients.sh[n, k, channel] = basis[k] * color[channel]
            direction_gradient(sh_count, dx, dy, dz, inverse_distance, by_xyz, sh[n], color, gradients.means[n])


@njit(fastmath=True, error_model="numpy")
def _gather_backward(
    lane: int,
    n: int | np.int32,
    first_slot: int | np.int64,
    last_slot: int | np.int64,
    slots: F32,
    records: F32,
    gaussians: GaussianArrays,
    scratch: F32,
) -> None:
    """Bring what `_geometry_backward` needs of a Gaussian into its lane of the scratch rows."""
    total = spread(ZERO)
    for slot in range(first_slot, last_slot):
        total = total + load(slots, slot * layout.SLOT_COLUMNS)
    store(scratch, BACKWARD_SUM * WIDTH, total)
    for k in range(10):
        scratch[(SUMS + k) * WIDTH + lane] = scratch[BACKWARD_SUM * WIDTH + k]
    for k in range(3):
        scratch[(MEAN + k) * WIDTH + lane] = gaussians.means[n, k]
        scratch[(LOG_SCALE + k) * WIDTH + lane] = gaussians.log_scales[n, k]
        scratch[(CONIC + k) * WIDTH + lane] = records[n, layout.CONIC_XX + k]
    for k in range(4):
        scratch[(QUATERNION + k) * WIDTH + lane] = gaussians.quaternions[n, k]
    scratch[OPAQUE * WIDTH + lane] = records[n, layout.OPACITY]
    scratch[DISTANCE * WIDTH + lane] = records[n, layout.DEPTH]


@njit(fastmath=True, error_model="numpy")
def _row(scratch: F32, row: int) -> Scalar:
    """A row of lanes; type checkers take it for the scalar that the functions of `projection` are written for."""
    return load(scratch, row * WIDTH)


@njit(fastmath=True, error_model="numpy")
def _geometry_backward(view: ViewConstants, scratch: F32) -> None:
    """From the sums over pixels to the derivatives by all parameters but colour, of 16 Gaussians.

    The `scratch` rows (BACKWARD_ROWS, 16), flat, are written from `BY_MEAN` on.
    """
    low_x, high_x, low_y, high_y = slope_limits(view)
    world = rows_of(view.rotation)
    g, gx, gxx = _row(scratch, SUMS), _row(scratch, SUMS + 1), _row(scratch, SUMS + 2)
    gy, gxy, gyy = _row(scratch, SUMS + 3), _row(scratch, SUMS + 4), _row(scratch, SUMS + 5)
    xx, xy, yy = _row(scratch, CONIC), _row(scratch, CONIC + 1), _row(scratch, CONIC + 2)
    by_mean_x, by_mean_y = xx * gx + xy * gy, xy * gx + yy * gy
    store(scratch, BY_SCREEN * WIDTH, root(by_mean_x * by_mean_x + by_mean_y * by_mean_y))
    store(scratch, BY_LOGIT * WIDTH, g * (ONE - _row(scratch, OPAQUE)))

    # By the covariance: -Q G Q, with Q the conic and G = -(gxx, gxy; gxy, gyy) / 2 the symmetric gradient by it.
    t00, t01 = HALF * (xx * gxx + xy * gxy), HALF * (xx * gxy + xy * gyy)
    t10, t11 = HALF * (xy * gxx + yy * gxy), HALF * (xy * gxy + yy * gyy)
    by_xx, by_xy, by_yy = t00 * xx + t01 * xy, t00 * xy + t01 * yy, t10 * xy + t11 * yy
    if view.antialiased:  # log(alpha) holds half the logarithm of the conic's determinant
        by_xx, by_xy, by_yy = by_xx - HALF * g * xx, by_xy - HALF * g * xy, by_yy - HALF * g * yy

    mean = (_row(scratch, MEAN), _row(scratch, MEAN + 1), _row(scratch, MEAN + 2))
    inverse_z = ONE / _row(scratch, DISTANCE)
    raw_x = (dot(mean, world[0]) + view.translation[0]) * inverse_z
    raw_y = (dot(mean, world[1]) + view.translation[1]) * inverse_z
    slope_x, slope_y = min(max(raw_x, low_x), high_x), min(max(raw_y, low_y), high_y)
    jx, jy = inverse_z * view.fx, inverse_z * view.fy
    w, x = _row(scratch, QUATERNION), _row(scratch, QUATERNION + 1)
    y, z = _row(scratch, QUATERNION + 2), _row(scratch, QUATERNION + 3)
    unit = ONE / root(w * w + x * x + y * y + z * z)
    w, x, y, z = w * unit, x * unit, y * unit, z * unit
    own = own_axes(w, x, y, z)
    scale_a, scale_b = exponential(_row(scratch, LOG_SCALE)), exponential(_row(scratch, LOG_SCALE + 1))
    scale_c = exponential(_row(scratch, LOG_SCALE + 2))
    on_a = _offsets(world, own[0], scale_a, slope_x, slope_y)
    on_b = _offsets(world, own[1], scale_b, slope_x, slope_y)
    on_c = _offsets(world, own[2], scale_c, slope_x, slope_y)
    ua, va, ub, vb, uc, vc = on_a[0] * jx, on_a[1] * jy, on_b[0] * jx, on_b[1] * jy, on_c[0] * jx, on_c[1] * jy
    by_ua, by_va = TWO * (by_xx * ua + by_xy * va), TWO * (by_xy * ua + by_yy * va)
    by_ub, by_vb = TWO * (by_xx * ub + by_xy * vb), TWO * (by_xy * ub + by_yy * vb)
    by_uc, by_vc = TWO * (by_xx * uc + by_xy * vc), TWO * (by_xy * uc + by_yy * vc)
    if view.antialiased:  # and half the logarithm of `squared_area`
        ab, ac, bc = ua * vb - ub * va, ua * vc - uc * va, ub * vc - uc * vb
        by_area = g / (ab * ab + ac * ac + bc * bc)
        ab, ac, bc = ab * by_area, ac * by_area, bc * by_area
        by_ua, by_va = by_ua + ab * vb + ac * vc, by_va - ab * ub - ac * uc
        by_ub, by_vb = by_ub + bc * vc - ab * va, by_vb + ab * ua - bc * uc
        by_uc, by_vc = by_uc - ac * va - bc * vb, by_vc + ac * ua + bc * ub
    by_a, by_log_a, jx_a, jy_a, slope_x_a, slope_y_a = _axis_gradient(
        world, own[0], scale_a, jx, jy, slope_x, slope_y, on_a, by_ua, by_va
    )
    by_b, by_log_b, jx_b, jy_b, slope_x_b, slope_y_b = _axis_gradient(
        world, own[1], scale_b, jx, jy, slope_x, slope_y, on_b, by_ub, by_vb
    )
    by_c, by_log_c, jx_c, jy_c, slope_x_c, slope_y_c = _axis_gradient(
        world, own[2], scale_c, jx, jy, slope_x, slope_y, on_c, by_uc, by_vc
    )
    store(scratch, BY_LOG_SCALE * WIDTH, by_log_a)
    store(scratch, (BY_LOG_SCALE + 1) * WIDTH, by_log_b)
    store(scratch, (BY_LOG_SCALE + 2) * WIDTH, by_log_c)
    by_w, by_i, by_j, by_k = _quaternion_gradient(w, x, y, z, unit, by_a, by_b, by_c)
    store(scratch, BY_QUATERNION * WIDTH, by_w)
    store(scratch, (BY_QUATERNION + 1) * WIDTH, by_i)
    store(scratch, (BY_QUATERNION + 2) * WIDTH, by_j)
    store(scratch, (BY_QUATERNION + 3) * WIDTH, by_k)

    # Camera frame: the centre's pixel, the Jacobian (through z and the slopes where not clamped) and the depth itself.
    zero = spread(ZERO)
    by_slope_x = select(slope_x <= raw_x, select(raw_x <= slope_x, slope_x_a + slope_x_b + slope_x_c, zero), zero)
    by_slope_y = select(slope_y <= raw_y, select(raw_y <= slope_y, slope_y_a + slope_y_b + slope_y_c, zero), zero)
    by_x = by_mean_x * jx + by_slope_x * inverse_z
    by_y = by_mean_y * jy + by_slope_y * inverse_z
    by_z = _row(scratch, SUMS + 9) - by_x * raw_x - by_y * raw_y
    by_z = by_z - ((jx_a + jx_b + jx_c) * jx + (jy_a + jy_b + jy_c) * jy) * inverse_z
    for k in range(3):
        by_mean = by_x * view.rotation[0, k] + by_y * view.rotation[1, k] + by_z * view.rotation[2, k]
        store(scratch, (BY_MEAN + k) * WIDTH, by_mean)


@njit(parallel=True, fastmath=True, nogil=True, cache=True, error_model="numpy")
def project_backward(
    visible: I32,
    offsets: I64,
    slots: F32,
    records: F32,
    gaussians: GaussianArrays,
    sh_count: int,
    view: ViewConstants,
    gradients: GaussianArrays,
    by_screen: F32,
) -> None:
    """Sum each visible Gaussian's slots (S, 16), see `SLOT_COLUMNS`, and carry the gradient on to its parameters.

    `visible` and `offsets` are those of `Tiles`; other arguments are those of `project`. Written, for visible Gaussians
    only, are the `gradients`, with 0 for SH coefficients that are not in use, and `by_screen` (N,), the length of the
    gradient by the position on the screen [loss / px].
    """
    count = visible.shape[0]
    for block in prange(BLOCKS):
        first, last = block * count // BLOCKS, (block + 1) * count // BLOCKS
        _project_backward_range(
            first, last, visible, offsets, slots, records, gaussians, sh_count, view, gradients, by_screen
        )


@njit(parallel=True, fastmath=True, nogil=True, cache=True, error_model="numpy")
def pose_gradient_blocks(
    visible: I32, gaussians: GaussianArrays, sh_count: int, center: F32, gradients: GaussianArrays
) -> F64:
    """Gradient by the camera's pose, from the gradients by the Gaussians.

    Moving the camera is moving all Gaussians the other way. Rotating it about its centre is rotating their means and
    own axes the other way about that centre, but the directions in which they are seen, and so their colours, stay:
    the part of a mean's gradient that comes through view-dependent colour does not enter the rotation's gradient.

    `center` (3,) is the camera's position [world units], `gradients` are those of `project_backward`. Partial sums
    (POSE_BLOCKS, 6) are by the camera's rotation about its centre and by its translation; world axes.
    """
    means, quaternions = gaussians.means, gaussians.quaternions
    by_means, by_quaternions = gradients.means, gradients.quaternions
    count = visible.shape[0]
    sums = np.zeros((POSE_BLOCKS, 6))
    for block in prange(POSE_BLOCKS):
        by_xyz = np.empty((16, 3), np.float32)
        color = np.empty(3, np.float32)
        through_color = np.empty(3, np.float32)
        total = sums[block]
        for v in range(block * count // POSE_BLOCKS, (block + 1) * count // POSE_BLOCKS):
            n = visible[v]
            x, y, z = means[n, 0] - center[0], means[n, 1] - center[1], means[n, 2] - center[2]
            inverse_distance = ONE / np.sqrt(x * x + y * y + z * z)
            for axis in range(3):
                color[axis] = gradients.sh[n, 0, axis] / C0
                through_color[axis] = ZERO
            direction_gradient(
                sh_count,
                x * inverse_distance,
                y * inverse_distance,
                z * inverse_distance,
                inverse_distance,
                by_xyz,
                gaussians.sh[n],
                color,
                through_color,
            )
            gx = by_means[n, 0] - through_color[0]
            gy = by_means[n, 1] - through_color[1]
            gz = by_means[n, 2] - through_color[2]
            # a rotation by w changes a quaternion by half of (0, w) times it
            a, b, c, d = quaternions[n, 0], quaternions[n, 1], quaternions[n, 2], quaternions[n, 3]
            ga, gb, gc, gd = by_quaternions[n, 0], by_quaternions[n, 1], by_quaternions[n, 2], by_quaternions[n, 3]
            total[0] -= y * gz - z * gy + HALF * (-ga * b + gb * a - gc * d + gd * c)
            total[1] -= z * gx - x * gz + HALF * (-ga * c + gb * d + gc * a - gd * b)
            total[2] -= x * gy - y * gx + HALF * (-ga * d - gb * c + gc * b + gd * a)
            for axis in range(3):
                total[3 + axis] -= by_means[n, axis]
    return sums
