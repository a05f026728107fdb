"""What a drawn room is made of: painted parallelograms and triangles, and solids of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from pipeline.geometry import Mesh
from pipeline.types import F64, I64, U8, Mask

EYE_LEVEL = 1.1
"""Height up to which small robots see walls well; walls are cut there, as what is above needs less detail [m]."""


@dataclass(frozen=True)
class Paint:
    """How a surface looks in plain white light: a colour, patches that deviate from it, and noise.

    Attributes:
        base: Mean colour, sRGB 0..1.
        patch: Sides of the patches along the surface's level and its other direction [m].
        contrast: Standard deviation of the patches' colours, 0..1.
        noise: Standard deviation of what comes on top point by point, as a share of the colour.
        key: Paints with equal keys have equal patches.
        glow: Light of its own, 0..1, that comes on top of what falls on it.
        detail: Gaussians for an area, relative to other surfaces at its place.
    """

    base: tuple[float, float, float]
    patch: tuple[float, float] = (0.3, 0.3)
    contrast: float = 0.05
    noise: float = 0.04
    key: int = 0
    glow: float = 0.0
    detail: float = 1.0


@dataclass(frozen=True, eq=False)
class Face:
    """A parallelogram, or the triangle that is its half at the corner; seen from where `along` x `across` points.

    `corner`, `along` and `across` are (3,) [m, world frame].
    """

    corner: F64
    along: F64
    across: F64
    paint: Paint
    half: bool = False


@dataclass
class Builder:
    """Collects faces."""

    faces: list[Face] = field(default_factory=list)

    def quad(self, corner: ArrayLike, along: ArrayLike, across: ArrayLike, paint: Paint, *, half: bool = False) -> None:
        """One parallelogram, or the triangle that is its half [m]."""
        start, first, second = (np.asarray(value, np.float64) for value in (corner, along, across))
        self.faces.append(Face(start, first, second, paint, half))

    def slab(
        self, corner: ArrayLike, along: ArrayLike, across: ArrayLike, height: float, top: Paint, side: Paint
    ) -> None:
        """A solid below a parallelogram whose `along` x `across` points up [m]; without the bottom where it stands."""
        c, a, b = (np.asarray(value, np.float64) for value in (corner, along, across))
        down = np.array([0, 0, -height])
        self.quad(c, a, b, top)
        for start, edge in ((c, a), (c + a, b), (c + a + b, -a), (c + b, -b)):
            self.quad(start + down, edge, -down, side)

    def box(
        self,
        low: ArrayLike,
        high: ArrayLike,
        paint: Paint,
        side: Paint | None = None,
        *,
        yaw: float = 0.0,
        hangs: bool = False,
    ) -> None:
        """An upright box between two corners (3,) [m], turned about the vertical through its middle [rad].

        One that `hangs`, or has room below, has a bottom.
        """
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        c, s = np.cos(yaw), np.sin(yaw)
        size, middle = high - low, (low + high) / 2
        along, across = size[0] * np.array([c, s, 0]), size[1] * np.array([-s, c, 0])
        corner = middle - along / 2 - across / 2 + [0, 0, size[2] / 2]
        self.slab(corner, along, across, size[2], paint, side or paint)
        if hangs:
            self.quad(corner - [0, 0, size[2]], across, along, side or paint)

    def wall(
        self, start: Sequence[float] | F64, end: Sequence[float] | F64, low: float, high: float, paint: Paint
    ) -> None:
        """A vertical wall from one (x, y) to another, seen from the left of that way, between two heights [m]."""
        cuts = [low, *([EYE_LEVEL] if low < EYE_LEVEL - 0.2 and high > EYE_LEVEL + 0.2 else []), high]
        along = np.array([end[0] - start[0], end[1] - start[1], 0.0])
        for bottom, top in pairwise(cuts):
            self.quad((*start, bottom), along, (0, 0, top - bottom), paint)


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Faces as arrays.

    Attributes:
        corners: (F, 3) [m, world frame], as the next two.
        along: (F, 3).
        across: (F, 3).
        half: (F,) bool, triangles.
        paints: Paint of each face.
    """

    corners: F64
    along: F64
    across: F64
    half: Mask
    paints: tuple[Paint, ...]

    @staticmethod
    def of(faces: Sequence[Face]) -> Surfaces:
        """Of one face at least."""
        return Surfaces(
            np.array([face.corner for face in faces]),
            np.array([face.along for face in faces]),
            np.array([face.across for face in faces]),
            np.array([face.half for face in faces]),
            tuple(face.paint for face in faces),
        )

    def normals(self) -> F64:
        """Unit normals (F, 3)."""
        normals = np.cross(self.along, self.across)
        return normals / np.linalg.norm(normals, axis=1, keepdims=True)

    def areas(self) -> F64:
        """Areas (F,) [m^2]."""
        return np.linalg.norm(np.cross(self.along, self.across), axis=1) * np.where(self.half, 0.5, 1.0)

    def mesh(self) -> Mesh:
        """The exact mesh in grey, with four vertices for each parallelogram and three for each triangle."""
        corners = np.stack([self.corners, self.corners + self.along, self.corners + self.across], 1)
        fourth = (self.corners + self.along + self.across)[~self.half]
        number = np.arange(3 * len(corners)).reshape(-1, 3)
        vertices = np.concatenate([corners.reshape(-1, 3), fourth])
        beyond = 3 * len(corners) + np.arange(len(fourth))
        whole = number[~self.half]
        others = np.column_stack([whole[:, 1], beyond, whole[:, 2]])
        return Mesh.from_arrays(vertices, np.concatenate([number, others]))

    def owners(self) -> I64:
        """The face of each vertex of `mesh` (V,)."""
        faces = np.arange(len(self.corners))
        return np.concatenate([np.repeat(faces, 3), faces[~self.half]])


def painted(mesh: Mesh, colors: F64) -> Mesh:
    """The mesh with vertex colours (V, 3) in 0..1."""
    rgb: U8 = (255 * np.clip(colors, 0, 1)).round().astype(np.uint8)
    return Mesh(mesh.vertices, mesh.triangles, rgb, mesh.guessed)
