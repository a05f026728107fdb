"""SAPIEN 3 (PhysX 5): robots on the scanned triangle mesh itself; the engine on the CPU, and what the GPU's shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Mesh, Pose, matrix_from_quaternion, rotation_between
from pipeline.types import F32, F64, I64
from sim import libraries
from sim.physics.bodies import ABSENT, BodyState, RigidBody
from sim.physics.sapien_bodies import (
    FIXED,
    GROUND,
    LONGEST,
    PHYSX_FRICTION,
    REACH,
    ROBOT,
    SELF,
    X_AXIS,
    HeldBody,
    LooseBody,
    grasp_iterations,
    physx_pose,
    set_grip,
)
from sim.physics.state import Dynamics, PhysicsEngine, scene_offsets
from sim.robots.model import Actuator, Link, Robot, Shape
from sim.robots.state import RobotState

if TYPE_CHECKING:
    import sapien
    from sapien import physx

MAX_GROUPS = 31
"""Bits of PhysX's third collision group."""
CORD = (1e5, 100.0)
"""Stiffness and damping of what couples joints: far stiffer than servos."""


class SapienBody:
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


class SapienBase(PhysicsEngine):
    """One PhysX world that holds all scenes side by side."""

    def __init__(
        self,
        robot: Robot,
        scenes: Sequence[Mesh],
        num_robots: int,
        time_step: float = 0.004,
        bodies: Sequence[Sequence[RigidBody]] = (),
    ) -> None:
        super().__init__(robot, scenes, num_robots, time_step, bodies)
        if self.bodies or robot.self_contacts:  # groups can't tell whose they are
            cells = scene_offsets([mesh for _ in range(num_robots) for mesh in scenes])
            self._offsets = cells.reshape(num_robots, len(scenes), 3)
        self._sapien = libraries.sapien()
        self._build()

    def _build(self) -> None:
        """Make a world without a past."""
        raise NotImplementedError

    def _make_world(self, system: physx.PhysxSystem) -> None:
        sapien, physx = self._sapien, self._sapien.physx
        self._world = sapien.Scene([system])
        self._world.set_timestep(self.time_step)
        for number, mesh in enumerate(self._scenes):
            vertices, triangles = mesh.vertices.astype(np.float32), mesh.triangles.astype(np.uint32)
            material = physx.PhysxMaterial(0, 0, 0)
            shape = physx.PhysxCollisionShapeTriangleMesh(vertices, triangles, [1, 1, 1], material)
            shape.set_collision_groups(GROUND)
            if self._robot.gripper:
                shape.set_contact_offset(REACH)
            for offset in self._offsets[..., number, :].reshape(-1, 3):
                ground = physx.PhysxRigidStaticComponent()
                ground.attach(shape)
                entity = sapien.Entity()
                entity.add_component(ground)
                entity.set_pose(sapien.Pose(offset.tolist()))
                self._world.add_entity(entity)
        self._bodies = [SapienBody(sapien, self._world, self._robot) for _ in range(self.num_robots)]

    def _state(
        self, position: F32, quaternion: F32, velocity: F32, angular: F32, joints: F32, rates: F32
    ) -> RobotState:
        """Robots' state from PhysX's, whose velocity (N, 3) is that of the base's centre of mass."""
        arm = matrix_from_quaternion(quaternion) @ self._mass_centre
        return RobotState(
            position - self._offsets_now.astype(np.float32),
            quaternion * np.where(quaternion[:, :1] < 0, -1, 1).astype(np.float32),
            (velocity - np.cross(angular, arm)).astype(np.float32),
            angular,
            joints,
            rates,
        )

    def set_dynamics(self, robots: I64, dynamics: Dynamics) -> None:
        """Set friction, mass and motor strength of robots (M,)."""
        self._dynamics[:, robots] = dynamics.friction, dynamics.mass, dynamics.strength
        for robot in robots:
            self._bodies[robot].change(*self._dynamics[:, robot].tolist())
            self._bodies[robot].aim(self._targets[robot].tolist())  # a drive's target depends on its strength

    def save(self) -> bytes:
        """The whole state. The engine continues in a new world, which takes as long as making an engine.

        PhysX remembers old contacts and the order in which pairs met; that can't be saved, and contacts depend on it.
        """
        state = super().save()
        self.restore(state)
        return state

    def close(self) -> None:
        """Free the world."""
        self._bodies.clear()
        self._world.clear()


class SapienEngine(SapienBase):
    """SAPIEN on the CPU.

    Raises:
        SimError: When the time step is too long for a gripper.
    """

    has_bodies = True
    has_fixed_bases = True
    has_self_contacts = True

    def __init__(
        self,
        robot: Robot,
        scenes: Sequence[Mesh],
        num_robots: int,
        time_step: float = 0.004,
        bodies: Sequence[Sequence[RigidBody]] = (),
    ) -> None:
        if robot.gripper and time_step > LONGEST + 1e-9:
            raise SimError(
                f"with a gripper, time steps are {1000 * LONGEST:.0f} ms at most",
                found=f"{1000 * time_step:.0f} ms, in which grasps slip",
                remedy="more and shorter substeps",
            )
        super().__init__(robot, scenes, num_robots, time_step, bodies)

    def _build(self) -> None:
        self._make_world(self._sapien.physx.PhysxCpuSystem())
        links = [link for body in self._bodies for link in body.links]
        self._link_number = {link: number for number, link in enumerate(links)}
        self._loose = [self._make_bodies(robot) for robot in range(self.num_robots)]
        self._last_bodies = np.zeros((self.num_robots, len(self.bodies), 13), np.float32)
        self._unread = np.ones(self.num_robots, bool)

    def _make_bodies(self, robot: int) -> list[LooseBody | HeldBody]:
        own = list[LooseBody | HeldBody]()
        for number, (body, scene) in enumerate(zip(self.bodies, self.scene_of_body, strict=True)):
            if body.joint:
                own.append(HeldBody(self._sapien, self._world, body, body.joint, self._offsets[robot, scene]))
            else:
                own.append(
                    LooseBody(self._sapien, self._world, body, (robot, number), grasped=self._robot.gripper is not None)
                )
        return own

    def reset(self, robots: I64, state: RobotState, scenes: I64) -> None:
        """Put robots (M,) into states of length M, in scenes (M,)."""
        self._scene_of[robots] = scenes
        self._targets[robots] = state.joint_position[:, self._driven] * self._is_position
        position = state.position + self._offsets_of(robots, scenes)
        for row, robot in enumerate(robots):
            self._bodies[robot].place(position[row], state, row)
            self._bodies[robot].aim(self._targets[robot].tolist())

    def set_targets(self, targets: F32) -> None:
        """Set the actuators' targets (N, A)."""
        changed = (self._targets != targets).any(1)
        self._targets[:] = targets
        for robot in np.flatnonzero(changed):
            self._bodies[robot].aim(self._targets[robot].tolist())

    def step(self, substeps: int) -> None:
        """Advance all robots."""
        self._unread[:] = True
        for _ in range(substeps):
            self._world.step()

    def read(self) -> RobotState:
        """Current state of all robots."""
        rows = [body.read() for body in self._bodies]
        return self._state(*(np.array(column, np.float32) for column in zip(*rows, strict=True)))

    def place_bodies(self, robots: I64, state: BodyState, *, asleep: bool = False) -> None:
        """Put the bodies of robots (M,) into states of length M."""
        offsets, present = self._offsets_of(robots, self._scene_of[robots]), self._present(robots) & ~state.absent
        self._unread[robots] = True
        for number in range(len(self.bodies)):
            rows = self._loose[0][number].states(state[:, number], offsets)
            for row, robot in enumerate(robots):
                if present[row, number]:
                    self._loose[robot][number].place(rows[row], asleep=asleep)
                else:
                    self._loose[robot][number].remove()

    def read_bodies(self) -> BodyState:
        """Current state of all bodies."""
        for robot in np.flatnonzero(self._unread):
            for number, body in enumerate(self._loose[robot]):
                if body.moves:
                    self._last_bodies[robot, number] = body.read()
        self._unread[:] = False
        rows = self._last_bodies.reshape(self.num_robots, len(self.bodies), 13)
        position, quaternion, velocity, angular = np.split(rows, [3, 7, 10], 2)
        centres = np.array([body.inertia[0].translation for body in self.bodies]).reshape(1, -1, 3)
        rotations = matrix_from_quaternion(quaternion.reshape(-1, 4)).reshape(*quaternion.shape[:2], 3, 3)
        present = self._present(np.arange(self.num_robots))[..., None]
        return BodyState(
            np.where(present, position - self._offsets_now[:, None], ABSENT).astype(np.float32),
            quaternion * np.where(quaternion[..., :1] < 0, -1, 1).astype(np.float32),
            (velocity - np.cross(angular, np.einsum("nkij,nkj->nki", rotations, centres + 0 * position))).astype(
                np.float32
            ),
            angular,
        )

    def contact_forces(self) -> F32:
        """Mean normal force of the scene on each link in the last substep (N, L, 3), world axes [N]."""
        numbers: list[int] = []
        impulses: list[F32] = []
        for contact in self._world.physx_system.get_contacts():
            first, second = contact.bodies
            number, sign = self._link_number.get(first), 1
            if number is None:
                number, sign = self._link_number.get(second), -1
            elif second in self._link_number:  # of the same robot
                continue
            if number is None:  # a loose body on the scene
                continue
            for point in contact.points:
                numbers.append(number)
                impulses.append(point.impulse if sign > 0 else -point.impulse)
        forces = np.zeros((self.num_robots * len(self.link_names), 3), np.float32)
        if numbers:
            np.add.at(forces, numbers, np.array(impulses) / np.float32(self.time_step))
        return forces.reshape(self.num_robots, -1, 3)

    def push(self, robots: I64, velocity: F32) -> None:
        """Change the base's linear velocity of robots (M,) by (M, 3) [m/s]."""
        for robot, change in zip(robots, velocity, strict=True) if not self._robot.fixed_base else ():
            body = self._bodies[robot].articulation
            body.set_root_linear_velocity(body.root_linear_velocity + change)

    def _arrays(self) -> dict[str, np.ndarray]:
        world = np.frombuffer(self._world.physx_system.pack(), np.uint8)
        return {"world": world, "scenes": self._scene_of, "targets": self._targets, "dynamics": self._dynamics}

    def _set_arrays(self, saved: Mapping[str, np.ndarray]) -> None:
        self.close()
        self._build()
        self._scene_of[:], self._targets[:] = saved["scenes"], saved["targets"]
        self.set_dynamics(np.arange(self.num_robots), Dynamics(*saved["dynamics"]))
        self._world.physx_system.unpack(saved["world"].tobytes())
