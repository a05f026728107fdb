"""Isaac Gym Preview 4 behind the interface of all engines: this side of the pipe."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Mesh, matrix_from_quaternion, wxyz_from_xyzw, xyzw_from_wxyz
from pipeline.types import F32, F64, I64
from sim.physics.bodies import RigidBody
from sim.physics.isaacgym.process import WorkerProcess, interpreter
from sim.physics.isaacgym.worker import map_memory
from sim.physics.state import Dynamics, PhysicsEngine, parking_positions
from sim.robots.kinematics import link_poses
from sim.robots.model import Actuator, Robot
from sim.robots.state import RobotState
from sim.robots.urdf import urdf_frictions, write_urdf

DEVICE = "SPLATYARD_ISAACGYM_DEVICE"
"""Environment variable: Isaac Gym's device, cpu (the default), cuda or cuda:1."""
SPIN = 4.0
"""Angular velocity of the trial that finds out which point the root's velocity is of [rad/s]."""
AGREEMENT = 2e-3
"""Largest distance between Isaac Gym's links and our kinematics [m]."""


class IsaacGymEngine(PhysicsEngine):
    """One Isaac Gym world that holds all scenes side by side.

    Raises:
        SimError: When there is no Isaac Gym, its worker fails, or it understands the robot differently.
    """

    def __init__(
        self,
        robot: Robot,
        scenes: Sequence[Mesh],
        num_robots: int,
        time_step: float = 0.004,
        bodies: Sequence[Sequence[RigidBody]] = (),
    ) -> None:
        interpreter()
        super().__init__(robot, scenes, num_robots, time_step, bodies)
        self._device = _device()
        self.mass_requires_rebuild = self._device.startswith("cuda")
        self._parking = parking_positions(robot, scenes, num_robots)
        self._start(Dynamics(*self._dynamics))
        self._dof_of = self._rows(self.joint_names, self._worker.dofs)
        self._body_of = self._rows(self.link_names, self._worker.bodies)
        self._of_mass_centre = False
        self._of_mass_centre = self._try_out()

    def _start(self, dynamics: Dynamics) -> None:
        """A worker whose robots wait above the scenes, with these dynamics."""
        with tempfile.TemporaryDirectory(prefix="splatyard-isaacgym-") as name:
            folder = Path(name)
            write_urdf(self._robot, folder)
            for number, (mesh, offset) in enumerate(zip(self._scenes, self._offsets, strict=True)):
                np.save(folder / f"vertices_{number}.npy", (mesh.vertices + offset).astype(np.float32))
                np.save(folder / f"triangles_{number}.npy", mesh.triangles.astype(np.uint32))
            setup = {
                "robots": self.num_robots,
                "scenes": len(self._scenes),
                "time_step": self.time_step,
                "device": self._device,
                "start": self._parking.tolist(),
                "frictions": {link.name: urdf_frictions(link) for link in self._robot.links},
                "drives": self._drives(),
            }
            (folder / "setup.json").write_text(json.dumps(setup))
            layout = self.num_robots, len(self.joint_names), len(self.link_names)
            self._memory = map_memory(str(folder / "memory"), *layout, create=True)
            self._memory["dynamics"][:] = dynamics.friction, dynamics.mass, dynamics.strength
            self._memory["ground"][:] = 1
            self._worker = WorkerProcess(folder)

    def _drives(self) -> dict[str, dict[str, str | float]]:
        """What drives each joint; one without an actuator has its own damping only, as a motor that aims at rest."""
        motors = {actuator.joint: actuator for actuator in self._robot.actuators}
        drives = {}
        for joint in (link.joint for link in self._robot.links if link.joint):
            motor = motors.get(joint.name, Actuator(joint.name, "velocity", 0.0, 0.0, 1e9))
            drives[joint.name] = {
                "mode": motor.mode,
                "stiffness": motor.stiffness,
                "damping": motor.damping,
                "max_force": min(motor.max_force, 1e9),
                "own_damping": joint.damping,
                "armature": joint.armature,
            }
        return drives

    def _rows(self, ours: Sequence[str], theirs: Sequence[str]) -> I64:
        """Where each of our joints or links is in Isaac Gym's order."""
        if sorted(ours) != sorted(theirs):
            self.close()
            raise SimError(
                "Isaac Gym reads all joints and links of the robot",
                found=f"{sorted(set(ours) ^ set(theirs))} on one side only",
                remedy="report it, with the robot's file",
                file=self._robot.file,
            )
        return np.array([theirs.index(name) for name in ours], np.int64)

    def _try_out(self) -> bool:
        """Turn robots in the air for a step: do the links agree, and is the root's velocity the mass centre's?

        The documentation doesn't say, and NVIDIA's programs differ: PhysX's articulations give the mass centre's (Isaac
        Lab, issue 942), the tasks of IsaacGymEnvs (`factory_env_nut_bolt.py`) get there from the root's by adding
        angular velocity x arm, as if that were the origin's.
        """
        across = np.cross(self._mass_centre, [0.31, -0.55, 0.78])
        spin = SPIN * across / max(float(np.linalg.norm(across)), 1e-9)
        count = self.num_robots
        rest = np.tile(self._robot.default_position.astype(np.float32), (count, 1))
        still = RobotState.at_rest(self._parking, np.tile([1.0, 0, 0, 0], (count, 1)), rest)
        turning = replace(still, angular_velocity=np.tile(spin.astype(np.float32), (count, 1)))
        everyone, first = np.arange(count), np.zeros(count, np.int64)
        self.reset(everyone, turning, first)
        self.step(1)
        after = self.read()
        self._require_same_links(after)
        gone = (after.position[0] - still.position[0]) / self.time_step
        arm = matrix_from_quaternion(after.quaternion[0]) @ self._mass_centre
        velocity = after.linear_velocity[0]
        of_origin = velocity - np.cross(after.angular_velocity[0], arm)  # if it is the mass centre's
        self.reset(everyone, still, first)
        return bool(np.linalg.norm(gone - of_origin) < np.linalg.norm(gone - velocity))

    def _require_same_links(self, state: RobotState) -> None:
        ours = link_poses(self._robot, state[:1])[0]
        anchors = [link.joint.anchor if link.joint else np.zeros(3) for link in self._robot.links]
        positions = np.einsum("lij,lj->li", ours[:, :3, :3], anchors) + ours[:, :3, 3]
        apart = np.linalg.norm(self._memory["body"][0, self._body_of, :3] - self._offsets[0] - positions, axis=1)
        if not apart.max() <= AGREEMENT:  # NaN is no agreement
            worst = int(apart.argmax())
            self.close()
            raise SimError(
                "Isaac Gym's links are where our kinematics have them",
                found=f"{self.link_names[worst]} is {1e3 * apart[worst]:.1f} mm off",
                remedy="report it, with the robot's file; use another engine",
                file=self._robot.file,
            )

    def reset(self, robots: I64, state: RobotState, scenes: I64) -> None:
        """Put robots (M,) into states of length M, in scenes (M,)."""
        self._scene_of[robots] = scenes
        root, dof = self._memory["root"], self._memory["dof"]
        root[robots, :3] = state.position + self._offsets[scenes]
        root[robots, 3:7] = xyzw_from_wxyz(state.quaternion)
        root[robots, 7:10] = state.linear_velocity + self._arm_velocity(state.quaternion, state.angular_velocity)
        root[robots, 10:13] = state.angular_velocity
        dof[np.ix_(robots, self._dof_of)] = np.stack([state.joint_position, state.joint_velocity], -1)
        self._targets[robots] = state.joint_position[:, self._driven] * self._is_position
        self._memory["moved"][robots] = 1
        self._write_targets()

    def _arm_velocity(self, quaternion: F32, angular: F32) -> F64:
        """What the root's velocity has more than the origin's (M, 3)."""
        if not self._of_mass_centre:
            return np.zeros(angular.shape)
        return np.cross(angular, matrix_from_quaternion(quaternion) @ self._mass_centre)

    def set_targets(self, targets: F32) -> None:
        """Set the actuators' targets (N, A)."""
        self._targets[:] = targets
        self._write_targets()

    def _write_targets(self) -> None:
        """Isaac Gym has one damping for motor and joint, so the joint's own slows the target as well."""
        own = {link.joint.name: link.joint.damping for link in self._robot.links if link.joint}
        strength = self._memory["dynamics"][2]
        for column, actuator in enumerate(self._robot.actuators):
            row = self._dof_of[self._driven[column]]
            values = self._targets[:, column]
            if actuator.mode == "position":
                self._memory["target"][0, :, row] = values
            else:
                motor = np.maximum(actuator.damping * strength, 1e-9)
                self._memory["target"][1, :, row] = values * motor / (motor + own[actuator.joint])

    def step(self, substeps: int) -> None:
        """Advance all robots."""
        self._worker.ask("step", substeps=substeps)

    def read(self) -> RobotState:
        """Current state of all robots."""
        root, dof = self._memory["root"], self._memory["dof"][:, self._dof_of]
        quaternion, angular = wxyz_from_xyzw(root[:, 3:7]), root[:, 10:13]
        arrays = (
            root[:, :3] - self._offsets[self._scene_of],
            quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True),
            root[:, 7:10] - self._arm_velocity(quaternion.astype(np.float32), angular),
            angular,
            dof[..., 0],
            dof[..., 1],
        )
        return RobotState(*(array.astype(np.float32) for array in arrays))

    def contact_forces(self) -> F32:
        """Mean normal force of the scene on each link in the last substep (N, L, 3), world axes [N]."""
        return self._memory["contact"][:, self._body_of].copy()

    def push(self, robots: I64, velocity: F32) -> None:
        """Change the base's linear velocity of robots (M,) by (M, 3) [m/s]."""
        self._memory["root"][robots, 7:10] += velocity
        self._memory["moved"][robots] = 1

    def set_dynamics(self, robots: I64, dynamics: Dynamics) -> None:
        """Set friction, mass and motor strength of robots (M,).

        On a GPU, Isaac Gym takes masses only before its simulation begins (IsaacGymEnvs, docs/domain_randomization.md,
        `setup_only`; the note at `set_actor_rigid_body_properties` is more hopeful): other masses begin another
        simulation, in which all robots continue from their current states.
        """
        before = self._memory["dynamics"].copy()
        self._memory["dynamics"][:, robots] = dynamics.friction, dynamics.mass, dynamics.strength
        if self.mass_requires_rebuild and (before[1] != self._memory["dynamics"][1]).any():
            kept = {name: self._memory[name].copy() for name in ("root", "dof", "contact", "body")}
            changed = Dynamics(*self._memory["dynamics"].copy())
            self.close()
            self._start(changed)
            for name, values in kept.items():
                self._memory[name][:] = values
            self._memory["moved"][:] = 1
            self._rub(np.arange(self.num_robots))
        else:
            self._worker.ask("change", robots=np.asarray(robots).tolist())
        self._write_targets()

    def _rub(self, robots: I64) -> None:
        self._memory["ground"][np.ix_(robots, self._body_of)] = self._ground_friction[robots]
        self._worker.ask("change", robots=np.asarray(robots).tolist())

    def save(self) -> bytes:
        """The state. The engine continues from it, without what PhysX remembers of contacts."""
        self._memory["moved"][:] = 1
        return super().save()

    def _arrays(self) -> dict[str, np.ndarray]:
        kept = {name: self._memory[name] for name in ("root", "dof", "contact", "dynamics")}
        return {"scenes": self._scene_of, "targets": self._targets, **kept}

    def _set_arrays(self, saved: Mapping[str, np.ndarray]) -> None:
        self._scene_of[:] = saved["scenes"]
        self.set_dynamics(np.arange(self.num_robots), Dynamics(*saved["dynamics"]))
        self._rub(np.arange(self.num_robots))
        for name in ("root", "dof", "contact"):
            self._memory[name][:] = saved[name]
        self.set_targets(saved["targets"])
        self._memory["moved"][:] = 1

    def close(self) -> None:
        """End the worker."""
        self._worker.close()


def _device() -> str:
    device = os.environ.get(DEVICE) or "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise SimError(
            f"{DEVICE} is a device", found=repr(device), remedy="use cpu, cuda or, for the second GPU, cuda:1"
        )
    return device
