"""Poses and velocities of the links of N robots, from their joints.

The recursion from the base outwards: R. Featherstone, Rigid Body Dynamics Algorithms, Springer 2008, section 4.1.
"""

from __future__ import annotations

import functools

import numpy as np

from pipeline.geometry.jit import njit, put
from pipeline.types import F32, F64, I64
from sim.robots.model import Robot
from sim.robots.state import RobotState

FIXED, HINGE, SLIDE = 0, 1, 2


def link_poses(robot: Robot, state: RobotState) -> F64:
    """World from links (N, L, 4, 4) in the order of the robot's links."""
    base = np.tile(np.eye(4), (len(state), 1, 1))
    base[:, :3, :3], base[:, :3, 3] = state.world_from_base, state.position
    return _poses(base, state.joint_position, *tree_of(robot))


def lowest_points(robot: Robot, state: RobotState) -> F64:
    """Centres (N, L, 3) of the lowest collision shape of each link [m]; of a link without any its origin."""
    poses = link_poses(robot, state)
    points, low = poses[..., :3, 3].copy(), np.full(poses.shape[:2], np.inf)
    for number, link in enumerate(robot.links):
        for shape in link.shapes:
            centre = poses[:, number, :3, :3] @ shape.link_from_shape.translation + poses[:, number, :3, 3]
            lower = centre[:, 2] < low[:, number]
            points[lower, number], low[lower, number] = centre[lower], centre[lower, 2]
    return points


def poses_at(robot: Robot, joints: F64) -> F64:
    """Base from links (N, L, 4, 4), with joints at positions (N, J)."""
    origin, identity = np.zeros((len(joints), 3)), np.tile([1.0, 0, 0, 0], (len(joints), 1))
    return link_poses(robot, RobotState.at_rest(origin, identity, joints.astype(np.float32)))


def link_velocities(robot: Robot, state: RobotState, poses: F64) -> tuple[F64, F64]:
    """Angular [rad/s] and linear [m/s] velocities (N, L, 3) of the links' origins, in world axes.

    `poses` is the result of `link_poses`.
    """
    parents, kinds, columns, _, axes, anchors = tree_of(robot)
    speeds = state.angular_velocity, state.linear_velocity
    return _velocities(poses, state.joint_velocity, *speeds, parents, kinds, columns, axes, anchors)


@functools.lru_cache(16)
def tree_of(robot: Robot) -> tuple[I64, I64, I64, F64, F64, F64]:
    """Parents (L,), kinds of joint (L,), their columns (L,), poses at zero (L, 4, 4), axes and anchors (L, 3)."""
    joints = [link.joint for link in robot.links]
    return (
        np.array([link.parent for link in robot.links]),
        np.array([FIXED if joint is None else HINGE if joint.kind == "hinge" else SLIDE for joint in joints]),
        np.cumsum([joint is not None for joint in joints]) - 1,
        np.array([link.parent_from_link.matrix for link in robot.links]),
        np.array([np.zeros(3) if joint is None else joint.axis for joint in joints]),
        np.array([np.zeros(3) if joint is None else joint.anchor for joint in joints]),
    )


@njit(cache=True, nogil=True, inline="always")
def rotate_about(turn: F64, axis: F64, value: float) -> None:
    """Write the rotation about a unit axis (3,) by an angle [rad] to `turn` (3, 3) or larger: Rodrigues' formula."""
    sine, cosine = np.sin(value), np.cos(value)
    for i in range(3):
        for j in range(3):
            turn[i, j] = (1 - cosine) * axis[i] * axis[j]
        turn[i, i] += cosine
    turn[0, 1] -= sine * axis[2]
    turn[1, 0] += sine * axis[2]
    turn[0, 2] += sine * axis[1]
    turn[2, 0] -= sine * axis[1]
    turn[1, 2] -= sine * axis[0]
    turn[2, 1] += sine * axis[0]


@njit(cache=True, nogil=True)
def _poses(
    base: F64, position: F32, parents: I64, kinds: I64, columns: I64, at_zero: F64, axes: F64, anchors: F64
) -> F64:
    count, links = len(base), len(parents)
    poses = np.zeros((count, links, 4, 4))
    turn, at = np.empty((3, 3)), np.empty((3, 4))
    for n in range(count):
        put(poses[n, 0], base[n])
        for link in range(1, links):
            up, own, pose = poses[n, parents[link]], at_zero[link], poses[n, link]
            for i in range(3):
                for j in range(4):
                    at[i, j] = up[i, 0] * own[0, j] + up[i, 1] * own[1, j] + up[i, 2] * own[2, j]
                at[i, 3] += up[i, 3]
            pose[3, 3] = 1
            if kinds[link] == FIXED:
                put(pose[:3], at)
                continue
            value, axis, anchor = float(position[n, columns[link]]), axes[link], anchors[link]
            if kinds[link] == SLIDE:
                put(pose[:3], at)
                for i in range(3):
                    pose[i, 3] += value * (at[i, 0] * axis[0] + at[i, 1] * axis[1] + at[i, 2] * axis[2])
                continue
            rotate_about(turn, axis, value)
            for i in range(3):
                for j in range(3):
                    pose[i, j] = at[i, 0] * turn[0, j] + at[i, 1] * turn[1, j] + at[i, 2] * turn[2, j]
                pose[i, 3] = at[i, 3]
                for j in range(3):
                    pose[i, 3] += (at[i, j] - pose[i, j]) * anchor[j]
    return poses


@njit(cache=True, nogil=True)
def _velocities(
    poses: F64,
    rates: F32,
    base_angular: F32,
    base_linear: F32,
    parents: I64,
    kinds: I64,
    columns: I64,
    axes: F64,
    anchors: F64,
) -> tuple[F64, F64]:
    count, links = poses.shape[:2]
    angular, linear = np.zeros((count, links, 3)), np.zeros((count, links, 3))
    arm, rate = np.empty(3), np.empty(3)
    for n in range(count):
        for i in range(3):
            angular[n, 0, i], linear[n, 0, i] = base_angular[n, i], base_linear[n, i]
        for link in range(1, links):
            pose, up = poses[n, link], parents[link]
            spin, speed = angular[n, link], linear[n, link]
            for i in range(3):
                spin[i], speed[i] = angular[n, up, i], linear[n, up, i]
                arm[i] = pose[i, 3] - poses[n, up, i, 3]
            _add_cross(speed, spin, arm, 1.0)
            if kinds[link] == FIXED:
                continue
            value, axis, anchor = float(rates[n, columns[link]]), axes[link], anchors[link]
            for i in range(3):
                rate[i] = value * (pose[i, 0] * axis[0] + pose[i, 1] * axis[1] + pose[i, 2] * axis[2])
                arm[i] = pose[i, 0] * anchor[0] + pose[i, 1] * anchor[1] + pose[i, 2] * anchor[2]
            if kinds[link] == SLIDE:
                speed += rate
            else:
                spin += rate
                _add_cross(speed, rate, arm, -1.0)
    return angular, linear


@njit(cache=True, nogil=True, inline="always")
def _add_cross(to: F64, a: F64, b: F64, sign: float) -> None:
    to[0] += sign * (a[1] * b[2] - a[2] * b[1])
    to[1] += sign * (a[2] * b[0] - a[0] * b[2])
    to[2] += sign * (a[0] * b[1] - a[1] * b[0])
