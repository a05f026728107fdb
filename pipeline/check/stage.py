"""The check stage: measure every gate, write quality.json and images."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipeline.align.alignment import Alignment, load_world_scene
from pipeline.align.gps import fit_gps
from pipeline.capture.model import Capture, Selection
from pipeline.check.coverage import coverage_image
from pipeline.check.gates import measure_gates
from pipeline.check.params import CheckParams
from pipeline.check.quality import Quality
from pipeline.check.report import write_jpeg, write_mesh_images, write_view_images
from pipeline.check.scene import CheckedScene, Photos
from pipeline.check.surface import floor_flatness, table_flatness
from pipeline.check.views import check_views, measure_levels
from pipeline.coverage.map import CoverageMap
from pipeline.depth.maps import StoredMaps
from pipeline.geometry import Mesh
from pipeline.geometry.rays import RayCaster
from pipeline.regions.regions import Regions
from pipeline.splat.exposure import load_gains
from pipeline.splat.ply import load_splat

logger = logging.getLogger(__name__)

COVERAGE_IMAGE = "coverage.jpg"


def run(inputs: Mapping[str, Path], params: CheckParams, out_dir: Path) -> None:
    """Read what the other stages made; write the quality of it."""
    rng = np.random.default_rng(params.seed)
    alignment, scene = Alignment.load(inputs["align"]), load_world_scene(inputs["poses"], inputs["align"])
    splat = load_splat(inputs["splat"] / "splat.ply")
    mesh, collision = (Mesh.load(inputs["mesh"] / name) for name in ("mesh.ply", "collision.ply"))
    regions, coverage = Regions.load(inputs["regions"]), CoverageMap.load(inputs["coverage"])
    size = json.loads((inputs["splat"] / "training.json").read_text())["image_size"]
    selection = Selection.load(inputs["select"])
    gains = load_gains(inputs["splat"])
    views = check_views(splat, RayCaster(mesh), scene.held_out, gains, inputs["poses"], max(size))
    photos = Photos(
        scene=scene,
        views=views,
        image_size=(size[0], size[1]),
        depth=StoredMaps(inputs["depth"], alignment.world_from_scene),
        held_out_depth=StoredMaps(inputs["depth"], alignment.world_from_scene, held_out=True),
        keyframes=len(selection.keyframes),
        coverage=coverage,
    )
    track = np.array([view.world_from_camera.translation for view in scene.views])
    checked = CheckedScene(alignment, splat, mesh, collision, regions, track, photos)
    gates = measure_gates(checked, params.thresholds)
    levels = measure_levels(inputs["splat"], scene.held_out, inputs["poses"], max(size))
    floor, table = (flatness(mesh, regions.floor_height, rng) for flatness in (floor_flatness, table_flatness))
    flat = {
        "floor": asdict(floor) if floor else None,
        "table": asdict(table) if table else None,
        "floor_to_table_deg": floor.angle_to(table) if floor and table else None,
    }
    north = fit_gps(Capture.load(inputs["capture"]), scene.views).north
    images = out_dir / "images"
    images.mkdir()
    shown = write_view_images(views, images, params.images)
    write_mesh_images(mesh, track, images)
    write_jpeg(images / COVERAGE_IMAGE, coverage_image(coverage, regions, north))
    quality = Quality(gates=gates, metrics={"flatness": flat, "levels": levels, "views": shown})
    quality.save(out_dir)
    logger.info("gates that fail: %s", ", ".join(quality.failed) or "none")
