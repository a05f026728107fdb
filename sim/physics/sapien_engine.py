"""SAPIEN 3 (PhysX 5 on the CPU): robots on the scanned triangle mesh itself."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Mesh, Pose, matrix_from_quaternion, rotation_between
from sim import libraries
from sim.physics.state import Dynamics, Float, Int, RobotState, scene_offsets
from sim.robots.model import Actuator, Link, Robot, Shape

GROUND, ROBOT = [1, 2, 0, 0], [2, 1, 0, 0]
"""Collision groups: what it is, what it touches. Robots touch the ground only, so all can be in one world."""
PHYSX_FRICTION = 2.0
"""PhysX takes the mean of both bodies' coefficients: the ground has none, the robot twice its own."""
X_AXIS = (1.0, 0.0, 0.0)
"""PhysX's joints turn about the x axis of their frame."""


class SapienEngine:
    """N robots in one PhysX world that holds all scenes side by side; see `PhysicsEngine` for the methods.

    Args:
        robot: Every one of them.
        scenes: Collision meshes, world frames.
        num_robots: N.
        time_step: Of a substep [s].
    """

    def __init__(self, robot: Robot, scenes: Sequence[Mesh], num_robots: int, time_step: float = 0.004) -> None:
        self._sapien = sapien = libraries.sapien()
        self.num_robots, self.time_step = num_robots, time_step
        self.joint_names = robot.joint_names
        self.link_names = tuple(link.name for link in robot.links)
        self._robot = robot
        self._offsets = scene_offsets(scenes)
        self._scene_of = np.zeros(num_robots, np.int64)
        self._targets = np.zeros((num_robots, len(robot.actuators)), np.float32)
        self._dynamics = np.ones((3, num_robots), np.float32)
        self._world = sapien.Scene([sapien.physx.PhysxCpuSystem()])
        self._world.set_timestep(time_step)
        for mesh, offset in zip(scenes, self._offsets, strict=True):
            self._add_ground(mesh, offset)
        self._bodies = [_Body(sapien, self._world, robot) for _ in range(num_robots)]
        self._places = {link: (n, row) for n, body in enumerate(self._bodies) for row, link in enumerate(body.links)}

    def _add_ground(self, mesh: Mesh, offset: NDArray[np.float64]) -> None:
        physx = self._sapien.physx
        shape = physx.PhysxCollisionShapeTriangleMesh(
            mesh.vertices.astype(np.float32),
            mesh.triangles.astype(np.uint32),
            [1, 1, 1],
            physx.PhysxMaterial(0, 0, 0),
        )
        shape.set_collision_groups(GROUND)
        ground = physx.PhysxRigidStaticComponent()
        ground.attach(shape)
        entity = self._sapien.Entity()
        entity.add_component(ground)
        entity.set_pose(self._sapien.Pose(offset.tolist()))
        self._world.add_entity(entity)

    def reset(self, robots: Int, state: RobotState, scenes: Int) -> None:
        """Put robots (M,) into states of length M, in scenes (M,)."""
        self._scene_of[robots] = scenes
        driven = [self.joint_names.index(actuator.joint) for actuator in self._robot.actuators]
        at_rest = [actuator.mode == "position" for actuator in self._robot.actuators]
        self._targets[robots] = state.joint_position[:, driven] * at_rest
        position = state.position + self._offsets[scenes]
        for row, robot in enumerate(robots):
            self._bodies[robot].place(position[row], state, row)
            self._bodies[robot].aim(self._targets[robot].tolist())

    def set_targets(self, targets: Float) -> None:
        """What the actuators aim at (N, A)."""
        self._targets[:] = targets
        for body, values in zip(self._bodies, self._targets.tolist(), strict=True):
            body.aim(values)

    def step(self, substeps: int) -> None:
        """Advance all robots."""
        for _ in range(substeps):
            self._world.step()

    def read(self) -> RobotState:
        """Where all robots are now."""
        rows = [body.read() for body in self._bodies]
        position, quaternion, of_mass_centre, angular, joints, rates = (
            np.array(column, np.float32) for column in zip(*rows, strict=True)
        )
        turns = matrix_from_quaternion(quaternion)
        arm = turns @ self._bodies[0].mass_centre
        return RobotState(
            position - self._offsets[self._scene_of].astype(np.float32),
            quaternion * np.where(quaternion[:, :1] < 0, -1, 1).astype(np.float32),
            (of_mass_centre - np.cross(angular, arm)).astype(np.float32),
            angular,
            joints,
            rates,
        )

    def contact_forces(self) -> Float:
        """Mean force that the scene put upon each link in the last substep (N, L, 3), world axes [N]."""
        forces = np.zeros((self.num_robots, len(self.link_names), 3), np.float32)
        for contact in self._world.physx_system.get_contacts():
            impulse = np.sum([point.impulse for point in contact.points], axis=0)
            for body, sign in zip(contact.bodies, (1.0, -1.0), strict=True):
                place = self._places.get(body)
                if place is not None:
                    forces[place] += sign * impulse / self.time_step
        return forces

    def push(self, robots: Int, velocity: Float) -> None:
        """Change the base's linear velocity of robots (M,) by (M, 3) [m/s]."""
        for robot, change in zip(robots, velocity, strict=True):
            body = self._bodies[robot].articulation
            body.set_root_linear_velocity(body.root_linear_velocity + change)

    def set_dynamics(self, robots: Int, dynamics: Dynamics) -> None:
        """Friction, mass and motor strength of robots (M,) from now on."""
        self._dynamics[:, robots] = dynamics.friction, dynamics.mass, dynamics.strength
        for robot in robots:
            self._bodies[robot].change(*self._dynamics[:, robot].tolist())

    def save(self) -> bytes:
        """The whole state. The engine goes on from what it gave, without what PhysX remembers of contacts besides."""
        packed = self._world.physx_system.pack()
        self._world.physx_system.unpack(packed)
        file = io.BytesIO()
        world = np.frombuffer(packed, np.uint8)
        np.savez(file, world=world, scenes=self._scene_of, targets=self._targets, dynamics=self._dynamics)
        return file.getvalue()

    def restore(self, state: bytes) -> None:
        """Go back to what `save` gave."""
        with np.load(io.BytesIO(state), allow_pickle=False) as saved:
            self._scene_of[:] = saved["scenes"]
            self.set_dynamics(np.arange(self.num_robots), Dynamics(*saved["dynamics"]))
            self.set_targets(saved["targets"])
            self._world.physx_system.unpack(saved["world"].tobytes())

    def close(self) -> None:
        """Free the world."""
        self._bodies.clear()
        self._world.clear()


class _Body:
    """One articulation, its joints in the robot's order."""

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
        self._ours_from_engine = np.array([order.index(name) for name in robot.joint_names], np.int64)
        self._engine_from_ours = np.argsort(self._ours_from_engine)
        self.mass_centre = robot.links[0].link_from_inertia.translation
        own = {link.joint.name: link.joint.damping for link in robot.links if link.joint}
        self._driven = [
            _Drive(self._joints[robot.joint_names.index(a.joint)], a, own[a.joint]) for a in robot.actuators
        ]
        self._frictions = [[PHYSX_FRICTION * shape.friction for shape in link.shapes] for link in robot.links]
        self._mass, self._inertia = robot.links[0].mass, robot.links[0].inertia

    def place(self, position: NDArray[np.float64], state: RobotState, row: int) -> None:
        body, turn = self.articulation, matrix_from_quaternion(state.quaternion[row])
        angular = state.angular_velocity[row]
        body.set_root_pose(self._sapien.Pose(position.tolist(), state.quaternion[row].tolist()))
        body.set_root_angular_velocity(angular)
        body.set_root_linear_velocity(state.linear_velocity[row] + np.cross(angular, turn @ self.mass_centre))
        body.set_qpos(state.joint_position[row][self._engine_from_ours])
        body.set_qvel(state.joint_velocity[row][self._engine_from_ours])

    def aim(self, targets: Sequence[float]) -> None:
        for drive, target in zip(self._driven, targets, strict=True):
            drive.aim(target)

    def read(self) -> tuple[Any, ...]:
        body, pose = self.articulation, self.articulation.root_pose
        return (
            pose.p,
            pose.q,
            body.root_linear_velocity,
            body.root_angular_velocity,
            body.qpos[self._ours_from_engine],
            body.qvel[self._ours_from_engine],
        )

    def change(self, friction: float, mass: float, strength: float) -> None:
        for link, frictions in zip(self.links, self._frictions, strict=True):
            for shape, nominal in zip(link.collision_shapes, frictions, strict=True):
                shape.physical_material.set_static_friction(nominal * friction)
                shape.physical_material.set_dynamic_friction(nominal * friction)
        self.links[0].set_mass(self._mass * mass)
        self.links[0].set_inertia(self._inertia * mass)
        for drive in self._driven:
            drive.set_strength(strength)


class _Drive:
    """An actuator at its joint. PhysX has one damping for both, so the joint's own slows the target as well."""

    def __init__(self, joint: Any, actuator: Actuator, own_damping: float) -> None:
        self.actuator = actuator
        self._joint, self._own = joint, own_damping
        self._share = 1.0
        self.set_strength(1.0)

    def set_strength(self, factor: float) -> None:
        damping = self.actuator.damping * factor
        limit = min(self.actuator.max_force * factor, float(np.finfo(np.float32).max))
        self._joint.set_drive_properties(self.actuator.stiffness * factor, damping + self._own, limit, "force")
        self._share = damping / (damping + self._own) if damping else 1.0

    def aim(self, target: float) -> None:
        if self.actuator.mode == "velocity":
            self._joint.set_drive_velocity_target(target * self._share)
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
