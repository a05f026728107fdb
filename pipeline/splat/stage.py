"""The splat stage: from photos, poses, depth and the shared cloud to Gaussians in the world frame."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np

from pipeline.align.alignment import Alignment, load_world_scene
from pipeline.depth.maps import load_depth_map, map_names
from pipeline.errors import ReconstructionError
from pipeline.geometry import Gaussians, PointCloud
from pipeline.poses.scene import read_image, read_mask
from pipeline.progress import track
from pipeline.splat.checkpoint import Checkpoint
from pipeline.splat.exposure import gains_of_all, save_gains
from pipeline.splat.lod import make_sim_level
from pipeline.splat.loss import psnr
from pipeline.splat.params import SplatParams
from pipeline.splat.ply import drawing_mode, save_splat
from pipeline.splat.preview import PREVIEW_FILE, LivePreview, write_preview
from pipeline.splat.raster import render
from pipeline.splat.sog import save_sog
from pipeline.splat.supervision import depth_in_view
from pipeline.splat.train import Trained, train
from pipeline.splat.views import TrainingView, training_camera, training_view
from pipeline.stage import resume_folder

logger = logging.getLogger(__name__)

SPLAT_FILE, SIM_FILE, WEB_FILE, REPORT_FILE = "splat.ply", "sim.ply", "web.sog", "training.json"
CLOUD_FILE = "cloud.npz"
REPORT_VIEWS = 12
MIN_ALPHA = 0.5
"""Pixels more transparent than this have no surface whose depth could be compared."""


def run(inputs: Mapping[str, Path], params: SplatParams, out_dir: Path) -> None:
    """Train the splat, make its `sim` and `web` levels; write them, `training.json` and `preview.png`.

    Args:
        inputs: Folders of poses, depth, align and points.
        params: What the user chose.
        out_dir: Where to write.

    Raises:
        ReconstructionError: When no training view or hardly a point is there.
        MachineError: When gsplat is asked for and can't train here.
    """
    by_gsplat = params.backend == "gsplat"
    usual = replace(params, image_size=0) if by_gsplat else params
    views = load_training_views(inputs["poses"], inputs["depth"], inputs["align"], usual)
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
    kept = resume_folder(out_dir)
    preview = LivePreview(kept / PREVIEW_FILE, views)
    if by_gsplat:
        trained = _train_by_gsplat(inputs, params, views, cloud, rng, kept, preview)
    else:
        trained = train(views, cloud, params, rng, preview.observe, Checkpoint(kept, repr(params)))
    gaussians, views = trained.gaussians, trained.views
    logger.info("training took %.1f CPU-s", time.process_time() - begun)
    sim = make_sim_level(gaussians, views, params, rng, trained.fixed)
    save_splat(gaussians, out_dir / SPLAT_FILE)
    save_splat(sim, out_dir / SIM_FILE)
    save_sog(gaussians, out_dir / WEB_FILE)
    gains = {view.name: view.gain for view in views}
    cameras = groupby(load_world_scene(inputs["poses"], inputs["align"]).views, lambda view: view.sensor)
    of_cameras = [gains_of_all([view.name for view in camera], gains) for _, camera in cameras]
    save_gains({name: gain for found in of_cameras for name, gain in found.items()}, out_dir)

    sample = views[:: max(1, len(views) // REPORT_VIEWS)]
    report = {
        "backend": params.backend if params.backend != "auto" else "cpu",
        "iterations": trained.iterations,
        "largest_gaussians": trained.largest,
        "image_size": [views[0].levels[0].camera.width, views[0].levels[0].camera.height],
        "views": len(views),
        "views_with_depth": sum(view.levels[0].depth is not None for view in views),
        "views_with_mask": sum(view.levels[0].mask is not None for view in views),
        "gaussians": len(gaussians),
        "guessed": trained.fixed,
        "background": trained.background,
        "sh_degree": params.sh_degree,
        "depth_weight": params.depth_weight,
        "pose_tuning": trained.poses.describe(),
        "exposure": trained.exposures.describe(),
        "antialiasing": drawing_mode(gaussians),
        "train": describe_fit(gaussians, sample),
        "sim": {"gaussians": len(sim), "sh_degree": 0, "train": describe_fit(sim, sample)},
        **trained.about,
    }
    (out_dir / REPORT_FILE).write_text(json.dumps(report, indent=1))
    write_preview(gaussians, sample, out_dir / PREVIEW_FILE)
    logger.info("splat: %s Gaussians, %s", len(gaussians), report["train"])


def _train_by_gsplat(
    inputs: Mapping[str, Path],
    params: SplatParams,
    views: Sequence[TrainingView],
    cloud: PointCloud,
    rng: np.random.Generator,
    kept: Path,
    preview: LivePreview,
) -> Trained:
    """Train on a GPU, at a larger picture size than the views'."""
    from pipeline.splat.gsplat import Scene, image_size, train_by_gsplat

    cameras = [view.camera for view in load_world_scene(inputs["poses"], inputs["align"]).training]
    large = replace(params, image_size=params.image_size or image_size(cameras))
    pictures = load_training_views(inputs["poses"], inputs["depth"], inputs["align"], large)
    return train_by_gsplat(Scene(views, pictures, cloud), params, rng, kept, preview.observe)


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
        mask = read_mask(poses_folder, view, (camera.width, camera.height))
        views.append(training_view(view.name, photo, camera, view.world_from_camera, depth, mask))
    return views


def describe_fit(gaussians: Gaussians, views: Sequence[TrainingView]) -> dict[str, float | None]:
    """Mean PSNR [dB] with each photo's exposure, and absolute depth difference [m], over views."""
    figures: list[float] = []
    differences: list[np.ndarray] = []
    for view in views:
        level = view.levels[0]
        picture = render(gaussians, level.camera, view.world_from_camera)
        counts = np.ones(picture.alpha.shape, bool) if level.mask is None else level.mask
        figures.append(
            psnr((picture.rgb * view.gain).clip(0, 1)[counts], np.moveaxis(level.photo, 0, -1)[counts] / 255)
        )
        if level.depth is not None:
            known = (level.depth.depth > 0) & (picture.alpha > MIN_ALPHA)
            differences.append(np.abs(picture.depth - level.depth.depth)[known])
    depth = np.concatenate(differences) if differences else np.zeros(0)
    return {
        "psnr": round(float(np.mean(figures)), 2),
        "depth_difference_median": round(float(np.median(depth)), 4) if len(depth) else None,
        "depth_difference_mean": round(float(np.mean(depth)), 4) if len(depth) else None,
    }
