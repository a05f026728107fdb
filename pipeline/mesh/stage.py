"""The mesh stage: depth maps or points to `mesh.ply`, `collision.ply` and `mesh.json`, all in the world frame."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from pipeline.align.alignment import Alignment, load_world_scene
from pipeline.depth.maps import DepthMap, StoredMaps
from pipeline.geometry import Camera, Mesh, PointCloud, Pose
from pipeline.io.results import tiles_folder
from pipeline.mesh.clean import CleanReport, camera_path, clean, in_free_space, observe
from pipeline.mesh.decimate import decimate, surface_error
from pipeline.mesh.flatten import flatten
from pipeline.mesh.floor import close_floor, close_levels, close_slits
from pipeline.mesh.params import BACKENDS, COLLISION_TRIANGLES, MeshParams
from pipeline.mesh.tiles import is_large, surface_in_tiles
from pipeline.mesh.topology import border_report
from pipeline.mesh.tsdf import fitting
from pipeline.place import by_place, seen_surface
from pipeline.points.completion import Completion
from pipeline.points.levels import Levels
from pipeline.types import Floats

logger = logging.getLogger(__name__)

MESH_FILE, COLLISION_FILE, REPORT_FILE = "mesh.ply", "collision.ply", "mesh.json"
SEED = 0
NEIGHBOURS = 3
"""Points of the cloud whose mean colour a vertex gets."""


@dataclass(frozen=True, eq=False)
class BuiltMesh:
    """The full surface [m, world frame], what closes its objects, both decimated for physics, and `mesh.json`."""

    mesh: Mesh
    closing: Mesh
    collision: Mesh
    report: dict[str, object]


@dataclass(frozen=True)
class ClosingReport:
    """What was closed."""

    objects: int  # that were found
    closed: int  # of these, those that are one body
    area: float  # of the faces that close them [m^2]


Closed = tuple[Mesh, Mesh, ClosingReport]
Close = Callable[[Mesh, Sequence[tuple[Camera, Pose]], Sequence[DepthMap], float], Closed]
"""Closes the objects of a mesh by what cameras and maps saw of it, see `pipeline.objects.closing.close_objects`."""


def run(inputs: Mapping[str, Path], params: MeshParams, out_dir: Path, close: Close | None = None) -> None:
    """Read poses, depth, align and points; write the meshes."""
    world_from_scene = Alignment.load(inputs["align"]).world_from_scene
    completion = Completion.load(inputs["points"])
    maps = StoredMaps(inputs["depth"], world_from_scene, complete=completion.complete)
    write_mesh(inputs, params, out_dir, maps, completion.levels, close)


def write_mesh(
    inputs: Mapping[str, Path],
    params: MeshParams,
    out_dir: Path,
    maps: Sequence[DepthMap],
    levels: Levels | None = None,
    close: Close | None = None,
) -> None:
    """As `run`, of these depth maps (world frame)."""
    alignment = Alignment.load(inputs["align"])
    scene = load_world_scene(inputs["poses"], inputs["align"])
    cloud = PointCloud.load(inputs["points"] / "cloud.npz")
    cameras = [(view.camera, view.world_from_camera) for view in scene.training]
    track = np.array([pose.translation for _, pose in cameras]).reshape(-1, 3)
    bound = (lambda mesh: close(mesh, cameras, maps, params.carve_margin)) if close else None
    tiles = tiles_folder(out_dir)
    built = build_mesh(maps, cloud, track, params, levels, bound, floor_found=alignment.floor_found, tiles=tiles)
    built.mesh.save(out_dir / MESH_FILE, built.closing)
    built.collision.save(out_dir / COLLISION_FILE)
    (out_dir / REPORT_FILE).write_text(json.dumps(built.report, indent=1))


def build_mesh(
    maps: Sequence[DepthMap],
    cloud: PointCloud,
    track: Floats,
    params: MeshParams,
    levels: Levels | None = None,
    close: Callable[[Mesh], Closed] | None = None,
    *,
    floor_found: bool = True,
    tiles: Path | None = None,
) -> BuiltMesh:
    """Fuse, clean, close the floor and objects, and decimate, by any backend but auto; all in the world frame [m].

    The cloud gives colours (and for poisson and nksr the surface), `track` (N, 3) has the camera centres, `levels` the
    level surfaces that complete the maps, `close` closes what stands on a floor, and `floor_found` says whether z = 0
    is a floor that was seen. Large places are fused in tiles where there is a folder for these.

    Raises:
        ReconstructionError: When no surface comes out.
        MachineError: When the GPU's backend can't run.
    """
    rng = np.random.default_rng(SEED)
    surface = _clean_surface(maps, cloud, track, params, tiles)
    mesh, closing, report = finished(surface, maps, cloud, track, params, rng, levels, close, floor_found=floor_found)
    return for_physics(mesh, closing, {"backend": params.backend, "depth_maps": len(maps), **report}, params, rng)


def finished(
    surface: tuple[Mesh, CleanReport, float],
    maps: Sequence[DepthMap],
    cloud: PointCloud,
    track: Floats,
    params: MeshParams,
    rng: np.random.Generator,
    levels: Levels | None = None,
    close: Callable[[Mesh], Closed] | None = None,
    *,
    floor_found: bool = True,
) -> tuple[Mesh, Mesh, dict[str, object]]:
    """A clean surface, with its report and voxel size [m], flat, coloured and closed; what closes its objects; reports.

    For the rest see `build_mesh`.
    """
    mesh, cleaning, voxel_size = surface
    flat = floor = slits = None
    if params.flatten:
        mesh, flat = flatten(mesh, voxel_size)
    mesh = colored(mesh, cloud)
    levels_area = 0.0
    if params.close_floor and levels is not None:
        up = np.array([0, 0, 1.0])
        mesh, levels_area = close_levels(
            mesh,
            levels,
            lambda points: in_free_space(observe(points, np.tile(up, (len(points), 1)), maps, params.carve_margin)),
        )
    closing, closed = mesh.with_faces(np.zeros(len(mesh.triangles), bool)), None
    if close and floor_found:
        mesh, closing, closed = close(mesh)
    if params.close_floor and floor_found:
        mesh, floor = close_floor(mesh, track, params.floor_gap, rng)
    if params.close_floor:
        mesh, slits = close_slits(mesh, closing)
    return (
        mesh,
        closing,
        {
            "voxel_size": voxel_size,
            "cleaning": asdict(cleaning),
            "planes": None if flat is None else asdict(flat),
            "floor": None if floor is None else asdict(floor),
            "hidden_level_area": levels_area,
            "slits": None if slits is None else asdict(slits),
            "closing": None if closed is None else asdict(closed),
        },
    )


def for_physics(
    mesh: Mesh, closing: Mesh, report: Mapping[str, object], params: MeshParams, rng: np.random.Generator
) -> BuiltMesh:
    """A surface and what closes its objects with both decimated; all sizes are added to the report."""
    whole = mesh.joined(closing)
    collision, about = _for_physics(whole, params, rng)
    return BuiltMesh(
        mesh, closing, collision, {**report, **_sizes(whole), "collision": about, "borders": border_report(whole)}
    )


def _clean_surface(
    maps: Sequence[DepthMap], cloud: PointCloud, track: Floats, params: MeshParams, tiles: Path | None
) -> tuple[Mesh, CleanReport, float]:
    """The surface by the backend, cleaned by what the maps say of it, and its voxel size [m]."""
    if tiles is not None and params.backend == "tsdf" and is_large(cloud):
        (raw, votes), voxel_size = fitting(lambda size: surface_in_tiles(maps, params, size, tiles), maps, params)
    else:
        raw, voxel_size = BACKENDS[params.backend].load()(maps, cloud, params)
        votes = observe(raw.corners().mean(1), raw.face_normals(), maps, params.carve_margin)
    return *clean(raw, votes, camera_path(track)[0], voxel_size, params.island_volume), voxel_size


def _for_physics(whole: Mesh, params: MeshParams, rng: np.random.Generator) -> tuple[Mesh, dict[str, object]]:
    """A mesh decimated for physics, and how far either surface is from the other."""
    triangles = params.collision_triangles or by_place(COLLISION_TRIANGLES, seen_surface(whole), "collision triangles")
    collision = decimate(whole, triangles)
    errors = {"of_collision": surface_error(collision, whole, rng), "of_mesh": surface_error(whole, collision, rng)}
    worst = max(error.p99 for error in errors.values())
    if worst > params.collision_error:
        logger.warning(
            "1 %% of the collision mesh is over %.1f mm off, limit %.1f mm: raise mesh.collision_triangles (%d)",
            worst * 1000,
            params.collision_error * 1000,
            triangles,
        )
    return collision, {
        "vertices": len(collision.vertices),
        "triangles": len(collision.triangles),
        "error": {way: asdict(error) for way, error in errors.items()},
        "error_within_wanted": worst <= params.collision_error,
    }


def _sizes(mesh: Mesh) -> dict[str, float]:
    """Counts and areas [m^2] of a mesh for the report."""
    areas = mesh.face_areas()
    return {
        "vertices": len(mesh.vertices),
        "triangles": len(mesh.triangles),
        "area": float(areas.sum()),
        "guessed_area": float(areas[mesh.face_guessed()].sum()),
    }


def colored(mesh: Mesh, cloud: PointCloud) -> Mesh:
    """The mesh with the distance-weighted colour of its vertices' nearest points; guessed where the nearest point is.

    Vertices and cloud lie in the same frame; an empty cloud leaves the mesh as it is.
    """
    if not len(cloud) or not len(mesh.vertices):
        return mesh
    count = min(NEIGHBOURS, len(cloud))
    distance, index = KDTree(cloud.points).query(mesh.vertices, k=count, workers=-1)
    distance, index = distance.reshape(-1, count), index.reshape(-1, count)
    weight = 1 / (distance + 1e-3)
    weight /= weight.sum(1, keepdims=True)
    colors = np.einsum("nk,nkc->nc", weight, cloud.colors[index].astype(np.float64))
    return replace(mesh, colors=colors.round().astype(np.uint8), guessed=mesh.guessed | cloud.guessed[index[:, 0]])
