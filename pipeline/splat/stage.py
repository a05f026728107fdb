"""The splat stage: from photos, poses, depth and the shared cloud to Gaussians in the world frame."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from pipeline.align.alignment import Alignment, load_world_scene
from pipeline.depth.maps import load_depth_map, map_names
from pipeline.errors import ReconstructionError
from pipeline.geometry import Gaussians, Mesh, PointCloud
from pipeline.io.files import write_whole
from pipeline.io.results import preview_folder, resume_folder
from pipeline.mesh.stage import MESH_FILE
from pipeline.parallel import map_in_order
from pipeline.place import by_place, rooms, seen_surface
from pipeline.points.completion import Completion
from pipeline.poses.scene import PosedScene, View, read_image, read_mask
from pipeline.previews import MAX_ROWS, Arrays, Publisher
from pipeline.progress import track
from pipeline.raster import render
from pipeline.splat.antialiasing import for_classic_viewers
from pipeline.splat.exposure import gains_of_all, save_gains
from pipeline.splat.gsplat import Scene, image_size, train_by_gsplat
from pipeline.splat.lod import make_sim_lod
from pipeline.splat.loss import psnr
from pipeline.splat.params import SIM_GAUSSIANS, SplatParams
from pipeline.splat.ply import drawing_mode, save_splat
from pipeline.splat.sog import save_sog
from pipeline.splat.state import Checkpoint
from pipeline.splat.train import Trained, train
from pipeline.splat.views import TrainingView, depth_in_view, training_camera, training_view
from pipeline.types import U8

logger = logging.getLogger(__name__)

SPLAT_FILE, SIM_FILE, WEB_FILE, REPORT_FILE = "splat.ply", "sim.ply", "web.sog", "training.json"
PREVIEW_FILE = "preview.png"
CLOUD_FILE = "cloud.npz"
REPORT_VIEWS = 12
"""Training views that the report's metrics are measured on, about."""
MIN_ALPHA = 0.5
"""Pixels more transparent than this have no surface whose depth could be compared."""
PREVIEW_COLUMNS = 3
"""Views in a preview."""
PREVIEW_SECONDS = 10.0
"""Time between two previews during training."""


def run(inputs: Mapping[str, Path], params: SplatParams, out_dir: Path) -> None:
    """Train the splat and its `sim` and `web` levels of detail from poses, depth, align, points, mesh; write, report.

    Raises:
        ReconstructionError: When there is no training view or hardly a point.
        MachineError: When gsplat is requested and can't train here.
    """
    rng, start = np.random.default_rng(params.seed), time.process_time()
    scene = load_world_scene(inputs["poses"], inputs["align"])
    mesh = Mesh.load(inputs["mesh"] / MESH_FILE)
    surface = seen_surface(mesh)
    size = rooms(surface)
    trained = _train(scene, inputs, mesh, params, rng, out_dir, size)
    logger.info("training took %.1f CPU-s", time.process_time() - start)
    gaussians, views = trained.gaussians, trained.views
    small = params.sim_gaussians or by_place(SIM_GAUSSIANS, surface, "Gaussians for simulators")
    sim = make_sim_lod(gaussians, views, params.changed(sim_gaussians=small), rng, trained.fixed, size)
    save_splat(gaussians, out_dir / SPLAT_FILE)
    save_splat(sim, out_dir / SIM_FILE)
    save_sog(gaussians, out_dir / WEB_FILE)
    trained_gains, gains = {view.name: view.gain for view in views}, {}
    for _, of_camera in groupby(scene.views, lambda view: view.sensor):  # neighbours in time are one camera's
        gains |= gains_of_all([view.name for view in of_camera], trained_gains)
    save_gains(gains, out_dir)
    sample = views[:: max(1, len(views) // REPORT_VIEWS)]
    report = _report(trained, sim, params, sample)
    (out_dir / REPORT_FILE).write_text(json.dumps(report, indent=1))
    write_preview(gaussians, sample, out_dir / PREVIEW_FILE)
    logger.info("splat: %s Gaussians, %s", len(gaussians), report["train"])


def _train(
    scene: PosedScene,
    inputs: Mapping[str, Path],
    mesh: Mesh,
    params: SplatParams,
    rng: np.random.Generator,
    out_dir: Path,
    size: float,
) -> Trained:
    """Train by the requested backend; gsplat trains at a larger image size than the views'. `size` is in rooms."""
    kept, previews = resume_folder(out_dir), Publisher(preview_folder(out_dir))
    by_gsplat = params.backend == "gsplat"
    sizes = [0 if by_gsplat else params.image_size]
    if by_gsplat and scene.training:
        sizes.append(params.image_size or image_size([view.camera for view in scene.training]))
    views, *others = views_at_sizes(scene, inputs, params, sizes)
    cloud = PointCloud.load(inputs["points"] / CLOUD_FILE)
    if not views or len(cloud) < 4:
        raise ReconstructionError(
            "a splat needs training views and a point cloud",
            found=f"{len(views)} views, {len(cloud)} points",
            remedy="look at the reports of the poses and points stages; more overlapping images help",
            file=inputs["points"] / CLOUD_FILE,
        )
    guessed = mesh.with_faces(mesh.face_guessed())
    sheet = LivePreview(kept / PREVIEW_FILE, views)

    def observe(iteration: int, gaussians: Gaussians) -> None:
        sheet.observe(iteration, gaussians)
        previews.offer("splat", lambda: published(gaussians, views))

    if not by_gsplat:
        return train(views, cloud, params, rng, observe, Checkpoint(kept, repr(params)), guessed, size)
    return train_by_gsplat(Scene(views, others[0], cloud, guessed, size), params, rng, kept, observe)


def load_training_views(scene: PosedScene, inputs: Mapping[str, Path], params: SplatParams) -> list[TrainingView]:
    """The views of a scene [world frame] that are not held out, with depth where the depth stage has any.

    Only `image_size` and `depth_weight` of the parameters are used.
    """
    return views_at_sizes(scene, inputs, params, [params.image_size])[0]


def views_at_sizes(
    scene: PosedScene, inputs: Mapping[str, Path], params: SplatParams, sizes: Sequence[int]
) -> list[list[TrainingView]]:
    """What `load_training_views` gives, for each `image_size`; depth is read and completed once, on all cores."""
    world_from_scene = Alignment.load(inputs["align"]).world_from_scene
    with_depth = set(map_names(inputs["depth"])) if params.depth_weight > 0 else set()
    completion = Completion.load(inputs["points"])

    def load(view: View) -> list[TrainingView]:
        depth_map = None
        if view.name in with_depth:
            depth_map = completion.complete(load_depth_map(inputs["depth"], view.name, world_from_scene))
        loaded = []
        for long_side in sizes:
            camera, pose = training_camera(view.camera, long_side), view.world_from_camera
            size = camera.width, camera.height
            depth = None if depth_map is None else depth_in_view(depth_map, camera, pose)
            photo, mask = read_image(inputs["poses"], view, size), read_mask(inputs["poses"], view, size)
            loaded.append(training_view(view.name, photo, camera, pose, depth, mask))
        return loaded

    loaded = list(track(map_in_order(load, scene.training), "splat: views", len(scene.training)))
    return [[of_view[number] for of_view in loaded] for number in range(len(sizes))]


def _report(trained: Trained, sim: Gaussians, params: SplatParams, sample: Sequence[TrainingView]) -> dict[str, object]:
    """The content of `training.json`."""
    gaussians, levels = trained.gaussians, [view.levels[0] for view in trained.views]
    return {
        "backend": params.backend if params.backend != "auto" else "cpu",
        "iterations": trained.iterations,
        "largest_gaussians": trained.max_gaussians,
        "image_size": [levels[0].camera.width, levels[0].camera.height],
        "views": len(levels),
        "views_with_depth": sum(level.depth is not None for level in levels),
        "views_with_mask": sum(level.mask is not None for level in levels),
        "gaussians": len(gaussians),
        "guessed": trained.fixed,  # inpainted
        "background": trained.background,  # of the skybox, at the start
        "sh_degree": params.sh_degree,
        "depth_weight": params.depth_weight,
        "pose_tuning": trained.poses.describe(),
        "exposure": trained.exposures.describe(),
        "antialiasing": drawing_mode(gaussians),
        "train": measure_fit(gaussians, sample),
        "sim": {"gaussians": len(sim), "sh_degree": 0, "train": measure_fit(sim, sample)},
        **trained.backend_report,
    }


def measure_fit(gaussians: Gaussians, views: Sequence[TrainingView]) -> dict[str, float | None]:
    """Mean PSNR [dB] with each photo's exposure, and median and mean difference from measured depth [m], None without.

    The keys are `psnr`, `depth_difference_median` and `depth_difference_mean`.
    """
    psnrs: list[float] = []
    differences: list[np.ndarray] = []
    for view in views:
        level = view.levels[0]
        image = render(gaussians, level.camera, view.world_from_camera)
        counts = np.ones(image.alpha.shape, bool) if level.mask is None else level.mask
        exposed = (image.rgb * view.gain).clip(0, 1)
        psnrs.append(psnr(exposed[counts], np.moveaxis(level.photo, 0, -1)[counts] / 255))
        if level.depth is not None:
            known = (level.depth.depth > 0) & (image.alpha > MIN_ALPHA)
            differences.append(np.abs(image.depth - level.depth.depth)[known])
    depth = np.concatenate(differences) if differences else np.zeros(0)
    median, mean = (round(float(f(depth)), 4) if len(depth) else None for f in (np.median, np.mean))
    return {"psnr": round(float(np.mean(psnrs)), 2), "depth_difference_median": median, "depth_difference_mean": mean}


def published(gaussians: Gaussians, views: Sequence[TrainingView]) -> Arrays:
    """The largest Gaussians in their mean colours, as classic viewers draw them."""
    size = gaussians.opacities * np.exp(gaussians.log_scales.sum(1) - gaussians.log_scales.min(1))
    chosen = gaussians[np.argsort(-size, kind="stable")[:MAX_ROWS]]
    cameras, poses = [view.levels[0].camera for view in views], [view.world_from_camera for view in views]
    shown = for_classic_viewers(replace(chosen, sh=chosen.sh[:, :1]), cameras, poses)
    return {name: getattr(shown, name) for name in Gaussians.ARRAYS}


def preview_sheet(gaussians: Gaussians, views: Sequence[TrainingView], level: int = 0) -> U8:
    """Three views next to each other, at one level of their pyramids: the splat above, the photo below (H, W, 3)."""
    columns = []
    for view in views[:: max(1, len(views) // PREVIEW_COLUMNS)][:PREVIEW_COLUMNS]:
        shown = view.levels[level]
        image = render(gaussians, shown.camera, view.world_from_camera).rgb
        rendered = (image.clip(0, 1) * 255).round().astype(np.uint8)
        columns.append(np.concatenate([rendered, np.moveaxis(shown.photo, 0, -1)], 0))
    height = min(len(column) for column in columns)
    return np.concatenate([column[:height] for column in columns], 1)


def write_preview(gaussians: Gaussians, views: Sequence[TrainingView], path: Path, level: int = 0) -> None:
    """Write `preview_sheet` as PNG, atomically: whoever opens it sees the old image or the new one, never half of it.

    Raises:
        OSError: When it can't be written.
    """
    _, data = cv2.imencode(".png", cv2.cvtColor(preview_sheet(gaussians, views, level), cv2.COLOR_RGB2BGR))
    write_whole(path, data.tobytes(), alone=True)


class LivePreview:
    """Writes a small preview at intervals [s] while a splat trains."""

    def __init__(self, path: Path, views: Sequence[TrainingView], seconds: float = PREVIEW_SECONDS) -> None:
        self._path, self._views, self._seconds = path, views, seconds
        self._last: float | None = None

    def observe(self, _iteration: int, gaussians: Gaussians) -> None:
        """Write the image if the last one is old enough."""
        if self._last is not None and time.monotonic() - self._last < self._seconds:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_preview(gaussians, self._views, self._path, level=1)
        if self._last is None:
            logger.info("preview of the splat (updated during training): %s", self._path)
        self._last = time.monotonic()
