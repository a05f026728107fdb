"""The rasteriser's two directions: Gaussians to accumulated planes, and gradients of the planes to gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Gaussians, Pose
from pipeline.splat.raster.blending import PLANES, blend_tiles, blend_tiles_backward
from pipeline.splat.raster.layout import (
    RECORD_COLUMNS,
    SLOT_COLUMNS,
    TILE,
    Cutoffs,
    ViewConstants,
    line_aligned,
    view_constants,
)
from pipeline.splat.raster.memory import keep_freed_memory
from pipeline.splat.raster.projection import project
from pipeline.splat.raster.projection_backward import project_backward
from pipeline.splat.raster.tiles import Tiles, bin_gaussians

Float = NDArray[np.float32]

DEFAULT_CUTOFFS = Cutoffs()
OPAQUE_ENOUGH = np.float32(0.05)
"""Below this alpha a pixel's expected depth is noise and reported as 0."""


@dataclass(frozen=True, eq=False)
class Rendering:
    """A picture of Gaussians, or a batch of them with B in front of each shape.

    Attributes:
        rgb: (H, W, 3) float32, background included, not clipped above.
        depth: (H, W) float32, expected depth along the optical axis [world units]; 0 where alpha < 0.05.
        alpha: (H, W) float32.
        median_depth: (H, W) float32, depth at which the transmittance falls to one half, 0 where it never does; None
            unless asked for.
    """

    rgb: Float
    depth: Float
    alpha: Float
    median_depth: Float | None = None


@dataclass(frozen=True, eq=False)
class Raster:
    """A forward pass and what its backward pass needs. Planes are padded to whole tiles: h and w are multiples of 16.

    Attributes:
        view: The camera.
        sh_count: SH coefficients in use.
        records: (N, 16) float32, see `layout`.
        tiles: The pairs of Gaussians and tiles.
        ends: (tiles,) int64, one past the last pair drawn.
        planes: (4, h, w) float32, sums of weight times red, green, blue, depth, without background.
        transmittance: (h, w) float32.
        median_depth: (h, w) float32, depth at which the transmittance falls to one half, 0 where it never does; (0, 0)
            unless asked for.
    """

    view: ViewConstants
    sh_count: int
    records: Float
    tiles: Tiles
    ends: NDArray[np.int64]
    planes: Float
    transmittance: Float
    median_depth: Float


@dataclass(frozen=True, eq=False)
class Gradients:
    """Derivatives of a loss by the parameters of `Gaussians`; rows of unseen Gaussians are not defined.

    Attributes:
        visible: (V,) int32, the rows that are.
        means: (N, 3) float32.
        log_scales: (N, 3) float32.
        quaternions: (N, 4) float32.
        opacity_logits: (N,) float32.
        sh: (N, K, 3) float32.
        screen: (N,) float32, length of the derivative by the centre's pixel [loss / px].
    """

    visible: NDArray[np.int32]
    means: Float
    log_scales: Float
    quaternions: Float
    opacity_logits: Float
    sh: Float
    screen: Float


def rasterize(
    gaussians: Gaussians,
    camera: Camera,
    world_from_camera: Pose,
    *,
    sh_count: int | None = None,
    median: bool = False,
    cutoffs: Cutoffs = DEFAULT_CUTOFFS,
) -> Raster:
    """Draw Gaussians into planes.

    Source: B. Kerbl et al., 3D Gaussian Splatting, SIGGRAPH 2023, section 6.

    Args:
        gaussians: In the world frame; C-contiguous float32.
        camera: Pinhole.
        world_from_camera: Its pose.
        sh_count: How many SH coefficients to use (1, 4, 9, 16); all by default.
        median: Whether to compute the median depth too.
        cutoffs: Where to stop.
    """
    keep_freed_memory()
    view = view_constants(camera, world_from_camera, cutoffs, gaussians.antialiased)
    count = gaussians.sh.shape[1] if sh_count is None else sh_count
    records = line_aligned(len(gaussians), RECORD_COLUMNS)
    project(
        gaussians.means,
        gaussians.log_scales,
        gaussians.quaternions,
        gaussians.opacity_logits,
        gaussians.sh,
        count,
        view,
        records,
    )
    across, down = view.tiles
    tiles = bin_gaussians(records, across, down)
    size = down * TILE, across * TILE
    planes, transmittance = line_aligned(PLANES, *size), line_aligned(*size)
    median_depth = line_aligned(*(size if median else (0, 0)))
    ends = np.empty(across * down, np.int64)
    blend_tiles(
        across,
        down,
        tiles.starts,
        tiles.gaussians,
        tiles.rows,
        records,
        view.transmittance,
        planes,
        transmittance,
        median_depth,
        ends,
    )
    return Raster(view, count, records, tiles, ends, planes, transmittance, median_depth)


def rasterize_backward(raster: Raster, gaussians: Gaussians, by_planes: Float, by_transmittance: Float) -> Gradients:
    """Carry a loss's derivatives by the planes back to the Gaussians.

    Args:
        raster: Of `rasterize` with the same Gaussians.
        gaussians: See `raster`.
        by_planes: (4, h, w) float32, derivative by `raster.planes`; 0 in the padding.
        by_transmittance: (h, w) float32, derivative by `raster.transmittance`; 0 in the padding.
    """
    across, down = raster.view.tiles
    tiles = raster.tiles
    slots = line_aligned(len(tiles.slots), SLOT_COLUMNS)
    blend_tiles_backward(
        across,
        down,
        tiles.starts,
        raster.ends,
        tiles.gaussians,
        tiles.rows,
        tiles.slots,
        raster.records,
        raster.planes,
        raster.transmittance,
        np.ascontiguousarray(by_planes),
        np.ascontiguousarray(by_transmittance),
        slots,
    )
    gradients = Gradients(
        tiles.visible,
        np.empty_like(gaussians.means),
        np.empty_like(gaussians.log_scales),
        np.empty_like(gaussians.quaternions),
        np.empty_like(gaussians.opacity_logits),
        np.empty_like(gaussians.sh),
        np.empty(len(gaussians), np.float32),
    )
    project_backward(
        tiles.visible,
        tiles.offsets,
        slots,
        raster.records,
        gaussians.means,
        gaussians.log_scales,
        gaussians.quaternions,
        gaussians.sh,
        raster.sh_count,
        raster.view,
        gradients.means,
        gradients.log_scales,
        gradients.quaternions,
        gradients.opacity_logits,
        gradients.sh,
        gradients.screen,
    )
    return gradients


def render(
    gaussians: Gaussians,
    camera: Camera,
    world_from_camera: Pose,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    *,
    median: bool = False,
    cutoffs: Cutoffs = DEFAULT_CUTOFFS,
) -> Rendering:
    """The picture that a camera takes of Gaussians.

    Args:
        gaussians: In the world frame.
        camera: Pinhole.
        world_from_camera: Its pose.
        background: Colour behind everything, 0..1.
        median: Whether to compute the median depth too.
        cutoffs: Where to stop.

    Raises:
        ValueError: When the camera has lens distortion.
    """
    raster = rasterize(contiguous(gaussians), camera, world_from_camera, median=median, cutoffs=cutoffs)
    inside = np.s_[: camera.height, : camera.width]
    transmittance = raster.transmittance[inside]
    rgb = np.moveaxis(raster.planes[:3][:, *inside], 0, -1)
    rgb = rgb + transmittance[..., None] * np.array(background, np.float32)
    alpha = 1 - transmittance
    depth = np.zeros_like(alpha)
    np.divide(raster.planes[3][inside], alpha, out=depth, where=alpha >= OPAQUE_ENOUGH)
    median_depth = np.ascontiguousarray(raster.median_depth[inside]) if median else None
    return Rendering(np.ascontiguousarray(rgb, np.float32), depth, alpha, median_depth)


def contiguous(gaussians: Gaussians) -> Gaussians:
    """The same Gaussians as C-contiguous float32 arrays, which the kernels are compiled for."""
    names = ("means", "log_scales", "quaternions", "opacity_logits", "sh")
    return replace(gaussians, **{name: np.ascontiguousarray(getattr(gaussians, name), np.float32) for name in names})
