"""SAPIEN 3 (PhysX 5 on the CPU): robots on the scanned triangle mesh itself."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Mesh, matrix_from_quaternion
from sim import libraries
from sim.physics.sapien_body import SapienBody, add_ground
from sim.physics.state import Dynamics, Float, Int, RobotState, scene_offsets
from sim.robots.model import Robot


class SapienEngine:
    """N robots in one PhysX world that holds all scenes side by side; see `PhysicsEngine` for the methods.

    Args:
        robot: Every one of them.
        scenes: Collision meshes, world frames.
        num_robots: N.
        time_step: Of a substep [s].
    """

    def __init__(self, robot: Robot, scenes: Sequence[Mesh], num_robots: int, time_step: float = 0.004) -> None:
        self._sapien = libraries.sapien()
        self.num_robots, self.time_step = num_robots, time_step
        self.mass_is_costly = False
        self.joint_names = robot.joint_names
        self.link_names = tuple(link.name for link in robot.links)
        self._robot, self._scenes = robot, list(scenes)
        self._offsets = scene_offsets(scenes)
        self._scene_of = np.zeros(num_robots, np.int64)
        self._targets = np.zeros((num_robots, len(robot.actuators)), np.float32)
        self._dynamics = np.ones((3, num_robots), np.float32)
        self._build()

    def _build(self) -> None:
        """A world without a past."""
        sapien = self._sapien
        self._world = sapien.Scene([sapien.physx.PhysxCpuSystem()])
        self._world.set_timestep(self.time_step)
        for mesh, offset in zip(self._scenes, self._offsets, strict=True):
            add_ground(sapien, self._world, mesh, offset)
        self._bodies = [SapienBody(sapien, self._world, self._robot) for _ in range(self.num_robots)]
        links = [link for body in self._bodies for link in body.links]
        self._places = {link: number for number, link in enumerate(links)}

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
        changed = (self._targets != targets).any(1)
        self._targets[:] = targets
        for robot in np.flatnonzero(changed):
            self._bodies[robot].aim(self._targets[robot].tolist())

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
        places: list[int] = []
        impulses: list[NDArray[np.float32]] = []
        for contact in self._world.physx_system.get_contacts():
            first, second = contact.bodies
            place, sign = self._places.get(first), 1
            if place is None:
                place, sign = self._places[second], -1
            for point in contact.points:
                places.append(place)
                impulses.append(point.impulse if sign > 0 else -point.impulse)
        forces = np.zeros((self.num_robots * len(self.link_names), 3), np.float32)
        if places:
            np.add.at(forces, places, np.array(impulses) / np.float32(self.time_step))
        return forces.reshape(self.num_robots, -1, 3)

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
            self._bodies[robot].aim(self._targets[robot].tolist())  # a drive's target depends on its strength

    def save(self) -> bytes:
        """The whole state. The engine goes on from it in a new world, which takes as long as making an engine.

        PhysX remembers old contacts, and in which order pairs met; that can't be saved, and without it contacts differ.
        """
        file = io.BytesIO()
        world = np.frombuffer(self._world.physx_system.pack(), np.uint8)
        np.savez(file, world=world, scenes=self._scene_of, targets=self._targets, dynamics=self._dynamics)
        self.restore(file.getvalue())
        return file.getvalue()

    def restore(self, state: bytes) -> None:
        """Go back to what `save` gave."""
        with np.load(io.BytesIO(state), allow_pickle=False) as saved:
            self.close()
            self._build()
            self._scene_of[:], self._targets[:] = saved["scenes"], saved["targets"]
            self.set_dynamics(np.arange(self.num_robots), Dynamics(*saved["dynamics"]))
            self._world.physx_system.unpack(saved["world"].tobytes())

    def close(self) -> None:
        """Free the world."""
        self._bodies.clear()
        self._world.clear()
