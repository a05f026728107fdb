"""Many pictures of the same Gaussians: what a simulator renders with.

One task draws a whole picture, so that threads need no more than to share out the pictures. What no camera changes -
covariances in the world, logarithms of opacities - is worked out once per set of Gaussians, and 16 Gaussians are
projected at a time. The rest is that of the single picture: the same tiles, the same blending.

Source of the projection as in `projection`: M. Zwicker et al., EWA Splatting, TVCG 2002, section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from pipeline.geometry import Camera, Gaussians, Pose, matrix_from_quaternion
from pipeline.splat.raster.blending import BUFFER_ROW, FIRST_PLANE, SECOND, draw_tile, row_columns
from pipeline.splat.raster.harmonics import evaluate_basis
from pipeline.splat.raster.lanes import WIDTH, bits, line_aligned_buffer, load, root, select, spread, store
from pipeline.splat.raster.layout import (
    BLUE,
    CONIC_XX,
    CONIC_XY,
    CONIC_YY,
    DEPTH,
    EXTENT_X,
    EXTENT_Y,
    FAINT,
    GREEN,
    HALF,
    MEAN_X,
    MEAN_Y,
    ONE,
    REACH,
    RECORD_COLUMNS,
    RED,
    SCREEN_BLUR,
    SLOPE_MARGIN,
    TILE,
    TWO,
    ZERO,
    Cutoffs,
    line_aligned,
)
from pipeline.splat.raster.memory import keep_freed_memory
from pipeline.splat.raster.rasterizer import DEFAULT_CUTOFFS, OPAQUE_ENOUGH, Rendering
from pipeline.splat.raster.tiles import distribute, order_by_depth

Float = NDArray[np.float32]
Lanes = Any

FIELDS = 10
"""Rows of a packed table: mean x y z, covariance xx xy xz yy yz zz, -log(opacity)."""
FAINT_FIELD = 9
BLOCKS = 64
"""Shares of a batch; each has its own memory for records, whatever the number of pictures."""


@dataclass(frozen=True, eq=False)
class PackedGaussians:
    """Gaussians as the batch renderer wants them; pack once, render often.

    Attributes:
        table: (10, M) float32, see `FIELDS`; M is N rounded up to 16, with Gaussians that nothing sees.
        sh: (N, K, 3) float32.
    """

    table: Float
    sh: Float

    def __len__(self) -> int:
        return len(self.sh)


def pack(gaussians: Gaussians) -> PackedGaussians:
    """Work out what no camera changes.

    Args:
        gaussians: In the world frame; those with numbers that are not finite are left out.
    """
    names = ("means", "log_scales", "quaternions", "opacity_logits")
    numbers = np.concatenate([getattr(gaussians, name).reshape(len(gaussians), -1) for name in names], 1)
    gaussians = gaussians[np.flatnonzero(np.isfinite(numbers).all(1))]
    count = len(gaussians)
    axes = matrix_from_quaternion(gaussians.quaternions) * np.exp(gaussians.log_scales.astype(np.float64))[:, None, :]
    covariances = axes @ axes.swapaxes(1, 2)
    table = line_aligned(FIELDS, -(-count // WIDTH) * WIDTH)
    table[:] = 0
    table[:3, :count] = gaussians.means.T
    table[3:FAINT_FIELD, :count] = covariances[:, (0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)].T
    table[FAINT_FIELD] = np.inf
    table[FAINT_FIELD, :count] = np.logaddexp(0, -gaussians.opacity_logits.astype(np.float64))
    return PackedGaussians(table, np.ascontiguousarray(gaussians.sh, np.float32))


def render_batch(
    gaussians: Gaussians | PackedGaussians,
    cameras: Camera | Sequence[Camera],
    world_from_cameras: Sequence[Pose] | NDArray[np.floating],
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    *,
    sh_count: int | None = None,
    cutoffs: Cutoffs = DEFAULT_CUTOFFS,
) -> Rendering:
    """The pictures that B cameras take of the same Gaussians, the median depth included.

    The result is the same for any number of threads, and for a picture alone or in any batch.

    Args:
        gaussians: In the world frame; packed ones save work when they are rendered more than once.
        cameras: Pinholes of one picture size; a single one serves all poses.
        world_from_cameras: B poses, or as many matrices (B, 4, 4), which are believed.
        background: Colour behind everything, 0..1.
        sh_count: How many SH coefficients to use (1, 4, 9, 16); all by default.
        cutoffs: Where to stop.

    Raises:
        ValueError: When there is no pose, numbers or sizes of cameras disagree, or one has lens distortion.
    """
    keep_freed_memory()
    packed = gaussians if isinstance(gaussians, PackedGaussians) else pack(gaussians)
    if not isinstance(world_from_cameras, np.ndarray):
        world_from_cameras = np.array([pose.matrix for pose in world_from_cameras])
    count = len(world_from_cameras)
    cameras = [cameras] if isinstance(cameras, Camera) else list(cameras)
    sizes = {(camera.width, camera.height) for camera in cameras}
    if count == 0 or len(cameras) not in (1, count) or len(sizes) != 1:
        raise ValueError(f"a batch needs a camera of one size for each pose, got {count} poses and sizes {sizes}")
    if not all(camera.is_pinhole for camera in cameras):
        raise ValueError("the rasteriser needs pinhole cameras; undistort first")
    ((width, height),) = sizes
    intrinsics = np.array([(camera.fx, camera.fy, camera.cx, camera.cy) for camera in cameras], np.float32)
    centers = world_from_cameras[:, :3, 3]
    rotations = world_from_cameras[:, :3, :3].swapaxes(1, 2)
    rgb = np.empty((count, height, width, 3), np.float32)
    depth, alpha, median = (np.empty((count, height, width), np.float32) for _ in range(3))
    _draw_pictures(
        packed.table,
        packed.sh,
        packed.sh.shape[1] if sh_count is None else sh_count,
        np.ascontiguousarray(rotations, np.float32),
        np.ascontiguousarray(-(rotations @ centers[..., None])[..., 0], np.float32),
        np.ascontiguousarray(centers, np.float32),
        np.ascontiguousarray(np.broadcast_to(intrinsics, (count, 4))),
        np.float32(-np.log(cutoffs.alpha)),
        np.float32(cutoffs.transmittance),
        np.float32(cutoffs.near),
        np.array(background, np.float32),
        rgb,
        depth,
        alpha,
        median,
    )
    return Rendering(rgb, depth, alpha, median)


@njit(fastmath=True, error_model="numpy")
def _bounded(value: Lanes, low: np.float32, high: np.float32) -> Lanes:
    above = select(value <= low, spread(low), value)
    return select(above <= high, above, spread(high))


@njit(fastmath=True, error_model="numpy")
def _beyond(value: Lanes, size: np.float32) -> Lanes:
    """How far outside of [0, size]."""
    return value - _bounded(value, ZERO, size)


@njit(fastmath=True, error_model="numpy")
def _project(
    table: Float,
    rotation: Float,
    translation: Float,
    intrinsics: Float,
    width: np.float32,
    height: np.float32,
    limit: np.float32,
    near: np.float32,
    scratch: Float,
    records: Float,
    visible: NDArray[np.int32],
) -> int:
    """Write the records of what the camera sees, one after the other, without colours; gives their number.

    Args:
        table: (10, M), see `PackedGaussians`.
        rotation: (3, 3) camera from world.
        translation: (3,) camera from world.
        intrinsics: (4,) fx, fy, cx, cy.
        width: Picture width [px].
        height: Picture height [px].
        limit: -log of the least alpha that counts.
        near: Least depth.
        scratch: (16, 16), flat.
        records: (M, 16), written.
        visible: (M,), written: the Gaussian of each record.
    """
    fx, fy, cx, cy = intrinsics[0], intrinsics[1], intrinsics[2], intrinsics[3]
    low_x, high_x = (-SLOPE_MARGIN * width - cx) / fx, (width + SLOPE_MARGIN * width - cx) / fx
    low_y, high_y = (-SLOPE_MARGIN * height - cy) / fy, (height + SLOPE_MARGIN * height - cy) / fy
    size = table.shape[1]
    seen = 0
    for n in range(0, size, WIDTH):
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
        xx, xy = u0 * w0 + u1 * w1 + u2 * w2 + SCREEN_BLUR, v0 * w0 + v1 * w1 + v2 * w2
        w0, w1, w2 = c00 * v0 + c01 * v1 + c02 * v2, c01 * v0 + c11 * v1 + c12 * v2, c02 * v0 + c12 * v1 + c22 * v2
        yy = v0 * w0 + v1 * w1 + v2 * w2 + SCREEN_BLUR
        faint = load(table, n + FAINT_FIELD * size)
        reach = limit - faint
        squared_x, squared_y = TWO * reach * xx, TWO * reach * yy
        outside_x, outside_y = _beyond(mean_x, width), _beyond(mean_y, height)
        left = bits(near <= z) & bits(faint <= limit)
        left &= bits(outside_x * outside_x <= squared_x) & bits(outside_y * outside_y <= squared_y)
        if left == 0:
            continue
        inverse = ONE / (xx * yy - xy * xy)
        store(scratch, MEAN_X * WIDTH, mean_x)
        store(scratch, MEAN_Y * WIDTH, mean_y)
        store(scratch, CONIC_XX * WIDTH, yy * inverse)
        store(scratch, CONIC_XY * WIDTH, ZERO - xy * inverse)
        store(scratch, CONIC_YY * WIDTH, xx * inverse)
        store(scratch, DEPTH * WIDTH, z)
        store(scratch, EXTENT_X * WIDTH, root(squared_x))
        store(scratch, EXTENT_Y * WIDTH, root(squared_y))
        store(scratch, REACH * WIDTH, reach)
        store(scratch, FAINT * WIDTH, faint)
        for lane in range(WIDTH):
            if left >> lane & 1:
                record = records[seen]
                for field in range(RECORD_COLUMNS):
                    record[field] = scratch[field * WIDTH + lane]
                visible[seen] = n + lane
                seen += 1
    return seen


@njit(fastmath=True, error_model="numpy")
def _color(
    table: Float, sh: Float, sh_count: int, center: Float, visible: NDArray[np.int32], basis: Float, records: Float
) -> None:
    """Write the colours of the records of `visible`, seen from `center`."""
    size = table.shape[1]
    flat = table.reshape(-1)
    for rank in range(visible.shape[0]):
        n = visible[rank]
        if sh_count > 1 or rank == 0:
            x, y, z = flat[n] - center[0], flat[n + size] - center[1], flat[n + 2 * size] - center[2]
            inverse = ONE / np.sqrt(x * x + y * y + z * z)
            evaluate_basis(sh_count, x * inverse, y * inverse, z * inverse, basis)
        red = green = blue = HALF
        for k in range(sh_count):
            red += basis[k] * sh[n, k, 0]
            green += basis[k] * sh[n, k, 1]
            blue += basis[k] * sh[n, k, 2]
        record = records[rank]
        record[RED], record[GREEN], record[BLUE] = max(red, ZERO), max(green, ZERO), max(blue, ZERO)


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def _draw_pictures(
    table: Float,
    sh: Float,
    sh_count: int,
    rotations: Float,
    translations: Float,
    centers: Float,
    intrinsics: Float,
    limit: np.float32,
    threshold: np.float32,
    near: np.float32,
    background: Float,
    rgb: Float,
    depth: Float,
    alpha: Float,
    median: Float,
) -> None:
    """Draw B pictures; for the arguments see `render_batch` and `_project`, the last four are written."""
    count, height, width = depth.shape
    across, down = -(-width // TILE), -(-height // TILE)
    blocks = min(count, BLOCKS)
    for block in prange(blocks):
        scratch, basis = line_aligned_buffer(RECORD_COLUMNS * WIDTH), np.empty(16, np.float32)
        records = line_aligned_buffer(table.shape[1] * RECORD_COLUMNS).reshape(table.shape[1], RECORD_COLUMNS)
        visible, ranks = np.empty(table.shape[1], np.int32), np.arange(table.shape[1]).astype(np.int32)
        columns, buffer = row_columns(), line_aligned_buffer(TILE * BUFFER_ROW)
        for picture in range(block * count // blocks, (block + 1) * count // blocks):
            seen = _project(
                table,
                rotations[picture],
                translations[picture],
                intrinsics[picture],
                np.float32(width),
                np.float32(height),
                limit,
                near,
                scratch,
                records,
                visible,
            )
            _color(table, sh, sh_count, centers[picture], visible[:seen], basis, records)
            order = order_by_depth(ranks[:seen], records)
            _, starts, gaussians, _, rows = distribute(ranks[:seen], order, records, across, down)
            for tile in range(across * down):
                x, y = tile % across * TILE, tile // across * TILE
                draw_tile(
                    buffer,
                    columns,
                    np.float32(x) + HALF,
                    np.float32(y) + HALF,
                    starts[tile],
                    starts[tile + 1],
                    gaussians,
                    rows,
                    records,
                    threshold,
                    True,
                )
                for row in range(min(TILE, height - y)):
                    for column in range(min(TILE, width - x)):
                        at = row * BUFFER_ROW + column
                        light = buffer[at]
                        target = rgb[picture, y + row, x + column]
                        for channel in range(3):
                            color = buffer[at + FIRST_PLANE + channel * TILE]
                            target[channel] = color + light * background[channel]
                        opaque = ONE - light
                        alpha[picture, y + row, x + column] = opaque
                        whole = buffer[at + FIRST_PLANE + 3 * TILE]
                        depth[picture, y + row, x + column] = whole / opaque if opaque >= OPAQUE_ENOUGH else ZERO
                        median[picture, y + row, x + column] = buffer[at + SECOND]
