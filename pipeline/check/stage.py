"""The check stage: measure every gate, write quality.json, quality.html and pictures."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.align.alignment import Alignment, load_world_scene
from pipeline.capture.left_out import lines, report_of
from pipeline.capture.model import Capture
from pipeline.capture.selection import Selection
from pipeline.check.coverage import coverage_picture, measure_coverage
from pipeline.check.drop import drop_bodies
from pipeline.check.floaters import measure_floaters
from pipeline.check.floor import measure_floor_holes
from pipeline.check.gates import (
    Gates,
    add_coverage_gate,
    add_frame_gates,
    add_ground_gates,
    add_mesh_depth_gate,
    add_pose_gates,
    add_view_gates,
)
from pipeline.check.levels import measure_levels
from pipeline.check.page import quality_page
from pipeline.check.params import CheckParams
from pipeline.check.pictures import write_jpeg, write_mesh_pictures, write_view_pictures
from pipeline.check.quality import Quality
from pipeline.check.surface import depth_difference, floor_flatness, table_flatness
from pipeline.check.views import check_views
from pipeline.coverage.map import CoverageMap
from pipeline.depth.maps import load_depth_map, map_names
from pipeline.geometry import Mesh
from pipeline.mesh.rays import RayCaster
from pipeline.regions.regions import Regions
from pipeline.splat.exposure import load_gains
from pipeline.splat.ply import load_splat

logger = logging.getLogger(__name__)

COVERAGE_PICTURE = "coverage.jpg"


def run(inputs: Mapping[str, Path], params: CheckParams, out_dir: Path) -> None:
    """Read what the other stages made; write the quality of it."""
    rng = np.random.default_rng(params.seed)
    alignment, scene = Alignment.load(inputs["align"]), load_world_scene(inputs["poses"], inputs["align"])
    splat = load_splat(inputs["splat"] / "splat.ply")
    mesh, collision = (Mesh.load(inputs["mesh"] / name) for name in ("mesh.ply", "collision.ply"))
    regions, coverage = Regions.load(inputs["regions"]), CoverageMap.load(inputs["coverage"])
    caster = RayCaster(mesh)
    size = json.loads((inputs["splat"] / "training.json").read_text())["image_size"]
    gains = load_gains(inputs["splat"])
    checks = check_views(splat, caster, scene.held_out, gains, inputs["poses"], max(size))
    held_out_maps = _held_out_depth(inputs, alignment)
    track = np.array([view.world_from_camera.translation for view in scene.views])

    gates = Gates(params.thresholds)
    add_view_gates(gates, checks, f"{size[0]}x{size[1]}")
    add_mesh_depth_gate(gates, depth_difference(mesh, held_out_maps) if held_out_maps else None)
    add_frame_gates(gates, alignment)
    selection = Selection.load(inputs["select"])
    add_pose_gates(gates, len(selection.keyframes), len(scene.views), scene.report.get("reprojection_error_px"))
    add_ground_gates(
        gates,
        regions,
        measure_floor_holes(collision, regions),
        measure_floaters(mesh, splat, track),
        drop_bodies(collision, regions),
    )
    add_coverage_gate(gates, regions, measure_coverage(coverage, regions))
    levels = measure_levels(inputs["splat"], scene.held_out, inputs["poses"], max(size))
    figures = {"flatness": _flatness(mesh, regions, rng), "levels": levels}
    quality = Quality(gates=tuple(gates.gates), figures=figures)
    quality.save(out_dir)
    pictures = out_dir / "pictures"
    pictures.mkdir()
    views = write_view_pictures(checks, pictures, params.pictures)
    meshes = write_mesh_pictures(mesh, track, pictures)
    write_jpeg(pictures / COVERAGE_PICTURE, coverage_picture(coverage, regions))
    captions = [(f"pictures/{name}", caption) for name, caption in views]
    mesh_paths = [f"pictures/{name}" for name in meshes]
    left_out = lines(report_of(Capture.load(inputs["capture"]), selection))
    page = quality_page(
        quality, "Quality of the bundle", captions, mesh_paths, f"pictures/{COVERAGE_PICTURE}", left_out
    )
    (out_dir / "quality.html").write_text(page)
    logger.info("gates that fail: %s", ", ".join(quality.failed) or "none")


def _held_out_depth(inputs: Mapping[str, Path], alignment: Alignment) -> list[Any]:
    """Sensor depth of the held-out views in the world frame; empty for captures without depth."""
    maps = (load_depth_map(inputs["depth"], name, alignment.world_from_scene) for name in map_names(inputs["depth"]))
    return [depth_map for depth_map in maps if depth_map.held_out]


def _flatness(mesh: Mesh, regions: Regions, rng: np.random.Generator) -> dict[str, Any]:
    """How flat floor and table are, and how parallel; null where there is none."""
    floor = floor_flatness(mesh, regions.floor_height, rng)
    table = table_flatness(mesh, regions.floor_height, rng)
    return {
        "floor": asdict(floor) if floor else None,
        "table": asdict(table) if table else None,
        "floor_to_table_deg": floor.angle_to(table) if floor and table else None,
    }
