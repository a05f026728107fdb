"""Flat floors, stairs and walls with sharp edges.

Planes draw vertices onto themselves, but only as far as their own scatter explains: what stands out further is an
object and stays. Between planes, vertices go to the nearest point on the planes that end at each other, and of every
edge of the mesh from plane to plane one end goes onto their common line: no triangle cuts the corner.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from pipeline.geometry import Mesh
from pipeline.geometry.jit import njit
from pipeline.mesh.planes import Planes, find_planes
from pipeline.mesh.topology import links_of, neighbours_of_vertices
from pipeline.types import F64, I32, I64, Mask

logger = logging.getLogger(__name__)

SCATTER = (0.05, 0.2)  # [voxels] a plane's scatter is taken to lie between these
DRAWN = 3.0  # scatters up to which vertices go all the way onto the plane; at twice that they stay
ROUNDED_RINGS = 2  # rings of a plane's vertices next to another plane that are rounded
SEAM_RINGS = 6  # rings of vertices round a plane's others in which its seams lie
ROUNDED = 1.0  # [voxels] by which a rounded seam lies off its planes; what is further off is an object in a corner
ALONE = 0.6  # share of neighbours on planes
SNAP = 1.5  # [voxels] from a seam in which vertices are put onto it
MIN_CORNER = 0.2  # determinant of the normals of three planes that meet in a point
NEEDLE = 0.02  # share of its area that a triangle of no account keeps
SEAM_COSINE = float(np.cos(np.deg2rad(30)))  # planes that meet at less than 30 degrees have no seam


@dataclass(frozen=True)
class FlatReport:
    """What was found and moved."""

    planes: int
    area: float  # share of the surface that lies on them
    drawn: float  # median distance by which vertices moved onto planes [m]
    seam_vertices: int  # vertices put between or onto the edges of two planes


def flatten(mesh: Mesh, voxel_size: float) -> tuple[Mesh, FlatReport]:
    """The oriented, canonical mesh [m] with flat planes and sharp seams; no vertex moves further than two voxels."""
    planes = find_planes(mesh, voxel_size)
    if not len(planes.offsets):
        return mesh, FlatReport(0, 0.0, 0.0, 0)
    areas = mesh.face_areas()
    old = mesh.vertices.astype(np.float64)
    owner = _vertex_labels(mesh.triangles, planes.labels, len(old))
    drawn = _drawn(old, owner, planes, voxel_size)
    moved = _seamed(drawn, _vertex_normals(old, mesh.triangles), owner, planes, mesh.triangles, voxel_size)
    moved = _without_folds(moved, drawn, mesh.triangles)
    result = replace(mesh, vertices=moved.astype(np.float32))
    report = FlatReport(
        planes=len(planes.offsets),
        area=float(areas[planes.labels >= 0].sum() / areas.sum()),
        drawn=float(np.median(np.linalg.norm(drawn - old, axis=1)[owner >= 0])) if (owner >= 0).any() else 0.0,
        seam_vertices=int((moved != drawn).any(1).sum()),
    )
    logger.info("%d planes with %.0f %% of the surface", report.planes, 100 * report.area)
    return result, report


def _vertex_labels(triangles: I32, labels: I64, count: int) -> I64:
    """The plane (V,) of vertices whose triangles lie on one plane, at least half of them; -1 for all others."""
    corners, of = triangles.reshape(-1), np.repeat(labels, 3)
    known = of >= 0
    least, most = np.full(count, np.iinfo(np.int64).max), np.full(count, -1)
    np.minimum.at(least, corners[known], of[known])
    np.maximum.at(most, corners[known], of[known])
    share = np.bincount(corners[known], minlength=count) / np.maximum(np.bincount(corners, minlength=count), 1)
    return np.where((least == most) & (share >= 0.5), most, -1)


def _drawn(points: F64, owner: I64, planes: Planes, voxel_size: float) -> F64:
    """Points (V, 3) moved onto their planes: up to three scatters all the way, from six on not at all."""
    mine = owner >= 0
    normal, offset = planes.normals[owner[mine]], planes.offsets[owner[mine]]
    reach = DRAWN * np.clip(planes.scatter[owner[mine]], SCATTER[0] * voxel_size, SCATTER[1] * voxel_size)
    distance = np.einsum("nc,nc->n", points[mine], normal) - offset
    share = np.clip(2 - np.abs(distance) / reach, 0, 1)
    result = points.copy()
    result[mine] -= (share * distance)[:, None] * normal
    return result


def _seamed(points: F64, facing: F64, owner: I64, planes: Planes, triangles: I32, voxel_size: float) -> F64:
    """Points (V, 3) between planes moved onto the planes that end at each other, and onto their edges."""
    graph = neighbours_of_vertices(triangles, len(points))
    links = links_of(graph)
    near, _ = _near_planes(*links, owner, ROUNDED_RINGS)
    owner = np.where(near[:, 1] < 0, owner, -1)
    near, anchors = _near_planes(*links, owner, SEAM_RINGS)
    reach = np.full(len(points), ROUNDED * voxel_size)
    placed, on = points, owner
    for _ in range(2):  # what stands alone among placed vertices is no object: the second time it may move twice as far
        placed, on = _placed(points, facing, owner, near, anchors, planes, reach)
        alone = graph @ (on >= 0).astype(np.float64) >= ALONE * np.diff(graph.indptr)
        reach[alone] = 2 * ROUNDED * voxel_size
    return _snapped(placed, points, on, planes, _crossing(*links, on), SNAP * voxel_size)


def _placed(
    points: F64, facing: F64, owner: I64, near: I64, anchors: I64, planes: Planes, reach: F64
) -> tuple[F64, I64]:
    """Points (V, 3) between planes put onto the nearest of them, and the plane (V,) that each lies on, -1 = none.

    A plane ends where another one begins: on the side of it on which its own nearest vertex lies. What faces away from
    a plane (the underside of a table's edge) doesn't belong to it.
    """
    between = np.flatnonzero((owner < 0) & (near[:, 1] >= 0))
    start, least = points[between], reach[between].copy()
    placed, on = points.copy(), owner.copy()
    for i in range(3):
        a = near[between, i]
        target = start - _distances(start, a, planes)[:, None] * planes.normals[a]
        ends = np.zeros(len(between), bool)
        towards = np.einsum("nc,nc->n", facing[between], planes.normals[a]) > 0
        for j in range(3):
            b = near[between, j]
            meets = (a >= 0) & (b >= 0) & _meet(a, b, planes)
            ends |= meets
            side = _distances(points[anchors[between, i]], b, planes) * _distances(target, b, planes)
            beyond = meets & (side < 0)
            target[beyond] = _onto_edge(target[beyond], a[beyond], b[beyond], planes)
        shift = np.linalg.norm(target - start, axis=1)
        better = ends & towards & (shift < least)
        least[better] = shift[better]
        placed[between[better]], on[between[better]] = target[better], a[better]
    return placed, on


def _snapped(placed: F64, points: F64, on: I64, planes: Planes, edges: I64, reach: float) -> F64:
    """The points with, for each edge (E, 2) from one plane to another, the nearer end on the planes' common line.

    A vertex with two such lines goes to where three planes meet; nothing moves further than `reach`.
    """
    a, b = on[edges].T
    crossing = _meet(a, b, planes)
    (here, there), a, b = edges[crossing].T, a[crossing], b[crossing]
    mine = np.linalg.norm(_onto_edge(placed[here], a, b, planes) - placed[here], axis=1)
    other = np.linalg.norm(_onto_edge(placed[there], a, b, planes) - placed[there], axis=1)
    nearer = (mine < other) | ((mine == other) & (here < there))  # every edge comes from both of its ends
    pairs = np.unique(np.stack([here[nearer], b[nearer]], 1), axis=0)
    vertex, first, count = np.unique(pairs[:, 0], return_index=True, return_counts=True)
    a, b = on[vertex], pairs[first, 1]
    target = _onto_edge(placed[vertex], a, b, planes)
    c = pairs[np.minimum(first + 1, len(pairs) - 1), 1]
    three = np.flatnonzero((count > 1) & _meet(b, c, planes))
    corners = np.stack([a, b, c], 1)[three]
    sides, offsets = planes.normals[corners], planes.offsets[corners]
    solid = np.abs(np.linalg.det(sides)) > MIN_CORNER
    corner = np.linalg.solve(sides[solid], offsets[solid][..., None])[..., 0]
    near = np.linalg.norm(corner - points[vertex[three[solid]]], axis=1) < reach
    target[three[solid][near]] = corner[near]
    result = placed.copy()
    near = np.linalg.norm(target - points[vertex], axis=1) < reach
    result[vertex[near]] = target[near]
    return result


def _distances(points: F64, of: I64, planes: Planes) -> F64:
    """Signed distance (N,) of each point (N, 3) from its own plane (N,)."""
    return np.einsum("nc,nc->n", points, planes.normals[of]) - planes.offsets[of]


def _meet(a: I64, b: I64, planes: Planes) -> Mask:
    """Which pairs of planes (N,) have a common line worth the name."""
    return np.abs(np.einsum("nc,nc->n", planes.normals[a], planes.normals[b])) < SEAM_COSINE


def _onto_edge(points: F64, a: I64, b: I64, planes: Planes) -> F64:
    """The nearest points (N, 3) of the lines in which planes a and b (N,) meet."""
    first, second = planes.normals[a], planes.normals[b]
    cosine = np.einsum("nc,nc->n", first, second)
    da, db = _distances(points, a, planes), _distances(points, b, planes)
    scale = 1 / (1 - cosine**2)
    return points - ((da - cosine * db) * scale)[:, None] * first - ((db - cosine * da) * scale)[:, None] * second


def _without_folds(moved: F64, before: F64, triangles: I32) -> F64:
    """The moved points (V, 3), back where they were wherever a triangle, other than a needle, would have flipped."""
    result = moved.copy()
    touched = triangles[(moved != before).any(1)[triangles].any(1)]
    old = _crosses(before[touched])
    least = -NEEDLE * np.einsum("nc,nc->n", old, old)
    for _ in range(4):
        flipped = np.einsum("nc,nc->n", old, _crosses(result[touched])) < least
        if not flipped.any():
            break
        back = np.unique(touched[flipped])
        result[back] = before[back]
    return result


def _crosses(corners: F64) -> F64:
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


@njit(cache=True, nogil=True)
def _vertex_normals(points: F64, triangles: I32) -> F64:
    """The sums (V, 3) of the cross products of the triangles round each vertex."""
    result = np.zeros(points.shape)
    for f in range(len(triangles)):
        a, b, c = triangles[f]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        for v in (a, b, c):
            result[v, 0] += uy * vz - uz * vy
            result[v, 1] += uz * vx - ux * vz
            result[v, 2] += ux * vy - uy * vx
    return result


@njit(cache=True, nogil=True)
def _crossing(starts: I32, links: I32, on: I64) -> I64:
    """The mesh's edges (E, 2) from a vertex on a plane to one on another plane, from both of their ends."""
    found = np.empty((0, 2), np.int64)
    for turn in range(2):
        count = 0
        for v in range(len(on)):
            for index in range(starts[v], starts[v + 1]):
                u = links[index]
                if on[v] < 0 or on[u] < 0 or on[v] == on[u]:
                    continue
                if turn:
                    found[count, 0], found[count, 1] = v, u
                count += 1
        if not turn:
            found = np.empty((count, 2), np.int64)
    return found


@njit(cache=True, nogil=True)
def _near_planes(starts: I32, links: I32, owner: I64, rings: int) -> tuple[I64, I64]:
    """Up to three planes (V, 3) within `rings` edges of each vertex, -1-padded, and the vertex on each by which."""
    near, anchors = np.full((len(owner), 3), -1), np.full((len(owner), 3), -1)
    ring = np.full((len(owner), 3), -1)
    for v in range(len(owner)):
        if owner[v] >= 0:
            near[v, 0], anchors[v, 0], ring[v, 0] = owner[v], v, 0
    for step in range(1, rings + 1):
        for v in range(len(owner)):
            for index in range(starts[v], starts[v + 1]):
                u = links[index]
                for entry in range(3):
                    if ring[u, entry] != step - 1:
                        continue
                    for slot in range(3):
                        if near[v, slot] == near[u, entry]:
                            break
                        if near[v, slot] < 0:
                            near[v, slot], anchors[v, slot], ring[v, slot] = near[u, entry], anchors[u, entry], step
                            break
    return near, anchors
