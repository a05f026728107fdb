"""What gates are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.align.alignment import Alignment
from pipeline.coverage.map import CoverageMap
from pipeline.depth.maps import DepthMap
from pipeline.geometry import Gaussians, Mesh
from pipeline.poses.scene import PosedScene
from pipeline.regions.regions import Regions
from pipeline.types import F32, F64, U8


@dataclass(frozen=True, eq=False)
class ViewCheck:
    """One held-out view; pixels that its mask ignores count in no comparison with the photo."""

    name: str
    psnr: float  # PSNR of the splat in the view's exposure [dB]
    ssim: float  # structural similarity, 1 = equal; also in the view's exposure
    plain_psnr: float  # PSNR of the splat as it is, in the mean exposure of the training views [dB]
    fitted_psnr: float  # as `psnr`, after the best gain and offset of each channel: without the photo's exposure [dB]
    depth_difference: F32  # (K,) float32 [m], splat depth minus mesh depth where both see something
    compared: float  # share of pixels where both see something
    photo: U8  # (H, W, 3) uint8
    rendered: U8  # (H, W, 3) uint8
    splat_depth: F32  # (H, W) float32 [m], 0 = nothing
    mesh_depth: F32  # (H, W) float32 [m], 0 = nothing


@dataclass(frozen=True, eq=False)
class Photos:
    """What only a scene has that was built from a capture."""

    scene: PosedScene  # all posed views, world frame
    views: Sequence[ViewCheck]  # the held-out views, compared with splat and mesh
    image_size: tuple[int, int]  # width and height of the training images [px]
    depth: Sequence[DepthMap]  # the depth maps of training views, world frame, without guessed levels
    held_out_depth: Sequence[DepthMap]  # the sensor's depth maps of held-out views, world frame
    keyframes: int  # number of keyframes, with a pose or without
    coverage: CoverageMap  # how far the splat's images can be trusted


@dataclass(frozen=True, eq=False)
class CheckedScene:
    """What gates are measured on; all in the world frame [m]."""

    alignment: Alignment  # gravity and scale with their sigmas
    splat: Gaussians
    mesh: Mesh  # the full one
    collision: Mesh  # the mesh for physics
    regions: Regions  # the walkable floor
    track: F64  # (N, 3) camera centres in capture order; none where nobody knows them
    photos: Photos | None = None  # None for an imported scene
