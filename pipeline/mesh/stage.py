"""The mesh stage: depth maps or points to `mesh.ply`, `collision.ply` and `mesh.json`, all in the world frame."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.align.alignment import Alignment, load_world_scene
from pipeline.depth.maps import DepthMap
from pipeline.geometry import Mesh, PointCloud
from pipeline.mesh.clean import clean
from pipeline.mesh.color import colored
from pipeline.mesh.decimate import decimate, surface_error
from pipeline.mesh.flatten import FlatReport, flatten
from pipeline.mesh.floor import FloorReport, close_floor
from pipeline.mesh.nksr import nksr
from pipeline.mesh.params import MeshParams
from pipeline.mesh.path import camera_path
from pipeline.mesh.poisson import poisson
from pipeline.mesh.slits import SlitReport, close_slits
from pipeline.mesh.sources import StoredMaps
from pipeline.mesh.topology import border_report
from pipeline.mesh.tsdf import automatic_voxel_size, fuse_in_memory
from pipeline.mesh.visibility import observe

logger = logging.getLogger(__name__)

MESH_FILE, COLLISION_FILE, REPORT_FILE = "mesh.ply", "collision.ply", "mesh.json"
SEED = 0


@dataclass(frozen=True, eq=False)
class BuiltMesh:
    """The meshes and how they came about.

    Attributes:
        mesh: The full surface [m, world frame].
        collision: The decimated one for physics.
        report: JSON values: voxel size, counts, areas, errors.
    """

    mesh: Mesh
    collision: Mesh
    report: dict[str, Any]


def run(inputs: Mapping[str, Path], params: MeshParams, out_dir: Path) -> None:
    """Read poses, depth, align and points; write the meshes."""
    alignment = Alignment.load(inputs["align"])
    scene = load_world_scene(inputs["poses"], inputs["align"])
    maps = StoredMaps(inputs["depth"], alignment.world_from_scene)
    cloud = PointCloud.load(inputs["points"] / "cloud.npz")
    track = np.array([view.world_from_camera.translation for view in scene.training]).reshape(-1, 3)
    built = build_mesh(maps, cloud, track, params, floor_found=alignment.floor_found)
    built.mesh.save(out_dir / MESH_FILE)
    built.collision.save(out_dir / COLLISION_FILE)
    (out_dir / REPORT_FILE).write_text(json.dumps(built.report, indent=1))


def build_mesh(
    maps: Sequence[DepthMap],
    cloud: PointCloud,
    track: NDArray[np.floating],
    params: MeshParams,
    *,
    floor_found: bool = True,
) -> BuiltMesh:
    """Fuse, clean, close the floor and decimate.

    Args:
        maps: Training depth maps [m, world frame].
        cloud: The shared cloud, same frame; gives colours (and for poisson and nksr the surface).
        track: Camera centres (N, 3) [m].
        params: Its backend is any but auto.
        floor_found: Whether the world's z = 0 is a floor that was seen.

    Raises:
        ReconstructionError: When no surface comes out.
        MachineError: When the GPU's backend can't run.
    """
    rng = np.random.default_rng(SEED)
    if params.backend == "poisson":
        voxel_size = params.voxel_size or automatic_voxel_size(maps)
        raw = poisson(cloud, voxel_size, params.poisson_depth)
    elif params.backend == "nksr":
        raw, voxel_size = nksr(cloud, params)
    else:
        raw, voxel_size = fuse_in_memory(maps, params.voxel_size, params.truncation_voxels, params.min_views)
    evidence = observe(raw.corners().mean(1), raw.face_normals(), maps, params.carve_margin)
    mesh, cleaning = clean(raw, evidence, camera_path(track)[0], voxel_size, params.island_volume)
    flat: FlatReport | None = None
    if params.flatten:
        mesh, flat = flatten(mesh, voxel_size)
    mesh = colored(mesh, cloud)
    floor: FloorReport | None = None
    if params.close_floor and floor_found:
        mesh, floor = close_floor(mesh, track, params.floor_gap, rng)
    slits: SlitReport | None = None
    if params.close_floor:
        mesh, slits = close_slits(mesh)
    collision = decimate(mesh, params.collision_triangles)
    errors = {"of_collision": surface_error(collision, mesh, rng), "of_mesh": surface_error(mesh, collision, rng)}
    worst = max(error.p99 for error in errors.values())
    if worst > params.collision_error:
        logger.warning(
            "1 %% of the collision mesh is over %.1f mm off, %.1f mm were wanted: raise mesh.collision_triangles (%d)",
            worst * 1000,
            params.collision_error * 1000,
            params.collision_triangles,
        )
    guessed = mesh.guessed[mesh.triangles].any(1) if len(mesh.triangles) else np.zeros(0, bool)
    report = {
        "backend": params.backend,
        "voxel_size": voxel_size,
        "depth_maps": len(maps),
        "vertices": len(mesh.vertices),
        "triangles": len(mesh.triangles),
        "area": float(mesh.face_areas().sum()),
        "guessed_area": float(mesh.face_areas()[guessed].sum()),
        "cleaning": asdict(cleaning),
        "planes": None if flat is None else asdict(flat),
        "floor": None if floor is None else asdict(floor),
        "slits": None if slits is None else asdict(slits),
        "collision": {
            "vertices": len(collision.vertices),
            "triangles": len(collision.triangles),
            "error": {way: asdict(error) for way, error in errors.items()},
            "error_within_wanted": worst <= params.collision_error,
        },
        "borders": border_report(mesh),
    }
    return BuiltMesh(mesh, collision, report)
