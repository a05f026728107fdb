"""What the kernels share: the columns of a projected Gaussian's record, the tile size, float32 constants.

In numba, `0.5 * float32` and `int * float32` are float64, which halves the width of the vector code; hence the
named float32 constants.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from pipeline.geometry import Camera, Pose
from pipeline.geometry.jit import njit
from pipeline.types import F32

TILE = 16
"""Tile side [px]: a row is one AVX-512 register of float32."""
TILE_PIXELS = TILE * TILE

Scalar = np.float32 | float
"""numba's scalar functions of float32 give float32; a type checker believes float."""
ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
STRICT_MATH = {"reassoc", "contract", "arcp", "nsz"}
"""Reductions may be reordered, but infinities keep their meaning: far outside an ellipse the exponential overflows
before the cutoff discards it."""
ALPHA_MAX = np.float32(0.99)
"""Upper bound of one Gaussian's alpha, as in the 3DGS reference code."""
OPAQUE_ENOUGH = np.float32(0.05)
"""Below this alpha a pixel's expected depth is noise and reported as 0."""
SCREEN_BLUR = np.float32(0.3)
"""Added to the diagonal of a projected covariance [px^2] in classic 3DGS, without compensation."""
PIXEL_BLUR = np.float32(0.1)
"""The same where a pixel is an area (`Gaussians.antialiased`): about the variance of a pixel, with compensation."""

LINE = 16
"""Float32 in a cache line."""
RECORD_COLUMNS = LINE
"""Columns of a record. The columns 14 and 15 are padding."""
MEAN_X, MEAN_Y = 0, 1
CONIC_XX, CONIC_XY, CONIC_YY = 2, 3, 4
OPACITY = 5
RED, GREEN, BLUE = 6, 7, 8
DEPTH = 9
"""Camera-frame z of the centre; 0 marks a Gaussian that the view does not show."""
EXTENT_X, EXTENT_Y = 10, 11
"""Half the width and height [px] of the ellipse outside which alpha is below the cutoff."""
REACH = 12
"""log(opacity / cutoff): half the squared Mahalanobis distance at which alpha reaches the cutoff."""

FAINT = 13
"""-log(opacity)."""

FIELDS = 13
"""Rows of a packed table: mean x y z, covariance xx xy xz yy yz zz, -log(opacity), red green blue of
SH degree 0."""
FAINT_FIELD, COLOR_FIELD = 9, 10
BOUNDS, RADIUS, SPREAD = 5, 3, 4
"""Rows of a table of bounds, see `PackedGaussians`."""

SLOT_COLUMNS = LINE
"""Columns of a gradient slot. With g = dL/dlog(alpha) of a pixel and (dx, dy) its offset from the centre, the sums over
pixels of g, g dx, g dx^2, g dy, g dx dy, g dy^2; of weight times dL/dred, dL/dgreen, dL/dblue, dL/ddepth; six of
padding."""


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt (malloc.h)."""
KEPT_BYTES = 256 << 20
"""Freed memory that may stay at the end of the heap [bytes]."""
MAX_HEAP_BLOCK_BYTES = 32 << 20
"""Blocks from this size on still come straight from the system [bytes]."""


@dataclass(frozen=True)
class Cutoffs:
    """Thresholds below which the rasteriser drops contributions; finite differences need smaller ones than images."""

    alpha: float = 1 / 255  # contributions below are dropped
    transmittance: float = 1e-3  # a tile is finished when no pixel lets more light through
    near: float = 0.02  # Gaussians whose centre is closer to the camera plane are dropped [world units]


DEFAULT_CUTOFFS = Cutoffs()


@dataclass(frozen=True, eq=False)
class Rendering:
    """An image of Gaussians, or a batch of them with B in front of each shape."""

    rgb: F32  # (H, W, 3) float32, background included, not clipped above
    depth: F32  # (H, W) float32, expected depth along the optical axis [world units]; 0 where alpha < 0.05
    alpha: F32  # (H, W) float32
    median_depth: F32 | None = None  # (H, W) float32, see `render_batch`; None unless it was computed


class GaussianArrays(NamedTuple):
    """The arrays of `Gaussians` for the kernels: C-contiguous float32."""

    means: F32
    log_scales: F32
    quaternions: F32
    opacity_logits: F32
    sh: F32

    @classmethod
    def of(cls, owner: object) -> GaussianArrays:
        """The arrays of `Gaussians`, or the derivatives by them in `Gradients`; not copied."""
        return cls(*(getattr(owner, name) for name in cls._fields))


class ViewConstants(NamedTuple):
    """A `Camera` with its pose and its `Cutoffs` for the kernels; all numbers are float32."""

    rotation: F32  # (3, 3) camera from world
    translation: F32  # (3,) camera from world
    center: F32  # (3,) the camera in the world
    fx: np.float32
    fy: np.float32
    cx: np.float32
    cy: np.float32
    width: np.float32
    height: np.float32
    alpha: np.float32
    transmittance: np.float32
    near: np.float32
    blur: np.float32  # added to the diagonal of a projected covariance [px^2]
    antialiased: bool  # whether Gaussians get fainter as much as that makes them larger

    @property
    def tiles(self) -> tuple[int, int]:
        """Columns and rows of tiles."""
        return -(-int(self.width) // TILE), -(-int(self.height) // TILE)


@njit(fastmath=True, error_model="numpy")
def slope_limits(view: ViewConstants) -> tuple[Scalar, Scalar, Scalar, Scalar]:
    """Lowest and highest x/z, lowest and highest y/z that the affine approximation uses."""
    return (
        -view.cx / view.fx,
        (view.width - view.cx) / view.fx,
        -view.cy / view.fy,
        (view.height - view.cy) / view.fy,
    )


def line_aligned(*shape: int) -> F32:
    """Uninitialised float32 memory that starts with a cache line."""
    count = math.prod(shape)
    raw = np.empty(count + LINE, np.float32)
    skip = -(raw.ctypes.data // raw.itemsize) % LINE
    return raw[skip : skip + count].reshape(shape)


def screen_blur(antialiased: bool) -> np.float32:
    """The blur that is added to the diagonal of a projected covariance [px^2]."""
    return PIXEL_BLUR if antialiased else SCREEN_BLUR


def view_constants(
    camera: Camera, world_from_camera: Pose, cutoffs: Cutoffs, antialiased: bool = False
) -> ViewConstants:
    """Pack a pinhole camera, and how it draws Gaussians, for the kernels.

    Raises:
        ValueError: When the camera has lens distortion.
    """
    if not camera.is_pinhole:
        raise ValueError(f"the rasteriser needs a pinhole camera; undistort first, got {camera.distortion}")
    camera_from_world = world_from_camera.inverse()
    return ViewConstants(
        np.ascontiguousarray(camera_from_world.rotation, np.float32),
        np.ascontiguousarray(camera_from_world.translation, np.float32),
        np.ascontiguousarray(world_from_camera.translation, np.float32),
        np.float32(camera.fx),
        np.float32(camera.fy),
        np.float32(camera.cx),
        np.float32(camera.cy),
        np.float32(camera.width),
        np.float32(camera.height),
        np.float32(cutoffs.alpha),
        np.float32(cutoffs.transmittance),
        np.float32(cutoffs.near),
        screen_blur(antialiased),
        antialiased,
    )


@cache
def keep_freed_memory() -> None:
    """Tell the C library to keep freed memory in the process, for the next image; once per process.

    By default glibc returns the memory of each training iteration to the system and gets it again page by page, which
    costs a fifth of the iteration's time. Other C libraries stay as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(M_MMAP_THRESHOLD, MAX_HEAP_BLOCK_BYTES)
