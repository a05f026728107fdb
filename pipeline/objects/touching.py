"""Objects that touch, told apart: side by side by the groove between them, in a stack by the ledge of the lower one.

Patches that meet convexly belong together: S. Stein et al., Object partitioning using local convexity, CVPR 2014,
with planes instead of supervoxels. A seat and its back meet in a groove, too, and so do a table and its legs. Hence
every part must be a shape of its own that stands on something; else the whole is one object.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from pipeline.geometry import Mesh
from pipeline.mesh.planes import Planes
from pipeline.mesh.topology import neighbours_of_triangles, triangle_components
from pipeline.objects.shapes import shape_of
from pipeline.types import F64, I64, Mask

BESIDE = 0.06
"""Triangles as near to the border of two patches tell how these meet [m]."""
GROOVE = 0.008
"""Patches meet in a groove where either is this far before the other there [m]."""
LEAST_BORDER = 4
"""Patches that fewer edges of triangles join meet by chance."""
LIKE = 0.9
"""Cosine from which on the normals of two patches are alike: then a step between them parts them."""
SMALLEST = 0.03
"""Least area of a part [m^2]."""
STANDS = 0.08
"""A part stands on what the whole stands on where it begins no higher than this over it [m]."""
LEVEL, LEDGE = 0.97, 0.02
"""Least z of the normal of a ledge; what is higher than the second over it may stand on it [m]."""


def told_apart(mesh: Mesh, own: Mask, planes: Planes, support: float) -> list[Mask]:
    """The objects (F,) that hang together in one (F,), which stands on a support [m]; itself where it is one."""
    rows = np.flatnonzero(own)
    if not (planes.labels[rows] >= 0).any() or _is_shape(mesh, own, support):
        return [own]
    part = _standing(mesh, rows, _convex_parts(mesh, rows, planes), support)
    found = [_mask(rows[part == number], len(own)) for number in np.unique(part)]
    if len(found) > 1 and all(_is_shape(mesh, mask, support) for mask in found):
        return found
    return _unstacked(mesh, own, planes, support) or [own]


def _unstacked(mesh: Mesh, own: Mask, planes: Planes, support: float) -> list[Mask]:
    """The lowest shape of a stack (F,) on a support [m], and what stands on its ledge; empty where there is none."""
    middle, areas = mesh.corners()[..., 2].mean(1), mesh.face_areas()
    ledges = [plane for plane in np.unique(planes.labels[own]) if plane >= 0 and planes.normals[plane, 2] > LEVEL]
    for height in sorted(planes.offsets[ledges]):
        rows = np.flatnonzero(own & (middle > height + LEDGE))
        if not len(rows):
            continue
        of = triangle_components(mesh.triangles[rows])
        large = np.flatnonzero(np.bincount(of, areas[rows]) > SMALLEST)
        above = [_mask(rows[of == number], len(own)) for number in large]
        if not above or not _is_shape(mesh, own & ~np.logical_or.reduce(above), support):
            continue
        upper = [told_apart(mesh, one, planes, float(height)) for one in above]
        if all(len(parts) > 1 or _is_shape(mesh, parts[0], float(height)) for parts in upper):
            return [own & ~np.logical_or.reduce(above), *(part for parts in upper for part in parts)]
    return []


def _is_shape(mesh: Mesh, own: Mask, support: float) -> bool:
    return shape_of(mesh.with_faces(own), support) is not None


def _mask(rows: I64, count: int) -> Mask:
    mask = np.zeros(count, bool)
    mask[rows] = True
    return mask


def _convex_parts(mesh: Mesh, rows: I64, planes: Planes) -> I64:
    """Part (N,) of each of some triangles: patches that meet in no groove are one."""
    centres, labels = mesh.corners()[rows].mean(1).astype(np.float64), planes.labels[rows]
    known = np.flatnonzero(labels >= 0)
    labels = labels[known[KDTree(centres[known]).query(centres)[1]]]
    graph = neighbours_of_triangles(mesh.triangles[rows]).tocoo()
    a, b = graph.row, graph.col
    same = labels[a] == labels[b]
    patch = _components(a[same], b[same], len(rows))
    joined = list[tuple[int, int]]()
    border = patch[a] < patch[b]
    pairs = np.stack([patch[a[border]], patch[b[border]]], 1)
    for first, second in np.unique(pairs, axis=0):
        at = (pairs == [first, second]).all(1)
        if at.sum() < LEAST_BORDER:
            continue
        line = KDTree(centres[a[border][at]])
        middles = list[F64]()
        for number in (first, second):
            members = np.flatnonzero(patch == number)
            near = members[line.query(centres[members])[0] < BESIDE]
            middles.append(centres[near].mean(0))
        across = middles[1] - middles[0]
        one, other = (planes.normals[labels[np.argmax(patch == number)]] for number in (first, second))
        ahead = min(one @ across, -(other @ across))
        step = one @ other > LIKE and abs(one @ across) > GROOVE
        if ahead < GROOVE and not step:
            joined.append((first, second))
    ends = np.array(joined, np.int64).reshape(-1, 2)
    return _components(ends[:, 0], ends[:, 1], int(patch.max()) + 1)[patch]


def _standing(mesh: Mesh, rows: I64, part: I64, support: float) -> I64:
    """Parts (N,) of which those that are small or don't reach the support went to the ones they meet most."""
    corners, areas = mesh.corners()[rows].astype(np.float64), mesh.face_areas()[rows]
    graph = neighbours_of_triangles(mesh.triangles[rows]).tocoo()
    while True:
        _, part = np.unique(part, return_inverse=True)
        count = int(part.max()) + 1
        lowest = np.full(count, np.inf)
        np.minimum.at(lowest, part, corners[..., 2].min(1))
        area = np.bincount(part, areas, count)
        weak = (area < SMALLEST) | (lowest > support + STANDS)
        number = int(np.where(weak, area, np.inf).argmin())  # the smallest of them
        beside = (part[graph.row] == number) & (part[graph.col] != number)
        if not weak[number] or not beside.any():
            return part
        part[part == number] = np.bincount(part[graph.col[beside]]).argmax()


def _components(a: I64, b: I64, count: int) -> I64:
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)
