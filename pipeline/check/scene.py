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
    """One held-out view; pixels that its mask ignores count in no comparison with the photo.

    Attributes:
        name: The view's name.
        psnr: PSNR of the splat in the view's exposure [dB].
        ssim: Structural similarity, 1 = equal; also in the view's exposure.
        plain_psnr: PSNR of the splat as it is, in the mean exposure of the training views [dB].
        fitted_psnr: As `psnr`, after the best gain and offset of each channel: without the photo's exposure [dB].
        depth_difference: (K,) float32 [m], splat depth minus mesh depth where both see something.
        compared: Share of pixels where both see something.
        photo: (H, W, 3) uint8.
        rendered: (H, W, 3) uint8.
        splat_depth: (H, W) float32 [m], 0 = nothing.
        mesh_depth: (H, W) float32 [m], 0 = nothing.
    """

    name: str
    psnr: float
    ssim: float
    plain_psnr: float
    fitted_psnr: float
    depth_difference: F32
    compared: float
    photo: U8
    rendered: U8
    splat_depth: F32
    mesh_depth: F32


@dataclass(frozen=True, eq=False)
class Photos:
    """What only a scene has that was built from a capture.

    Attributes:
        scene: All posed views, world frame.
        views: The held-out views, compared with splat and mesh.
        image_size: Width and height of the training images [px].
        held_out_depth: The sensor's depth maps of held-out views, world frame.
        keyframes: Number of keyframes, with a pose or without.
        coverage: How far the splat's images can be trusted.
    """

    scene: PosedScene
    views: Sequence[ViewCheck]
    image_size: tuple[int, int]
    held_out_depth: Sequence[DepthMap]
    keyframes: int
    coverage: CoverageMap


@dataclass(frozen=True, eq=False)
class CheckedScene:
    """What gates are measured on; all in the world frame [m].

    Attributes:
        alignment: Gravity and scale with their sigmas.
        splat: The full splat.
        mesh: The full mesh.
        collision: The mesh for physics.
        regions: The walkable floor.
        track: (N, 3) camera centres in capture order; none where nobody knows them.
        photos: None for an imported scene.
    """

    alignment: Alignment
    splat: Gaussians
    mesh: Mesh
    collision: Mesh
    regions: Regions
    track: F64
    photos: Photos | None = None
