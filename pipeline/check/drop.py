"""The drop test: spheres and boxes fall on the collision mesh all over the walkable floor and must rest on it."""

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

RADIUS = 0.06  # [m] of the spheres
HALF_EDGE = 0.05  # [m] of the boxes
DROP_HEIGHT = 0.35  # [m] of a body's lowest point over the floor
SECONDS, TIME_STEP = 3.0, 0.004
LOOK_EVERY = 5  # steps
GRAVITY = 9.81  # [m/s^2]
THROWN = 0.05  # [m] of height worth of energy that a body may gain from the contact solver
TOLERANCE = 0.02  # [m] of the resting height
LEVEL = 0.002  # [m] between corners of a box that it stands on
ROLLED = 0.15  # [m] away from where it was dropped
FALLEN = 0.1  # [m] below the floor: through it
DROPS = 500  # spheres, and as many boxes
HOLE_DROPS = 100  # at most
HOLE_STRIDE = 7  # one of so many fine cells of a hole gets a sphere and a box
GOLDEN_ANGLE = 2.39996  # [rad] from one box's heading to the next one's
ANGULAR_DAMPING = 20.0  # spheres roll on the least slope; this stands in for rolling friction

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DropTest:
    """What became of the bodies.

    Attributes:
        dropped: How many; half of them are boxes.
        fell_through: End below the floor, or left the scene.
        thrown_out: Had more energy at some moment than at the start: the contact with the mesh pushed them away.
        off_height: Rest more than 2 cm off the height map.
        over_holes: Of the dropped, over holes that the walkable region encloses.
        median_error: Of the resting heights, absolute [m]; None when all fell through.
        largest_error: Of the resting heights of those that didn't fall through [m]; None when all did.
    """

    dropped: int
    fell_through: int
    thrown_out: int
    off_height: int
    over_holes: int
    median_error: float | None
    largest_error: float | None

    @property
    def passed(self) -> bool:
        """Whether none fell through or was thrown out and all rest within 2 cm of the height map."""
        return self.dropped > 0 and self.fell_through == self.thrown_out == self.off_height == 0


@dataclass(frozen=True, eq=False)
class _Fall:
    """Centres (N, 3) [m] and turns (N, 3, 3) at the end, and the highest energy on the way [m of height]."""

    centres: Array
    turns: Array
    energy: Array


def drop_bodies(collision: Mesh, regions: Regions) -> DropTest:
    """Simulate 3 s of spheres of 6 cm radius and boxes of 10 cm edge over an even grid of walkable cells, in PhysX.

    The bodies do not touch each other. PhysX's triangles carry from their front only, so a wrongly oriented mesh
    fails as a robot would on it.
    """
    over_floor, over_holes = _starts(regions), _hole_starts(collision, regions)
    places = np.concatenate([over_floor, over_holes])
    if not len(places):
        return DropTest(0, 0, 0, 0, 0, None, None)
    bottoms, is_box = np.concatenate([places, places]), np.arange(2 * len(places)) >= len(places)
    starts = bottoms + np.where(is_box, HALF_EDGE, RADIUS)[:, None] * [0, 0, 1]
    fall = _simulate(collision, starts, is_box)
    feet = _feet(fall, is_box)
    lowest = np.take_along_axis(feet, feet[:, :, 2].argmin(1)[:, None, None], 1)[:, 0]
    # a body on a step's edge may rest on either side's floor, with any of its lowest corners
    heights = _floor_below(feet.reshape(-1, 3), regions).reshape(*feet.shape[:2], -1)
    errors = np.abs(feet[:, :, 2, None] - heights).min(2, initial=np.inf)
    error = np.where(feet[:, :, 2] < lowest[:, 2, None] + LEVEL, errors, np.inf).min(1)
    rolled = np.linalg.norm((fall.centres - starts)[:, :2], axis=1) > ROLLED  # down a stair: it may lean on a front
    gap = np.abs(RayCaster(collision).distances(np.where(is_box[:, None], lowest, fall.centres)))
    error[rolled] = np.minimum(error, np.abs(gap - np.where(is_box, 0, RADIUS)))[rolled]
    fell = ~(lowest[:, 2] > bottoms[:, 2] - DROP_HEIGHT - FALLEN)
    fell &= ~(error <= TOLERANCE)
    resting = error[~fell & np.isfinite(error)]
    return DropTest(
        dropped=len(starts),
        fell_through=int(fell.sum()),
        thrown_out=int((fall.energy > starts[:, 2] + THROWN).sum()),
        off_height=int((error[~fell] > TOLERANCE).sum()),
        over_holes=2 * len(over_holes),
        median_error=float(np.median(resting)) if len(resting) else None,
        largest_error=float(resting.max()) if len(resting) else None,
    )


def _starts(regions: Regions) -> Array:
    """500 places (N, 3) [m] from which to drop, evenly over the walkable cells; fewer where there are fewer cells."""
    cells = np.argwhere(regions.walkable)
    stride = max(1, int(np.sqrt(len(cells) / DROPS)))
    while len(chosen := cells[(cells % stride == stride // 2).all(1)]) < DROPS and stride > 1:
        stride -= 1
    chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, min(DROPS, len(chosen))).round().astype(int))]
    height = regions.height[tuple(chosen.T)].astype(np.float64)
    return np.column_stack([regions.centres()[tuple(chosen.T)], height + DROP_HEIGHT])


def _hole_starts(collision: Mesh, regions: Regions) -> Array:
    """Places (N, 3) [m] over the widest parts of holes; the walkable region itself keeps off them."""
    probed = probe_floor(collision, regions)
    room = masks.distance_from(~probed.holes) * probed.step
    cells = np.argwhere(room > RADIUS)[::HOLE_STRIDE][:HOLE_DROPS]
    return probed.positions[tuple(cells.T)] + np.array([0, 0, DROP_HEIGHT])


def _simulate(collision: Mesh, starts: Array, is_box: NDArray[np.bool_]) -> _Fall:
    """Let bodies fall from centres (N, 3) [m]; boxes start level, each turned about the vertical."""
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
    holders, bodies = [], []
    for number, (start, box) in enumerate(zip(starts, is_box, strict=True)):
        body = physx.PhysxRigidDynamicComponent()
        if box:
            hull = physx.PhysxCollisionShapeBox([HALF_EDGE] * 3, material)
        else:
            hull = physx.PhysxCollisionShapeSphere(RADIUS, material)
            body.set_angular_damping(ANGULAR_DAMPING)
        hull.set_collision_groups([2, 1, 0, 0])  # touches the ground only
        body.attach(hull)
        holder = sapien.Entity()
        holder.add_component(body)
        half = number * GOLDEN_ANGLE / 2
        holder.set_pose(sapien.Pose(start.tolist(), [float(np.cos(half)), 0, 0, float(np.sin(half))]))
        scene.add_entity(holder)
        holders.append(holder)
        bodies.append(body)
    energy = starts[:, 2].copy()
    for step in range(round(SECONDS / TIME_STEP)):
        scene.step()
        if step % LOOK_EVERY == 0:
            height = np.array([holder.pose.p[2] for holder in holders], np.float64)
            speed = np.array([body.linear_velocity for body in bodies], np.float64)
            energy = np.maximum(energy, height + (speed**2).sum(1) / (2 * GRAVITY))
    centres = np.array([holder.pose.p for holder in holders], np.float64)
    turns = np.array([holder.pose.to_transformation_matrix()[:3, :3] for holder in holders], np.float64)
    return _Fall(centres, turns, energy)


def _feet(fall: _Fall, is_box: NDArray[np.bool_]) -> Array:
    """Points (N, 8, 3) that a body may stand on: a box's corners, a sphere's lowest point."""
    signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3, indexing="ij"), -1).reshape(-1, 3)
    corners = fall.centres[:, None] + HALF_EDGE * np.einsum("nij,kj->nki", fall.turns, signs)
    return np.where(is_box[:, None, None], corners, fall.centres[:, None] - [0, 0, RADIUS])


def _floor_below(centres: Array, regions: Regions) -> Array:
    """Floor heights (N, 9) [m] of the cells that a body at (N, 3) may rest on, inf where there is none."""
    index, _ = regions.cells_of(np.nan_to_num(centres, nan=1e6))
    around = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij"), -1).reshape(-1, 2)
    cells = index[:, None] + around
    inside = ((cells >= 0) & (cells < np.array(regions.height.shape))).all(-1)
    clipped = np.clip(cells, 0, np.array(regions.height.shape) - 1)
    height = regions.height[clipped[..., 0], clipped[..., 1]].astype(np.float64)
    return np.where(inside & np.isfinite(height), height, np.inf)
