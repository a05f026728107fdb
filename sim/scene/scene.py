"""Scenes as simulations need them: collision mesh, splat, floor, loose bodies; and what identifies them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.geometry import Gaussians, Mesh, Pose, Similarity
from pipeline.regions.params import RegionsParams
from pipeline.regions.regions import Regions
from pipeline.types import F64, Floats

if TYPE_CHECKING:
    from sim.physics.bodies import RigidBody
    from sim.scene.terrain import Terrain


@dataclass(frozen=True)
class SceneLock:
    """Identity of a scene, for the record of a run.

    Attributes:
        reference: name@version; the folder's name for a scene of GaussGym.
        sha256: Hash of its manifest, which has the hash of every other file; of all files for a scene of GaussGym. With
            objects from other bundles, a hash of that and of theirs.
        failed_gates: Failed gates that were accepted.
        gates: Whether its quality was measured, and passed.
        commit: Commit of its repository on the hub; empty for a local one.
    """

    reference: str
    sha256: str
    failed_gates: tuple[str, ...]
    gates: Literal["passed", "failed", "unknown"] = "passed"
    commit: str = ""

    @property
    def place(self) -> str:
        """Name of the place that it shows, without a version: two scans of it are one place."""
        return self.reference.partition("@")[0]


@dataclass(frozen=True, eq=False)
class SceneObject:
    """A loose body, or one on a joint.

    Attributes:
        world_from_body: Where it stands at first.
        splat: Loads its Gaussians, in its own frame.
        places: Of an object from another bundle, where it may stand when an episode begins; one is drawn.
    """

    body: RigidBody
    world_from_body: Pose
    splat: Callable[[], Gaussians]
    places: tuple[Pose, ...] = ()

    @cached_property
    def starts(self) -> tuple[F64, F64]:
        """Positions (P, 3) and quaternions (P, 4) in which it may stand when an episode begins."""
        poses = self.places or (self.world_from_body,)
        return np.array([pose.translation for pose in poses]), np.array([pose.quaternion for pose in poses])


@dataclass(frozen=True, eq=False)
class SimScene:
    """What a simulation needs of a scene; everything in its world frame [m], Z up.

    Attributes:
        splat: Loads what cameras see, in any process; simulations without cameras never call it.
        measured_for: Radius and height of the robot that the regions have room for [m].
        objects: Loose bodies; the collision mesh and the splat are without them.
        terrain: The procedural ground that it is; None for scans.
        moved_from_world: Puts what is touched elsewhere than what is seen and known: the splat, the mesh that depth
            cameras see, floor, starts and goals stay. None leaves it where it is.
    """

    lock: SceneLock
    collision: Mesh
    splat: Callable[[], Gaussians]
    regions: Regions
    measured_for: tuple[float, float] = (RegionsParams().radius, RegionsParams().height)
    objects: tuple[SceneObject, ...] = ()
    terrain: Terrain | None = None
    moved_from_world: Similarity | None = None

    @cached_property
    def touched(self) -> Mesh:
        """The collision mesh where bodies meet it."""
        return self.collision.transformed(self.moved_from_world) if self.moved_from_world else self.collision

    def rise(self, points: Floats) -> F64:
        """How much higher level ground at points (..., 3) [m] is touched than it is seen (...) [m]."""
        points = np.asarray(points, np.float64)
        if self.moved_from_world is None:
            return np.zeros(points.shape[:-1])
        matrix = self.moved_from_world.matrix
        aside = points[..., :2] - matrix[:2, 3] - points[..., 2:] * matrix[:2, 2]
        before = np.concatenate([aside @ np.linalg.inv(matrix[:2, :2]).T, points[..., 2:]], -1)
        return self.moved_from_world.apply(before)[..., 2] - points[..., 2]

    @cached_property
    def gaussians(self) -> Gaussians:
        """What cameras see."""
        return self.splat()
