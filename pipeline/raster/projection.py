"""From Gaussians in the world to ellipses on the screen.

Source: M. Zwicker et al., EWA Splatting, TVCG 2002, section 6 (affine approximation of the perspective); B. Kerbl et
al., 3D Gaussian Splatting, SIGGRAPH 2023, section 4; where pixels are areas, the 2D Mip filter of Z. Yu et al.,
Mip-Splatting, CVPR 2024, section 4.2: what the blur adds to a Gaussian's area is taken from its opacity. The slope x/z
inside the approximation is clamped, so that Gaussians next to the camera don't blow up: to the image's border, where
3DGS goes beyond it by 15 % of the image. Nearer to the floor than the photos, that smears what lies beside the image
over it; to its border, images differ from exact rays by less than 0.1 dB on average.
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.geometry.jit import njit, prange
from pipeline.raster import layout
from pipeline.raster.harmonics import seen_color
from pipeline.raster.layout import HALF, ONE, TWO, ZERO, GaussianArrays, Scalar, ViewConstants, slope_limits
from pipeline.types import F32

Vector = tuple[Scalar, Scalar, Scalar]
Matrix = tuple[Vector, Vector, Vector]

NO_SHARE = np.float32(1e-30)
"""Squared share of its opacity below which a Gaussian shows nothing, whatever the cutoff."""
BLOCKS = 64
"""Fixed shares of the work, so that nothing depends on the number of threads."""


@njit(fastmath=True, error_model="numpy")
def rows_of(matrix: F32) -> Matrix:
    """The rows of a (3, 3) array as scalars, which stay in registers."""
    return (
        (matrix[0, 0], matrix[0, 1], matrix[0, 2]),
        (matrix[1, 0], matrix[1, 1], matrix[1, 2]),
        (matrix[2, 0], matrix[2, 1], matrix[2, 2]),
    )


@njit(fastmath=True, error_model="numpy")
def dot(a: Vector, b: Vector) -> Scalar:
    """The scalar product; entries may be lanes."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(fastmath=True, error_model="numpy")
def own_axes(w: Scalar, x: Scalar, y: Scalar, z: Scalar) -> Matrix:
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
    x, y, z = dot(world[0], axis), dot(world[1], axis), dot(world[2], axis)
    return scale * jx * (x - slope_x * z), scale * jy * (y - slope_y * z)


@njit(fastmath=True, error_model="numpy")
def _bound(limit: Scalar, blur: Scalar, axis: Scalar, slope: Scalar) -> Scalar:
    """Upper bound of the extent [px] of a Gaussian whose longest axis facing the camera has the length `axis` [px].

    `_project_axis` scales with |(1, -slope)| at most; rounding is covered by a thousandth.
    """
    return np.float32(1.001) * math.sqrt(TWO * limit * (blur + axis * axis * (ONE + slope * slope)))


@njit(fastmath=True, error_model="numpy")
def squared_area(u0: Scalar, v0: Scalar, u1: Scalar, v1: Scalar, u2: Scalar, v2: Scalar) -> Scalar:
    """The determinant of sum (u, v)(u, v)^T, by Cauchy and Binet: without cancellation where the ellipse is thin."""
    a, b, c = u0 * v1 - u1 * v0, u0 * v2 - u2 * v0, u1 * v2 - u2 * v1
    return a * a + b * b + c * c


@njit(fastmath=True, nogil=True, error_model="numpy")
def _project_range(
    first: int, last: int, gaussians: GaussianArrays, sh_count: int, view: ViewConstants, records: F32
) -> None:
    """`project` for the Gaussians first..last-1."""
    means, log_scales, quaternions = gaussians.means, gaussians.log_scales, gaussians.quaternions
    low_x, high_x, low_y, high_y = slope_limits(view)
    limit = -math.log(view.alpha)
    basis = np.empty(16, np.float32)
    world = rows_of(view.rotation)
    for n in range(first, last):
        record = records[n]
        record[layout.DEPTH] = ZERO
        mean = (means[n, 0], means[n, 1], means[n, 2])
        z = dot(world[2], mean) + view.translation[2]
        if z < view.near:
            continue
        inverse_z = ONE / z
        raw_x = (dot(world[0], mean) + view.translation[0]) * inverse_z
        raw_y = (dot(world[1], mean) + view.translation[1]) * inverse_z
        mean_x, mean_y = view.fx * raw_x + view.cx, view.fy * raw_y + view.cy
        slope_x, slope_y = _clamp(raw_x, low_x, high_x), _clamp(raw_y, low_y, high_y)
        jx, jy = view.fx * inverse_z, view.fy * inverse_z
        outside_x = max(-mean_x, mean_x - view.width)
        outside_y = max(-mean_y, mean_y - view.height)
        if max(outside_x, outside_y) > ZERO:  # most of a room: what the longest axis cannot reach needs no covariance
            longest = math.exp(max(log_scales[n, 0], log_scales[n, 1], log_scales[n, 2]))
            if outside_x > _bound(limit, view.blur, longest * jx, slope_x):
                continue
            if outside_y > _bound(limit, view.blur, longest * jy, slope_y):
                continue
        odds = math.exp(-gaussians.opacity_logits[n])
        faint = math.log(ONE + odds)
        if not limit - faint > ZERO:
            continue

        # Covariance on the screen: sum over the own axes of the outer products of their projections.
        w, x, y, z_ = quaternions[n, 0], quaternions[n, 1], quaternions[n, 2], quaternions[n, 3]
        unit = ONE / math.sqrt(w * w + x * x + y * y + z_ * z_)
        own = own_axes(w * unit, x * unit, y * unit, z_ * unit)
        u0, v0 = _project_axis(world, own[0], math.exp(log_scales[n, 0]), jx, jy, slope_x, slope_y)
        u1, v1 = _project_axis(world, own[1], math.exp(log_scales[n, 1]), jx, jy, slope_x, slope_y)
        u2, v2 = _project_axis(world, own[2], math.exp(log_scales[n, 2]), jx, jy, slope_x, slope_y)
        xx = view.blur + u0 * u0 + u1 * u1 + u2 * u2
        xy = u0 * v0 + u1 * v1 + u2 * v2
        yy = view.blur + v0 * v0 + v1 * v1 + v2 * v2
        inverse_determinant = ONE / (xx * yy - xy * xy)
        if view.antialiased:
            share = squared_area(u0, v0, u1, v1, u2, v2) * inverse_determinant
            if not share > NO_SHARE:
                continue
            faint -= HALF * math.log(share)
        reach = limit - faint
        if not reach > ZERO:
            continue

        extent_x, extent_y = math.sqrt(TWO * reach * xx), math.sqrt(TWO * reach * yy)
        if outside_x > extent_x or outside_y > extent_y:
            continue

        dx, dy, dz = mean[0] - view.center[0], mean[1] - view.center[1], mean[2] - view.center[2]
        red, green, blue = seen_color(sh_count, dx, dy, dz, gaussians.sh, n, basis)
        record[layout.MEAN_X], record[layout.MEAN_Y] = mean_x, mean_y
        record[layout.CONIC_XX] = yy * inverse_determinant
        record[layout.CONIC_XY] = -xy * inverse_determinant
        record[layout.CONIC_YY] = xx * inverse_determinant
        record[layout.OPACITY] = ONE / (ONE + odds)
        record[layout.RED], record[layout.GREEN], record[layout.BLUE] = red, green, blue
        record[layout.EXTENT_X], record[layout.EXTENT_Y], record[layout.REACH] = extent_x, extent_y, reach
        record[layout.FAINT] = faint
        record[layout.DEPTH] = z


@njit(parallel=True, fastmath=True, nogil=True, cache=True, error_model="numpy")
def project(gaussians: GaussianArrays, sh_count: int, view: ViewConstants, records: F32) -> None:
    """Write the record (N, 16), see `layout`, of each Gaussian [world frame], with `sh_count` SH coefficients in use.

    A depth of 0 marks what the view does not show.
    """
    count = gaussians.means.shape[0]
    for block in prange(BLOCKS):
        first, last = block * count // BLOCKS, (block + 1) * count // BLOCKS
        _project_range(first, last, gaussians, sh_count, view, records)
