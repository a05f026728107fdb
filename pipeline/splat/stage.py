"""The splat stage: from photos, poses, depth and the shared cloud to `splat.ply` and `sim.ply` in the world frame."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from pipeline.align.alignment import Alignment, load_world_scene
from pipeline.depth.maps import load_depth_map, map_names
from pipeline.errors import ReconstructionError
from pipeline.geometry import Gaussians, PointCloud
from pipeline.poses.scene import read_image
from pipeline.progress import track
from pipeline.splat.lod import make_sim_level
from pipeline.splat.loss import psnr
from pipeline.splat.params import SplatParams
from pipeline.splat.ply import ANTIALIASING_COMMENT, save_splat
from pipeline.splat.raster import render
from pipeline.splat.supervision import depth_in_view
from pipeline.splat.train import iteration_count, train
from pipeline.splat.views import TrainingView, training_camera, training_view

logger = logging.getLogger(__name__)

SPLAT_FILE, SIM_FILE, REPORT_FILE, PREVIEW_FILE = "splat.ply", "sim.ply", "training.json", "preview.png"
CLOUD_FILE = "cloud.npz"
REPORT_VIEWS, PREVIEW_VIEWS = 12, 3
MIN_ALPHA = 0.5
"""Pixels more transparent than this have no surface whose depth could be compared."""


def run(inputs: Mapping[str, Path], params: SplatParams, out_dir: Path) -> None:
    """Train the splat and its `sim` level; write both, `training.json` and `preview.png`.

    Args:
        inputs: Folders of poses, depth, align and points.
        params: What the user chose.
        out_dir: Where to write.

    Raises:
        ReconstructionError: When no training view or hardly a point is there.
    """
    views = load_training_views(inputs["poses"], inputs["depth"], inputs["align"], params)
    cloud = PointCloud.load(inputs["points"] / CLOUD_FILE)
    if not views or len(cloud) < 4:
        raise ReconstructionError(
            "a splat needs training views and a point cloud",
            found=f"{len(views)} views, {len(cloud)} points",
            remedy="look at the reports of the poses and points stages; more overlapping pictures help",
            file=inputs["points"] / CLOUD_FILE,
        )
    rng = np.random.default_rng(params.seed)
    begun = time.process_time()
    gaussians = train(views, cloud, params, rng)
    logger.info("training took %.1f CPU-s", time.process_time() - begun)
    sim = make_sim_level(gaussians, views, params, rng)
    save_splat(gaussians, out_dir / SPLAT_FILE)
    save_splat(sim, out_dir / SIM_FILE)

    sample = views[:: max(1, len(views) // REPORT_VIEWS)]
    report = {
        "backend": params.backend if params.backend != "auto" else "cpu",
        "iterations": iteration_count(params, views),
        "image_size": [views[0].levels[0].camera.width, views[0].levels[0].camera.height],
        "views": len(views),
        "views_with_depth": sum(view.levels[0].depth is not None for view in views),
        "gaussians": len(gaussians),
        "sh_degree": params.sh_degree,
        "depth_weight": params.depth_weight,
        "antialiasing": ANTIALIASING_COMMENT.partition("=")[2],
        "train": describe_fit(gaussians, sample),
        "sim": {"gaussians": len(sim), "sh_degree": 0, "train": describe_fit(sim, sample)},
    }
    (out_dir / REPORT_FILE).write_text(json.dumps(report, indent=1))
    write_preview(gaussians, sample, out_dir / PREVIEW_FILE)
    logger.info("splat: %s Gaussians, %s", len(gaussians), report["train"])


def load_training_views(
    poses_folder: Path, depth_folder: Path, align_folder: Path, params: SplatParams
) -> list[TrainingView]:
    """The views that are not held out, in the world frame, with depth where the depth stage has any."""
    scene = load_world_scene(poses_folder, align_folder)
    world_from_scene = Alignment.load(align_folder).world_from_scene
    with_depth = set(map_names(depth_folder)) if params.depth_weight > 0 else set()
    views = []
    for view in track(scene.training, "splat: views"):
        camera = training_camera(view.camera, params.image_size)
        photo = read_image(poses_folder, view, (camera.width, camera.height))
        depth = None
        if view.name in with_depth:
            depth_map = load_depth_map(depth_folder, view.name, world_from_scene)
            depth = depth_in_view(depth_map, camera, view.world_from_camera)
        views.append(training_view(view.name, photo, camera, view.world_from_camera, depth))
    return views


def describe_fit(gaussians: Gaussians, views: Sequence[TrainingView]) -> dict[str, float | None]:
    """Mean PSNR [dB] and median absolute depth difference [m] over views."""
    figures: list[float] = []
    differences: list[np.ndarray] = []
    for view in views:
        level = view.levels[0]
        picture = render(gaussians, level.camera, view.world_from_camera)
        figures.append(psnr(picture.rgb.clip(0, 1), np.moveaxis(level.photo, 0, -1) / 255))
        if level.depth is not None:
            known = (level.depth.depth > 0) & (picture.alpha > MIN_ALPHA)
            differences.append(np.abs(picture.depth - level.depth.depth)[known])
    depth = np.concatenate(differences) if differences else np.zeros(0)
    return {
        "psnr": round(float(np.mean(figures)), 2),
        "depth_difference_median": round(float(np.median(depth)), 4) if len(depth) else None,
        "depth_difference_mean": round(float(np.mean(depth)), 4) if len(depth) else None,
    }


def write_preview(gaussians: Gaussians, views: Sequence[TrainingView], path: Path) -> None:
    """Rendered pictures above the photos they should look like."""
    columns = []
    for view in views[:: max(1, len(views) // PREVIEW_VIEWS)][:PREVIEW_VIEWS]:
        level = view.levels[0]
        picture = render(gaussians, level.camera, view.world_from_camera).rgb
        rendered = (picture.clip(0, 1) * 255).round().astype(np.uint8)
        columns.append(np.concatenate([rendered, np.moveaxis(level.photo, 0, -1)], 0))
    height = min(len(column) for column in columns)
    sheet = np.concatenate([column[:height] for column in columns], 1)
    if not cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)):
        raise OSError(f"{path} could not be written")
