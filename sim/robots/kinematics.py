"""Poses and velocities of the links of N robots, from their joints.

The recursion from the base outwards: R. Featherstone, Rigid Body Dynamics Algorithms, Springer 2008, section 4.1.
"""

from __future__ import annotations

import numpy as np

from pipeline.geometry import matrix_from_rotvec
from pipeline.types import F64
from sim.physics.state import RobotState
from sim.robots.model import Joint, Robot


def link_poses(robot: Robot, state: RobotState) -> F64:
    """World from links (N, L, 4, 4) in the order of the robot's links."""
    poses = np.tile(np.eye(4), (len(state), len(robot.links), 1, 1))
    poses[:, 0, :3, :3] = state.world_from_base
    poses[:, 0, :3, 3] = state.position
    columns = _columns(robot)
    for index, link in enumerate(robot.links[1:], 1):
        at_zero = poses[:, link.parent] @ link.parent_from_link.matrix
        poses[:, index] = at_zero
        if link.joint is not None:
            poses[:, index] = at_zero @ _moved(link.joint, state.joint_position[:, columns[index]].astype(np.float64))
    return poses


def link_velocities(robot: Robot, state: RobotState, poses: F64) -> tuple[F64, F64]:
    """Angular [rad/s] and linear [m/s] velocities (N, L, 3) of the links' origins, in world axes.

    `poses` is the result of `link_poses`.
    """
    angular, linear = np.zeros((2, *poses.shape[:2], 3))
    angular[:, 0], linear[:, 0] = state.angular_velocity, state.linear_velocity
    columns = _columns(robot)
    for index, link in enumerate(robot.links[1:], 1):
        at, up = poses[:, index], link.parent
        angular[:, index] = angular[:, up]
        linear[:, index] = linear[:, up] + np.cross(angular[:, up], at[:, :3, 3] - poses[:, up, :3, 3])
        if link.joint is None:
            continue
        rate = state.joint_velocity[:, columns[index], None] * (at[:, :3, :3] @ link.joint.axis)
        if link.joint.kind == "slide":
            linear[:, index] += rate
        else:
            angular[:, index] += rate
            linear[:, index] -= np.cross(rate, at[:, :3, :3] @ link.joint.anchor)
    return angular, linear


def _columns(robot: Robot) -> list[int]:
    """Column of each link's joint in joint arrays; undefined without a joint."""
    return (np.cumsum([link.joint is not None for link in robot.links]) - 1).tolist()


def _moved(joint: Joint, position: F64) -> F64:
    """Transforms (N, 4, 4) of a joint at positions (N,), relative to the link with its joint at zero."""
    result = np.tile(np.eye(4), (len(position), 1, 1))
    if joint.kind == "slide":
        result[:, :3, 3] = position[:, None] * joint.axis
        return result
    rotation = matrix_from_rotvec(position[:, None] * joint.axis)
    result[:, :3, :3], result[:, :3, 3] = rotation, joint.anchor - rotation @ joint.anchor
    return result
