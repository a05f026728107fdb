"""A stand-in for SAPIEN's GPU system: PhysX on the CPU behind buffers of the GPU's layout.

Rows lie in another order than the robots and begin after some of other bodies, links are padded to more than there are,
and what was never fetched is NaN, as SAPIEN's source allows. Like there, nothing moves in PhysX until it is applied.
"""

# ruff: noqa: D102 - each method does what SAPIEN's of that name does

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sim import libraries
from sim.physics import sapien_gpu_engine

OTHER_BODIES, PADDING = 3, 2


class Buffer:
    """`sapien.CudaArray`."""

    def __init__(self, *shape: int) -> None:
        self._tensor = torch.full(shape, torch.nan)

    def torch(self) -> torch.Tensor:
        """The same memory each time."""
        return self._tensor


class ContactQuery:
    """`PhysxGpuContactBodyImpulseQuery`."""

    def __init__(self, links: list[Any]) -> None:
        self.links, self.cuda_impulses = links, Buffer(len(links), 3)


class FakeGpuSystem(libraries.sapien().physx.PhysxCpuSystem):
    """`sapien.physx.PhysxGpuSystem`, as far as the engine uses it; its methods do what those of the same name do."""

    def gpu_init(self) -> None:
        """Simulates a step, as there, so that what overlaps before it costs pairs."""
        articulations = [link.articulation for link in self.articulation_link_components if link.parent is None]
        self.at_init = [(np.array(body.root_pose.p), body.links[0].mass) for body in articulations]
        self.step()
        roots = [link for link in self.articulation_link_components if link.parent is None]
        self.robots = [root.articulation for root in roots[::-1]]
        self.row_of = {robot.links[0]: row for row, robot in enumerate(self.robots)}
        self.width = len(self.robots[0].links) + PADDING
        rows, joints = len(self.robots), self.robots[0].dof
        self.cuda_rigid_body_data = Buffer(OTHER_BODIES + rows * self.width, 13)
        for name in ("qpos", "qvel", "target_qpos", "target_qvel"):
            setattr(self, f"cuda_articulation_{name}", Buffer(rows, joints))

    def pose_index(self, link: Any) -> int:
        robot = link.articulation
        return OTHER_BODIES + self.row_of[robot.links[0]] * self.width + robot.links.index(link)

    def _links(self) -> list[tuple[Any, Any]]:
        data = self.cuda_rigid_body_data.torch()
        return [(link, data[self.pose_index(link)]) for robot in self.robots for link in robot.links]

    def gpu_fetch_articulation_link_pose(self) -> None:
        for link, row in self._links():
            pose = link.entity.pose
            row[:7] = torch.tensor(np.concatenate([pose.p, pose.q]))

    def gpu_fetch_articulation_link_velocity(self) -> None:
        for link, row in self._links():
            row[7:] = torch.tensor(np.concatenate([link.linear_velocity, link.angular_velocity]))

    def gpu_fetch_articulation_qpos(self) -> None:
        self.cuda_articulation_qpos.torch()[:] = torch.tensor(np.array([robot.qpos for robot in self.robots]))

    def gpu_fetch_articulation_qvel(self) -> None:
        self.cuda_articulation_qvel.torch()[:] = torch.tensor(np.array([robot.qvel for robot in self.robots]))

    def gpu_apply_articulation_root_pose(self) -> None:
        for robot in self.robots:
            row = self.cuda_rigid_body_data.torch()[self.pose_index(robot.links[0])].tolist()
            robot.set_root_pose(libraries.sapien().Pose(row[:3], row[3:7]))

    def gpu_apply_articulation_root_velocity(self) -> None:
        for robot in self.robots:
            row = self.cuda_rigid_body_data.torch()[self.pose_index(robot.links[0])].tolist()
            robot.set_root_linear_velocity(row[7:10])
            robot.set_root_angular_velocity(row[10:])

    def gpu_apply_articulation_qpos(self) -> None:
        for robot, values in zip(self.robots, self.cuda_articulation_qpos.torch().numpy(), strict=True):
            robot.set_qpos(values)

    def gpu_apply_articulation_qvel(self) -> None:
        for robot, values in zip(self.robots, self.cuda_articulation_qvel.torch().numpy(), strict=True):
            robot.set_qvel(values)

    def gpu_apply_articulation_target_position(self) -> None:
        for robot, values in zip(self.robots, self.cuda_articulation_target_qpos.torch().tolist(), strict=True):
            for joint, value in zip(robot.active_joints, values, strict=True):
                joint.set_drive_target(value)

    def gpu_apply_articulation_target_velocity(self) -> None:
        for robot, values in zip(self.robots, self.cuda_articulation_target_qvel.torch().tolist(), strict=True):
            for joint, value in zip(robot.active_joints, values, strict=True):
                joint.set_drive_velocity_target(value)

    def gpu_update_articulation_kinematics(self) -> None:
        """PhysX on the CPU has done it by itself."""

    def gpu_create_contact_body_impulse_query(self, bodies: list[Any]) -> ContactQuery:
        return ContactQuery(bodies)

    def gpu_query_contact_body_impulses(self, query: ContactQuery) -> None:
        place = {link: n for n, link in enumerate(query.links)}
        query.cuda_impulses.torch()[:] = 0
        for contact in self.get_contacts():
            impulse = np.sum([point.impulse for point in contact.points], axis=0)
            for body, sign in zip(contact.bodies, (1, -1), strict=True):
                if body in place:
                    query.cuda_impulses.torch()[place[body]] += torch.tensor(sign * impulse)


def use_fake_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `SapienGpuEngine` run on the CPU, one engine after the other."""
    physx, systems = libraries.sapien().physx, list[FakeGpuSystem]()

    def make(device: str) -> FakeGpuSystem:
        systems.append(FakeGpuSystem())
        return systems[-1]

    monkeypatch.setattr(sapien_gpu_engine, "gpu_system", make)
    row = property(lambda robot: systems[-1].row_of[robot.links[0]])
    pose = property(lambda link: systems[-1].pose_index(link))
    monkeypatch.setattr(physx.PhysxArticulation, "gpu_index", row)
    monkeypatch.setattr(physx.PhysxArticulationLinkComponent, "gpu_pose_index", pose)
