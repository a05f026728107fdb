"""The world of an imported scene: up, floor and scale, and faces that look at where robots are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.align.alignment import Alignment
from pipeline.align.gravity import UpEstimate, fuse, log_up_contradictions, up_from_surfaces
from pipeline.align.surfaces import Surfaces, find_floor
from pipeline.errors import ReconstructionError
from pipeline.geometry import Mesh, Similarity, rotation_between
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.mesh.clean import facing_cameras
from pipeline.mesh.topology import canonical
from pipeline.types import F64

SAMPLES = 60_000
SEED = 0
ROUGH_UP_DEG = 4.0
"""One sigma of an up axis that somebody names without a sigma [deg]."""
MIN_FREE = 1.0
"""Free height over a floor on which eyes are put [m]."""
EYE_HEIGHT, EYE_ROOM = 0.6, 0.3
"""Height of these eyes over the floor, and their distance to all surfaces [m]."""
MAX_EYES = 200
ON_FLOOR = 0.06
"""How far the floor may be off its plane [m]."""


@dataclass(frozen=True)
class Given:
    """A number that `source` states, with its sigma if that is stated, too."""

    value: float
    sigma: float | None
    source: str


def find_world(mesh: Mesh, up: UpEstimate, scale: Given, track: F64) -> Alignment:
    """Turn and scale a mesh's frame as little as its up and its floor require; x and y stay where they are.

    Up and track (camera positions (N, 3), or none) are in the mesh's frame; scale is metres per unit of the mesh.

    Raises:
        ReconstructionError: When no floor is found.
    """
    surfaces = surfaces_of(mesh, up.up, oriented=len(track) > 0)
    found = up_from_surfaces(surfaces, up)
    estimates = [up] if found is None else [up, found]
    log_up_contradictions(estimates)
    gravity = fuse(estimates)
    centres = track if len(track) else np.median(surfaces.points, axis=0, keepdims=True)
    floor = find_floor(surfaces, gravity.up, centres)
    if floor is None:
        raise ReconstructionError(
            "an imported mesh has a floor: a level surface, below its cameras or its middle",
            found=f"none of {surfaces.area.sum() * scale.value**2:.1f} m2 of surface",
            remedy="check --up and --scale, or import a mesh with the floor that robots stand on",
        )
    rotation = rotation_between(gravity.up, [0.0, 0.0, 1.0])
    world_from_mesh = Similarity(scale.value, rotation, -np.array([0, 0, scale.value * floor.height]))
    return Alignment(
        world_from_mesh,
        gravity.sources,
        gravity.sigma_deg,
        scale.source,
        scale.sigma,
        floor_found=True,
        report={
            "gravity": [estimate.report(gravity) for estimate in estimates],
            "scale": [{"source": scale.source, "sigma": scale.sigma, "off_the_result": 0.0}],
            "floor": {"rms_m": round(floor.rms * scale.value, 5), "share_of_level_area": round(floor.share, 4)},
            "metres_per_scene_unit": scale.value,
        },
    )


def surfaces_of(mesh: Mesh, up: F64, *, oriented: bool) -> Surfaces:
    """Points over the mesh; unless its faces are oriented, level ones count as facing up."""
    rng = np.random.default_rng(SEED)
    points, faces = sample_surface(mesh, SAMPLES, rng)
    normals = mesh.face_normals()[faces]
    if not oriented:
        level = np.abs(normals @ up) > np.cos(np.deg2rad(20))
        normals = np.where((level & (normals @ up < 0))[:, None], -normals, normals)
    area = np.full(len(points), float(mesh.face_areas().sum()) / max(1, len(points)))
    return Surfaces(points.astype(np.float64), normals, area)


def eyes_over_floor(mesh: Mesh) -> F64:
    """Positions (N, 3) where a small robot's eyes have room over the floor z = 0 of a mesh in the world frame [m]."""
    rng = np.random.default_rng(SEED)
    points, faces = sample_surface(mesh, SAMPLES, rng)
    level = np.abs(mesh.face_normals()[faces, 2]) > np.cos(np.deg2rad(12))
    floor = points[level & (np.abs(points[:, 2]) < ON_FLOOR)].astype(np.float64)
    caster = RayCaster(mesh)
    above = caster.cast(floor + np.array([0, 0, 2 * ON_FLOOR]), np.array([0, 0, 1.0])).distance
    eyes = floor[above > MIN_FREE] * [1, 1, 0] + np.array([0, 0, EYE_HEIGHT])
    eyes = eyes[caster.distances(eyes) > EYE_ROOM]
    return eyes[rng.permutation(len(eyes))[:MAX_EYES]]


EYES, RAYS = 60, 3000


def facing(mesh: Mesh, eyes: F64) -> tuple[Mesh, int]:
    """The mesh in canonical order, each patch turned towards the eyes (N, 3) that see it; also how many triangles were.

    Patches that no eye sees stay as they are.
    """
    rng = np.random.default_rng(SEED)
    merged = canonical(mesh)
    if not len(eyes):
        return merged, 0
    chosen = eyes[rng.permutation(len(eyes))[:EYES]]
    directions = rng.normal(size=(len(chosen), RAYS, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    origins = np.broadcast_to(chosen[:, None], directions.shape).reshape(-1, 3)
    hits = RayCaster(merged).cast(origins, directions.reshape(-1, 3))
    seen = hits.triangle[hits.hit]
    towards = -np.einsum("nc,nc->n", merged.face_normals()[seen], directions.reshape(-1, 3)[hits.hit])
    votes = np.bincount(seen, np.sign(towards), len(merged.triangles))
    turned, count = facing_cameras(merged, votes.astype(np.int32))
    return canonical(turned), count
