"""Spherical harmonics of degree 0-3 and their derivative by direction, for the kernels.

Order and signs are those of `pipeline.geometry.sh_basis`, from which the constants come.
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.geometry import SH_C0
from pipeline.geometry.jit import njit
from pipeline.raster.layout import HALF, ONE, TWO, ZERO, Scalar
from pipeline.types import F32

C0 = np.float32(SH_C0)
C1 = np.float32(0.4886025119029199)
C2_CROSS = np.float32(1.0925484305920792)
C2_AXIAL = np.float32(0.31539156525252005)
C2_DIFFERENCE = np.float32(0.5462742152960396)
C3_OUTER = np.float32(0.5900435899266435)
C3_PRODUCT = np.float32(2.890611442640554)
C3_MIDDLE = np.float32(0.4570457994644658)
C3_AXIAL = np.float32(0.3731763325901154)
C3_DIFFERENCE = np.float32(1.445305721320277)
THREE, FOUR, SIX, EIGHT = np.float32(3), np.float32(4), np.float32(6), np.float32(8)


@njit(fastmath=True, error_model="numpy")
def evaluate_basis(count: int, x: Scalar, y: Scalar, z: Scalar, basis: F32) -> None:
    """Write the first `count` (1, 4, 9, 16) basis values at the unit direction (x, y, z) into `basis`."""
    basis[0] = C0
    if count > 1:
        basis[1] = -C1 * y
        basis[2] = C1 * z
        basis[3] = -C1 * x
    if count > 4:
        xx, yy, zz = x * x, y * y, z * z
        basis[4] = C2_CROSS * x * y
        basis[5] = -C2_CROSS * y * z
        basis[6] = C2_AXIAL * (TWO * zz - xx - yy)
        basis[7] = -C2_CROSS * x * z
        basis[8] = C2_DIFFERENCE * (xx - yy)
        if count > 9:
            basis[9] = -C3_OUTER * y * (THREE * xx - yy)
            basis[10] = C3_PRODUCT * x * y * z
            basis[11] = -C3_MIDDLE * y * (FOUR * zz - xx - yy)
            basis[12] = C3_AXIAL * z * (TWO * zz - THREE * xx - THREE * yy)
            basis[13] = -C3_MIDDLE * x * (FOUR * zz - xx - yy)
            basis[14] = C3_DIFFERENCE * z * (xx - yy)
            basis[15] = -C3_OUTER * x * (xx - THREE * yy)


@njit(fastmath=True, error_model="numpy", forceinline=True)
def seen_color(
    count: int, dx: Scalar, dy: Scalar, dz: Scalar, sh: F32, n: int | np.int32, basis: F32
) -> tuple[Scalar, Scalar, Scalar]:
    """Red, green and blue of Gaussian n at (dx, dy, dz) from the camera [world axes], clipped below at 0.

    Of its `sh` (N, K, 3) the first `count` (1, 4, 9, 16) are used; a row of them would count references in the inner
    loop. `basis` (16,) is scratch.
    """
    inverse_distance = ONE / math.sqrt(dx * dx + dy * dy + dz * dz)
    evaluate_basis(count, dx * inverse_distance, dy * inverse_distance, dz * inverse_distance, basis)
    red = green = blue = HALF
    for k in range(count):
        red += basis[k] * sh[n, k, 0]
        green += basis[k] * sh[n, k, 1]
        blue += basis[k] * sh[n, k, 2]
    return max(red, ZERO), max(green, ZERO), max(blue, ZERO)


@njit(fastmath=True, error_model="numpy")
def differentiate_basis(count: int, x: Scalar, y: Scalar, z: Scalar, by_xyz: F32) -> None:
    """Write the basis values' derivatives by x, y and z (as if independent) into `by_xyz` (count, 3).

    The direction is unit, so the caller projects the result onto the tangent plane.
    """
    by_xyz[0, 0] = by_xyz[0, 1] = by_xyz[0, 2] = ZERO
    if count > 1:
        by_xyz[1, 0], by_xyz[1, 1], by_xyz[1, 2] = ZERO, -C1, ZERO
        by_xyz[2, 0], by_xyz[2, 1], by_xyz[2, 2] = ZERO, ZERO, C1
        by_xyz[3, 0], by_xyz[3, 1], by_xyz[3, 2] = -C1, ZERO, ZERO
    if count > 4:
        by_xyz[4, 0], by_xyz[4, 1], by_xyz[4, 2] = C2_CROSS * y, C2_CROSS * x, ZERO
        by_xyz[5, 0], by_xyz[5, 1], by_xyz[5, 2] = ZERO, -C2_CROSS * z, -C2_CROSS * y
        by_xyz[6, 0], by_xyz[6, 1], by_xyz[6, 2] = -TWO * C2_AXIAL * x, -TWO * C2_AXIAL * y, FOUR * C2_AXIAL * z
        by_xyz[7, 0], by_xyz[7, 1], by_xyz[7, 2] = -C2_CROSS * z, ZERO, -C2_CROSS * x
        by_xyz[8, 0], by_xyz[8, 1], by_xyz[8, 2] = TWO * C2_DIFFERENCE * x, -TWO * C2_DIFFERENCE * y, ZERO
    if count > 9:
        xx, yy, zz, xy, yz, xz = x * x, y * y, z * z, x * y, y * z, x * z
        by_xyz[9, 0], by_xyz[9, 1], by_xyz[9, 2] = -SIX * C3_OUTER * xy, -THREE * C3_OUTER * (xx - yy), ZERO
        by_xyz[10, 0], by_xyz[10, 1], by_xyz[10, 2] = C3_PRODUCT * yz, C3_PRODUCT * xz, C3_PRODUCT * xy
        by_xyz[11, 0] = TWO * C3_MIDDLE * xy
        by_xyz[11, 1] = -C3_MIDDLE * (FOUR * zz - xx - THREE * yy)
        by_xyz[11, 2] = -EIGHT * C3_MIDDLE * yz
        by_xyz[12, 0] = -SIX * C3_AXIAL * xz
        by_xyz[12, 1] = -SIX * C3_AXIAL * yz
        by_xyz[12, 2] = THREE * C3_AXIAL * (TWO * zz - xx - yy)
        by_xyz[13, 0] = -C3_MIDDLE * (FOUR * zz - THREE * xx - yy)
        by_xyz[13, 1] = TWO * C3_MIDDLE * xy
        by_xyz[13, 2] = -EIGHT * C3_MIDDLE * xz
        by_xyz[14, 0], by_xyz[14, 1] = TWO * C3_DIFFERENCE * xz, -TWO * C3_DIFFERENCE * yz
        by_xyz[14, 2] = C3_DIFFERENCE * (xx - yy)
        by_xyz[15, 0], by_xyz[15, 1], by_xyz[15, 2] = -THREE * C3_OUTER * (xx - yy), SIX * C3_OUTER * xy, ZERO


@njit(fastmath=True, error_model="numpy")
def direction_gradient(
    count: int,
    x: Scalar,
    y: Scalar,
    z: Scalar,
    inverse_distance: Scalar,
    by_xyz: F32,
    coefficients: F32,
    color_gradient: F32,
    position_gradient: F32,
) -> None:
    """Add to `position_gradient` (3,) [world] what a Gaussian's view-dependent colour pulls at its position.

    The Gaussian lies in the unit direction (x, y, z) from the camera, `count` of its SH `coefficients` (K, 3) are in
    use, and `color_gradient` (3,), the loss's derivative by the colour, is 0 where that is clipped. `by_xyz` (16, 3) is
    scratch.
    """
    if count == 1:
        return
    differentiate_basis(count, x, y, z, by_xyz)
    gx = gy = gz = ZERO
    for k in range(1, count):
        pull = ZERO
        for channel in range(3):
            pull += coefficients[k, channel] * color_gradient[channel]
        gx += by_xyz[k, 0] * pull
        gy += by_xyz[k, 1] * pull
        gz += by_xyz[k, 2] * pull
    radial = gx * x + gy * y + gz * z
    position_gradient[0] += (gx - radial * x) * inverse_distance
    position_gradient[1] += (gy - radial * y) * inverse_distance
    position_gradient[2] += (gz - radial * z) * inverse_distance
