"""objects/<name>/ of a bundle: bodies that were cut out of the scene, each in a frame of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.scenes.manifest import NAME, Strict, check_near, damaged, reading

if TYPE_CHECKING:
    from pipeline.geometry import Gaussians, Mesh, Pose
    from pipeline.scenes.files import BundleFiles
    from pipeline.types import F64

FOLDER = "objects"
RECORD_FILE, MESH_FILE = "object.json", "body.ply"
PAGE_FILE = "objects.html"
"""Of a bundle with objects: what they look like from all sides."""
SPLAT_FILES = {"full": "splat.ply", "sim": "sim.ply"}
"""An object's Gaussians by level of detail, in its own frame."""
REST = {"full": "rest", "sim": "rest_sim"}
"""Levels of detail of the scene without its objects, by those of the scene."""
REST_COLLISION = "rest_collision.ply"
MAX_OBJECTS, MAX_HULLS, MAX_CORNERS = 500, 32, 64
LEAST_VOLUME = 1e-9
"""Of a convex piece [m^3]."""

Length = Annotated[float, Field(gt=0, le=100)]
Coordinate = Annotated[float, Field(ge=-1e4, le=1e4)]
Point = tuple[Coordinate, Coordinate, Coordinate]
Row = tuple[float, float, float, Coordinate]
Travel = Annotated[float, Field(ge=-100, le=100)]


def _rigid(matrix: tuple[Row, Row, Row, Row]) -> tuple[Row, Row, Row, Row]:
    if matrix[3] != (0, 0, 0, 1):
        raise ValueError("the last row of a pose is 0 0 0 1")
    return matrix


def _unit(axis: tuple[float, float, float]) -> tuple[float, float, float]:
    if abs(math.hypot(*axis) - 1) > 1e-3:
        raise ValueError("an axis has length 1")
    return axis


def _ordered(travel: tuple[float, float]) -> tuple[float, float]:
    if not travel[0] < travel[1]:
        raise ValueError("a range goes from the lowest to the highest")
    return travel


class Joint(Strict):
    """What holds an object, from its poses in two scans; see `pipeline.changes`.

    Attributes:
        kind: hinge: it turns about the axis; slide: it moves along it.
        axis: (3,) unit, in the world frame.
        point: (3,) on the axis, in the world frame [m].
        range: Lowest and highest travel seen [rad, or m for a slide]; 0 is where it stands.
        sigma_deg: Of the axis' direction [degrees].
        sigma: Of the axis beside its direction [m].
        sigma_travel: Of the travel [rad or m].
    """

    kind: Literal["hinge", "slide"]
    axis: Annotated[tuple[float, float, float], AfterValidator(_unit)]
    point: Point
    range: Annotated[tuple[Travel, Travel], AfterValidator(_ordered)]
    sigma_deg: Annotated[float, Field(ge=0)]
    sigma: Annotated[float, Field(ge=0)]
    sigma_travel: Annotated[float, Field(ge=0)]


class ObjectRecord(Strict):
    """object.json.

    The frame of a body has x and y along its sides, z up, and its origin in the middle of its foot.

    Attributes:
        kind: How its unseen surface was completed: a box, a cylinder, a ball, or carved; see `pipeline.objects.close`.
        on: Name of the object that it stands on, or floor.
        seen: Share of its closed surface that was measured, 0..1.
        world_from_body: (4, 4) where it stands.
        size: (3,) lengths along its axes [m].
        hulls: Corners (V, 3) of convex pieces, in its frame [m].
        mass: [kg], evenly spread.
        friction: Coefficient against the scene.
        gaussians: Number of Gaussians by level of detail.
        joint: What holds it; None for what is loose.
    """

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    kind: ClosingKind
    on: Annotated[str, Field(max_length=100)]
    seen: Annotated[float, Field(ge=0, le=1)]
    world_from_body: Annotated[tuple[Row, Row, Row, Row], AfterValidator(_rigid)]
    size: tuple[Length, Length, Length]
    hulls: Annotated[
        tuple[Annotated[tuple[Point, ...], Field(min_length=4, max_length=MAX_CORNERS)], ...],
        Field(min_length=1, max_length=MAX_HULLS),
    ]
    mass: Annotated[float, Field(ge=1e-4, le=1e6)]
    mass_from: Annotated[str, Field(max_length=200)]
    friction: Annotated[float, Field(ge=0, le=10)]
    friction_from: Annotated[str, Field(max_length=200)]
    antialiasing: Literal["classic", "mip"]
    gaussians: Annotated[dict[str, Annotated[int, Field(ge=1)]], Field(max_length=len(SPLAT_FILES))]
    joint: Joint | None = None


ShapeKind = Literal["box", "cylinder", "ball"]
"""Shapes that objects are closed with."""
ClosingKind = Literal[ShapeKind, "carved"]
"""How the unseen surface of an object was completed."""


@dataclass(frozen=True, eq=False)
class BundleObject:
    """A body of a bundle; see `ObjectRecord`."""

    record: ObjectRecord
    files: BundleFiles

    @property
    def world_from_body(self) -> Pose:
        """Where it stands."""
        from pipeline.geometry import Pose

        return Pose.from_matrix(self.record.world_from_body)

    def hulls(self) -> tuple[F64, ...]:
        """Corners (V, 3) of its convex pieces, in its own frame [m].

        Raises:
            BundleError: When they aren't solids.
        """
        import numpy as np
        from scipy.spatial import ConvexHull, QhullError

        hulls = tuple(np.array(hull, np.float64) for hull in self.record.hulls)
        try:
            least = min(ConvexHull(hull).volume for hull in hulls)
        except QhullError:  # it is flat
            least = 0.0
        if least < LEAST_VOLUME:
            file = self.files.root / self.file(RECORD_FILE)
            raise damaged("an object's pieces are solids", "one without volume", file)
        return hulls

    def joint_in_body(self, joint: Joint) -> tuple[F64, F64]:
        """Axis (3,) and a point on it (3,) [m] of its joint, in its own frame."""
        body_from_world = self.world_from_body.inverse()
        return body_from_world.rotate(joint.axis), body_from_world.apply(joint.point)

    def file(self, name: str) -> str:
        """The path in the bundle of one of its files."""
        return f"{FOLDER}/{self.record.name}/{name}"

    def splat_file(self, lod: str) -> str:
        """The path in the bundle of a level of detail, full or sim."""
        return self.file(SPLAT_FILES[lod])

    def splat(self, lod: str = "full") -> Gaussians:
        """Its Gaussians, in its own frame.

        Raises:
            BundleError: When the file is damaged.
        """
        from pipeline.splat.ply import load_splat

        path = self.files.path(self.splat_file(lod))
        with reading("an object's splat follows the format in docs/bundle.md", path):
            splat = load_splat(path)
            if len(splat) != (said := self.record.gaussians.get(lod)):
                raise ValueError(f"{len(splat)} Gaussians, and {RECORD_FILE} says {said}")
            check_near(splat.means, "Gaussians")
            return replace(splat, antialiased=self.record.antialiasing == "mip")

    def mesh(self) -> Mesh:
        """Its closed surface, in its own frame; `guessed` where nothing was seen.

        Raises:
            BundleError: When the file is damaged.
        """
        from pipeline.geometry import Mesh

        path = self.files.path(self.file(MESH_FILE))
        with reading("an object's mesh follows the format in docs/bundle.md", path):
            mesh = Mesh.load(path)
            if not len(mesh.triangles):
                raise ValueError("no triangle")
            check_near(mesh.vertices, "vertices")
            return mesh
