"""What the splat and its levels of detail look like from held-out views, against their photos and the mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.check.gates import Measured, rounded
from pipeline.check.scene import CheckedScene, ViewCheck
from pipeline.geometry import Camera, Gaussians
from pipeline.geometry.rays import RayCaster
from pipeline.poses.scene import View, read_image, read_mask
from pipeline.progress import track
from pipeline.raster import contiguous, render
from pipeline.splat.exposure import load_gains
from pipeline.splat.loss import psnr, ssim
from pipeline.splat.ply import load_splat
from pipeline.splat.sog import load_sog
from pipeline.splat.views import training_camera
from pipeline.types import F32, Mask

MIN_ALPHA = 0.5
"""Below it the splat says nothing about the pixel's depth."""


def check_views(
    splat: Gaussians,
    mesh: RayCaster,
    views: Sequence[View],
    gains: Mapping[str, F32],
    poses_folder: Path,
    long_side: int,
) -> list[ViewCheck]:
    """Render held-out views [world frame] and compare; one that its mask hides wholly is left out.

    `gains` (3,) by view are the exposures interpolated from their neighbours in time; a view without has the splat's.
    `long_side` [px] is that of the training images.
    """
    checks = []
    for view in track(views, "checking held-out views"):
        camera = training_camera(view.camera, long_side)
        photo = read_image(poses_folder, view, (camera.width, camera.height))
        rendering = render(splat, camera, view.world_from_camera)
        plain = np.clip(rendering.rgb, 0, 1)
        image = exposed(rendering.rgb, gains.get(view.name))
        reference = photo.astype(np.float32) / np.float32(255)
        counts = counting_pixels(poses_folder, view, camera)
        if not counts.any():
            continue
        splat_depth = np.where(rendering.alpha >= MIN_ALPHA, rendering.depth, 0)
        mesh_depth = mesh.depth(camera, view.world_from_camera)
        both = (splat_depth > 0) & (mesh_depth > 0)
        # SSIM: pixels that don't count are made equal; what windows at the border still see is charged to those that do
        shown = np.where(counts[..., None], image, reference)
        # the gain and offset of each channel that bring the image nearest to the photo
        x, y = image[counts].astype(np.float64), reference[counts].astype(np.float64)
        dx, dy = x - x.mean(0), y - y.mean(0)
        gain = (dx * dy).sum(0) / np.maximum((dx**2).sum(0), 1e-9)
        fitted = np.clip(dx * gain + y.mean(0), 0, 1).astype(np.float32)
        similarity = 1 - (1 - ssim(shown, reference)) / float(counts.mean())
        checks.append(
            ViewCheck(
                view.name,
                psnr(image[counts], reference[counts]),
                similarity,
                psnr(plain[counts], reference[counts]),
                psnr(fitted, reference[counts]),
                (splat_depth - mesh_depth)[both],
                float(both.mean()),
                photo,
                (image * 255).round().astype(np.uint8),
                splat_depth.astype(np.float32),
                mesh_depth,
            )
        )
    return checks


def view_gates(scene: CheckedScene) -> dict[str, Measured]:
    """Images and depths from held-out views."""
    if scene.photos is None:
        return {}
    checks, (width, height) = scene.photos.views, scene.photos.image_size
    views = f"{len(checks)} held-out views, at {width}x{height}"
    psnr, ssim = [check.psnr for check in checks], [check.ssim for check in checks]
    difference = np.concatenate([check.depth_difference for check in checks]) if checks else np.zeros(0)
    median, p90 = np.percentile(np.abs(difference), [50, 90]) if len(difference) else (None, None)
    how = f"expected depth of the splat minus depth of the mesh, all pixels of {views}"
    bias = float(np.median(difference)) if len(difference) else None
    return {
        "held_out_psnr": Measured(
            _mean(psnr),
            f"mean over {views}, rendered at the exposure interpolated from their neighbours in time",
            detail={
                "worst": rounded(min(psnr, default=None)),
                "in_mean_exposure": _mean([check.plain_psnr for check in checks]),
                "after_exposure_fit": _mean([check.fitted_psnr for check in checks]),
            },
        ),
        "held_out_ssim": Measured(
            _mean(ssim), f"mean over {views}", detail={"worst": rounded(min(ssim, default=None))}
        ),
        "splat_mesh_depth": Measured(
            median, how, detail={"bias": rounded(bias), "compared_share": _mean([check.compared for check in checks])}
        ),
        "splat_mesh_depth_p90": Measured(p90, how),
    }


def _mean(values: Sequence[float]) -> float | None:
    return rounded(float(np.mean(values))) if len(values) else None


def exposed(rgb: F32, gain: F32 | None) -> F32:
    """A rendered image (..., 3) as a camera with this gain of each channel (3,) records it."""
    return np.clip(rgb if gain is None else rgb * gain, 0, 1).astype(np.float32)


def counting_pixels(poses_folder: Path, view: View, camera: Camera) -> Mask:
    """Which pixels (H, W) of the view's photo at the camera's size its mask lets count."""
    mask = read_mask(poses_folder, view, (camera.width, camera.height))
    return np.ones((camera.height, camera.width), bool) if mask is None else mask


LEVEL_FILES = {"full": "splat.ply", "sim": "sim.ply", "web": "web.sog"}
SMALL_SIDE = 128
"""Long side of the images that robots are trained on in their thousands [px]."""


def measure_levels(
    folder: Path, views: Sequence[View], poses_folder: Path, long_side: int
) -> dict[str, dict[str, float | None]]:
    """Metrics of every level of the splat stage's `folder` by its name, from held-out views [world frame].

    They are Gaussians, bytes, and for the sizes "small" (128 px) and "training" the mean PSNR [dB] and how much lower
    than that of the full level it is, over the pixels that masks let count; None without held-out views.
    """
    splats = {
        name: contiguous(load_sog(folder / file) if file.endswith(".sog") else load_splat(folder / file))
        for name, file in LEVEL_FILES.items()
    }
    gains = load_gains(folder)
    sizes = {"small": SMALL_SIDE, "training": long_side}
    found: dict[str, list[dict[str, float]]] = {size: [] for size in sizes}
    for view in track(views, "checking levels of detail"):
        for size, side in sizes.items():
            found[size] += _view_psnr(splats, view, gains.get(view.name), poses_folder, side)
    metrics: dict[str, dict[str, float | None]] = {}
    for name, file in LEVEL_FILES.items():
        metrics[name] = {"gaussians": len(splats[name]), "bytes": (folder / file).stat().st_size}
        for size, measured in found.items():
            quality = [psnrs[name] for psnrs in measured]
            loss = [psnrs["full"] - psnrs[name] for psnrs in measured]
            metrics[name][f"psnr_{size}"] = round(float(np.mean(quality)), 3) if measured else None
            metrics[name][f"loss_{size}"] = round(float(np.mean(loss)), 3) if measured else None
    return metrics


def _view_psnr(
    splats: Mapping[str, Gaussians], view: View, gain: F32 | None, poses_folder: Path, side: int
) -> list[dict[str, float]]:
    """PSNR [dB] by level, over the pixels that count; none where the mask hides all of them."""
    camera = training_camera(view.camera, side)
    counts = counting_pixels(poses_folder, view, camera)
    if not counts.any():
        return []
    photo = read_image(poses_folder, view, (camera.width, camera.height))[counts].astype(np.float32) / 255
    images = {name: render(splat, camera, view.world_from_camera).rgb[counts] for name, splat in splats.items()}
    return [{name: psnr(exposed(image, gain), photo) for name, image in images.items()}]
