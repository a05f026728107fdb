"""Objects that touch, told apart: side by side along a groove or a neck, in a stack by the ledge of the lower one.

Where surface meets in a groove there may be two bodies: S. Stein et al., Object partitioning using local convexity,
CVPR 2014, with planes instead of supervoxels. But a seat and its back meet in one, too, and so do a table and its legs.
Hence every part must be a shape of its own that stands on something, and no face may go on flush from one to another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from pipeline.geometry import Mesh
from pipeline.mesh.planes import Planes
from pipeline.mesh.topology import neighbours_of_triangles, triangle_components
from pipeline.objects.shapes import ON_FACE, UPRIGHT, Shape, shape_of
from pipeline.types import F64, I64, Mask

BESIDE = 0.06
"""Triangles as near to the border of two patches tell how these meet [m]."""
GROOVE = 0.008
"""Patches meet in a groove where either is this far before the other there [m]."""
LEAST_BORDER = 4
"""Patches that fewer edges of triangles join meet by chance."""
MOST_CUTS = 8
"""Sides in grooves that are tried, the longest first."""
DEPTH = 3
"""Most cuts side by side in one object."""
NECKS = (0.5, 0.4, 0.6, 0.3, 0.7)
"""Where a neck is looked for [lengths of the whole]."""
SMALLEST = 0.03
"""Least area of a part [m^2]."""
STANDS = 0.08
"""A part stands on what the whole stands on where it begins no higher than this over it [m]."""
FLUSH, PARALLEL = 0.005, float(np.cos(np.deg2rad(2)))
"""Two boxes are one object where their sides are parallel and a face of one goes on in the other, to this [m]."""
LEVEL, LEDGE = 0.97, 0.02
"""Least z of the normal of a ledge; what is higher than the second over it may stand on it [m]."""


def told_apart(mesh: Mesh, own: Mask, planes: Planes, support: float) -> list[Mask]:
    """The objects (F,) that hang together in one (F,), which stands on a support [m]; itself where it is one."""
    rows = np.flatnonzero(own)
    whole = _Whole(mesh.with_faces(own))
    parts = _parts(whole, np.ones(len(rows), bool), replace(planes, labels=planes.labels[own]), support)
    return [_mask(rows[one], len(own)) for one in parts]


class _Whole:
    """What may be several objects, and the shapes of its parts: many cuts ask for the same ones."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self._shapes = dict[tuple[bytes, float], Shape | None]()

    def shape_of(self, part: Mask, support: float) -> Shape | None:
        """The shape of a part (F,) on a support [m], if it is one."""
        key = part.tobytes(), support
        if key not in self._shapes:
            self._shapes[key] = shape_of(self.mesh.with_faces(part), support)
        return self._shapes[key]

    def is_shape(self, part: Mask, support: float) -> bool:
        """Whether a part (F,) is one."""
        return self.shape_of(part, support) is not None


def _parts(whole: _Whole, own: Mask, planes: Planes, support: float) -> list[Mask]:
    large = whole.mesh.face_areas()[own].sum() > 2 * SMALLEST
    if not large or not (planes.labels[own] >= 0).any() or whole.is_shape(own, support):
        return [own]
    found = [_side_by_side(whole, own, planes, support, DEPTH), _unstacked(whole, own, planes, support)]
    return min((parts for parts in found if parts), key=lambda parts: (len(parts), _off(whole, parts)), default=[own])


def _off(whole: _Whole, parts: list[Mask]) -> float:
    """How far the surface of parts (F,) is off shapes that stand where it begins [m], on average."""
    low, areas = whole.mesh.corners()[..., 2].min(1), whole.mesh.face_areas()
    shapes = [whole.shape_of(part, float(low[part].min())) for part in parts]
    weights = [areas[part].sum() for part in parts]
    return float(np.average([shape.off if shape else ON_FACE for shape in shapes], weights=weights))


def _side_by_side(whole: _Whole, own: Mask, planes: Planes, support: float, cuts: int) -> list[Mask]:
    """Shapes (F,) that touch along so many upright planes; empty where there are none."""
    if not cuts:
        return []
    mesh = whole.mesh
    middle, low, areas = mesh.corners().mean(1).astype(np.float64), mesh.corners()[..., 2].min(1), mesh.face_areas()
    for normal, offset in _cuts(mesh, own, planes):
        front = own & (middle @ normal > offset + GROOVE)
        sides = front, own & ~front
        if any(areas[side].sum() < SMALLEST or low[side].min() > support + STANDS for side in sides):
            continue
        if not any(single := [whole.is_shape(side, support) for side in sides]):
            continue
        more = [
            [side] if done else _side_by_side(whole, side, planes, support, cuts - 1)
            for side, done in zip(sides, single, strict=True)
        ]
        if not all(more):
            continue
        shapes = [[whole.shape_of(part, support) for part in some] for some in more]
        if not any(one and other and _flush(one, other) for one, other in product(*shapes)):
            return [part for some in more for part in some]
    return []


def _cuts(mesh: Mesh, own: Mask, planes: Planes) -> Iterator[tuple[F64, float]]:
    """Upright planes that may part what touches: sides that end in a groove, then those across the longest way."""
    rows = np.flatnonzero(own)
    for plane in _in_grooves(mesh, rows, planes)[:MOST_CUTS]:
        if abs(planes.normals[plane, 2]) < UPRIGHT:
            yield planes.normals[plane], float(planes.offsets[plane])
    points = mesh.corners()[rows].reshape(-1, 3)[:, :2].astype(np.float64)
    longest = np.linalg.eigh(np.cov(points.T))[1][:, 1]
    low, high = np.quantile(points @ longest, [0.005, 0.995])
    for share in NECKS:
        yield np.append(longest, 0.0), float(low + share * (high - low))


def _in_grooves(mesh: Mesh, rows: I64, planes: Planes) -> list[int]:
    """Planes that meet another one in a groove, of some triangles; those with the longest grooves first."""
    centres, labels = mesh.corners()[rows].mean(1).astype(np.float64), planes.labels[rows]
    known = np.flatnonzero(labels >= 0)
    if not len(known):
        return []
    labels = labels[known[KDTree(centres[known]).query(centres)[1]]]
    graph = neighbours_of_triangles(mesh.triangles[rows]).tocoo()
    a, b = graph.row, graph.col
    same = labels[a] == labels[b]
    links = coo_array((np.ones(same.sum(), np.int8), (a[same], b[same])), shape=(len(rows), len(rows)))
    patch = connected_components(links, directed=False)[1]
    border = patch[a] < patch[b]
    pairs = np.stack([patch[a[border]], patch[b[border]]], 1)
    found = dict[int, int]()
    for first, second in np.unique(pairs, axis=0):
        at = (pairs == [first, second]).all(1)
        if at.sum() < LEAST_BORDER:
            continue
        line, middles = KDTree(centres[a[border][at]]), list[F64]()
        for number in (first, second):
            members = centres[patch == number]
            away = line.query(members)[0]
            middles.append(members[away <= max(BESIDE, away.min())].mean(0))
        across = middles[1] - middles[0]
        one, other = (int(labels[np.argmax(patch == number)]) for number in (first, second))
        if min(planes.normals[one] @ across, -(planes.normals[other] @ across)) > GROOVE:
            for plane in (one, other):
                found[plane] = found.get(plane, 0) + int(at.sum())
    return sorted(found, key=lambda plane: -found[plane])


def _flush(one: Shape, other: Shape) -> bool:
    """Whether a face of a box goes on in another one: the parts of an L, or steps, are one object."""
    if not one.kind == other.kind == "box":
        return False
    turn = one.world_from_body.rotation.T @ other.world_from_body.rotation
    if np.abs(turn[:2, :2]).max() < PARALLEL:
        return False
    corners = one.world_from_body.inverse().apply(other.corners())
    ends = np.abs(np.stack([corners.min(0) + one.size / 2, corners.max(0) - one.size / 2]))
    ends[:, 2] = abs(corners[:, 2].max() - one.size[2])  # their tops
    return bool((ends < FLUSH).any())


def _unstacked(whole: _Whole, own: Mask, planes: Planes, support: float) -> list[Mask]:
    """The lowest shape of a stack (F,) on a support [m], and what stands on its ledge; empty where there is none."""
    mesh = whole.mesh
    middle, areas = mesh.corners()[..., 2].mean(1), mesh.face_areas()
    ledges = [plane for plane in np.unique(planes.labels[own]) if plane >= 0 and planes.normals[plane, 2] > LEVEL]
    for height in sorted(planes.offsets[ledges]):
        rows = np.flatnonzero(own & (middle > height + LEDGE))
        if not len(rows):
            continue
        of = triangle_components(mesh.triangles[rows])
        large = np.flatnonzero(np.bincount(of, areas[rows]) > SMALLEST)
        above = [_mask(rows[of == number], len(own)) for number in large]
        if not above:
            continue
        lower = own & ~np.logical_or.reduce(above)
        base = whole.shape_of(lower, support)
        tops = [whole.shape_of(one, float(height)) for one in above]
        if base is None or any(top and _flush(base, top) for top in tops):
            continue
        upper = [_parts(whole, one, planes, float(height)) for one in above]
        if all(len(parts) > 1 or whole.is_shape(parts[0], float(height)) for parts in upper):
            return [lower, *(part for parts in upper for part in parts)]
    return []


def _mask(rows: I64, count: int) -> Mask:
    mask = np.zeros(count, bool)
    mask[rows] = True
    return mask
