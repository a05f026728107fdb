"""A robot in PhysX: an articulation of its links, with a drive for each actuator."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Pose, matrix_from_quaternion, rotation_between
from pipeline.types import F32, F64
from sim.physics.sapien_bodies import (
    FIXED,
    PHYSX_FRICTION,
    REACH,
    ROBOT,
    SELF,
    X_AXIS,
    grasp_iterations,
    physx_pose,
    set_grip,
)
from sim.robots.model import Actuator, Link, Robot, Shape
from sim.robots.state import RobotState

if TYPE_CHECKING:
    import sapien
    from sapien import physx

MAX_GROUPS = 31
"""Bits of PhysX's third collision group."""
CORD = (1e5, 100.0)
"""Stiffness and damping of what couples joints: far stiffer than servos."""


class SapienRobot:
    """One articulation, with its joints in the robot's order.

    Attributes:
        links: SAPIEN's links, in the robot's order.
        ours_from_engine: (J,) indices of the robot's joints in the articulation.
        drives: Drives of the actuators.
    """

    def __init__(self, sapien: ModuleType, world: sapien.Scene, robot: Robot) -> None:
        self._sapien = sapien
        self.links: list[Any] = []  # SAPIEN's annotations of links take no arrays
        for link in robot.links:
            part = sapien.physx.PhysxArticulationLinkComponent(self.links[link.parent] if link.parent >= 0 else None)
            part.set_name(link.name)
            for shape in link.shapes:
                made = _collision_shape(sapien, shape)
                if robot.gripper:
                    made.set_contact_offset(REACH)
                part.attach(made)
            part.set_mass(link.mass)
            part.set_cmass_local_pose(physx_pose(sapien, link.link_from_inertia))
            part.set_inertia(link.inertia)
            part.set_linear_damping(0.0)  # PhysX slows whatever moves, by itself
            part.set_angular_damping(0.0)
            if link.parent >= 0:
                _set_joint(sapien, part.joint, link)
            part.set_disable_gravity(robot.gravity_compensation)
            self.links.append(part)
        for finger in robot.fingers:
            for shape in self.links[finger].collision_shapes:
                set_grip(shape)
        if robot.fixed_base:
            self.links[0].joint.set_type("fixed")
            for shape in self.links[0].collision_shapes:
                shape.set_collision_groups(FIXED)
        if robot.self_contacts:
            self._touch_itself(robot)
        for part in self.links:
            entity = sapien.Entity()
            entity.add_component(part)
            world.add_entity(entity)
        self.articulation = self.links[0].articulation
        if robot.gripper:
            self.articulation.set_solver_position_iterations(grasp_iterations(world.timestep))
        order = [joint.name for joint in self.articulation.active_joints]
        self.ours_from_engine = np.array([order.index(name) for name in robot.joint_names], np.int64)
        self._engine_from_ours = np.argsort(self.ours_from_engine)
        self._couple(robot)
        self._mass_centre = robot.links[0].link_from_inertia.translation
        joints = zip(self.links, robot.links, strict=True)
        driven = {link.joint.name: (part.joint, link.joint.damping) for part, link in joints if link.joint}
        self.drives = [SapienDrive(actuator, *driven[actuator.joint]) for actuator in robot.actuators]
        self._frictions = [[PHYSX_FRICTION * shape.friction for shape in link.shapes] for link in robot.links]
        self._mass, self._inertia = robot.links[0].mass, robot.links[0].inertia
        self._fixed = robot.fixed_base

    def _touch_itself(self, robot: Robot) -> None:
        """Let links touch each other; those that don't share a bit. PhysX leaves out those that a joint connects."""
        shaped = [number for number, link in enumerate(robot.links) if link.shapes]
        apart = set(combinations(shaped, 2)) - set(robot.self_contacts)
        apart = [pair for pair in apart if robot.links[pair[1]].parent != pair[0]]
        bits = dict.fromkeys(shaped, 0)
        for bit, pair in enumerate(_grouped(apart)):
            for number in pair:
                bits[number] |= 1 << bit
        for number in shaped:
            for shape in self.links[number].collision_shapes:
                own, others, _, _ = shape.get_collision_groups()
                shape.set_collision_groups([own, others | SELF, bits[number], 0])

    def _couple(self, robot: Robot) -> None:
        """Tie joints to what they follow by cords, as SAPIEN's own reader does.

        A cord is between neighbours: a link and the one that carries it, or two links that one carries; a joint farther
        away is tied to a neighbour that follows the same.
        """
        follows = {n: link.joint.follows for n, link in enumerate(robot.links) if link.joint and link.joint.follows}
        leaders = {link.joint.name: n for n, link in enumerate(robot.links) if link.joint}
        same = {n: (one.joint, one.factor, one.offset) for n, one in follows.items()}
        same |= {leaders[one.joint]: (one.joint, 1.0, 0.0) for one in follows.values()}
        for number, (joint, factor, offset) in ((n, same[n]) for n in follows):
            parent = robot.links[number].parent
            beside = [n for n, (leader, k, _) in same.items() if leader == joint and k and n < number]
            near = [n for n in beside if n == parent or robot.links[n].parent == parent]
            if not near or not factor:
                continue
            _, its_factor, its_offset = same[near[0]]
            ratio = factor / its_factor
            chain = [robot.links[near[0]].parent, near[0], number]
            self.articulation.create_fixed_tendon(
                [self.links[one] for one in chain],
                [0, -ratio, 1],
                [0, -1 / ratio, 1],
                rest_length=offset - ratio * its_offset,
                stiffness=CORD[0],
                damping=CORD[1],
            )

    def place(self, position: F64, state: RobotState, row: int) -> None:
        """Put it at a position (3,) of the world, in the state of that row."""
        body, rotation = self.articulation, matrix_from_quaternion(state.quaternion[row])
        angular = state.angular_velocity[row]
        body.set_root_pose(self._sapien.Pose(position.tolist(), state.quaternion[row].tolist()))
        if not self._fixed:
            body.set_root_angular_velocity(angular)
            body.set_root_linear_velocity(state.linear_velocity[row] + np.cross(angular, rotation @ self._mass_centre))
        body.set_qpos(state.joint_position[row][self._engine_from_ours])
        body.set_qvel(state.joint_velocity[row][self._engine_from_ours])

    def aim(self, targets: Sequence[float]) -> None:
        """Set the targets of the actuators."""
        for drive, target in zip(self.drives, targets, strict=True):
            drive.aim(target)

    def read(self) -> tuple[F32, ...]:
        """Base position, quaternion, velocity of its centre of mass, angular velocity; joint positions, velocities."""
        body, pose = self.articulation, self.articulation.root_pose
        return (
            pose.p,
            pose.q,
            body.root_linear_velocity,
            body.root_angular_velocity,
            body.qpos[self.ours_from_engine],
            body.qvel[self.ours_from_engine],
        )

    def rub(self, factors: Sequence[float]) -> None:
        """Set the factors (L,) of the links' friction."""
        for link, frictions, factor in zip(self.links, self._frictions, factors, strict=True):
            for shape, nominal in zip(link.collision_shapes, frictions, strict=True):
                shape.physical_material.set_static_friction(nominal * factor)
                shape.physical_material.set_dynamic_friction(nominal * factor)

    def change(self, mass: float, strength: float) -> None:
        """Set these factors of `Dynamics`."""
        self.links[0].set_mass(self._mass * mass)
        self.links[0].set_inertia(self._inertia * mass)
        for drive in self.drives:
            drive.set_strength(strength)


class SapienDrive:
    """An actuator at its joint. PhysX has one damping for both, so the joint's own slows the target as well.

    Attributes:
        share: Fraction of the damping that is the drive's own; target velocities are multiplied by it.
    """

    def __init__(self, actuator: Actuator, joint: physx.PhysxArticulationJoint, own_damping: float) -> None:
        self._joint, self._actuator, self._own = joint, actuator, own_damping
        self.set_strength(1.0)

    def set_strength(self, factor: float) -> None:
        """Set the factor of stiffness, damping and largest force."""
        damping = self._actuator.damping * factor
        limit = min(self._actuator.max_force * factor, float(np.finfo(np.float32).max))
        self._joint.set_drive_properties(self._actuator.stiffness * factor, damping + self._own, limit, "force")
        self.share = damping / (damping + self._own) if damping else 1.0

    def aim(self, target: float) -> None:
        """Set the target."""
        if self._actuator.mode == "velocity":
            self._joint.set_drive_velocity_target(target * self.share)
        else:
            self._joint.set_drive_target(target)


def _grouped(pairs: Sequence[tuple[int, int]]) -> list[set[int]]:
    """Few sets of numbers that hold these pairs, and no others.

    Raises:
        SimError: When PhysX has too few bits for them.
    """
    known, groups = set(pairs), list[set[int]]()
    for pair in sorted(pairs):
        if not any(group.issuperset(pair) for group in groups):
            group = set(pair)
            for number in sorted({one for both in pairs for one in both} - group):
                if all((min(number, other), max(number, other)) in known for other in group):
                    group.add(number)
            groups.append(group)
    if len(groups) > MAX_GROUPS:
        raise SimError(
            f"links that overlap and don't touch each other form at most {MAX_GROUPS} groups",
            found=f"{len(groups)}",
            remedy="engine mujoco, or self_collision=False",
        )
    return groups


def _collision_shape(sapien: ModuleType, shape: Shape) -> physx.PhysxCollisionShape:
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
    made.set_local_pose(physx_pose(sapien, at))
    made.set_collision_groups(ROBOT)
    return made


def _set_joint(sapien: ModuleType, made: Any, link: Link) -> None:
    joint = link.joint
    if joint is None:
        made.set_type("fixed")
        made.set_pose_in_parent(physx_pose(sapien, link.parent_from_link))
        return
    link_from_joint = Pose(rotation_between(X_AXIS, joint.axis), joint.anchor)
    made.set_name(joint.name)
    made.set_type("prismatic" if joint.kind == "slide" else "revolute" if joint.limits else "continuous")
    made.set_pose_in_parent(physx_pose(sapien, link.parent_from_link @ link_from_joint))
    made.set_pose_in_child(physx_pose(sapien, link_from_joint))
    made.set_limits([list(joint.limits or (-np.inf, np.inf))])  # without any, PhysX fixes the joint
    made.set_armature([joint.armature])
    made.set_friction(0.0)  # PhysX's own depends on the load, and is not in the robot's file
    made.set_drive_properties(0.0, joint.damping)
