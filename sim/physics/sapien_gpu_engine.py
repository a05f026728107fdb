"""SAPIEN 3 on a CUDA device: all robots and meshes in one PhysX world that lives on the GPU. NOT yet run on a GPU.

It is tested against SAPIEN's signatures and a stand-in for the GPU's buffers. If it misbehaves, look first at the
buffers' sizes, and at whether friction, mass and drives reach the GPU: they go through PhysX's setters for the CPU.
`gpu_apply_articulation_qpos` and its like with an index buffer change the first robots instead of the chosen ones (seen
in the source of 3.0.3), so all robots are fetched, changed and applied. Source: SAPIEN's src/physx/physx_system.cpp.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Mesh
from pipeline.types import F32, I64
from sim import libraries
from sim.physics.bodies import RigidBody
from sim.physics.sapien_engine import SapienBase
from sim.physics.state import Dynamics, parking_positions
from sim.robots.model import Robot
from sim.robots.state import RobotState

if TYPE_CHECKING:
    import torch
    from sapien.physx import PhysxGpuSystem

MEMORY = {
    "max_rigid_contact_count": 2**22,
    "max_rigid_patch_count": 2**20,
    "found_lost_pairs_capacity": 2**24,
    "collision_stack_size": 2**27,
}
"""Sizes of PhysX's buffers, which don't grow: enough for about 4 096 robots on triangle meshes, a guess."""
TOO_LATE = "before any other code involving PhysX"
"""SAPIEN's message when PhysX was started without a GPU (`PhysxDefault::EnableGPU`)."""
POSITION, QUATERNION, LINEAR, ANGULAR = slice(0, 3), slice(3, 7), slice(7, 10), slice(10, 13)
"""Columns of a body's row: wxyz, and the velocity of its centre of mass."""


def gpu_system(device: str) -> PhysxGpuSystem:
    """PhysX's world on a CUDA device.

    Raises:
        SimError: When PhysX doesn't run on that device.
    """
    physx = libraries.sapien().physx
    try:
        physx.enable_gpu()
        physx.set_gpu_memory_config(**MEMORY)
        return physx.PhysxGpuSystem(device)
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:
        if isinstance(error, RuntimeError) and TOO_LATE in str(error):
            remedy = "this process already has a world on the CPU: make this one in a fresh process, before any other"
        elif isinstance(error, RuntimeError):  # the library is there, and the GPU isn't, or is another
            remedy = "`splatyard doctor` shows the GPU and its driver; or take engine sapien, on the CPU"
        else:
            remedy = f"put libPhysXGpu_64.so into ~/.sapien/physx/{physx.version()}; or take engine sapien, on the CPU"
        raise SimError(f"PhysX must run on {device}", found=str(error), remedy=remedy) from error


class SapienGpuEngine(SapienBase):
    """SAPIEN on a CUDA device: cuda, or cuda:1 and so on.

    Raises:
        SimError: When PhysX doesn't run there, or PyTorch is missing.
    """

    def __init__(
        self,
        robot: Robot,
        scenes: Sequence[Mesh],
        num_robots: int,
        time_step: float = 0.004,
        bodies: Sequence[Sequence[RigidBody]] = (),
        device: str = "cuda",
    ) -> None:
        self._torch, self._device = libraries.torch(), device
        self._shares = np.ones((num_robots, len(robot.actuators)), np.float32)
        self._parking = parking_positions(robot, scenes, num_robots)
        super().__init__(robot, scenes, num_robots, time_step, bodies)

    def _build(self) -> None:
        """Make a world without a past, with the robots' current dynamics."""
        system = self._system = gpu_system(self._device)
        self._make_world(system)
        for body, position, dynamics in zip(self._bodies, self._parking, self._dynamics.T.tolist(), strict=True):
            body.articulation.set_root_pose(self._sapien.Pose(position.tolist()))
            body.change(*dynamics[1:])
        self._rub(np.arange(self.num_robots))
        self._read_shares(np.arange(self.num_robots))
        system.gpu_init()  # simulates a step: robots must be apart, with their dynamics, before it
        # views of PhysX's memory, made once: each conversion leaks some
        bodies = self._bodies
        self._body_data = system.cuda_rigid_body_data.torch()
        self._joint_position = system.cuda_articulation_qpos.torch()
        self._joint_velocity = system.cuda_articulation_qvel.torch()
        self._position_target = system.cuda_articulation_target_qpos.torch()
        self._velocity_target = system.cuda_articulation_target_qvel.torch()
        self._position_target[:] = 0
        self._velocity_target[:] = 0
        links = [link for body in bodies for link in body.links]
        self._contacts = system.gpu_create_contact_body_impulse_query(links)
        self._impulses = self._contacts.cuda_impulses.torch()
        self._roots = self._index([body.links[0].gpu_pose_index for body in bodies])
        self._rows = self._index([body.articulation.gpu_index for body in bodies])[:, None]
        self._columns = self._index(bodies[0].ours_from_engine)

    def reset(self, robots: I64, state: RobotState, scenes: I64) -> None:
        """Put robots (M,) into states of length M, in scenes (M,)."""
        self._scene_of[robots] = scenes
        angular = state.angular_velocity
        arm = state.world_from_base @ self._mass_centre
        columns = (
            state.position + self._offsets_of(robots, scenes),
            state.quaternion,
            state.linear_velocity + np.cross(angular, arm),
            angular,
        )
        self._write(robots, np.concatenate(columns, 1), state.joint_position, state.joint_velocity)
        self._targets[robots] = state.joint_position[:, self._driven] * self._is_position
        self.set_targets(self._targets)

    def _write(self, robots: I64, base: np.ndarray, position: np.ndarray, velocity: np.ndarray) -> None:
        """Bases (M, 13) as PhysX has them, joints (M, J) in our order; the other robots keep what they have."""
        system, chosen = self._system, self._index(robots)
        self._fetch()
        self._body_data[self._roots[chosen]] = self._tensor(base)
        self._joint_position[self._rows[chosen], self._columns] = self._tensor(position)
        self._joint_velocity[self._rows[chosen], self._columns] = self._tensor(velocity)
        system.gpu_apply_articulation_root_pose()
        system.gpu_apply_articulation_root_velocity()
        system.gpu_apply_articulation_qpos()
        system.gpu_apply_articulation_qvel()
        system.gpu_update_articulation_kinematics()

    def _fetch(self) -> None:
        system = self._system
        system.gpu_fetch_articulation_link_pose()
        system.gpu_fetch_articulation_link_velocity()
        system.gpu_fetch_articulation_qpos()
        system.gpu_fetch_articulation_qvel()

    def _raw(self) -> tuple[F32, F32, F32]:
        """Bases (N, 13) as PhysX has them; joint positions and velocities (N, J) in our order."""
        self._fetch()
        joints = (table[self._rows, self._columns] for table in (self._joint_position, self._joint_velocity))
        base, position, velocity = (part.cpu().numpy() for part in (self._body_data[self._roots], *joints))
        return base, position, velocity

    def set_targets(self, targets: F32) -> None:
        """What the actuators aim at (N, A)."""
        self._targets[:] = targets
        aims = self._targets * np.where(self._is_position, 1, self._shares)
        for buffer, mine in ((self._position_target, self._is_position), (self._velocity_target, ~self._is_position)):
            buffer[self._rows, self._columns[self._index(self._driven[mine])]] = self._tensor(aims[:, mine])
        self._system.gpu_apply_articulation_target_position()
        self._system.gpu_apply_articulation_target_velocity()

    def step(self, substeps: int) -> None:
        """Advance all robots."""
        for _ in range(substeps):
            self._system.step()

    def read(self) -> RobotState:
        """Current state of all robots."""
        base, position, velocity = self._raw()
        return self._state(
            base[:, POSITION], base[:, QUATERNION], base[:, LINEAR], base[:, ANGULAR], position, velocity
        )

    def contact_forces(self) -> F32:
        """Mean normal force of the scene on each link in the last substep (N, L, 3), world axes [N]."""
        self._system.gpu_query_contact_body_impulses(self._contacts)
        impulses: F32 = self._impulses.cpu().numpy()
        return (impulses / np.float32(self.time_step)).reshape(self.num_robots, -1, 3)

    def push(self, robots: I64, velocity: F32) -> None:
        """Change the base's linear velocity of robots (M,) by (M, 3) [m/s]."""
        base, position, rates = self._raw()
        base[robots, LINEAR] += velocity
        self._write(robots, base[robots], position[robots], rates[robots])

    def set_dynamics(self, robots: I64, dynamics: Dynamics) -> None:
        """Set friction, mass and motor strength of robots (M,)."""
        super().set_dynamics(robots, dynamics)  # PhysX may copy the CPU's target with the drive
        self._read_shares(robots)
        self.set_targets(self._targets)

    def _read_shares(self, robots: I64) -> None:
        for robot in robots:
            self._shares[robot] = [drive.share for drive in self._bodies[robot].drives]

    def _arrays(self) -> dict[str, np.ndarray]:
        base, position, velocity = self._raw()
        joints = {"position": position, "velocity": velocity, "targets": self._targets}
        return {"base": base, "scenes": self._scene_of, "dynamics": self._dynamics, **joints}

    def _set_arrays(self, saved: Mapping[str, np.ndarray]) -> None:
        self._scene_of[:], self._targets[:] = saved["scenes"], saved["targets"]
        self._dynamics[:] = saved["dynamics"]
        self.close()
        self._build()
        self.set_targets(self._targets)
        self._write(np.arange(self.num_robots), saved["base"], saved["position"], saved["velocity"])

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return self._torch.tensor(array, dtype=self._torch.float32, device=self._body_data.device)

    def _index(self, numbers: Sequence[int] | I64) -> torch.Tensor:
        return self._torch.tensor(np.asarray(numbers), dtype=self._torch.int64, device=self._body_data.device)
