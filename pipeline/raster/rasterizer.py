"""The rasteriser's two directions: Gaussians to accumulated planes, and gradients of the planes to gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipeline.geometry import SH_C0, Camera, Gaussians, Pose
from pipeline.raster import layout
from pipeline.raster.blending import PLANES, blend_tiles, blend_tiles_backward
from pipeline.raster.layout import (
    OPAQUE_ENOUGH,
    TILE,
    Cutoffs,
    GaussianArrays,
    Rendering,
    ViewConstants,
    keep_freed_memory,
    line_aligned,
    view_constants,
)
from pipeline.raster.projection import project
from pipeline.raster.projection_backward import pose_gradient_blocks, project_backward
from pipeline.raster.tiles import Tiles, bin_gaussians
from pipeline.types import F32, F64, I32, I64, Mask


@dataclass(frozen=True, eq=False)
class Raster:
    """A forward pass and what its backward pass needs; planes are padded to whole tiles, of 16 pixels."""

    view: ViewConstants
    sh_count: int  # SH coefficients in use
    records: F32  # (N, 16) float32, see `layout`
    tiles: Tiles
    ends: I64  # (tiles,) int64, one past the last pair drawn
    planes: F32  # (4, h, w) float32, sums of weight times red, green, blue, depth, without background
    transmittance: F32  # (h, w) float32


@dataclass(frozen=True, eq=False)
class Gradients:
    """Derivatives of a loss by the parameters of `Gaussians`; rows of unseen Gaussians are not defined."""

    visible: I32  # (V,) int32, the rows that are
    means: F32  # (N, 3) float32
    log_scales: F32  # (N, 3) float32
    quaternions: F32  # (N, 4) float32
    opacity_logits: F32  # (N,) float32
    sh: F32  # (N, K, 3) float32, of the K coefficients that were drawn
    screen: F32  # (N,) float32, length of the derivative by the centre's pixel [loss / px]


def rasterize(
    gaussians: Gaussians,
    camera: Camera,
    world_from_camera: Pose,
    *,
    sh_count: int | None = None,
    cutoffs: Cutoffs = layout.DEFAULT_CUTOFFS,
) -> Raster:
    """Draw Gaussians [world frame; C-contiguous float32] by a pinhole camera into planes.

    `sh_count` is the number of SH coefficients to use (1, 4, 9, 16), all by default.
    Source: B. Kerbl et al., 3D Gaussian Splatting, SIGGRAPH 2023, section 6.
    """
    keep_freed_memory()
    view = view_constants(camera, world_from_camera, cutoffs, gaussians.antialiased)
    count = gaussians.sh.shape[1] if sh_count is None else sh_count
    records = line_aligned(len(gaussians), layout.RECORD_COLUMNS)
    project(GaussianArrays.of(gaussians), count, view, records)
    across, down = view.tiles
    tiles = bin_gaussians(records, across, down)
    size = down * TILE, across * TILE
    planes, transmittance = line_aligned(PLANES, *size), line_aligned(*size)
    ends = np.empty(across * down, np.int64)
    blend_tiles(across, down, tiles, records, view.transmittance, planes, transmittance, ends)
    return Raster(view, count, records, tiles, ends, planes, transmittance)


def rasterize_backward(raster: Raster, gaussians: Gaussians, by_planes: F32, by_transmittance: F32) -> Gradients:
    """Carry a loss's derivatives back to the Gaussians that were rasterized.

    They are those by `raster.planes` (4, h, w) and by `raster.transmittance` (h, w), 0 in the padding.
    """
    across, down = raster.view.tiles
    tiles = raster.tiles
    slots = line_aligned(len(tiles.slots), layout.SLOT_COLUMNS)
    blend_tiles_backward(
        across,
        down,
        tiles,
        raster.ends,
        raster.records,
        raster.planes,
        raster.transmittance,
        np.ascontiguousarray(by_planes),
        np.ascontiguousarray(by_transmittance),
        slots,
    )
    arrays = GaussianArrays.of(gaussians)
    by_sh = np.empty((len(gaussians), raster.sh_count, 3), np.float32)
    gradients = GaussianArrays(*(np.empty_like(array) for array in arrays))._replace(sh=by_sh)
    screen = np.empty(len(gaussians), np.float32)
    project_backward(
        tiles.visible, tiles.offsets, slots, raster.records, arrays, raster.sh_count, raster.view, gradients, screen
    )
    return Gradients(tiles.visible, *gradients, screen)


def pose_gradient(raster: Raster, gaussians: Gaussians, gradients: Gradients) -> F64:
    """Derivative of the loss by a small motion of the camera, from the `gradients` of `rasterize_backward`.

    The motion is a twist (w, t) in the camera's own axes: `world_from_camera @ Pose(matrix_from_rotvec(w), t)`. (6,)
    values are by w [loss / rad] and by t [loss / world unit].
    """
    blocks = pose_gradient_blocks(
        gradients.visible,
        GaussianArrays.of(gaussians),
        raster.sh_count,
        raster.view.center,
        GaussianArrays.of(gradients),
    )
    camera_from_world = raster.view.rotation.astype(np.float64)
    return (blocks.sum(0).reshape(2, 3) @ camera_from_world.T).ravel()


def grey(gaussians: Gaussians) -> Gaussians:
    """The same Gaussians in plain grey."""
    return replace(gaussians, sh=np.zeros((len(gaussians), 1, 3), np.float32))


def blending_weights(raster: Raster, gaussians: Gaussians, pixels: Mask) -> F32:
    """Blending weight (N,) of each Gaussian, summed over pixels (H, W) that count: how many of them it makes up.

    It is the derivative of the pixels' summed red by the Gaussian's red. The Gaussians are those of the raster, made by
    `grey`: clipped colours have no derivative.
    """
    height, width = pixels.shape
    by_planes = np.zeros_like(raster.planes)
    by_planes[0, :height, :width] = pixels
    gradients = rasterize_backward(raster, gaussians, by_planes, np.zeros_like(raster.transmittance))
    weights = np.zeros(len(gaussians), np.float32)
    weights[gradients.visible] = gradients.sh[gradients.visible, 0, 0] / np.float32(SH_C0)
    return weights


def render(
    gaussians: Gaussians,
    camera: Camera,
    world_from_camera: Pose,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    *,
    cutoffs: Cutoffs = layout.DEFAULT_CUTOFFS,
) -> Rendering:
    """The image that a pinhole camera takes of Gaussians [world frame] in front of a background, 0..1.

    Raises:
        ValueError: When the camera has lens distortion.
    """
    raster = rasterize(contiguous(gaussians), camera, world_from_camera, cutoffs=cutoffs)
    inside = np.s_[: camera.height, : camera.width]
    transmittance = raster.transmittance[inside]
    rgb = np.moveaxis(raster.planes[:3][:, *inside], 0, -1)
    rgb = rgb + transmittance[..., None] * np.array(background, np.float32)
    alpha = 1 - transmittance
    depth = np.zeros_like(alpha)
    np.divide(raster.planes[3][inside], alpha, out=depth, where=alpha >= OPAQUE_ENOUGH)
    return Rendering(np.ascontiguousarray(rgb, np.float32), depth, alpha)


def contiguous(gaussians: Gaussians) -> Gaussians:
    """The same Gaussians as C-contiguous float32 arrays, which the kernels are compiled for."""
    arrays = GaussianArrays.of(gaussians)._asdict()
    return replace(gaussians, **{name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()})
