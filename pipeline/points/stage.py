"""The points stage: depth maps of the training views into one cloud in the world frame."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement

from pipeline.align.alignment import Alignment, load_world_scene
from pipeline.depth.free_space import suspicious_regions
from pipeline.depth.maps import load_depth_map, load_report, map_names, subsampled
from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, PointCloud, Pose
from pipeline.points.completion import Completion
from pipeline.points.fusion import fuse
from pipeline.points.level_search import find_levels
from pipeline.points.mirrors import find_mirrors
from pipeline.points.params import PointsParams
from pipeline.poses.scene import read_image
from pipeline.progress import track
from pipeline.types import U8

CLOUD_FILE, PLY_FILE, REPORT_FILE = "cloud.npz", "points.ply", "points.json"


def run(
    inputs: Mapping[str, Path],
    params: PointsParams,
    out_dir: Path,
    only: Container[str] | None = None,
    holed: Container[str] = (),
) -> None:
    """Write `cloud.npz` and `points.ply` (the same points, world frame), the `Completion` and `points.json`.

    Of all maps of training views, or only of those with these names. From `holed` ones pixels were taken, which is no
    sign of a level surface that depth missed.

    Raises:
        ReconstructionError: When no map has a depth that others don't contradict.
    """
    world_from_scene = Alignment.load(inputs["align"]).world_from_scene
    scene = load_world_scene(inputs["poses"], inputs["align"])
    views = {view.name: view for view in scene.training}
    names = [name for name in map_names(inputs["depth"]) if name in views and (only is None or name in only)]
    maps = [
        subsampled(load_depth_map(inputs["depth"], name, world_from_scene), params.stride)
        for name in track(names, "points: reading maps")
    ]

    def color_source(name: str) -> tuple[U8, Camera, Pose]:
        view = views[name]
        return read_image(inputs["poses"], view), view.camera, view.world_from_camera

    if not maps:
        raise _nothing_to_fuse("no depth map of a training view")
    cloud, report = fuse(maps, color_source, params)
    mirrors, shown = find_mirrors(maps, cloud)
    if shown:
        maps = [mirrors.complete(depth_map) for depth_map in maps]
        cloud, report = fuse(maps, color_source, params)
    levels, missed = find_levels([depth_map for depth_map in maps if depth_map.name not in holed], cloud)
    if missed:
        cloud, report = fuse([levels.complete(depth_map) for depth_map in maps], color_source, params)
    if not len(cloud):
        raise _nothing_to_fuse(f"{report['pixels']} depths in {len(maps)} maps, none of them consistent")
    cloud.save(out_dir / CLOUD_FILE)
    Completion(mirrors, levels).save(out_dir)
    write_points_ply(out_dir / PLY_FILE, cloud)
    depth_report = load_report(inputs["depth"])
    report |= {
        "maps": len(maps),
        "levels": [asdict(level) for level in missed],
        "mirrors": [asdict(mirror) for mirror in shown],
        "suspicious": suspicious_regions(depth_report["conflicts"]["suspicious"], world_from_scene),
        "depth": _summary(depth_report),
    }
    (out_dir / REPORT_FILE).write_text(json.dumps(report, indent=1))


def _summary(report: Mapping[str, object]) -> dict[str, object]:
    """A report without its values by view."""
    return {
        name: _summary(value) if isinstance(value, Mapping) else value
        for name, value in report.items()
        if name not in ("views", "suspicious")
    }


def _nothing_to_fuse(found: str) -> ReconstructionError:
    return ReconstructionError(
        "the cloud needs depth maps that agree with each other",
        found=found,
        remedy="check poses and scale of the capture; with images only, take more of them with more overlap",
    )


def write_points_ply(path: Path, cloud: PointCloud) -> None:
    """Write a binary PLY: x y z [m], nx ny nz, red green blue, sigma [m], views (how many agree), guessed (0 or 1)."""
    columns = [(name, "f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    columns += [(name, "u1") for name in ("red", "green", "blue")]
    columns += [("sigma", "f4"), ("views", "u2"), ("guessed", "u1")]
    vertex = np.empty(len(cloud), columns)
    for axis, name in enumerate("xyz"):
        vertex[name] = cloud.points[:, axis]
        vertex[f"n{name}"] = cloud.normals[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertex[name] = cloud.colors[:, channel]
    vertex["sigma"], vertex["views"], vertex["guessed"] = cloud.sigma, np.minimum(cloud.views, 65535), cloud.guessed
    PlyData([PlyElement.describe(vertex, "vertex")]).write(str(path))
