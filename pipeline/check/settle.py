"""What objects do when they are left to gravity where they stand."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.geometry import Mesh, Pose
from pipeline.types import F64

if TYPE_CHECKING:
    import sapien

SECONDS, TIME_STEP = 3.0, 0.004


def world_on(ground: Mesh) -> sapien.Scene:
    """A PhysX world whose ground is a mesh, with friction 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses a graphics driver, which physics doesn't need
        import sapien
        from sapien import physx

    world = sapien.Scene([physx.PhysxCpuSystem()])
    world.set_timestep(TIME_STEP)
    floor, entity = physx.PhysxRigidStaticComponent(), sapien.Entity()
    vertices, triangles = ground.vertices.astype(np.float32), ground.triangles.astype(np.uint32)
    material = physx.PhysxMaterial(1.0, 1.0, 0.0)
    floor.attach(physx.PhysxCollisionShapeTriangleMesh(vertices, triangles, [1, 1, 1], material))
    entity.add_component(floor)
    world.add_entity(entity)
    return world


def settled(ground: Mesh, bodies: Sequence[tuple[Sequence[F64], Pose, float]]) -> list[Pose]:
    """Where bodies are after three seconds in PhysX, on a mesh and on each other.

    Each is its hulls' corners (V, 3) [m], its pose and its friction.
    """
    world = world_on(ground)
    import sapien
    from sapien import physx

    placed = []
    for hulls, pose, friction in bodies:
        body, holder = physx.PhysxRigidDynamicComponent(), sapien.Entity()
        for corners in hulls:
            surface = physx.PhysxMaterial(friction, friction, 0.0)
            body.attach(physx.PhysxCollisionShapeConvexMesh(corners.astype(np.float32), [1, 1, 1], surface))
        holder.add_component(body)
        holder.set_pose(sapien.Pose(pose.translation.tolist(), pose.quaternion.tolist()))
        world.add_entity(holder)
        placed.append(holder)
    for _ in range(round(SECONDS / TIME_STEP)):
        world.step()
    return [Pose.from_quaternion(holder.pose.q, holder.pose.p) for holder in placed]
