"""Depth, points and mesh of an update: made where the place changed, of all frames that show it; the rest is kept.

Earlier depth maps stay, less what the re-scan contradicts, and the re-scan's own take their place in the earlier scene.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from pipeline.align.alignment import Alignment, load_world_scene
from pipeline.changes.part import CELL, Part
from pipeline.changes.update_stages import AGAIN, BEFORE, Found
from pipeline.depth.maps import (
    DepthMap,
    StoredMaps,
    load_depth_map,
    load_report,
    map_names,
    save_depth_map,
    unmasked,
    write_index,
)
from pipeline.depth.params import DepthParams
from pipeline.geometry import Mesh, PointCloud
from pipeline.joining.merge import joined_name, same_file
from pipeline.mesh import stage as mesh_stage
from pipeline.mesh.clean import camera_path, clean, observe
from pipeline.mesh.params import MeshParams
from pipeline.mesh.topology import border_edges
from pipeline.mesh.tsdf import RESOLUTION, BlockGrid, no_surface, truncation_of
from pipeline.mesh.tsdf import Part as Blocks
from pipeline.objects import closing
from pipeline.points import stage as points_stage
from pipeline.points.completion import Completion
from pipeline.points.levels import Levels
from pipeline.points.mirrors import Mirrors
from pipeline.points.params import PointsParams
from pipeline.poses.scene import PosedScene
from pipeline.progress import track
from pipeline.types import Mask

logger = logging.getLogger(__name__)

SHARES_FILE = "shares.json"
"""Which share of each map's pixels shows some of what changed, by name."""
AROUND = 0.4
"""The mesh is made in the box around what changed, larger by this [m]: planes and objects hang together."""
SEAM = 0.4
"""Triangles and corners of the new surface are the old's that are as near [voxels]."""


def taken_over(before: Path, out_dir: Path) -> None:
    """The files of an earlier result, as a result of an update that changes nothing there."""
    for path in before.iterdir():
        same_file(path, out_dir / path.name)


def showing(depth_folder: Path, least: float = 0.0) -> dict[str, float]:
    """The maps of which a larger share than this shows some of what changed, and that share, by name."""
    return {k: share for k, share in json.loads((depth_folder / SHARES_FILE).read_text()).items() if share > least}


def write_depth(inputs: Mapping[str, Path], params: DepthParams, out_dir: Path) -> None:
    """Write the maps of both; those of earlier frames are the same files, but where something is no more."""
    found, part, scene = Found.load(inputs["update"]), Part.load(inputs["update"]), PosedScene.load(inputs["poses"])
    world, before = Alignment.load(inputs["align"]).world_from_scene, inputs["depth" + BEFORE]
    own = {view.name: view.world_from_camera for view in PosedScene.load(inputs["poses" + AGAIN]).views}
    placed = {view.name: view.world_from_camera for view in scene.views}
    names, shares = list[str](), dict[str, float]()
    for name in track(map_names(before), "depth: earlier maps"):
        depth_map = load_depth_map(before, name)
        if name in found.masks:
            depth_map = unmasked(depth_map, scene, inputs["poses"])
            save_depth_map(out_dir, depth_map)
        else:
            same_file(before / f"{name}.npz", out_dir / f"{name}.npz")
        names.append(name)
        shares[name] = part.share_of(depth_map.transformed(world))
    for name in map_names(inputs["depth" + AGAIN]):
        depth_map, there = load_depth_map(inputs["depth" + AGAIN], name), joined_name(found.source, name)
        pose = placed[there] @ own[name].inverse() @ depth_map.world_from_camera
        depth_map = replace(depth_map, name=there, world_from_camera=pose)
        save_depth_map(out_dir, depth_map)
        names.append(there)
        shares[there] = part.share_of(depth_map.transformed(world))
    (out_dir / SHARES_FILE).write_text(json.dumps(shares))
    logger.info("%d of %d depth maps show what changed", sum(share > 0 for share in shares.values()), len(names))
    write_index(out_dir, names, params.backend, load_report(before))


def write_points(inputs: Mapping[str, Path], params: PointsParams, out_dir: Path) -> None:
    """Write the earlier cloud, with the points of all maps that show what changed there."""
    part, before = Part.load(inputs["update"]), inputs["points" + BEFORE]
    if part.empty:
        return taken_over(before, out_dir)
    near = out_dir / "near"
    near.mkdir()
    points_stage.run(inputs, params, near, showing(inputs["depth"]).keys(), Found.load(inputs["update"]).masks)
    old, new = (PointCloud.load(folder / points_stage.CLOUD_FILE) for folder in (before, near))
    cloud = PointCloud.concatenate([old[~part.holds(old.points)], new[part.holds(new.points)]])
    cloud.save(out_dir / points_stage.CLOUD_FILE)
    points_stage.write_points_ply(out_dir / points_stage.PLY_FILE, cloud)
    earlier, later = Completion.load(before), Completion.load(near)
    mirrors = _mirrors((earlier.mirrors, later.mirrors), part)
    Completion(mirrors, _levels(earlier.levels, later.levels, part)).save(out_dir)
    report = json.loads((before / points_stage.REPORT_FILE).read_text())
    report |= {"points": len(cloud), "guessed": int(cloud.guessed.sum()), "maps": len(map_names(inputs["depth"]))}
    (out_dir / points_stage.REPORT_FILE).write_text(json.dumps(report, indent=1))
    shutil.rmtree(near)
    return None


def _mirrors(both: Sequence[Mirrors], part: Part) -> Mirrors:
    """The earlier mirrors outside of a part, and the new ones in it."""
    chosen = [part.holds(one.middles()) == bool(later) for later, one in enumerate(both)]
    normals, offsets, bounds = (
        np.concatenate([getattr(one, name)[rows] for one, rows in zip(both, chosen, strict=True)])
        for name in ("normals", "offsets", "bounds")
    )
    return Mirrors(normals, offsets, bounds)


def _levels(old: Levels, new: Levels, part: Part) -> Levels:
    """The earlier levels outside of a part and the new ones in it, on the earlier grid, if there is one."""
    if not len(old.heights):
        old = Levels.none(new.origin, new.step, (new.cells.shape[1], new.cells.shape[2]))
    rows, columns = (np.arange(size) * old.step for size in old.cells.shape[1:])
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1) + old.origin
    row, column, inside = new.cells_of(places)

    def held(height: float) -> Mask:
        return part.holds(np.concatenate([places, np.full((*places.shape[:2], 1), height)], -1))

    kept = [~held(height) for height in old.heights]
    taken = [held(height) & inside for height in new.heights]
    cells, hidden = (
        np.array(
            [grid & keep for grid, keep in zip(getattr(old, name), kept, strict=True)]
            + [grid[row, column] & take for grid, take in zip(getattr(new, name), taken, strict=True)]
        ).reshape(-1, *places.shape[:2])
        for name in ("cells", "hidden")
    )
    heights, sigmas = (np.append(getattr(old, name), getattr(new, name)) for name in ("heights", "sigmas"))
    return Levels(old.origin, old.step, heights, sigmas, cells.astype(bool), hidden.astype(bool))


def write_mesh(inputs: Mapping[str, Path], params: MeshParams, out_dir: Path) -> None:
    """Write the earlier mesh with new surface where the place changed; by other backends than tsdf all is made anew.

    Raises:
        ReconstructionError: When there is no surface.
    """
    part, before = Part.load(inputs["update"]), inputs["mesh" + BEFORE]
    if params.backend != "tsdf":
        return closing.run(inputs, params, out_dir)
    if part.empty:
        return taken_over(before, out_dir)
    alignment, scene = Alignment.load(inputs["align"]), load_world_scene(inputs["poses"], inputs["align"])
    report = json.loads((before / mesh_stage.REPORT_FILE).read_text())
    completion, cloud = Completion.load(inputs["points"]), PointCloud.load(inputs["points"] / points_stage.CLOUD_FILE)
    cloud = cloud[part.near(cloud.points, AROUND + 2 * CELL)]
    names = showing(inputs["depth"])
    maps = StoredMaps(inputs["depth"], alignment.world_from_scene, complete=completion.complete, only=names.keys())
    cameras = [(view.camera, view.world_from_camera) for view in scene.training if view.name in names]
    path = np.array([pose.translation for _, pose in cameras]).reshape(-1, 3)
    rng = np.random.default_rng(mesh_stage.SEED)
    completed = Completion.load(inputs["points" + BEFORE]).complete
    earlier = StoredMaps(inputs["depth" + BEFORE], alignment.world_from_scene, complete=completed, only=names.keys())
    raw = _surface(maps, earlier, part, report["voxel_size"], params)
    votes = observe(raw.corners().mean(1), raw.face_normals(), maps, params.carve_margin)
    surface, cleaning = clean(raw, votes, camera_path(path)[0], report["voxel_size"], params.island_volume)
    mesh, bodies, _ = mesh_stage.finished(
        (surface, cleaning, report["voxel_size"]),
        maps,
        cloud,
        path,
        params,
        rng,
        completion.levels,
        lambda mesh: closing.close_objects(mesh, cameras, maps, params.carve_margin),
        floor_found=alignment.floor_found,
    )
    old = [Mesh.load(before / mesh_stage.MESH_FILE, which) for which in ("open", "closing")]
    mesh = spliced(old[0], mesh, part, SEAM * report["voxel_size"])
    bodies = _outside(old[1], part).joined(_inside(bodies, part))
    count = sum(not view.held_out for view in scene.views)
    built = mesh_stage.for_physics(mesh, bodies, report | {"depth_maps": count}, params, rng)
    built.mesh.save(out_dir / mesh_stage.MESH_FILE, built.closing)
    built.collision.save(out_dir / mesh_stage.COLLISION_FILE)
    (out_dir / mesh_stage.REPORT_FILE).write_text(json.dumps(built.report, indent=1))
    return None


def _surface(maps: Sequence[DepthMap], earlier: StoredMaps, part: Part, voxel_size: float, params: MeshParams) -> Mesh:
    """The surface of the maps [m, world frame] in the box around a part, on the lattice of the whole.

    Around the part and along its border it is made of the `earlier` maps as they were: these are the triangles that the
    earlier mesh has there, but for planes that differ by a little. Inside it is made of the maps as they are.
    """
    low, high = (corner / (RESOLUTION * voxel_size) for corner in part.box(AROUND))
    box = Blocks(np.floor(low).astype(np.int64), np.ceil(high).astype(np.int64))
    grid = BlockGrid(voxel_size, truncation_of(voxel_size, params.truncation_voxels), box)
    inner, known = part.inner, {name: number for number, name in enumerate(earlier.names)}
    for depth_map in track(maps, "fuse depth maps", len(maps)):
        before = earlier[known[depth_map.name]] if depth_map.name in known else depth_map
        inside = inner.holds(before.points())
        kept = inside & (depth_map.depth > 0) if before is depth_map else ~inside | (depth_map.depth > 0)
        grid.integrate(before.without(~kept))
    mesh = grid.surface(min(params.min_views, len(maps)))
    if not len(mesh.triangles):
        raise no_surface(len(maps), params.min_views)
    return mesh


def _inside(mesh: Mesh, part: Part) -> Mesh:
    return mesh.with_faces(part.holds(mesh.corners().mean(1)))


def _outside(mesh: Mesh, part: Part) -> Mesh:
    return mesh.with_faces(~part.holds(mesh.corners().mean(1)))


def spliced(old: Mesh, new: Mesh, part: Part, near: float) -> Mesh:
    """The old mesh outside of a part, bit for bit and first, and the new one in it.

    What is one triangle in both, to within `near` [m], comes from one of them; corners on the border of the new surface
    that lie so near one on the old's border become that.
    """
    chosen = part.holds(new.corners().mean(1))
    gone = part.holds(old.corners().mean(1))
    away, same = map(np.asarray, KDTree(new.corners().mean(1)).query(old.corners().mean(1), distance_upper_bound=near))
    both = np.flatnonzero(np.isfinite(away))
    chosen[same[both]] = gone[both]
    joined = old.with_faces(~gone).joined(new.with_faces(chosen))
    first = len(joined.vertices) - len(np.unique(new.triangles[chosen]))
    ends = np.unique(border_edges(joined))
    ends = [ends[ends < first], ends[ends >= first]]
    number = np.arange(len(joined.vertices))
    if len(ends[0]) and len(ends[1]):
        away, nearest = map(np.asarray, KDTree(joined.vertices[ends[0]]).query(joined.vertices[ends[1]]))
        number[ends[1][away < near]] = ends[0][nearest[away < near]]
    triangles = number[joined.triangles].astype(np.int32)
    a, b, c = triangles.T
    return replace(joined, triangles=triangles).with_faces((a != b) & (b != c) & (c != a))
