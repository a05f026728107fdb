"""The world of an imported scene: which way is up, where the floor is, how long a metre is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.align.alignment import Alignment
from pipeline.align.floor import Floor, find_floor
from pipeline.align.gravity import UpEstimate, fuse, log_up_contradictions, up_from_surfaces
from pipeline.align.surfaces import Surfaces
from pipeline.errors import ReconstructionError
from pipeline.geometry import Mesh, Similarity, rotation_between
from pipeline.mesh.rays import RayCaster, sample_surface

Array = NDArray[np.float64]

SAMPLES = 60_000
SEED = 0
ROUGH_UP_DEG = 4.0
"""One sigma of an up axis that somebody names without a sigma [deg]."""
LEAST_FREE = 1.0
"""Free height over a floor on which eyes are put [m]."""
EYE_HEIGHT, EYE_ROOM = 0.6, 0.3
"""Of these eyes over the floor, and their distance to all surfaces [m]."""
MOST_EYES = 200
ON_FLOOR = 0.06
"""How far the floor may be off its plane [m]."""


@dataclass(frozen=True)
class Given:
    """A figure that somebody states.

    Attributes:
        value: The figure.
        sigma: One sigma; None where nobody states one.
        source: Who.
    """

    value: float
    sigma: float | None
    source: str


def find_world(mesh: Mesh, up: UpEstimate, scale: Given, track: Array) -> Alignment:
    """Turn and scale a mesh's frame as little as its up and its floor ask for; x and y stay where they are.

    Args:
        mesh: As its file has it.
        up: What somebody says of up, in the mesh's frame.
        scale: Metres per unit of the mesh.
        track: Places (N, 3) of cameras, or none.

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
        gravity.source,
        gravity.sigma_deg,
        scale.source,
        scale.sigma,
        floor_found=True,
        report=_report(estimates, gravity, floor, scale),
    )


def surfaces_of(mesh: Mesh, up: Array, *, oriented: bool) -> Surfaces:
    """Points over the mesh; where its faces' sides aren't known yet, level ones count as facing up."""
    rng = np.random.default_rng(SEED)
    points, faces = sample_surface(mesh, SAMPLES, rng)
    normals = mesh.face_normals()[faces]
    if not oriented:
        level = np.abs(normals @ up) > np.cos(np.deg2rad(20))
        normals = np.where((level & (normals @ up < 0))[:, None], -normals, normals)
    area = np.full(len(points), float(mesh.face_areas().sum()) / max(1, len(points)))
    return Surfaces(points.astype(np.float64), normals, area)


def eyes_over_floor(mesh: Mesh) -> Array:
    """Places (N, 3) where a small robot's eyes have room over the floor z = 0, in whatever sense faces are oriented.

    Args:
        mesh: World frame [m].
    """
    rng = np.random.default_rng(SEED)
    points, faces = sample_surface(mesh, SAMPLES, rng)
    level = np.abs(mesh.face_normals()[faces, 2]) > np.cos(np.deg2rad(12))
    floor = points[level & (np.abs(points[:, 2]) < ON_FLOOR)].astype(np.float64)
    caster = RayCaster(mesh)
    above = caster.cast(floor + np.array([0, 0, 2 * ON_FLOOR]), np.array([0, 0, 1.0])).distance
    eyes = floor[above > LEAST_FREE] * [1, 1, 0] + np.array([0, 0, EYE_HEIGHT])
    eyes = eyes[caster.distances(eyes) > EYE_ROOM]
    return eyes[rng.permutation(len(eyes))[:MOST_EYES]]


def _report(estimates: list[UpEstimate], gravity: UpEstimate, floor: Floor, scale: Given) -> dict[str, object]:
    return {
        "gravity": [estimate.report(gravity) for estimate in estimates],
        "scale": [{"source": scale.source, "sigma": scale.sigma, "off_the_result": 0.0}],
        "floor": {"rms_m": round(floor.rms * scale.value, 5), "share_of_level_area": round(floor.share, 4)},
        "metres_per_scene_unit": scale.value,
    }
