"""From Gaussians in the world to ellipses on the screen, and the gradients back.

Source: M. Zwicker et al., EWA Splatting, TVCG 2002, section 6 (affine approximation of the perspective); B. Kerbl et
al., 3D Gaussian Splatting, SIGGRAPH 2023, section 4 and appendix A (the gradients). The slope x/z inside the
approximation is clamped to 30 % beyond the picture as there, so that Gaussians beside the camera don't blow up.
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

BLOCKS = 64
"""Fixed shares of the work, so that nothing depends on the number of threads."""
SLOPE_MARGIN = np.float32(0.15)
"""The clamp of the slope, as a share of the picture beyond its border (30 % of half the picture)."""


@njit(fastmath=True, inline="always")
def _rotation_from_quaternion(quaternion: Float, rotation: Float) -> np.float32:
    """Write the matrix (3, 3) of a quaternion wxyz of any length; gives one over its length."""
    w, x, y, z = quaternion[0], quaternion[1], quaternion[2], quaternion[3]
    inverse_length = ONE / math.sqrt(w * w + x * x + y * y + z * z)
    w *= inverse_length
    x *= inverse_length
    y *= inverse_length
    z *= inverse_length
    rotation[0, 0] = ONE - TWO * (y * y + z * z)
    rotation[0, 1] = TWO * (x * y - w * z)
    rotation[0, 2] = TWO * (x * z + w * y)
    rotation[1, 0] = TWO * (x * y + w * z)
    rotation[1, 1] = ONE - TWO * (x * x + z * z)
    rotation[1, 2] = TWO * (y * z - w * x)
    rotation[2, 0] = TWO * (x * z - w * y)
    rotation[2, 1] = TWO * (y * z + w * x)
    rotation[2, 2] = ONE - TWO * (x * x + y * y)
    return inverse_length


@njit(fastmath=True, inline="always")
def _clamp(value: np.float32, low: np.float32, high: np.float32) -> np.float32:
    return min(max(value, low), high)


@njit(parallel=True, fastmath=True, nogil=True, cache=True)
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
    world = view.rotation
    low_x, high_x = (
        -(SLOPE_MARGIN * view.width + view.cx) / view.fx,
        ((ONE + SLOPE_MARGIN) * view.width - view.cx) / view.fx,
    )
    low_y, high_y = (
        -(SLOPE_MARGIN * view.height + view.cy) / view.fy,
        ((ONE + SLOPE_MARGIN) * view.height - view.cy) / view.fy,
    )
    for block in prange(BLOCKS):
        basis = np.empty(16, np.float32)
        own = np.empty((3, 3), np.float32)
        axis = np.empty(3, np.float32)
        for n in range(block * count // BLOCKS, (block + 1) * count // BLOCKS):
            record = records[n]
            record[DEPTH] = ZERO
            px, py, pz = means[n, 0], means[n, 1], means[n, 2]
            z = world[2, 0] * px + world[2, 1] * py + world[2, 2] * pz + view.translation[2]
            if z < view.near:
                continue
            x = world[0, 0] * px + world[0, 1] * py + world[0, 2] * pz + view.translation[0]
            y = world[1, 0] * px + world[1, 1] * py + world[1, 2] * pz + view.translation[1]
            opacity = ONE / (ONE + math.exp(-opacity_logits[n]))
            if opacity <= view.alpha:
                continue

            # Covariance on the screen: sum over the own axes of the outer products of their projections.
            inverse_z = ONE / z
            slope_x, slope_y = _clamp(x * inverse_z, low_x, high_x), _clamp(y * inverse_z, low_y, high_y)
            jx, jy = view.fx * inverse_z, view.fy * inverse_z
            _rotation_from_quaternion(quaternions[n], own)
            xx, xy, yy = SCREEN_BLUR, ZERO, SCREEN_BLUR
            for k in range(3):
                scale = math.exp(log_scales[n, k])
                for row in range(3):
                    axis[row] = scale * (
                        world[row, 0] * own[0, k] + world[row, 1] * own[1, k] + world[row, 2] * own[2, k]
                    )
                u, v = jx * (axis[0] - slope_x * axis[2]), jy * (axis[1] - slope_y * axis[2])
                xx += u * u
                xy += u * v
                yy += v * v
            reach = math.log(opacity / view.alpha)
            extent_x, extent_y = math.sqrt(TWO * reach * xx), math.sqrt(TWO * reach * yy)
            mean_x, mean_y = view.fx * x * inverse_z + view.cx, view.fy * y * inverse_z + view.cy
            if mean_x + extent_x < ZERO or mean_x - extent_x > view.width:
                continue
            if mean_y + extent_y < ZERO or mean_y - extent_y > view.height:
                continue
            inverse_determinant = ONE / (xx * yy - xy * xy)

            dx, dy, dz = px - view.center[0], py - view.center[1], pz - view.center[2]
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


@njit(fastmath=True, inline="always")
def _quaternion_gradient(quaternion: Float, inverse_length: np.float32, by_rotation: Float, gradient: Float) -> None:
    """Write the derivative by the (not normalised) quaternion (4,) of that by the rotation matrix (3, 3)."""
    g = by_rotation
    w, x, y, z = (
        quaternion[0] * inverse_length,
        quaternion[1] * inverse_length,
        quaternion[2] * inverse_length,
        quaternion[3] * inverse_length,
    )
    by_w = TWO * (x * (g[2, 1] - g[1, 2]) + y * (g[0, 2] - g[2, 0]) + z * (g[1, 0] - g[0, 1]))
    by_x = TWO * (
        -TWO * x * (g[1, 1] + g[2, 2]) + y * (g[0, 1] + g[1, 0]) + z * (g[0, 2] + g[2, 0]) + w * (g[2, 1] - g[1, 2])
    )
    by_y = TWO * (
        x * (g[0, 1] + g[1, 0]) - TWO * y * (g[0, 0] + g[2, 2]) + z * (g[1, 2] + g[2, 1]) + w * (g[0, 2] - g[2, 0])
    )
    by_z = TWO * (
        x * (g[0, 2] + g[2, 0]) + y * (g[1, 2] + g[2, 1]) - TWO * z * (g[0, 0] + g[1, 1]) + w * (g[1, 0] - g[0, 1])
    )
    along = by_w * w + by_x * x + by_y * y + by_z * z
    gradient[0] = (by_w - along * w) * inverse_length
    gradient[1] = (by_x - along * x) * inverse_length
    gradient[2] = (by_y - along * y) * inverse_length
    gradient[3] = (by_z - along * z) * inverse_length


@njit(parallel=True, fastmath=True, nogil=True, cache=True)
def project_backward(
    order: Int,
    offsets: NDArray[np.int64],
    slots: Float,
    records: Float,
    means: Float,
    log_scales: Float,
    quaternions: Float,
    opacity_logits: Float,
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
        order: (V,) visible Gaussians, as in `Tiles`.
        offsets: (V + 1,) first slot of each.
        slots: (S, 10) gradients by record, see `layout`.
        records: (N, 16) as `project` wrote them.
        means: (N, 3), and so on: what `project` was given.
        log_scales: (N, 3).
        quaternions: (N, 4).
        opacity_logits: (N,).
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
    visible = order.shape[0]
    world = view.rotation
    low_x, high_x = (
        -(SLOPE_MARGIN * view.width + view.cx) / view.fx,
        ((ONE + SLOPE_MARGIN) * view.width - view.cx) / view.fx,
    )
    low_y, high_y = (
        -(SLOPE_MARGIN * view.height + view.cy) / view.fy,
        ((ONE + SLOPE_MARGIN) * view.height - view.cy) / view.fy,
    )
    for block in prange(BLOCKS):
        basis = np.empty(16, np.float32)
        by_xyz = np.empty((16, 3), np.float32)
        own = np.empty((3, 3), np.float32)
        by_own = np.empty((3, 3), np.float32)
        axis = np.empty(3, np.float32)
        slot = np.empty(SLOT_COLUMNS, np.float32)
        color = np.empty(3, np.float32)
        for o in range(block * visible // BLOCKS, (block + 1) * visible // BLOCKS):
            n = order[o]
            slot[:] = ZERO
            for s in range(offsets[o], offsets[o + 1]):
                for j in range(SLOT_COLUMNS):
                    slot[j] += slots[s, j]
            by_mean_x, by_mean_y = slot[0], slot[1]
            by_screen[n] = math.sqrt(by_mean_x * by_mean_x + by_mean_y * by_mean_y)
            record = records[n]

            px, py, pz = means[n, 0], means[n, 1], means[n, 2]
            x = world[0, 0] * px + world[0, 1] * py + world[0, 2] * pz + view.translation[0]
            y = world[1, 0] * px + world[1, 1] * py + world[1, 2] * pz + view.translation[1]
            z = record[DEPTH]
            inverse_z = ONE / z

            opacity = record[OPACITY]
            by_opacity_logits[n] = slot[5] * opacity * (ONE - opacity)

            dx, dy, dz = px - view.center[0], py - view.center[1], pz - view.center[2]
            inverse_distance = ONE / math.sqrt(dx * dx + dy * dy + dz * dz)
            dx *= inverse_distance
            dy *= inverse_distance
            dz *= inverse_distance
            evaluate_basis(sh_count, dx, dy, dz, basis)
            for channel in range(3):
                color[channel] = slot[6 + channel] if record[RED + channel] > ZERO else ZERO
                for k in range(sh_count):
                    by_sh[n, k, channel] = basis[k] * color[channel]
                for k in range(sh_count, sh.shape[1]):
                    by_sh[n, k, channel] = ZERO

            # By the covariance: -Q G Q, with Q the conic and G the symmetric gradient by it.
            xx, xy, yy = record[CONIC_XX], record[CONIC_XY], record[CONIC_YY]
            g_xx, g_xy, g_yy = slot[2], HALF * slot[3], slot[4]
            t00, t01 = xx * g_xx + xy * g_xy, xx * g_xy + xy * g_yy
            t10, t11 = xy * g_xx + yy * g_xy, xy * g_xy + yy * g_yy
            by_xx, by_xy, by_yy = -(t00 * xx + t01 * xy), -(t00 * xy + t01 * yy), -(t10 * xy + t11 * yy)

            raw_x, raw_y = x * inverse_z, y * inverse_z
            slope_x, slope_y = _clamp(raw_x, low_x, high_x), _clamp(raw_y, low_y, high_y)
            jx, jy = view.fx * inverse_z, view.fy * inverse_z
            inverse_length = _rotation_from_quaternion(quaternions[n], own)
            by_jx = by_jy = by_slope_x = by_slope_y = ZERO
            for k in range(3):
                scale = math.exp(log_scales[n, k])
                for row in range(3):
                    axis[row] = scale * (
                        world[row, 0] * own[0, k] + world[row, 1] * own[1, k] + world[row, 2] * own[2, k]
                    )
                offset_x, offset_y = axis[0] - slope_x * axis[2], axis[1] - slope_y * axis[2]
                u, v = jx * offset_x, jy * offset_y
                by_u, by_v = TWO * (by_xx * u + by_xy * v), TWO * (by_xy * u + by_yy * v)
                by_jx += by_u * offset_x
                by_jy += by_v * offset_y
                by_slope_x -= by_u * jx * axis[2]
                by_slope_y -= by_v * jy * axis[2]
                by_axis_x, by_axis_y = by_u * jx, by_v * jy
                by_axis_z = -(by_axis_x * slope_x + by_axis_y * slope_y)
                by_log_scale = ZERO
                for row in range(3):
                    turned = world[0, row] * by_axis_x + world[1, row] * by_axis_y + world[2, row] * by_axis_z
                    by_own[row, k] = turned * scale
                    by_log_scale += by_own[row, k] * own[row, k]
                by_log_scales[n, k] = by_log_scale
            _quaternion_gradient(quaternions[n], inverse_length, by_own, by_quaternions[n])

            # Camera frame: the centre's pixel, the Jacobian (through z and the slopes) and the depth itself.
            by_x, by_y = by_mean_x * jx, by_mean_y * jy
            by_z = slot[9] - by_mean_x * jx * raw_x - by_mean_y * jy * raw_y
            by_z -= (by_jx * jx + by_jy * jy) * inverse_z
            if low_x < raw_x < high_x:
                by_x += by_slope_x * inverse_z
                by_z -= by_slope_x * raw_x * inverse_z
            if low_y < raw_y < high_y:
                by_y += by_slope_y * inverse_z
                by_z -= by_slope_y * raw_y * inverse_z
            for row in range(3):
                by_means[n, row] = world[0, row] * by_x + world[1, row] * by_y + world[2, row] * by_z
            direction_gradient(sh_count, dx, dy, dz, inverse_distance, by_xyz, sh[n], color, by_means[n])
