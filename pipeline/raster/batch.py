"""Many images at once, of the same Gaussians or of several sets: what a simulator renders with.

One task draws a whole image, so that cores share the work however few there are of each set. What no camera changes -
covariances in the world, logarithms of opacities, bounds of neighbours - is worked out once per set, and 16 Gaussians
are projected at a time. Images are those of the single one but for rounding; how they are blended is made for small
ones, see `frame`.

Source of the projection as in `projection`: M. Zwicker et al., EWA Splatting, TVCG 2002, section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Gaussians, Pose
from pipeline.geometry.jit import array_at, njit, prange
from pipeline.raster import layout
from pipeline.raster.frame import blend, develop, new_frame, order_by_depth
from pipeline.raster.harmonics import seen_color
from pipeline.raster.lanes import (
    WIDTH,
    Lanes,
    bits,
    floor,
    line_aligned_buffer,
    load,
    logarithm,
    lowest,
    root,
    select,
    spread,
    store_rows,
)
from pipeline.raster.layout import (
    HALF,
    ONE,
    TILE,
    TWO,
    ZERO,
    Cutoffs,
    Rendering,
    ViewConstants,
    keep_freed_memory,
    screen_blur,
)
from pipeline.raster.packing import BOUNDS, COLOR_FIELD, FAINT_FIELD, FIELDS, RADIUS, SPREAD, PackedGaussians, pack
from pipeline.raster.projection import slope_limits
from pipeline.types import F32, I32, I64, Floats

SHARES = 64
"""Parts of a batch; each has its own memory for records, whatever the number of images."""


class Images(NamedTuple):
    """The arrays of a `Rendering` of B images for the kernel."""

    rgb: F32
    depth: F32
    alpha: F32
    median_depth: F32


def render_batch(
    gaussians: Gaussians | PackedGaussians | Sequence[PackedGaussians],
    cameras: Camera | Sequence[Camera],
    world_from_cameras: Sequence[Pose] | Floats,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    *,
    of: NDArray[np.integer] | None = None,
    sh_count: int | None = None,
    cutoffs: Cutoffs = layout.DEFAULT_CUTOFFS,
) -> Rendering:
    """The images that B cameras take of Gaussians, the median depth included.

    The result is the same for any number of threads, and for an image alone or in any batch.

    Args:
        gaussians: In the world frame; packed ones save work when they are rendered more than once. Or several sets.
        cameras: Pinholes of one image size; a single one serves all poses.
        world_from_cameras: B poses, or as many matrices (B, 4, 4), which are believed.
        background: Colour behind everything, 0..1.
        of: (B,) which of several sets each camera sees; by default the first.
        sh_count: Number of SH coefficients to use (1, 4, 9, 16); all by default.
        cutoffs: Where to stop.

    Raises:
        ValueError: When there is no pose, numbers or sizes of cameras disagree, or one has lens distortion.
    """
    keep_freed_memory()
    if isinstance(gaussians, Gaussians):
        gaussians = pack(gaussians)
    sets = [gaussians] if isinstance(gaussians, PackedGaussians) else gaussians
    if not isinstance(world_from_cameras, np.ndarray):
        world_from_cameras = np.array([pose.matrix for pose in world_from_cameras])
    count = len(world_from_cameras)
    (width, height), intrinsics = _lenses([cameras] if isinstance(cameras, Camera) else cameras, count)
    centers = world_from_cameras[:, :3, 3]
    rotations = world_from_cameras[:, :3, :3].swapaxes(1, 2)
    images = Images(
        np.empty((count, height, width, 3), np.float32),
        *(np.empty((count, height, width), np.float32) for _ in range(3)),
    )
    seen = np.zeros(count, np.int64) if of is None else np.asarray(of, np.int64)
    _draw_images(
        np.array([_place(packed, sh_count) for packed in sets], np.int64),
        seen,
        np.argsort(seen, kind="stable"),
        np.ascontiguousarray(rotations, np.float32),
        np.ascontiguousarray(-(rotations @ centers[..., None])[..., 0], np.float32),
        np.ascontiguousarray(centers, np.float32),
        intrinsics,
        np.float32(-np.log(cutoffs.alpha)),
        (np.float32(cutoffs.alpha), np.float32(cutoffs.transmittance), np.float32(cutoffs.near)),
        (screen_blur(False), screen_blur(True)),
        np.array(background, np.float32),
        images,
    )
    return Rendering(*images)


def _lenses(cameras: Sequence[Camera], count: int) -> tuple[tuple[int, int], F32]:
    """Size of the images of B cameras, and their focal lengths and principal points (B, 4)."""
    sizes = {(camera.width, camera.height) for camera in cameras}
    if count == 0 or len(cameras) not in (1, count) or len(sizes) != 1:
        raise ValueError(f"a batch needs a camera of one size for each pose, got {count} poses and sizes {sizes}")
    if not all(camera.is_pinhole for camera in cameras):
        raise ValueError("the rasteriser needs pinhole cameras; undistort first")
    intrinsics = np.array([(camera.fx, camera.fy, camera.cx, camera.cy) for camera in cameras], np.float32)
    # not a view of one camera's: for what can't be written numba compiles everything once more
    return sizes.pop(), np.tile(intrinsics, (count // len(cameras), 1))


def _place(packed: PackedGaussians, sh_count: int | None) -> tuple[int, ...]:
    """Where the arrays are and of which size, for the kernel: a row of what `_draw_images` takes."""
    table, bounds, sh = packed.table, packed.bounds, packed.sh
    addresses = (table.ctypes.data, bounds.ctypes.data, sh.ctypes.data)
    return *addresses, table.shape[1], *sh.shape[:2], sh.shape[1] if sh_count is None else sh_count, packed.antialiased


@njit(fastmath=True, error_model="numpy")
def _bounded(value: Lanes, low: np.float32 | float, high: np.float32 | float) -> Lanes:
    above = select(value <= low, spread(low), value)
    return select(above <= high, above, spread(high))


@njit(fastmath=True, error_model="numpy")
def _beyond(value: Lanes, size: np.float32) -> Lanes:
    """Signed distance outside of [0, size], 0 within."""
    return value - _bounded(value, ZERO, size)


@njit(fastmath=True, error_model="numpy")
def _in_sight(bounds: F32, view: ViewConstants, limit: np.float32, groups: I32) -> int:
    """Write the indices of the groups of 16 Gaussians of which the camera may see any; returns their number.

    An ellipse reaches sqrt(2 reach (|u|^2 spread^2 + blur)) pixels from its centre, with u as in `_project`; that is at
    most share * (f * slope * spread / z + sqrt(blur)) with share = sqrt(2 limit) and slope = |(1, slope's bound)|.
    Times z this is linear in the centre's position, so that a sphere's outermost point tells.
    """
    rotation, translation = view.rotation, view.translation
    size = bounds.shape[1]
    share = np.sqrt(TWO * limit)
    border = share * np.sqrt(view.blur)
    found = 0
    for n in range(0, size, WIDTH):
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
def _project(table: F32, groups: I32, view: ViewConstants, limit: np.float32, records: F32, visible: I32) -> int:
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
def _color(table: F32, sh: F32, sh_count: int, center: F32, visible: I32, basis: F32, records: F32) -> None:
    """Write the colours of the records of `visible`, seen from `center`, where they depend on that."""
    size = table.shape[1]
    flat = table.reshape(-1)
    for rank in range(visible.shape[0]):
        n = visible[rank]
        x, y, z = flat[n] - center[0], flat[n + size] - center[1], flat[n + 2 * size] - center[2]
        record = records[rank]
        record[layout.RED], record[layout.GREEN], record[layout.BLUE] = seen_color(sh_count, x, y, z, sh, n, basis)


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def _draw_images(
    places: I64,
    of: I64,
    order: I64,
    rotations: F32,
    translations: F32,
    centers: F32,
    intrinsics: F32,
    limit: np.float32,
    cutoffs: tuple[np.float32, np.float32, np.float32],
    blurs: tuple[np.float32, np.float32],
    background: F32,
    images: Images,
) -> None:
    """Draw B images by what `ViewConstants` say of the views; `limit` is -log of the least alpha that counts.

    `of` (B,) says which set of Gaussians each shows, by its row of `places`, see `_place`; they are drawn in an `order`
    in which those of one set follow each other.
    """
    count, height, width = images.depth.shape
    alpha, threshold, near = cutoffs
    shares = min(count, SHARES)
    for share in prange(shares):
        basis, room = np.empty(16, np.float32), -1
        records, visible, groups = np.empty((0, 0), np.float32), np.empty(0, np.int32), np.empty(0, np.int32)
        frame = new_frame(height, width)
        finished = np.empty((-(-height // TILE), -(-width // TILE)), np.uint8)
        for rank in range(share * count // shares, (share + 1) * count // shares):
            image = order[rank]
            at_table, at_bounds, at_sh, size, number, terms, sh_count, pixels_are_areas = places[of[image]]
            table = array_at(at_table, (FIELDS, size), np.float32)
            bounds = array_at(at_bounds, (BOUNDS, size // WIDTH), np.float32)
            if size > room:
                room = size
                records = line_aligned_buffer((size + 1) * layout.RECORD_COLUMNS).reshape(-1, layout.RECORD_COLUMNS)
                visible, groups = np.empty(size + 1, np.int32), np.empty(size // WIDTH, np.int32)
            antialiased = pixels_are_areas != 0
            view = ViewConstants(
                rotations[image],
                translations[image],
                centers[image],
                intrinsics[image, 0],
                intrinsics[image, 1],
                intrinsics[image, 2],
                intrinsics[image, 3],
                np.float32(width),
                np.float32(height),
                alpha,
                threshold,
                near,
                blurs[pixels_are_areas],
                antialiased,
            )
            found = _in_sight(bounds, view, limit, groups)
            seen = _project(table, groups[:found], view, limit, records, visible)
            if sh_count > 1:
                sh = array_at(at_sh, (number, terms, 3), np.float32)
                _color(table, sh, sh_count, view.center, visible[:seen], basis, records)
            blend(records, order_by_depth(records, seen), limit, threshold, frame, finished)
            develop(
                frame,
                background,
                images.rgb[image],
                images.depth[image],
                images.alpha[image],
                images.median_depth[image],
            )
