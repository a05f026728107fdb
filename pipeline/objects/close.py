"""Objects as closed bodies: boxes, cylinders and balls where they fit, else what no view looked through.

What the capture never saw is completed: a box by its own symmetry, everything down to what it stands on. The second is
space carving (K. Kutulakos, S. Seitz, A theory of shape by space carving, IJCV 2000) of the inside of the surface.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from scipy.ndimage import binary_fill_holes, gaussian_filter, label, maximum_filter, minimum_filter
from scipy.spatial import KDTree

from pipeline.geometry import Mesh, Plane, Pose
from pipeline.geometry.rays import RayCaster
from pipeline.geometry.winding import winding
from pipeline.mesh.marching_cubes import zero_crossing
from pipeline.objects.find import Standing
from pipeline.objects.shapes import GRID, UPRIGHT, Shape, box_mesh, shape_of
from pipeline.objects.views import Views
from pipeline.objects.walls import TOUCH, walls_behind
from pipeline.progress import track
from pipeline.scenes.objects import ClosingKind
from pipeline.types import F32, F64, I64, Mask

CELL, MAX_CELLS = 0.012, 1_000_000
"""Edge of the cells that are carved [m], larger where they would be more than that."""
BLOCK = 32
"""Edge of the blocks of cells that a surface is sought in."""
LOOKS_THROUGH = 5
"""Views that must look through a cell for it to be empty."""
SAMPLES, HOLLOW = 2000, 0.1
"""A shape is none where views look through more than the second of so many of its points."""
DEEPER, STOPS, UNSURE = 0.02, 0.5, 0.3
"""A box of which one side was seen gets deeper by steps of the first [m], until this share of a row or column of a step
can't be its own. Then its depth is known to the third of it."""
LEVEL, PLATE_AREA = 0.9, 0.04
"""Least z of the normals of a plate, and its least area [m^2]."""
PLATE_STEP, THICKEST, RIM_ENDS = 0.012, 12, 0.4
"""A plate ends where its rim, in steps of the first [m], has less than this share of the most of it; one of more steps
than the second is no plate."""
BESIDE, WALL = 0.5, 0.05
"""A wall goes on behind a box where as much of it [m^2] is seen as near beside that [m]."""
BLOCK_SIDE, NEAR_SURFACE = 3, 4
"""Cells along an edge of the blocks that are asked as one, farther from the surface than the second [cells]."""
ROUND = 0.7
"""Smoothing of the carved cells [cells]."""
MEASURED = 0.025
"""Vertices farther than this from what was seen are guessed [m]."""
THINNEST = 0.02
"""Thinner bodies may be the noise of a surface [m]."""


@dataclass(frozen=True, eq=False)
class Body:
    """A closed body.

    Attributes:
        kind: How its surface was completed.
        world_from_body: x and y along its sides, z up; the origin is the middle of its foot.
        size: (3,) lengths along these axes [m].
        mesh: Its watertight surface, in the world frame; `guessed` where nothing was seen.
        sigma: (3,) one sigma of lengths that are guessed [m]; 0 for those that are told by what was seen.
    """

    kind: ClosingKind
    world_from_body: Pose
    size: F64
    mesh: Mesh
    sigma: F64 = field(default_factory=lambda: np.zeros(3))

    @property
    def volume(self) -> float:
        """[m^3]."""
        a, b, c = np.moveaxis(self.mesh.corners().astype(np.float64), 1, 0)
        return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)

    def distance(self, point: F64) -> float:
        """Distance of a point (3,) from it, 0 inside [m]."""
        points = point.reshape(1, 3)
        inside = winding(self.mesh.corners().astype(np.float64), points)[0] > 0.5
        return 0.0 if inside else float(RayCaster(self.mesh).distances(points)[0])


def close_bodies(mesh: Mesh, standing: Sequence[Standing], views: Views) -> dict[int, Body]:
    """The closed bodies of all objects of a mesh, in their order and by their index, where one came out."""
    bodies = dict[int, Body]()
    # what stands on an object is closed before it
    for number in track(reversed(range(len(standing))), "closed bodies", len(standing)):
        above = [body for other, body in bodies.items() if standing[other].on == number]
        body = close_body(mesh, standing[number], views, above)
        if body is not None:
            bodies[number] = body
    return dict(sorted(bodies.items()))


def close_body(mesh: Mesh, found: Standing, views: Views, standing_on_it: Sequence[Body] = ()) -> Body | None:
    """The closed body of an object of a mesh; None where less than a body was seen of it.

    Bodies that stand on it hide parts of it, which are level.
    """
    seen = mesh.with_faces(found.triangles)
    shape = shape_of(seen, found.support)
    sigma = np.zeros(3)
    if shape is not None and not _seen_through(shape, views):
        shape, sigma = _deepened(shape, mesh, found.triangles, views)
        kind, frame, size, surface = shape.kind, shape.world_from_body, shape.size, shape.mesh()
    else:
        kind = "carved"
        walls = walls_behind(mesh, found.triangles, found.support)
        carved = _carved(functools.reduce(Mesh.joined, map(foot_of, standing_on_it), seen), found.support, walls, views)
        if carved is None:
            return None
        surface = carved
        low, high = surface.vertices.min(0).astype(np.float64), surface.vertices.max(0).astype(np.float64)
        frame, size = Pose(np.eye(3), np.array([*(low + high)[:2] / 2, found.support])), high - low
    measured = ~seen.face_guessed()
    known = RayCaster(seen.with_faces(measured)).distances(surface.vertices) < MEASURED
    colors = _colors_of(seen, surface.vertices)
    return Body(kind, frame, size, Mesh(surface.vertices, surface.triangles, colors, ~known), sigma)


def _seen_through(shape: Shape, views: Views) -> bool:
    """Whether views look through a shape, such as between the arms of an L."""
    points = np.random.default_rng(0).uniform([-0.45, -0.45, 0.1], [0.45, 0.45, 0.9], (SAMPLES, 3)) * shape.size
    free = views.look_through(shape.world_from_body.apply(points)) >= LOOKS_THROUGH
    return bool(free.mean() > HOLLOW)


def _deepened(shape: Shape, mesh: Mesh, own: Mask, views: Views) -> tuple[Shape, F64]:
    """A box of which one side was seen, as deep as that is wide, and one sigma of its lengths (3,) [m].

    Less deep where a view looks through, or something else of the mesh is than its `own` triangles (F,): a wall that
    is seen beside it, too.
    """
    sigma = np.zeros(3)
    if not shape.unseen:
        return shape, sigma
    farthest = 2 * float(np.linalg.norm(shape.size)) + BESIDE
    near = np.linalg.norm(mesh.vertices - shape.world_from_body.translation, axis=1) < farthest
    scene = mesh.with_faces(near[mesh.triangles].any(1) & ~own)
    around, middles = RayCaster(scene), scene.corners().mean(1).astype(np.float64)
    normals, areas = scene.face_normals(), scene.face_areas()
    u, v = np.meshgrid(np.linspace(-0.48, 0.48, 16), np.linspace(0.15, 0.97, 16))
    for axis, sign in shape.unseen:
        size, pose = shape.size, shape.world_from_body
        local = pose.inverse().apply(middles)
        beside = (np.abs(local[:, 1 - axis]) < size[1 - axis] / 2 + BESIDE) & (
            -sign * normals @ pose.rotation[:, axis] > 0.9
        )
        reach = sign * local[beside, axis] - size[axis] / 2
        sheet, added = np.zeros((u.size, 3)), 0
        sheet[:, 1 - axis], sheet[:, 2] = u.ravel() * size[1 - axis], v.ravel() * size[2]
        while size[axis] + (added + 1) * DEEPER <= size[1 - axis]:
            sheet[:, axis] = sign * (size[axis] / 2 + (added + 0.5) * DEEPER)
            points = pose.apply(sheet)
            taken = views.look_through(points, DEEPER) >= LOOKS_THROUGH
            taken |= around.distances(points) < DEEPER
            wall = areas[beside][np.abs(reach - (added + 0.5) * DEEPER) < DEEPER].sum()
            strips = taken.reshape(u.shape)
            if max(strips.mean(0).max(), strips.mean(1).max()) > STOPS or wall > WALL:
                break
            added += 1
        more = np.zeros(3)
        more[axis] = added * DEEPER
        frame = Pose(pose.rotation, pose.apply(sign * more / 2))
        shape = replace(shape, size=size + more, world_from_body=frame)
        sigma[axis] = UNSURE * shape.size[axis]
    return shape, sigma


def finer(body: Body) -> Mesh:
    """The surface of a body, without large triangles."""
    if body.kind != "box":
        return body.mesh
    surface = box_mesh(body.world_from_body, body.size, GRID / 2)
    return replace(surface, colors=_colors_of(body.mesh, surface.vertices))


def foot_of(body: Body) -> Mesh:
    """The level surface under a body."""
    points = body.mesh.vertices.astype(np.float64)
    height = body.world_from_body.translation[2]
    near = points[points[:, 2] < height + 2 * CELL, :2].astype(np.float32)
    outline = np.asarray(cv2.convexHull(near)).reshape(-1, 2) if len(near) else near
    first = np.arange(1, max(len(outline) - 1, 1))
    triangles = np.column_stack([np.zeros_like(first), first, first + 1])
    return Mesh.from_arrays(np.column_stack([outline, np.full(len(outline), height)]).astype(np.float64), triangles)


def _carved(seen: Mesh, support: float, walls: Sequence[Plane], views: Views) -> Mesh | None:
    """Surface of what is inside of a surface, down to its foot and up to walls, and no view looked through, if any."""
    low, high = seen.vertices.min(0).astype(np.float64), seen.vertices.max(0).astype(np.float64)
    low[2] = support
    for wall in walls:  # what was seen ends in the rounded corner before it
        low, high = low - TOUCH * np.maximum(wall.normal, 0), high + TOUCH * np.maximum(-wall.normal, 0)
    cell = CELL
    while np.prod(shape := np.ceil((high - low) / cell) + 4) > MAX_CELLS:
        cell *= 1.1
    shape = shape.astype(int)
    origin = low - 2 * cell
    corners = seen.corners().astype(np.float64)
    corners = np.concatenate([corners, _undersides(seen, support, views)])
    for plane in (Plane(np.array([0, 0, 1.0]), support), *walls):
        corners = np.concatenate(
            [corners, plane.reflected(corners)[:, ::-1]]
        )  # in the mirror: closes what lies against the plane

    def hidden(points: F64) -> Mask:
        within = ((points > low) & (points < high)).all(1)
        for wall in walls:
            within &= wall.distance(points) > 0
        within[within] = views.look_through(points[within]) < LOOKS_THROUGH
        return within

    solid = _inside(corners, RayCaster(seen), shape, origin, cell, hidden)
    solid = _largest(np.asarray(binary_fill_holes(solid), bool))
    if solid is None:
        return None
    field = np.asarray(0.5 - gaussian_filter(solid.astype(np.float32), ROUND), np.float32)
    vertices, triangles = _contour(field)
    if not len(triangles):
        return None
    return Mesh.from_arrays((vertices + 0.5) * cell + origin, triangles)


def _inside(
    corners: F64, surface: RayCaster, shape: I64, origin: F64, cell: float, hidden: Callable[[F64], Mask]
) -> Mask:
    """The hidden cells (X, Y, Z) of a grid that lie inside of triangles (F, 3, 3).

    Winding numbers jump at the surface and are smooth elsewhere: far from it, blocks of cells are asked as one, unless
    their neighbours are of the other kind.
    """
    blocks = -(-shape // BLOCK_SIDE)
    centres = (np.stack(np.meshgrid(*map(np.arange, blocks), indexing="ij"), -1) + 0.5) * BLOCK_SIDE * cell + origin
    whole = (winding(corners, centres.reshape(-1, 3)) > 0.5).reshape(blocks)
    mixed = (surface.distances(centres.reshape(-1, 3)) < NEAR_SURFACE * cell).reshape(blocks)
    mixed |= maximum_filter(whole, 3) != minimum_filter(whole, 3)
    fine, solid = (np.kron(one, np.ones([BLOCK_SIDE] * 3, bool)) for one in (mixed, whole))
    solid, fine = (one[: shape[0], : shape[1], : shape[2]] for one in (solid | fine, fine))
    found = np.argwhere(solid)
    solid[solid] = hidden((found + 0.5) * cell + origin)
    asked = np.argwhere(solid & fine)
    solid[tuple(asked.T)] = winding(corners, (asked + 0.5) * cell + origin) > 0.5
    return solid


def _undersides(seen: Mesh, support: float, views: Views) -> F64:
    """Corners (F, 3, 3) of the undersides of plates, as thick as their rims, that views look under."""
    corners, areas, facing = seen.corners().astype(np.float64), seen.face_areas(), seen.face_normals()[:, 2]
    middle, found = corners[..., 2].mean(1), [np.zeros((0, 3, 3))]
    level, side, under = facing > LEVEL, np.abs(facing) < UPRIGHT, facing < -LEVEL
    bins = np.floor((middle - support) / PLATE_STEP).astype(np.int64)
    area = np.bincount(np.maximum(bins[level], 0), areas[level])
    for number in np.flatnonzero(area > PLATE_AREA):
        own = level & (bins == number)
        height = float(np.median(middle[own]))
        depth = np.floor((height - middle[side]) / PLATE_STEP).astype(np.int64)
        rim = np.bincount(depth[depth >= 0], areas[side][depth >= 0], THICKEST + 1)[: THICKEST + 1]
        ends = np.flatnonzero(rim < RIM_ENDS * rim.max()) if rim.any() else np.zeros(0, np.int64)
        ends = ends[ends > rim.argmax()]
        thick = PLATE_STEP * ends[0] if len(ends) else 0.0
        seen_below = areas[under & (middle < height) & (middle > height - 2 * thick)].sum()
        below = corners[own].mean(1) - [0, 0, (height - support) / 2]
        free = views.look_through(below) >= LOOKS_THROUGH
        if thick and height - thick > support and seen_below < RIM_ENDS * area[number] and free.mean() > HOLLOW:
            found.append(corners[own][:, ::-1] - [0, 0, thick])
    return np.concatenate(found)


def _largest(solid: Mask) -> Mask | None:
    parts = np.asarray(label(solid)[0])  # type: ignore[index]
    if not parts.any():
        return None
    sizes = np.bincount(parts.ravel())[1:]
    return np.isin(parts, 1 + np.flatnonzero(sizes > 0.02 * sizes.max()))


def _contour(field: F32) -> tuple[F64, I64]:
    """Where a field (X, Y, Z) is 0: vertices (V, 3) [cells] and triangles, facing positive values."""
    count = -(-np.array(field.shape[::-1]) // BLOCK)  # along z, y, x
    padded = np.ones(count * BLOCK, np.float32)
    padded[: field.shape[2], : field.shape[1], : field.shape[0]] = field.transpose(2, 1, 0)
    cut = padded.reshape(count[0], BLOCK, count[1], BLOCK, count[2], BLOCK).transpose(0, 2, 4, 1, 3, 5)
    values = np.ascontiguousarray(cut.reshape(-1, BLOCK, BLOCK, BLOCK))
    places = np.stack(np.meshgrid(*map(np.arange, count), indexing="ij"), -1).reshape(-1, 3)[:, ::-1]
    return zero_crossing(np.ascontiguousarray(places, np.int32), values, np.ones(values.shape, bool))


def _colors_of(seen: Mesh, vertices: F32) -> np.ndarray:
    """Colours (V, 3) of the nearest vertices of a surface."""
    return seen.colors[KDTree(seen.vertices).query(vertices)[1]]
