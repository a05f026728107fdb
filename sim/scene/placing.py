"""Where objects from other bundles stand in a scene: dropped onto tables, else onto the floor, and at rest there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.check.settle import settled
from pipeline.errors import SimError
from pipeline.geometry import Mesh, Pose, angle_deg, matrix_from_rotvec
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.regions.regions import Regions
from pipeline.types import F64, Mask
from sim.physics.bodies import RigidBody

PLACES, TRIED = 6, 3
"""Places of each object, and how many times as many are tried."""
SAMPLES = 6000
"""Points of level surfaces that are tried."""
LEVEL, UNEVEN = 0.97, 0.012
"""Least z of the normal of what an object stands on, and its largest unevenness [m]."""
TABLE = (0.3, 1.3)
"""Height of tables over the floor [m]."""
NEAR_START = 2.0
"""On the floor, objects stand no farther from where robots start [m]."""
MARGIN = 0.03
"""Free room round an object [m]."""
DROP = 0.01
"""Objects are dropped from that high [m]."""
SHIFT, TILT = 0.02, 5.0
"""An object stays where it was dropped if it moves by less, sideways [m], and turns by less [degrees]."""
AROUND = np.deg2rad(np.arange(0, 360, 22.5))
OUT = np.stack([np.cos(AROUND), np.sin(AROUND), 0 * AROUND], 1)
"""Horizontal directions (16, 3)."""


@dataclass(frozen=True, eq=False)
class _Extent:
    """The upright cylinder round a body: its radius round the body's origin, and its height [m]."""

    radius: float
    height: float

    @staticmethod
    def of(body: RigidBody) -> _Extent:
        corners = np.concatenate(body.hulls)
        return _Extent(float(np.linalg.norm(corners[:, :2], axis=1).max()) + MARGIN, float(corners[:, 2].max()))


def find_places(collision: Mesh, regions: Regions, bodies: Sequence[RigidBody], reference: str) -> list[list[Pose]]:
    """Poses of each body in which it stands at rest: on a table where one has room, else on the floor near robots.

    No two places overlap, of one object or of several, and the same scene and objects have the same places. The mesh is
    that of the scene (world frame), with whatever stands fixed in it; the reference names it in errors.

    Raises:
        SimError: When there is no place for one.
    """
    rng, caster = np.random.default_rng(0), RayCaster(collision)
    tried = list[tuple[int, float, Pose]]()
    for number, extent in enumerate(map(_Extent.of, bodies)):
        taken = [(pose.translation, radius) for _, radius, pose in tried]
        for spot in _spots(collision, caster, regions, extent, taken, rng):
            turn = matrix_from_rotvec([0, 0, rng.uniform(0, 2 * np.pi)])
            tried.append((number, extent.radius, Pose(turn, spot + np.array([0, 0, DROP]))))
    dropped = [(bodies[number].hulls, pose, bodies[number].friction) for number, _, pose in tried]
    rest = settled(collision, dropped) if dropped else []
    places: list[list[Pose]] = [[] for _ in bodies]
    for (number, _, before), after in zip(tried, rest, strict=True):
        moved = np.linalg.norm((after.translation - before.translation)[:2])
        stays = moved < SHIFT and angle_deg(before.rotation, after.rotation) < TILT
        if stays and len(places[number]) < PLACES:
            places[number].append(after)
    for body, found in zip(bodies, places, strict=True):
        if not found:
            size = _Extent.of(body)
            raise SimError(
                "an object from another bundle stands on something level in the scene",
                found=f"no place for {body.name}, {2 * size.radius:.2f} m across and {size.height:.2f} m high, "
                f"in {reference} where it stays",
                remedy="take another scene or another object; one that doesn't stand by itself fails its objects_tilt",
            )
    return places


def _spots(
    collision: Mesh,
    caster: RayCaster,
    regions: Regions,
    extent: _Extent,
    taken: Sequence[tuple[F64, float]],
    rng: np.random.Generator,
) -> list[F64]:
    """Points (3,) on level surfaces with room for an upright cylinder, apart from each other and from those taken."""
    level = collision.with_faces(np.asarray(collision.face_normals()[:, 2] > LEVEL))
    if not len(level.triangles):
        return []
    points = sample_surface(level, SAMPLES, rng)[0].astype(np.float64)
    above = points[:, 2] - regions.floor_height
    tables = points[(above > TABLE[0]) & (above < TABLE[1])]
    starts = np.array([pose.position for pose in regions.spawn_poses])
    away = np.linalg.norm(points[:, None] - starts[None], axis=2).min(1)
    floor = points[(away < NEAR_START) & (above < TABLE[0])]
    for candidates in (tables, floor):
        found = list[F64]()
        for point in candidates[_has_room(caster, candidates, extent)]:
            near = [(other, extent.radius) for other in found] + list(taken)
            if all(np.linalg.norm((point - other)[:2]) > extent.radius + radius for other, radius in near):
                found.append(point)
            if len(found) == TRIED * PLACES:
                break
        if found:
            return found
    return []


def _has_room(caster: RayCaster, points: F64, extent: _Extent) -> Mask:
    """Which points (N, 3) on a surface are level under a cylinder, with nothing in it and nothing above it."""
    free = np.ones(len(points), bool)
    down, up = np.array([0, 0, -1.0]), np.array([0, 0, 1.0])
    for share in (0.0, 0.5, 1.0):
        for direction in OUT if share else OUT[:1]:
            asked = np.flatnonzero(free)
            over = points[asked] + share * extent.radius * direction + [0, 0, MARGIN]
            free[asked] = np.abs(caster.cast(over, down).distance - MARGIN) < UNEVEN
            asked, over = np.flatnonzero(free), over[free[asked]]
            free[asked] = caster.cast(over, up).distance > extent.height
    for height in np.linspace(MARGIN, extent.height, 5):
        for direction in OUT:
            asked = np.flatnonzero(free)
            free[asked] = caster.cast(points[asked] + [0, 0, height], direction).distance > extent.radius
    return free
