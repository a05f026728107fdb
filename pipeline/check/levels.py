"""What each level of detail of the splat costs: pictures from held-out views against their photos, and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.geometry import Gaussians
from pipeline.poses.scene import View, read_image
from pipeline.progress import track
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
        that of the full level it is; None without held-out views.
    """
    splats = {
        name: contiguous(load_sog(folder / file) if file.endswith(".sog") else load_splat(folder / file))
        for name, file in LEVEL_FILES.items()
    }
    sizes = {"small": SMALL_SIDE, "training": long_side}
    sums = {name: dict.fromkeys(sizes, 0.0) for name in splats}
    for view in track(views, "checking levels of detail"):
        for size, side in sizes.items():
            for name, figure in _view_psnr(splats, view, poses_folder, side).items():
                sums[name][size] += figure / len(views)
    figures: dict[str, dict[str, Any]] = {}
    for name, file in LEVEL_FILES.items():
        figures[name] = {"gaussians": len(splats[name]), "bytes": (folder / file).stat().st_size}
        for size in sizes:
            loss = sums["full"][size] - sums[name][size]
            figures[name][f"psnr_{size}"] = round(sums[name][size], 3) if views else None
            figures[name][f"loss_{size}"] = round(loss, 3) if views else None
    return figures


def _view_psnr(splats: Mapping[str, Gaussians], view: View, poses_folder: Path, side: int) -> dict[str, float]:
    camera = training_camera(view.camera, side)
    photo = read_image(poses_folder, view, (camera.width, camera.height)).astype(np.float32) / 255
    pictures = {name: render(splat, camera, view.world_from_camera).rgb for name, splat in splats.items()}
    return {name: float(psnr(np.clip(picture, 0, 1), photo)) for name, picture in pictures.items()}
