"""Rigid bodies beside the robots: what they are, and where N robots' bodies are."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal

import numpy as np

from pipeline.constants import GRAVITY
from pipeline.geometry import (
    Pose,
    matrix_from_quaternion,
    matrix_from_rotvec,
    quaternion_from_matrix,
    rotvec_from_matrix,
)
from pipeline.types import F32, F64, I64, Floats, Mask

ABSENT = (0.0, 0.0, -1000.0)
"""Where the bodies of other scenes are [m]."""
HOLDS = 0.05 * GRAVITY
"""Deceleration by the friction of joints [m/s^2]: a door stays where it is left, if its axis leans by 2 degrees."""


@dataclass(frozen=True, eq=False)
class BodyJoint:
    """What holds a body to its scene; in the world frame of that.

    Attributes:
        kind: Whether it turns about the axis, or slides along it.
        axis: (3,) unit.
        point: (3,) on the axis [m].
        range: Lowest and highest travel [rad, or m for a slide].
        world_from_body: Where it is at travel 0.
    """

    kind: Literal["hinge", "slide"]
    axis: F64
    point: F64
    range: tuple[float, float]
    world_from_body: Pose

    def travel(self, state: BodyState) -> tuple[F64, F64]:
        """Travels (...) of the body in states (...), the nearest that the joint allows, and their rates (...)."""
        if self.kind == "slide":
            travel, velocity = (state.position - self.world_from_body.translation) @ self.axis, state.linear_velocity
        else:
            turn = matrix_from_quaternion(state.quaternion) @ self.world_from_body.rotation.T
            travel, velocity = rotvec_from_matrix(turn) @ self.axis, state.angular_velocity
            travel = travel + 2 * np.pi * np.round((np.mean(self.range) - travel) / (2 * np.pi))
        return np.clip(travel, *self.range), velocity @ self.axis

    def state(self, travel: F64, rate: F64) -> BodyState:
        """States (N,) of the body at travels (N,) with their rates (N,)."""
        home, ways, along = self.world_from_body, travel[:, None] * self.axis, rate[:, None] * self.axis
        if self.kind == "slide":
            arrays = home.translation + ways, np.tile(home.quaternion, (len(travel), 1)), along, 0 * along
        else:
            turn = matrix_from_rotvec(ways)
            arm = turn @ (home.translation - self.point)
            arrays = self.point + arm, quaternion_from_matrix(turn @ home.rotation), np.cross(along, arm), along
        return BodyState(*(array.astype(np.float32) for array in arrays))


@dataclass(frozen=True, eq=False)
class RigidBody:
    """A body of even density.

    Attributes:
        hulls: Corners (V, 3) of convex pieces, in its own frame [m].
        mass: [kg].
        friction: Coefficient against the scene. Against a robot, the robot's counts, as it does against the scene.
        joint: What holds it, without touching the scene otherwise; None for what is loose.
    """

    name: str
    hulls: tuple[F64, ...]
    mass: float
    friction: float
    joint: BodyJoint | None = None

    @cached_property
    def inertia(self) -> tuple[Pose, F64]:
        """Middle of its mass with the principal axes, and the moments (3,) about those [kg m^2]."""
        from trimesh.convex import convex_hull
        from trimesh.triangles import mass_properties

        triangles = np.concatenate([convex_hull(hull).triangles for hull in self.hulls])
        volume = mass_properties(triangles, skip_inertia=True).volume
        whole = mass_properties(triangles, density=self.mass / volume)
        moments, axes = np.linalg.eigh(np.asarray(whole.inertia, np.float64))
        axes[:, 2] *= np.sign(np.linalg.det(axes))
        return Pose(axes, np.asarray(whole.center_mass, np.float64)), moments

    @cached_property
    def held(self) -> tuple[F64, F64, float]:
        """Axis (3,) and a point (3,) on it [m] of its joint, in its own frame; the joint's friction [N or N m]."""
        joint = self.joint
        assert joint
        body_from_world = joint.world_from_body.inverse()
        axis, point = body_from_world.rotate(joint.axis), body_from_world.apply(joint.point)
        frame, moments = self.inertia
        reach = 1.0
        if joint.kind == "hinge":
            own = moments @ frame.inverse().rotate(axis) ** 2 / self.mass
            reach = float(np.sqrt(own + np.square(np.cross(frame.translation - point, axis)).sum()))
        return axis, point, HOLDS * self.mass * reach


@dataclass(frozen=True, eq=False)
class BodyState:
    """Poses and velocities of K bodies for each of N robots, in the world frame of the robot's scene.

    Attributes:
        position: (N, K, 3) of the bodies' origins [m].
        quaternion: (N, K, 4) wxyz, world from body.
        linear_velocity: (N, K, 3) of the bodies' origins [m/s].
        angular_velocity: (N, K, 3), world axes [rad/s].
    """

    position: F32
    quaternion: F32
    linear_velocity: F32
    angular_velocity: F32

    def __getitem__(self, chosen: I64 | Mask | slice | tuple[int | slice, int]) -> BodyState:
        """Those of the chosen robots, or of one of their bodies."""
        return BodyState(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def joined(self, other: BodyState) -> BodyState:
        """These bodies and others of the same N robots."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return BodyState(*(np.concatenate(pair, 1) for pair in pairs))

    @property
    def absent(self) -> Mask:
        """Which (N, K) are where the bodies of other scenes are, or beside."""
        return np.asarray(self.position[..., 2] < ABSENT[2] / 2)

    @property
    def world_from_bodies(self) -> F64:
        """(N, K, 4, 4)."""
        poses = np.zeros((*self.position.shape[:-1], 4, 4))
        poses[..., :3, :3] = matrix_from_quaternion(self.quaternion)
        poses[..., :3, 3], poses[..., 3, 3] = self.position, 1
        return poses

    @staticmethod
    def at_rest(position: Floats, quaternion: Floats) -> BodyState:
        """Bodies that don't move, at positions (N, K, 3) with quaternions (N, K, 4)."""
        still = np.zeros(np.shape(position), np.float32)
        return BodyState(np.asarray(position, np.float32), np.asarray(quaternion, np.float32), still, still.copy())
