"""The drop test: spheres fall on the collision mesh all over the walkable floor and must come to rest on it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.check.floor import probe_floor
from pipeline.geometry import Mesh
from pipeline.mesh import masks
from pipeline.mesh.rays import RayCaster
from pipeline.regions.regions import Regions

RADIUS = 0.06  # [m]
DROP_HEIGHT = 0.35  # [m] of the sphere's lowest point over the floor
SECONDS, TIME_STEP = 3.0, 0.004
TOLERANCE = 0.02  # [m] of the resting height
ROLLED = 0.15  # [m] away from where it was dropped
FALLEN = 0.1  # [m] below the floor: through it
LEAST_DROPS = 100
HOLE_STRIDE = 7  # one of so many fine cells of a hole gets a sphere
ANGULAR_DAMPING = 20.0  # spheres roll on the least slope; this stands in for rolling friction


@dataclass(frozen=True)
class DropTest:
    """What became of the spheres.

    Attributes:
        dropped: How many.
        fell_through: End below the floor, or left the scene.
        off_height: Rest more than 2 cm off the height map plus radius.
        over_holes: Of the dropped, over holes that the walkable region encloses.
        median_error: Of the resting heights, absolute [m]; None when all fell through.
        largest_error: Of the resting heights of those that didn't fall through [m]; None when all did.
    """

    dropped: int
    fell_through: int
    off_height: int
    over_holes: int
    median_error: float | None
    largest_error: float | None

    @property
    def passed(self) -> bool:
        """Whether none fell through and all rest within 2 cm of the height map."""
        return self.dropped > 0 and self.fell_through == 0 and self.off_height == 0


def drop_spheres(collision: Mesh, regions: Regions) -> DropTest:
    """Simulate 3 s of spheres of 6 cm radius dropped over an even grid of walkable cells, in PhysX through SAPIEN.

    The spheres do not touch each other. PhysX's triangles carry from their front only, so a wrongly oriented mesh
    fails as a robot would on it.
    """
    over_floor, over_holes = _starts(regions), _hole_starts(collision, regions)
    starts = np.concatenate([over_floor, over_holes])
    ends = _simulate(collision, starts) if len(starts) else starts
    # a sphere on a step's edge may rest on either side's floor
    error = np.abs(ends[:, 2, None] - RADIUS - _floor_below(ends, regions)).min(1, initial=np.inf)
    rolled = np.linalg.norm((ends - starts)[:, :2], axis=1) > ROLLED  # down a stair: it may lean on a step's front
    error[rolled] = np.minimum(error, np.abs(RayCaster(collision).distances(ends) - RADIUS))[rolled]
    fell = ~(ends[:, 2] - RADIUS > starts[:, 2] - DROP_HEIGHT - RADIUS - FALLEN)
    fell &= ~(error <= TOLERANCE)
    resting = error[~fell & np.isfinite(error)]
    return DropTest(
        dropped=len(starts),
        fell_through=int(fell.sum()),
        off_height=int((error[~fell] > TOLERANCE).sum()),
        over_holes=len(over_holes),
        median_error=float(np.median(resting)) if len(resting) else None,
        largest_error=float(resting.max()) if len(resting) else None,
    )


def _starts(regions: Regions) -> NDArray[np.float64]:
    """Sphere centres (N, 3) [m] over walkable cells, on a square grid with at least 100 of them where there is room."""
    cells = np.argwhere(regions.walkable)
    stride = max(1, int(np.sqrt(len(cells) / LEAST_DROPS)))
    while len(chosen := cells[(cells % stride == stride // 2).all(1)]) < LEAST_DROPS and stride > 1:
        stride -= 1
    height = regions.height[tuple(chosen.T)].astype(np.float64)
    return np.column_stack([regions.centres()[tuple(chosen.T)], height + DROP_HEIGHT + RADIUS])


def _hole_starts(collision: Mesh, regions: Regions) -> NDArray[np.float64]:
    """Sphere centres (N, 3) [m] over the widest places of holes; the walkable region itself keeps off them."""
    probed = probe_floor(collision, regions)
    room = masks.distance_from(~probed.holes) * probed.step
    cells = np.argwhere(room > RADIUS)[::HOLE_STRIDE][:LEAST_DROPS]
    return probed.positions[tuple(cells.T)] + np.array([0, 0, DROP_HEIGHT + RADIUS])


def _simulate(collision: Mesh, starts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the spheres' centres (N, 3) are after the simulation [m]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses a graphics driver, which physics doesn't need
        import sapien
        from sapien import physx

    scene = sapien.Scene([physx.PhysxCpuSystem()])
    scene.set_timestep(TIME_STEP)
    material = physx.PhysxMaterial(1.0, 1.0, 0.0)
    ground = physx.PhysxRigidStaticComponent()
    shape = physx.PhysxCollisionShapeTriangleMesh(
        collision.vertices.astype(np.float32), collision.triangles.astype(np.uint32), [1, 1, 1], material
    )
    shape.set_collision_groups([1, 2, 0, 0])
    ground.attach(shape)
    entity = sapien.Entity()
    entity.add_component(ground)
    scene.add_entity(entity)
    bodies = []
    for start in starts:
        body = physx.PhysxRigidDynamicComponent()
        ball = physx.PhysxCollisionShapeSphere(RADIUS, material)
        ball.set_collision_groups([2, 1, 0, 0])  # touches the ground only
        body.attach(ball)
        body.set_angular_damping(ANGULAR_DAMPING)
        holder = sapien.Entity()
        holder.add_component(body)
        holder.set_pose(sapien.Pose(start.tolist()))
        scene.add_entity(holder)
        bodies.append(holder)
    for _ in range(round(SECONDS / TIME_STEP)):
        scene.step()
    return np.array([holder.pose.p for holder in bodies], np.float64)


def _floor_below(centres: NDArray[np.float64], regions: Regions) -> NDArray[np.float64]:
    """Floor heights (N, 9) [m] of the cells that a sphere at (N, 3) may rest on, inf where there is none."""
    index, _ = regions.cells_of(np.nan_to_num(centres, nan=1e6))
    around = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij"), -1).reshape(-1, 2)
    cells = index[:, None] + around
    inside = ((cells >= 0) & (cells < np.array(regions.height.shape))).all(-1)
    clipped = np.clip(cells, 0, np.array(regions.height.shape) - 1)
    height = regions.height[clipped[..., 0], clipped[..., 1]].astype(np.float64)
    return np.where(inside & np.isfinite(height), height, np.inf)
