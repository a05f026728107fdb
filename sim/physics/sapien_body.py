"""What SAPIEN's engines, on the CPU and on a GPU, build alike: grounds and robots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Mesh, Pose, matrix_from_quaternion, rotation_between
from sim.physics.state import RobotState
from sim.robots.model import Actuator, Link, Robot, Shape

GROUND, ROBOT = [1, 2, 0, 0], [2, 1, 0, 0]
"""Collision groups: what it is, what it touches. Robots touch the ground only, so all can be in one world."""
PHYSX_FRICTION = 2.0
"""PhysX takes the mean of both bodies' coefficients: the ground has none, the robot twice its own."""
X_AXIS = (1.0, 0.0, 0.0)
"""PhysX's joints turn about the x axis of their frame."""


def add_ground(sapien: Any, world: Any, mesh: Mesh, offset: NDArray[np.float64]) -> None:
    """A scene's mesh, moved by its offset (3,) [m]."""
    physx = sapien.physx
    shape = physx.PhysxCollisionShapeTriangleMesh(
        mesh.vertices.astype(np.float32),
        mesh.triangles.astype(np.uint32),
        [1, 1, 1],
        physx.PhysxMaterial(0, 0, 0),
    )
    shape.set_collision_groups(GROUND)
    ground = physx.PhysxRigidStaticComponent()
    ground.attach(shape)
    entity = sapien.Entity()
    entity.add_component(ground)
    entity.set_pose(sapien.Pose(offset.tolist()))
    world.add_entity(entity)


class SapienBody:
    """One articulation, its joints in the robot's order.

    Args:
        sapien: The library.
        world: Its scene.
        robot: What to build.

    Attributes:
        links: In the robot's order.
        articulation: SAPIEN's.
        ours_from_engine: (J,) where the robot's joints are among the articulation's.
        mass_centre: Of the base, in its frame [m].
        drives: Of the actuators.
    """

    def __init__(self, sapien: Any, world: Any, robot: Robot) -> None:
        self._sapien = sapien
        self.links: list[Any] = []
        for link in robot.links:
            part = sapien.physx.PhysxArticulationLinkComponent(self.links[link.parent] if link.parent >= 0 else None)
            part.set_name(link.name)
            for shape in link.shapes:
                part.attach(_collision_shape(sapien, shape))
            part.set_mass(link.mass)
            part.set_cmass_local_pose(_pose(sapien, link.link_from_inertia))
            part.set_inertia(link.inertia)
            if link.parent >= 0:
                _set_joint(sapien, part.joint, link)
            self.links.append(part)
        for part in self.links:
            entity = sapien.Entity()
            entity.add_component(part)
            world.add_entity(entity)
        self.articulation = self.links[0].articulation
        self._joints = [part.joint for part, link in zip(self.links, robot.links, strict=True) if link.joint]
        order = [joint.name for joint in self.articulation.active_joints]
        self.ours_from_engine = np.array([order.index(name) for name in robot.joint_names], np.int64)
        self._engine_from_ours = np.argsort(self.ours_from_engine)
        self.mass_centre = robot.links[0].link_from_inertia.translation
        own = {link.joint.name: link.joint.damping for link in robot.links if link.joint}
        self.drives = [
            SapienDrive(self._joints[robot.joint_names.index(a.joint)], a, own[a.joint]) for a in robot.actuators
        ]
        self._frictions = [[PHYSX_FRICTION * shape.friction for shape in link.shapes] for link in robot.links]
        self._mass, self._inertia = robot.links[0].mass, robot.links[0].inertia

    def wait(self, position: NDArray[np.float64]) -> None:
        """Put its base at a position (3,) of the world, upright and at rest."""
        self.articulation.set_root_pose(self._sapien.Pose(position.tolist()))

    def place(self, position: NDArray[np.float64], state: RobotState, row: int) -> None:
        """Put it at a place of the world, into the state's row of that number."""
        body, turn = self.articulation, matrix_from_quaternion(state.quaternion[row])
        angular = state.angular_velocity[row]
        body.set_root_pose(self._sapien.Pose(position.tolist(), state.quaternion[row].tolist()))
        body.set_root_angular_velocity(angular)
        body.set_root_linear_velocity(state.linear_velocity[row] + np.cross(angular, turn @ self.mass_centre))
        body.set_qpos(state.joint_position[row][self._engine_from_ours])
        body.set_qvel(state.joint_velocity[row][self._engine_from_ours])

    def aim(self, targets: Sequence[float]) -> None:
        """What the actuators aim at."""
        for drive, target in zip(self.drives, targets, strict=True):
            drive.aim(target)

    def read(self) -> tuple[Any, ...]:
        """Base position, quaternion, velocity of its mass centre, angular velocity; joint positions, velocities."""
        body, pose = self.articulation, self.articulation.root_pose
        return (
            pose.p,
            pose.q,
            body.root_linear_velocity,
            body.root_angular_velocity,
            body.qpos[self.ours_from_engine],
            body.qvel[self.ours_from_engine],
        )

    def change(self, friction: float, mass: float, strength: float) -> None:
        """Set the factors of `Dynamics`."""
        for link, frictions in zip(self.links, self._frictions, strict=True):
            for shape, nominal in zip(link.collision_shapes, frictions, strict=True):
                shape.physical_material.set_static_friction(nominal * friction)
                shape.physical_material.set_dynamic_friction(nominal * friction)
        self.links[0].set_mass(self._mass * mass)
        self.links[0].set_inertia(self._inertia * mass)
        for drive in self.drives:
            drive.set_strength(strength)


class SapienDrive:
    """An actuator at its joint. PhysX has one damping for both, so the joint's own slows the target as well.

    Args:
        joint: SAPIEN's.
        actuator: Of the robot.
        own_damping: The joint's.

    Attributes:
        actuator: See above.
        share: Of the damping that is the drive's own: what a target velocity is multiplied by.
    """

    def __init__(self, joint: Any, actuator: Actuator, own_damping: float) -> None:
        self.actuator = actuator
        self._joint, self._own = joint, own_damping
        self.share = 1.0
        self.set_strength(1.0)

    def set_strength(self, factor: float) -> None:
        """Set the factor of stiffness, damping and largest force."""
        damping = self.actuator.damping * factor
        limit = min(self.actuator.max_force * factor, float(np.finfo(np.float32).max))
        self._joint.set_drive_properties(self.actuator.stiffness * factor, damping + self._own, limit, "force")
        self.share = damping / (damping + self._own) if damping else 1.0

    def aim(self, target: float) -> None:
        """What it aims at."""
        if self.actuator.mode == "velocity":
            self._joint.set_drive_velocity_target(target * self.share)
        else:
            self._joint.set_drive_target(target)


def _pose(sapien: Any, pose: Pose) -> Any:
    return sapien.Pose(pose.translation.tolist(), pose.quaternion.tolist())


def _collision_shape(sapien: Any, shape: Shape) -> Any:
    physx, size, at = sapien.physx, shape.size.tolist(), shape.link_from_shape
    friction = PHYSX_FRICTION * shape.friction
    material = physx.PhysxMaterial(friction, friction, 0)
    if shape.kind == "box":
        made = physx.PhysxCollisionShapeBox(size, material)
    elif shape.kind == "sphere":
        made = physx.PhysxCollisionShapeSphere(size[0], material)
    elif shape.kind == "mesh":
        made = physx.PhysxCollisionShapeConvexMesh(shape.vertices.astype(np.float32), [1, 1, 1], material)
    else:
        kinds = {"capsule": physx.PhysxCollisionShapeCapsule, "cylinder": physx.PhysxCollisionShapeCylinder}
        made = kinds[shape.kind](size[0], size[1], material)
        at = at @ Pose(rotation_between(X_AXIS, (0, 0, 1)), np.zeros(3))  # along x in PhysX, along z here
    made.set_local_pose(_pose(sapien, at))
    made.set_collision_groups(ROBOT)
    return made


def _set_joint(sapien: Any, made: Any, link: Link) -> None:
    joint = link.joint
    if joint is None:
        made.set_type("fixed")
        made.set_pose_in_parent(_pose(sapien, link.parent_from_link))
        return
    link_from_joint = Pose(rotation_between(X_AXIS, joint.axis), joint.anchor)
    made.set_name(joint.name)
    made.set_type("prismatic" if joint.kind == "slide" else "revolute" if joint.limits else "continuous")
    made.set_pose_in_parent(_pose(sapien, link.parent_from_link @ link_from_joint))
    made.set_pose_in_child(_pose(sapien, link_from_joint))
    made.set_limits([list(joint.limits or (-np.inf, np.inf))])  # without any, PhysX fixes the joint
    made.set_armature([joint.armature])
    made.set_drive_properties(0.0, joint.damping)
