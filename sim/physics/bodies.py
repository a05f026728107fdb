"""Rigid bodies beside the robots: what they are, and where N robots' bodies are."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from pipeline.geometry import Pose, matrix_from_quaternion
from pipeline.scenes.manifest import damaged
from pipeline.scenes.objects import RECORD_FILE, BundleObject
from pipeline.types import F32, F64, I64, Floats, Mask

ABSENT = (0.0, 0.0, -1000.0)
"""Where the bodies of other scenes are [m]."""
LEAST_VOLUME = 1e-9
"""Of a convex piece [m^3]."""


@dataclass(frozen=True, eq=False)
class RigidBody:
    """A body of even density.

    Attributes:
        hulls: Corners (V, 3) of convex pieces, in its own frame [m].
        mass: [kg].
        friction: Coefficient against the scene. Against a robot, the robot's counts, as it does against the scene.
    """

    name: str
    hulls: tuple[F64, ...]
    mass: float
    friction: float

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


def rigid_body(one: BundleObject) -> RigidBody:
    """The body of an object that was cut out of a bundle.

    Raises:
        BundleError: When its pieces aren't solids.
    """
    from scipy.spatial import ConvexHull, QhullError

    hulls = tuple(np.array(hull, np.float64) for hull in one.record.hulls)
    try:
        least = min(ConvexHull(hull).volume for hull in hulls)
    except QhullError:  # it is flat
        least = 0.0
    if least < LEAST_VOLUME:
        file = one.files.root / one.file(RECORD_FILE)
        raise damaged("an object's pieces are solids", "one without volume", file)
    return RigidBody(one.record.name, hulls, one.record.mass, one.record.friction)


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

    def __getitem__(self, robots: I64 | Mask | slice) -> BodyState:
        """Those of the chosen robots."""
        return BodyState(*(getattr(self, field.name)[robots] for field in fields(self)))

    @property
    def world_from_bodies(self) -> F64:
        """(N, K, 4, 4)."""
        poses = np.zeros((*self.position.shape[:2], 4, 4))
        poses[..., :3, :3] = matrix_from_quaternion(self.quaternion.reshape(-1, 4)).reshape(*poses.shape[:2], 3, 3)
        poses[..., :3, 3], poses[..., 3, 3] = self.position, 1
        return poses

    @staticmethod
    def at_rest(position: Floats, quaternion: Floats) -> BodyState:
        """Bodies that don't move, at positions (N, K, 3) with quaternions (N, K, 4)."""
        still = np.zeros(np.shape(position), np.float32)
        return BodyState(np.asarray(position, np.float32), np.asarray(quaternion, np.float32), still, still.copy())
