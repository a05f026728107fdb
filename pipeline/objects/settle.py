"""What objects do when they are left to gravity where they stand."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from pipeline.geometry import Mesh, Pose
from pipeline.types import F64

SECONDS, TIME_STEP = 3.0, 0.004


def settled(ground: Mesh, bodies: Sequence[tuple[Sequence[F64], Pose, float]]) -> list[Pose]:
    """Where bodies are after three seconds in PhysX, on a mesh and on each other.

    Each is its hulls' corners (V, 3) [m], its pose and its friction.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses a graphics driver, which physics doesn't need
        import sapien
        from sapien import physx

    scene = sapien.Scene([physx.PhysxCpuSystem()])
    scene.set_timestep(TIME_STEP)
    material = physx.PhysxMaterial(1.0, 1.0, 0.0)
    floor, entity = physx.PhysxRigidStaticComponent(), sapien.Entity()
    vertices, triangles = ground.vertices.astype(np.float32), ground.triangles.astype(np.uint32)
    floor.attach(physx.PhysxCollisionShapeTriangleMesh(vertices, triangles, [1, 1, 1], material))
    entity.add_component(floor)
    scene.add_entity(entity)
    placed = []
    for hulls, pose, friction in bodies:
        body, holder = physx.PhysxRigidDynamicComponent(), sapien.Entity()
        for corners in hulls:
            surface = physx.PhysxMaterial(friction, friction, 0.0)
            body.attach(physx.PhysxCollisionShapeConvexMesh(corners.astype(np.float32), [1, 1, 1], surface))
        holder.add_component(body)
        holder.set_pose(sapien.Pose(pose.translation.tolist(), pose.quaternion.tolist()))
        scene.add_entity(holder)
        placed.append(holder)
    for _ in range(round(SECONDS / TIME_STEP)):
        scene.step()
    return [Pose.from_quaternion(holder.pose.q, holder.pose.p) for holder in placed]
