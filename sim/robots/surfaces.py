"""What robots look like: the triangles of their shapes, and of what their files show."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Mesh
from pipeline.geometry.convex import extreme_points, spread
from pipeline.mesh.decimate import decimate
from pipeline.types import F64
from sim.robots.model import Robot, Shape, Visual
from sim.robots.reading import read_visuals

logger = logging.getLogger(__name__)

AROUND = 16
"""Sides of round shapes."""
DIRECTIONS = 64
"""Directions in which a simplified hull keeps its width; it is a little narrower between them."""
MOST = 2_000_000
"""Triangles that a robot's file may show: thinning ends soon."""
BESIDE = 0.02
"""A camera within a part, or as near to it, is not shown it from inside [m]; mounts vary."""


class Surface(NamedTuple):
    """Part of a link's surface.

    Attributes:
        link: Number of the link.
        corners: (T, 3, 3) of its triangles, in the link's axes [m], counter-clockwise from outside.
        color: Red, green, blue, 0..1; None where the file has none.
        convex: Whether it is: from inside, nothing of it is seen.
    """

    link: int
    corners: F64
    color: tuple[float, float, float] | None
    convex: bool


@lru_cache(8)  # environments are made anew for evaluations
def surfaces_of(robot: Robot, triangles: int) -> tuple[Surface, ...]:
    """What a robot's file shows of each link, in parts of so many triangles; where that is nothing, its shapes.

    Collision shapes stand for all where the file's visual meshes can't be read, which is told.
    """
    try:
        shown = read_visuals(robot.file, robot.mount)
    except SimError as error:
        logger.warning("%s is drawn with its collision shapes: %s", robot.name, error.found)
        shown = []
    if sum(len(visual.triangles) for visual in shown) > MOST:
        logger.warning("%s is drawn with its collision shapes: its file shows too many triangles", robot.name)
        shown = []
    found = list[Surface]()
    for number, link in enumerate(robot.links):
        looks = [visual for visual in shown if visual.link == link.name]
        found += [Surface(number, _shown(visual, triangles), visual.color, False) for visual in looks]
        found += [Surface(number, solid_of(shape), None, True) for shape in link.shapes if not looks]
    return tuple(found)


def seen_from(surfaces: Sequence[Surface], link: int, eye: F64) -> list[Surface]:
    """The same without what would hide all from a camera in it, at a point (3,) of a link's axes [m]."""
    return [one for one in surfaces if one.link != link or one.convex or not _around(one.corners, eye)]


def _shown(visual: Visual, triangles: int) -> F64:
    """Triangles (T, 3, 3) of a visual in its link's axes [m], so many at most."""
    if not len(visual.triangles):
        return solid_of(visual.shape)
    thin = decimate(Mesh.from_arrays(visual.shape.vertices, visual.triangles), triangles)
    return visual.shape.link_from_shape.apply(thin.corners()[thin.face_areas() > 0].astype(np.float64))


def _around(corners: F64, eye: F64) -> bool:
    """Whether triangles have a point (3,) between them in every direction, or are as near to it as `BESIDE`."""
    towards = spread(DIRECTIONS)
    return bool(((corners.reshape(-1, 3) - eye) @ towards.T).max(0).min() > -BESIDE)


def solid_of(shape: Shape) -> F64:
    """Triangles (T, 3, 3) of a collision shape's surface in its link's axes [m], counter-clockwise from outside."""
    return shape.link_from_shape.apply(_triangles(shape))


def _triangles(shape: Shape) -> F64:
    """Triangles (T, 3, 3) of its surface, in its own axes [m], counter-clockwise from outside."""
    if shape.kind == "mesh":
        return hull(extreme_points(shape.vertices, DIRECTIONS))
    if shape.kind == "box":
        return hull(np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T * shape.size)
    if shape.kind == "sphere":
        return hull(_rings([0.0], shape.size[0]))
    half = shape.size[1]
    if shape.kind == "capsule":
        return hull(_rings([-half, half], shape.size[0]))
    angle = np.arange(AROUND) * 2 * np.pi / AROUND
    rim = np.stack([np.cos(angle), np.sin(angle)], 1) * shape.size[0]
    return hull(np.concatenate([np.c_[rim, np.full(AROUND, z)] for z in (-half, half)]))


def _rings(heights: Sequence[float], radius: float) -> F64:
    """Points (P, 3) on spheres of that radius around these heights on the z axis."""
    angle, slope = np.meshgrid(np.arange(AROUND), np.linspace(-1, 1, AROUND // 2 + 1))
    angle, slope = angle.ravel() * 2 * np.pi / AROUND, slope.ravel() * np.pi / 2
    ball = np.stack([np.cos(slope) * np.cos(angle), np.cos(slope) * np.sin(angle), np.sin(slope)], 1) * radius
    return np.concatenate([ball + np.array([0, 0, height]) for height in heights])


def hull(points: F64) -> F64:
    """The triangles (T, 3, 3) around points (V, 3), counter-clockwise from outside."""
    from scipy.spatial import ConvexHull

    hull = ConvexHull(points)
    corners = points[hull.simplices]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inwards = np.einsum("tc,tc->t", normal, hull.equations[:, :3]) < 0
    corners[inwards] = corners[inwards][:, ::-1]
    return corners
