"""SAPIEN 3 (PhysX 5): robots on the scanned triangle mesh itself; the engine on the CPU, and what the GPU's shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Mesh, matrix_from_quaternion
from pipeline.types import F32, I64
from sim import libraries
from sim.physics.bodies import ABSENT, BodyState, RigidBody
from sim.physics.sapien_bodies import (
    GROUND,
    LONGEST,
    REACH,
    HeldBody,
    LooseBody,
)
from sim.physics.sapien_robot import SapienRobot
from sim.physics.state import Dynamics, PhysicsEngine, scene_offsets
from sim.robots.model import Robot
from sim.robots.state import RobotState

if TYPE_CHECKING:
    from sapien import physx


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
        self._bodies = [SapienRobot(sapien, self._world, self._robot) for _ in range(self.num_robots)]

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
            self._bodies[robot].change(*self._dynamics[1:, robot].tolist())
            self._bodies[robot].aim(self._targets[robot].tolist())  # a drive's target depends on its strength
        self._rub(robots)

    def _rub(self, robots: I64) -> None:
        for robot, factors in zip(robots, self._frictions(robots).tolist(), strict=True):
            self._bodies[robot].rub(factors)

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
