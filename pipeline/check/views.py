"""What the splat looks like from held-out views, against their photos and against the mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Gaussians, Pose
from pipeline.mesh.rays import RayCaster
from pipeline.poses.scene import View, read_image, read_mask
from pipeline.progress import track
from pipeline.splat.loss import psnr, ssim
from pipeline.splat.raster import render
from pipeline.splat.views import training_camera

Float = NDArray[np.float32]

MIN_ALPHA = 0.5
"""Below it the splat says nothing about the pixel's depth."""


@dataclass(frozen=True, eq=False)
class ViewCheck:
    """One held-out view; pixels that its mask ignores count in no comparison with the photo.

    Attributes:
        name: The view's name.
        psnr: Of the splat in the view's exposure [dB].
        ssim: Structural similarity, 1 = equal; likewise.
        plain_psnr: Of the splat as it is, in the mean exposure of the training views [dB].
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
    depth_difference: Float
    compared: float
    photo: NDArray[np.uint8]
    rendered: NDArray[np.uint8]
    splat_depth: Float
    mesh_depth: Float


def check_views(
    splat: Gaussians,
    mesh: RayCaster,
    views: Sequence[View],
    gains: Mapping[str, NDArray[np.float32]],
    poses_folder: Path,
    long_side: int,
) -> list[ViewCheck]:
    """Render every view and compare; views are in the world frame, one that its mask hides wholly is left out.

    Args:
        splat: In the world frame.
        mesh: In the world frame.
        views: Held-out views.
        gains: (3,) by view, what its neighbours in time tell of its exposure; a view without has the splat's.
        poses_folder: Where their pictures lie.
        long_side: Of the pictures that are compared [px]: that of training.
    """
    checks = []
    for view in track(views, "checking held-out views"):
        camera = training_camera(view.camera, long_side)
        photo = read_image(poses_folder, view, (camera.width, camera.height))
        rendering = render(splat, camera, view.world_from_camera)
        plain = np.clip(rendering.rgb, 0, 1)
        picture = exposed(rendering.rgb, gains.get(view.name))
        reference = photo.astype(np.float32) / np.float32(255)
        counts = counting_pixels(poses_folder, view, camera)
        if not counts.any():
            continue
        splat_depth = np.where(rendering.alpha >= MIN_ALPHA, rendering.depth, 0)
        mesh_depth = cast_depth(mesh, camera, view.world_from_camera)
        both = (splat_depth > 0) & (mesh_depth > 0)
        checks.append(
            ViewCheck(
                view.name,
                psnr(picture[counts], reference[counts]),
                _masked_ssim(picture, reference, counts),
                psnr(plain[counts], reference[counts]),
                psnr(_exposed_like(picture[counts], reference[counts]), reference[counts]),
                (splat_depth - mesh_depth)[both],
                float(both.mean()),
                photo,
                (picture * 255).round().astype(np.uint8),
                splat_depth.astype(np.float32),
                mesh_depth,
            )
        )
    return checks


def exposed(rgb: Float, gain: NDArray[np.float32] | None) -> Float:
    """A rendered picture (..., 3) as a camera with this gain of each channel (3,) records it."""
    return np.clip(rgb if gain is None else rgb * gain, 0, 1).astype(np.float32)


def counting_pixels(poses_folder: Path, view: View, camera: Camera) -> NDArray[np.bool_]:
    """Which pixels (H, W) of the view's photo at the camera's size its mask lets count."""
    mask = read_mask(poses_folder, view, (camera.width, camera.height))
    return np.ones((camera.height, camera.width), bool) if mask is None else mask


def _masked_ssim(picture: Float, reference: Float, counts: NDArray[np.bool_]) -> float:
    """SSIM of pictures (H, W, 3) over the pixels (H, W) that count.

    The others get the reference's colours and are equal then; what windows at the border still see is charged to those
    that count.
    """
    shown = np.where(counts[..., None], picture, reference)
    return 1 - (1 - ssim(shown, reference)) / float(counts.mean())


def _exposed_like(colors: Float, reference: Float) -> Float:
    """Colours (N, 3) with the gain and offset of each channel that bring them nearest to the reference's (N, 3)."""
    x, y = colors.astype(np.float64), reference.astype(np.float64)
    dx, dy = x - x.mean(0), y - y.mean(0)
    gain = (dx * dy).sum(0) / np.maximum((dx**2).sum(0), 1e-9)
    return np.clip(dx * gain + y.mean(0), 0, 1).astype(np.float32)


def cast_depth(mesh: RayCaster, camera: Camera, world_from_camera: Pose) -> Float:
    """The mesh's depth (H, W) float32 along the optical axis [m]; 0 where the camera sees no mesh."""
    directions = world_from_camera.rotate(camera.rays()).reshape(-1, 3)  # z = 1: the distance is the depth
    origins = np.broadcast_to(world_from_camera.translation, directions.shape)
    distance = mesh.cast(origins, directions).distance
    return np.where(np.isfinite(distance), distance, 0).reshape(camera.height, camera.width).astype(np.float32)
