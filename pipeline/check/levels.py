"""What each level of detail of the splat costs: pictures from held-out views against their photos, and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.check.views import counting_pixels, exposed
from pipeline.geometry import Gaussians
from pipeline.poses.scene import View, read_image
from pipeline.progress import track
from pipeline.splat.exposure import load_gains
from pipeline.splat.loss import psnr
from pipeline.splat.ply import load_splat
from pipeline.splat.raster import contiguous, render
from pipeline.splat.sog import load_sog
from pipeline.splat.views import training_camera

LEVEL_FILES = {"full": "splat.ply", "sim": "sim.ply", "web": "web.sog"}
SMALL_SIDE = 128
"""Long side of the pictures that robots are trained on in their thousands [px]."""


def measure_levels(
    folder: Path, views: Sequence[View], poses_folder: Path, long_side: int
) -> dict[str, dict[str, Any]]:
    """Figures of every level by its name.

    Args:
        folder: Of the splat stage.
        views: Held-out views in the world frame.
        poses_folder: Where their pictures lie.
        long_side: Of the training pictures [px].

    Returns:
        Gaussians, bytes, and for the sizes "small" (128 px) and "training" the mean PSNR [dB] and how much lower than
        that of the full level it is, over the pixels that masks let count; None without held-out views.
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
    figures: dict[str, dict[str, Any]] = {}
    for name, file in LEVEL_FILES.items():
        figures[name] = {"gaussians": len(splats[name]), "bytes": (folder / file).stat().st_size}
        for size, measured in found.items():
            mean = float(np.mean([psnrs[name] for psnrs in measured])) if measured else None
            loss = float(np.mean([psnrs["full"] - psnrs[name] for psnrs in measured])) if measured else None
            figures[name][f"psnr_{size}"] = None if mean is None else round(mean, 3)
            figures[name][f"loss_{size}"] = None if loss is None else round(loss, 3)
    return figures


def _view_psnr(
    splats: Mapping[str, Gaussians], view: View, gain: NDArray[np.float32] | None, poses_folder: Path, side: int
) -> list[dict[str, float]]:
    """PSNR [dB] by level, over the pixels that count; none where the mask hides all of them."""
    camera = training_camera(view.camera, side)
    counts = counting_pixels(poses_folder, view, camera)
    if not counts.any():
        return []
    photo = read_image(poses_folder, view, (camera.width, camera.height))[counts].astype(np.float32) / 255
    pictures = {name: render(splat, camera, view.world_from_camera).rgb[counts] for name, splat in splats.items()}
    return [{name: psnr(exposed(picture, gain), photo) for name, picture in pictures.items()}]
