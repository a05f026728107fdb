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
from pipeline.raster.frame import blend, clear, develop, new_frame, order_by_depth
from pipeline.raster.lanes import (
    WIDTH,
    line_aligned_buffer,
)
from pipeline.raster.layout import (
    BOUNDS,
    FIELDS,
    TILE,
    Cutoffs,
    Rendering,
    ViewConstants,
    keep_freed_memory,
    screen_blur,
)
from pipeline.raster.packing import PackedGaussians, pack
from pipeline.raster.sight import color, in_sight, project
from pipeline.raster.slabs import Place, draw_slabs
from pipeline.types import F32, I64, Floats

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
    coarse = (0, 0, 0, 0, 0)
    if packed.coarse is not None:
        coarse = (
            *(array.ctypes.data for array in packed.coarse),
            table.shape[1] // WIDTH,
            packed.coarse.clusters.shape[1],
        )
    terms = sh.shape[1] if sh_count is None else sh_count
    return *addresses, table.shape[1], *sh.shape[:2], terms, packed.antialiased, *coarse


@njit(error_model="numpy")
def _opened(row: I64) -> tuple[Place, int, bool]:
    """The arrays of a row that `_place` made, the number of SH coefficients to use, and whether pixels are areas."""
    size, number, terms, fewer, clusters = row[3], row[4], row[5], row[11], row[12]
    place = Place(
        array_at(row[0], (FIELDS, size), np.float32),
        array_at(row[1], (BOUNDS, size // WIDTH), np.float32),
        array_at(row[2], (number, terms, 3), np.float32),
        array_at(row[8], (FIELDS, fewer), np.float32),
        array_at(row[9], (fewer, terms, 3), np.float32),
        array_at(row[10], (BOUNDS + 1, clusters), np.float32),
    )
    return place, row[6], row[7] != 0


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
            place, sh_count, antialiased = _opened(places[of[image]])
            size = place.table.shape[1]
            if size > room:
                room = size
                rows = size + size // WIDTH + 1  # all of both levels, and one to spare
                records = line_aligned_buffer(rows * layout.RECORD_COLUMNS).reshape(-1, layout.RECORD_COLUMNS)
                visible, groups = np.empty(rows, np.int32), np.empty(size // WIDTH, np.int32)
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
                blurs[1 if antialiased else 0],
                antialiased,
            )
            clear(frame)
            if place.clusters.shape[1]:
                draw_slabs(place, sh_count, view, limit, records, visible, groups, frame, finished)
            else:
                found = in_sight(place.bounds, 0, size // WIDTH, view, limit, groups)
                seen = project(place.table, groups[:found], view, limit, records, visible)
                if sh_count > 1:
                    color(place.table, place.sh, sh_count, view.center, visible[:seen], basis, records)
                blend(records, order_by_depth(records, seen), limit, threshold, frame, finished)
            develop(
                frame,
                background,
                images.rgb[image],
                images.depth[image],
                images.alpha[image],
                images.median_depth[image],
            )
