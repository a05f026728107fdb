"""Objects as closed bodies: boxes, cylinders and balls where they fit, else what no view looked through.

What the capture never saw is completed: a box by its own symmetry, everything down to what it stands on. The second is
space carving (K. Kutulakos, S. Seitz, A theory of shape by space carving, IJCV 2000) of the inside of the surface.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import cv2
import numpy as np
from scipy.ndimage import binary_fill_holes, gaussian_filter, label, maximum_filter, minimum_filter
from scipy.spatial import KDTree

from pipeline.geometry import Camera, Gaussians, Mesh, Plane, Pose
from pipeline.geometry.jit import njit, prange
from pipeline.geometry.rays import RayCaster
from pipeline.mesh.marching_cubes import zero_crossing
from pipeline.objects.find import Standing
from pipeline.objects.shapes import GRID, UPRIGHT, Shape, box_mesh, shape_of
from pipeline.objects.walls import TOUCH, walls_behind
from pipeline.progress import track
from pipeline.raster import Raster, blending_weights, grey, rasterize
from pipeline.types import F32, F64, I64, Mask

CELL, MAX_CELLS = 0.012, 1_000_000
"""Edge of the cells that are carved [m], larger where they would be more than that."""
BLOCK = 32
"""Edge of the blocks of cells that a surface is sought in."""
SEEN_BEHIND = 0.08
"""A view looks through a cell whose middle is this much nearer than what it sees there [m]."""
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
CLUSTER, TOGETHER, FAR = 0.04, 6, 2.5
"""Edge of clusters of triangles [m], clusters along the edge of a group, and the distance from which a cluster or a
group counts as a dipole [its radius]."""
BLOCK_SIDE, NEAR_SURFACE = 3, 4
"""Cells along an edge of the blocks that are asked as one, farther from the surface than the second [cells]."""
ROUND = 0.7
"""Smoothing of the carved cells [cells]."""
MEASURED = 0.025
"""Vertices farther than this from what was seen are guessed [m]."""
MAX_VIEWS, WIDTH, WEIGHED = 60, 160, 20
"""Views that are asked, the longest side of their depth images [px], and in how many Gaussians are weighed."""
THINNEST = 0.02
"""Thinner bodies may be the noise of a surface [m]."""
ON_IT = 0.05
"""A body is seen where the mesh is not nearer than it by more than this [m]."""

Kind = Literal["box", "cylinder", "ball", "carved"]


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

    kind: Kind
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


def within(camera: Camera, side: int) -> Camera:
    """A lens for images whose longest side is at most that [px]: cameras of a bundle may be of any size."""
    scale = min(1.0, side / max(camera.width, camera.height))
    return camera.resized(max(round(scale * camera.width), 1), max(round(scale * camera.height), 1))


class Views:
    """What the capture's views saw of a mesh: its depth from up to 60 of them."""

    def __init__(self, mesh: Mesh, cameras: Sequence[tuple[Camera, Pose]]) -> None:
        step = -(-len(cameras) // MAX_VIEWS) or 1
        caster = RayCaster(mesh)
        self._views = []
        for camera, pose in cameras[::step]:
            small = within(camera, WIDTH)
            self._views.append((small, pose, caster.depth(small, pose)))
        height, width = (max((depth.shape[axis] for *_, depth in self._views), default=1) for axis in (0, 1))
        self._depth: F32 = np.zeros((len(self._views), height, width), np.float32)
        for number, (*_, depth) in enumerate(self._views):
            rows, columns = depth.shape
            self._depth[number, :rows, :columns] = depth
        self._camera_from_world = np.array([pose.inverse().matrix[:3] for _, pose, _ in self._views]).reshape(-1, 3, 4)
        lenses = [(c.fx, c.fy, c.cx, c.cy, c.width, c.height) for c, *_ in self._views]
        self._lenses = np.array(lenses, np.float64).reshape(-1, 6)

    def look_through(self, points: F64, margin: float = SEEN_BEHIND) -> I64:
        """How many views look through points (N, 3) at what lies behind by more than a margin [m]."""
        return self._count(points, margin, 0.0)

    def see(self, points: F64, margin: float) -> I64:
        """How many views see points (N, 3): no surface lies before them by more than a margin [m]."""
        return self._count(points, -margin, np.inf)

    def _count(self, points: F64, margin: float, nothing: float) -> I64:
        return _count_views(points, self._camera_from_world, self._lenses, self._depth, margin, nothing)

    def shares(self, gaussians: Gaussians, body: Body) -> F64:
        """Which share of what each Gaussian (N,) shows in the views it shows where a body is seen."""
        caster, seen = RayCaster(body.mesh), list[tuple[int, Camera, Pose, Mask]]()
        for camera, pose, depth in self._views:
            own = caster.depth(camera, pose)
            mask = (own > 0) & ((depth == 0) | (own < depth + ON_IT))
            seen.append((int(mask.sum()), camera, pose, mask))
        plain, inside, total = grey(gaussians), np.zeros(len(gaussians)), np.full(len(gaussians), 1e-3)
        for count, camera, pose, mask in sorted(seen, key=lambda one: -one[0])[:WEIGHED]:
            if count:
                raster = _raster(plain, camera, pose)
                inside += blending_weights(raster, plain, mask)
                total += blending_weights(raster, plain, np.ones(mask.shape, bool))
        return inside / total

    def weights(self, gaussians: Gaussians) -> F64:
        """How many pixels each Gaussian (N,) shows in all views together."""
        plain, total = grey(gaussians), np.zeros(len(gaussians))
        for camera, pose, depth in self._views:
            total += blending_weights(_raster(plain, camera, pose), plain, np.ones(depth.shape, bool))
        return total

    def hidden_by(self, mesh: Mesh, points: F64, scene: RayCaster) -> Mask:
        """Which points (N, 3) lie behind a surface in some view, and before the rest of the scene."""
        caster, hidden = RayCaster(mesh), np.zeros(len(points), bool)
        for camera, pose, _ in self._views:
            asked = np.flatnonzero(_in_image(camera, pose, points) & ~hidden)
            eyes, rays = np.broadcast_to(pose.translation, (len(asked), 3)), points[asked] - pose.translation
            before = np.flatnonzero(caster.cast(eyes, rays).distance < 1)
            away = np.linalg.norm(rays[before], axis=1)
            free = scene.cast(eyes[before], rays[before]).distance * away > away - ON_IT
            hidden[asked[before[free]]] = True
        return hidden


def _raster(gaussians: Gaussians, camera: Camera, world_from_camera: Pose) -> Raster:
    """What a view shows, without its distortion."""
    return rasterize(gaussians, replace(camera, distortion=(0.0, 0.0, 0.0, 0.0)), world_from_camera)


def _in_image(camera: Camera, world_from_camera: Pose, points: F64) -> Mask:
    """Whether points (N, 3) are in a view's image without its distortion."""
    local = world_from_camera.inverse().apply(points)
    z = np.maximum(local[:, 2], 1e-6)
    u, v = camera.fx * local[:, 0] / z + camera.cx, camera.fy * local[:, 1] / z + camera.cy
    return (local[:, 2] > 0) & (u >= 0) & (v >= 0) & (u < camera.width) & (v < camera.height)


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _count_views(points: F64, camera_from_world: F64, lenses: F64, depths: F32, margin: float, nothing: float) -> I64:
    """In how many views the depth at points (N, 3) is larger than theirs and a margin; none counts as `nothing` [m]."""
    counts = np.zeros(len(points), np.int64)
    for n in prange(len(points)):
        x, y, z = points[n]
        for view in range(len(lenses)):
            m, lens = camera_from_world[view], lenses[view]
            far = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
            if far <= 0:
                continue
            u = lens[0] * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / far + lens[2]
            v = lens[1] * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / far + lens[3]
            if not (u >= 0 and v >= 0 and u < lens[4] and v < lens[5]):
                continue
            behind = depths[view, int(v), int(u)]
            counts[n] += (behind if behind > 0 else nothing) > far + margin
    return counts


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


def winding(corners: F64, points: F64) -> F64:
    """Generalised winding numbers (N,) of points about triangles (F, 3, 3): 1 inside of a closed surface, 0 outside.

    A. Jacobson, L. Kavan, O. Sorkine-Hornung, Robust inside-outside segmentation, SIGGRAPH 2013, equation 6; far
    clusters of triangles as dipoles: G. Barill et al., Fast winding numbers for soups and clouds, SIGGRAPH 2018.
    """
    places = np.floor(corners.mean(1) / CLUSTER).astype(np.int64)
    keys, of = np.unique(np.concatenate([places // TOGETHER, places], 1), axis=0, return_inverse=True)
    corners = corners[np.argsort(of.reshape(-1), kind="stable")]
    starts = np.append(0, np.cumsum(np.bincount(of.reshape(-1))))
    groups = np.append(np.flatnonzero(np.diff(keys[:, :3], axis=0, prepend=keys[:1, :3] - 1).any(1)), len(keys))
    of_clusters, of_groups = _dipoles(corners, starts), _dipoles(corners, starts[groups])
    return _windings(corners, starts, groups, of_clusters, of_groups, np.ascontiguousarray(points))


def _dipoles(corners: F64, starts: I64) -> F64:
    """Of triangles (F, 3, 3) from each start to the next: middle, area vector, distance from which these tell all."""
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
    weight = np.linalg.norm(normal, axis=1)[:, None] + 1e-12
    first = starts[:-1]
    centre = np.add.reduceat(corners.mean(1) * weight, first) / np.add.reduceat(weight, first)
    apart = np.linalg.norm(corners - np.repeat(centre, np.diff(starts), axis=0)[:, None], axis=2).max(1)
    return np.column_stack([centre, np.add.reduceat(normal, first), FAR * np.maximum.reduceat(apart, first)])


@njit(nogil=True, error_model="numpy", cache=True)
def _dipole(dipole: F64, x: float, y: float, z: float) -> float:
    """Half the solid angle of what is far from a point; NaN where it is near."""
    dx, dy, dz = dipole[0] - x, dipole[1] - y, dipole[2] - z
    distance = np.sqrt(dx * dx + dy * dy + dz * dz)
    if distance <= dipole[6]:
        return np.nan
    return float((dx * dipole[3] + dy * dipole[4] + dz * dipole[5]) / (2 * distance**3))


@njit(parallel=True, cache=True, nogil=True)
def _windings(corners: F64, starts: I64, groups: I64, of_clusters: F64, of_groups: F64, points: F64) -> F64:
    result = np.empty(len(points))
    for n in prange(len(points)):
        x, y, z = points[n]
        total = 0.0
        for group in range(len(of_groups)):
            part = _dipole(of_groups[group], x, y, z)
            if not np.isnan(part):
                total += part
                continue
            for cluster in range(groups[group], groups[group + 1]):
                part = _dipole(of_clusters[cluster], x, y, z)
                if not np.isnan(part):
                    total += part
                    continue
                for f in range(starts[cluster], starts[cluster + 1]):
                    total += _half_angle(corners[f], x, y, z)
        result[n] = total / (2 * np.pi)
    return result


@njit(nogil=True, error_model="numpy", cache=True)
def _half_angle(corners: F64, x: float, y: float, z: float) -> float:
    """Half the solid angle of a triangle (3, 3) seen from a point."""
    ax, ay, az = corners[0, 0] - x, corners[0, 1] - y, corners[0, 2] - z
    bx, by, bz = corners[1, 0] - x, corners[1, 1] - y, corners[1, 2] - z
    cx, cy, cz = corners[2, 0] - x, corners[2, 1] - y, corners[2, 2] - z
    a = np.sqrt(ax * ax + ay * ay + az * az)
    b = np.sqrt(bx * bx + by * by + bz * bz)
    c = np.sqrt(cx * cx + cy * cy + cz * cz)
    volume = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    ab, bc, ca = ax * bx + ay * by + az * bz, bx * cx + by * cy + bz * cz, cx * ax + cy * ay + cz * az
    return float(np.arctan2(volume, a * b * c + ab * c + bc * a + ca * b))


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
