"""Bodies beside the robots in PhysX: loose ones, and those that a joint holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.geometry import Pose, matrix_from_quaternion, rotation_between
from pipeline.types import F32, F64
from sim.physics.bodies import ABSENT, BodyJoint, BodyState, RigidBody

if TYPE_CHECKING:
    import sapien
    from sapien import physx

Groups = tuple[int, int, int, int]
GROUND: Groups = (1, 2, 0, 0)
ROBOT: Groups = (2, 1, 0, 0)
FIXED: Groups = (2, 0, 0, 0)
"""Collision groups: own group, and what it collides with. Robots touch the ground only, so all share one world.

A base that is fixed doesn't touch the ground."""
SELF = 2
"""What a robot's group collides with, too, if its links touch each other: then no two robots share a place."""
ON_GROUND: Groups = (4, 1, 0, 0)
BESIDE_ROBOT: Groups = (8, 2, 0, 0)
ON_BODY: Groups = (16, 16, 0, 0)
"""Those of the three copies of a loose body's shapes: each has the friction for what it touches."""
HELD: Groups = (32, 16, 0, 0)
"""What a joint holds passes through the ground, and through what other joints hold: it hangs close to both."""
PHYSX_FRICTION = 2.0
"""PhysX takes the mean of both bodies' coefficients: the ground has 0, the robot twice its own."""
X_AXIS = (1.0, 0.0, 0.0)
"""Axis of PhysX's joints in their frame."""
REST, WINDOW = 0.01, 0.2
"""A body falls asleep that moves by less [m/s] on average over that time [s], in which PhysX adds up its velocities."""
RESISTANCE = 0.5
"""Share of a loose body's turning that is lost each second [1/s]: nothing else stops one that spins on a corner."""
LEAVES = 1.0
"""A body that overlaps the ground leaves it at this speed at most [m/s]; by PhysX's default it is thrown out."""
CREEP = 1e-4
"""A joint's friction is a drive to rest of limited force, which lets it move by as much [m/s or rad/s]."""


LONGEST, SLICE = 0.025, 0.0017
"""A grasp slips in longer steps, and if a step has fewer position iterations than slices as long as the second [s]."""
HEAVY, MOST = 0.064, 8
"""Fingers sink into what is lighter than the first [kg], unless there are more iterations; so many times, at most."""
REACH, PATCH = 0.005, 0.1
"""Contacts of a world with grippers begin at this distance, and resist turning like a patch of this radius [m]."""


def physx_pose(sapien: ModuleType, pose: Pose) -> sapien.Pose:
    """A pose as SAPIEN has it."""
    return sapien.Pose(pose.translation.tolist(), pose.quaternion.tolist())


def grasp_iterations(time_step: float, mass: float = HEAVY) -> int:
    """Position iterations of the solver in a step [s] that keep a grasp of a mass [kg]: each is a part of the step."""
    return math.ceil(time_step / SLICE * min(max(HEAVY / mass, 1), MOST))


def set_grip(shape: physx.PhysxCollisionShape) -> None:
    """Make a shape one of those that hold and are held. Its own settings, for SAPIEN's defaults are the process's."""
    shape.set_contact_offset(REACH)
    shape.set_patch_radius(PATCH)
    shape.set_min_patch_radius(PATCH)


class _Body:
    """A rigid body of one robot, made of a component of SAPIEN's."""

    def __init__(self, sapien: ModuleType, part: Any, body: RigidBody, frictions: Mapping[Groups, float]) -> None:
        self._sapien, self._part, self._frame = sapien, part, body.inertia[0]
        for groups, friction in frictions.items():
            material = sapien.physx.PhysxMaterial(friction, friction, 0)
            for corners in body.hulls:
                shape = sapien.physx.PhysxCollisionShapeConvexMesh(corners.astype(np.float32), [1, 1, 1], material)
                shape.set_collision_groups(groups)
                part.attach(shape)
        part.set_mass(body.mass)
        part.set_cmass_local_pose(physx_pose(sapien, self._frame))
        part.set_inertia(body.inertia[1])
        self._entity = sapien.Entity()
        self._entity.add_component(part)
        self._slept = False

    def states(self, state: BodyState, offsets: F64) -> F64:
        """Its states (M, C) for `place`, when it is in states (M,) in scenes at offsets (M, 3)."""
        raise NotImplementedError

    def place(self, row: F64, *, asleep: bool) -> None:
        """Put it into one of its `states` (C,)."""
        raise NotImplementedError

    def remove(self) -> None:
        """Take it out of the way."""
        raise NotImplementedError

    @property
    def _sleeps(self) -> bool:
        raise NotImplementedError

    @property
    def moves(self) -> bool:
        """Whether it may have moved since it was asked: it doesn't sleep, or fell asleep since."""
        slept, self._slept = self._slept, self._sleeps
        return not (slept and self._slept)

    def read(self) -> F32:
        """Position, quaternion, velocity of its centre of mass and angular velocity (13,)."""
        pose, part = self._entity.pose, self._part
        return np.concatenate([pose.p, pose.q, part.linear_velocity, part.angular_velocity])


class LooseBody(_Body):
    """A rigid body that moves by itself; if `grasped`, one that a gripper can hold.

    Out of the way it is at its own (x, y), `away`: PhysX looks at all pairs of bodies in one place.
    """

    def __init__(
        self,
        sapien: ModuleType,
        world: sapien.Scene,
        body: RigidBody,
        away: tuple[float, float],
        *,
        grasped: bool = False,
    ) -> None:
        frictions = {ON_GROUND: PHYSX_FRICTION * body.friction, BESIDE_ROBOT: 0.0, ON_BODY: body.friction}
        super().__init__(sapien, sapien.physx.PhysxRigidDynamicComponent(), body, frictions)
        self._part.set_sleep_threshold((REST * WINDOW / world.timestep) ** 2 / 2)
        self._part.set_angular_damping(RESISTANCE)
        self._part.set_max_depenetration_velocity(LEAVES)
        if grasped:
            self._part.set_solver_position_iterations(grasp_iterations(world.timestep, body.mass))
            for shape in self._part.collision_shapes:
                set_grip(shape)
        self._away = sapien.Pose([*away, ABSENT[2]])
        self._entity.set_pose(self._away)
        self._part.set_kinematic(True)
        world.add_entity(self._entity)

    def states(self, state: BodyState, offsets: F64) -> F64:
        """What `read` returns (M, 13) of it in states (M,) at offsets (M, 3)."""
        arm = matrix_from_quaternion(state.quaternion) @ self._frame.translation
        velocity = state.linear_velocity + np.cross(state.angular_velocity, arm)
        parts = [state.position + offsets, state.quaternion, velocity, state.angular_velocity]
        return np.concatenate(parts, 1, dtype=np.float64)

    def place(self, row: F64, *, asleep: bool) -> None:
        """Put it into a state (13,)."""
        self._slept = False
        self._part.set_kinematic(False)
        self._entity.set_pose(self._sapien.Pose(row[:3].tolist(), row[3:7].tolist()))
        self._part.set_linear_velocity(row[7:10])
        self._part.set_angular_velocity(row[10:])
        if asleep:
            self._part.put_to_sleep()

    def remove(self) -> None:
        """Take it out of the way."""
        self._part.set_kinematic(True)
        self._entity.set_pose(self._away)

    @property
    def _sleeps(self) -> bool:
        return self._part.is_sleeping


class HeldBody(_Body):
    """A rigid body on its joint, in the scene at an offset (3,) [m]: the one link of an articulation."""

    def __init__(self, sapien: ModuleType, world: sapien.Scene, body: RigidBody, joint: BodyJoint, offset: F64) -> None:
        root = sapien.physx.PhysxArticulationLinkComponent(None)
        part = sapien.physx.PhysxArticulationLinkComponent(root)
        super().__init__(sapien, part, body, {BESIDE_ROBOT: 0.0, HELD: body.friction})
        axis, point, friction = body.held
        body_from_joint = physx_pose(sapien, Pose(rotation_between(X_AXIS, axis), point))
        root.joint.set_type("fixed")
        part.joint.set_type({"hinge": "revolute", "slide": "prismatic"}[joint.kind])
        part.joint.set_pose_in_parent(body_from_joint)
        part.joint.set_pose_in_child(body_from_joint)
        part.joint.set_limits([list(joint.range)])
        part.joint.set_drive_properties(0.0, friction / CREEP, friction)
        part.joint.set_friction(0.0)  # PhysX's own depends on the load
        part.set_linear_damping(0.0)
        part.set_angular_damping(0.0)
        base = sapien.Entity()
        base.add_component(root)
        world.add_entity(base)
        world.add_entity(self._entity)
        self._joint, self._articulation = joint, part.articulation
        home = joint.world_from_body
        self._articulation.set_root_pose(physx_pose(sapien, Pose(home.rotation, home.translation + offset)))

    def states(self, state: BodyState, offsets: F64) -> F64:
        """Travels and rates (M, 2) in states (M,), or the nearest that the joint allows."""
        return np.stack(self._joint.travel(state), 1)

    def place(self, row: F64, *, asleep: bool) -> None:
        """Put it to a travel, at a rate (2,)."""
        self._slept = False
        self._articulation.set_qpos(row[:1])
        self._articulation.set_qvel(row[1:])
        if asleep:
            self._part.put_to_sleep()

    def remove(self) -> None:
        """Leave it: nobody is where it hangs."""

    @property
    def _sleeps(self) -> bool:
        return self._part.sleeping
