"""Connectivity of triangles: components, neighbours, borders, and one canonical order.

Open3D's hash maps and threads number vertices differently from run to run; sorted, equal surfaces are equal bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pipeline.geometry import Mesh
from pipeline.geometry.jit import njit
from pipeline.types import I32, I64, U8, Mask


@njit(cache=True, nogil=True)
def _sorted_edges(triangles: I32, count: int) -> I32:
    """The 3 F directed edges by their smaller, then their larger vertex of so many: 3 * triangle + side.

    Equal ones stay in the triangles' order (a counting sort of two passes: a comparing one takes ten times the memory).
    """
    order, before = np.empty(3 * len(triangles), np.int32), np.empty(0, np.int32)
    for first in range(2):
        place = np.zeros(count + 1, np.int64)
        for turn in range(2):
            for row in range(len(order)):
                edge = before[row] if first else row
                f, k = edge // 3, edge % 3
                a, b = triangles[f, k], triangles[f, (k + 1) % 3]
                vertex = min(a, b) if first else max(a, b)
                if turn == 0:
                    place[vertex + 1] += 1
                else:
                    order[place[vertex]] = edge
                    place[vertex] += 1
            if turn == 0:
                place = np.cumsum(place)
        if not first:
            before = order.copy()
    return order


@njit(cache=True, nogil=True)
def _same_edge(triangles: I32, e: int, f: int) -> tuple[bool, bool]:
    """Whether two directed edges join the same vertices, and whether they run in the same direction."""
    a, b = triangles[e // 3, e % 3], triangles[e // 3, (e % 3 + 1) % 3]
    c, d = triangles[f // 3, f % 3], triangles[f // 3, (f % 3 + 1) % 3]
    return (a == c and b == d) or (a == d and b == c), (a < b) == (c < d)


@njit(cache=True, nogil=True)
def _linked(triangles: I32, order: I32, same_winding: bool) -> tuple[I64, I32]:
    """Row ends (F + 1,) and columns of the triangles beside each, in any order, some of them twice."""
    ends = np.zeros(len(triangles) + 1, np.int64)
    columns = np.empty(0, np.int32)
    for turn in range(2):
        for row in range(len(order) - 1):
            e, f = order[row], order[row + 1]
            same, along = _same_edge(triangles, e, f)
            if not same or (same_winding and along):
                continue
            for here, there in ((e // 3, f // 3), (f // 3, e // 3)):
                if turn == 0:
                    ends[here + 1] += 1
                else:
                    columns[ends[here]] = there
                    ends[here] += 1
        if turn == 0:
            ends = np.cumsum(ends)
            columns = np.empty(ends[-1], np.int32)
    ends[1:] = ends[:-1].copy()  # after the second turn each entry is the end of its row
    ends[0] = 0
    return ends, columns


@njit(cache=True, nogil=True)
def _components(triangles: I32, order: I32, same_winding: bool) -> I64:
    """Numbers (F,) of the components, in the order of their first triangles."""
    parent = np.arange(len(triangles), dtype=np.int32)
    for row in range(len(order) - 1):
        same, along = _same_edge(triangles, order[row], order[row + 1])
        if not same or (same_winding and along):
            continue
        e, f = order[row] // 3, order[row + 1] // 3
        while parent[e] != e:
            parent[e] = parent[parent[e]]
            e = parent[e]
        while parent[f] != f:
            parent[f] = parent[parent[f]]
            f = parent[f]
        parent[max(e, f)] = min(e, f)
    labels, count = np.empty(len(triangles), np.int64), 0
    for f in range(len(triangles)):
        if parent[f] == f:
            labels[f] = count
            count += 1
        else:  # a parent comes before its children
            labels[f] = labels[parent[f]]
    return labels


@njit(cache=True, nogil=True)
def _linked_vertices(triangles: I32, order: I32, count: int) -> tuple[I64, I32, U8]:
    """Row ends (V + 1,), columns and number of edges of each vertex's neighbours, sorted, each once."""
    ends = np.zeros(count + 1, np.int64)
    columns, values = np.empty(0, np.int32), np.empty(0, np.uint8)
    for turn in range(2):
        row = 0
        while row < len(order):
            e, alike = order[row], 1
            while row + alike < len(order) and _same_edge(triangles, e, order[row + alike])[0]:
                alike += 1
            row += alike
            a, b = triangles[e // 3, e % 3], triangles[e // 3, (e % 3 + 1) % 3]
            for here, there in ((min(a, b), max(a, b)), (max(a, b), min(a, b))):
                if turn == 0:
                    ends[here + 1] += 1
                else:
                    columns[ends[here]], values[ends[here]] = there, alike
                    ends[here] += 1
        if turn == 0:
            ends = np.cumsum(ends)
            columns, values = np.empty(ends[-1], np.int32), np.empty(ends[-1], np.uint8)
    ends[1:] = ends[:-1].copy()
    ends[0] = 0
    return ends, columns, values


def triangle_components(triangles: NDArray[np.integer], *, same_winding: bool = False) -> I64:
    """The component (F,) of every triangle; neighbours share an edge, which `same_winding` wants run both ways."""
    return _components(*_edges(triangles), same_winding)


def neighbours_of_triangles(triangles: NDArray[np.integer], *, same_winding: bool = True) -> csr_array:
    """Matrix (F, F) with a mark where two triangles share an edge (of one winding), rows sorted."""
    corners, order = _edges(triangles)
    ends, columns = _linked(corners, order, same_winding)
    graph = csr_array((np.ones(len(columns), np.int8), columns, ends), shape=(len(corners), len(corners)))
    graph.sum_duplicates()
    return graph


def neighbours_of_vertices(triangles: NDArray[np.integer], count: int) -> csr_array:
    """Matrix (V, V) with the number of triangles at the edge that joins two vertices, rows sorted."""
    ends, columns, values = _linked_vertices(*_edges(triangles), count)
    return csr_array((values, columns, ends), shape=(count, count))


def links_of(graph: csr_array) -> tuple[I32, I32]:
    """Row ends and columns of such a matrix, as kernels take them."""
    return np.asarray(graph.indptr, np.int32), np.asarray(graph.indices, np.int32)


def _edges(triangles: NDArray[np.integer]) -> tuple[I32, I32]:
    """The triangles, and their directed edges as `_sorted_edges` has them."""
    corners = np.ascontiguousarray(triangles, np.int32).reshape(-1, 3)
    return corners, _sorted_edges(corners, int(corners.max(initial=-1)) + 1)


def _edge_runs(triangles: NDArray[np.integer]) -> tuple[I32, I32, I64, Mask]:
    """The sorted edges; their ends (3 F, 2), the smaller first; where equal ones begin, and 3 F; which run upward."""
    corners, order = _edges(triangles)
    f, k = np.divmod(order, np.int32(3))
    start, end = corners[f, k], corners[f, (k + 1) % 3]
    ends = np.stack([np.minimum(start, end), np.maximum(start, end)], 1)
    new = np.ones(len(ends) + 1, bool)
    new[1:-1] = (ends[1:] != ends[:-1]).any(1)
    return order, ends, np.flatnonzero(new), start < end


def border_sides(mesh: Mesh) -> Mask:
    """Which sides (F, 3) of triangles, from each corner to the next, no other triangle has."""
    order, _, runs, _ = _edge_runs(mesh.triangles)
    alone = np.zeros(mesh.triangles.size, bool)
    alone[order[runs[:-1][np.diff(runs) == 1]]] = True
    return alone.reshape(-1, 3)


def border_edges(mesh: Mesh) -> I64:
    """Edges (E, 2) of one triangle only."""
    _, ends, runs, _ = _edge_runs(mesh.triangles)
    return ends[runs[:-1][np.diff(runs) == 1]].astype(np.int64)


def border_report(mesh: Mesh) -> dict[str, float]:
    """How far the mesh is from a closed surface: counts and length of borders, as JSON values."""
    _, ends, runs, upward = _edge_runs(mesh.triangles)
    count, first = np.diff(runs), runs[:-1]
    single, pairs = ends[first[count == 1]], first[count == 2]
    length = np.linalg.norm(mesh.vertices[single[:, 0]] - mesh.vertices[single[:, 1]], axis=1).sum()
    return {
        "watertight": bool(len(count) and (count == 2).all()),
        "border_edges": len(single),
        "border_length": round(float(length), 3),
        "non_manifold_edges": int((count > 2).sum()),
        "edges_of_opposite_winding": int((upward[pairs] == upward[pairs + 1]).sum()),
        "components": len(np.unique(triangle_components(mesh.triangles))),
    }


def canonical(mesh: Mesh) -> Mesh:
    """The same surface: equal vertices merged and sorted, degenerate and duplicate triangles gone, triangles sorted.

    Each triangle starts at its smallest index, which keeps its orientation. Of merged vertices the first one's colour
    stays; a merged vertex is guessed only if all were.
    """
    return canonical_order(mesh)[0]


def canonical_order(mesh: Mesh) -> tuple[Mesh, I64]:
    """As `canonical`, and which triangle (F,) of the mesh each was."""
    if not len(mesh.triangles):
        return Mesh.from_arrays(np.zeros((0, 3)), np.zeros((0, 3), np.int32)), np.zeros(0, np.int64)
    vertices = mesh.vertices + np.float32(0)  # turns -0 into 0, so that equal numbers are equal keys
    keys = [*mesh.colors.T[::-1], mesh.guessed, *vertices.T[::-1]]
    order = np.lexsort(keys)
    ordered = vertices[order]
    new = np.ones(len(ordered), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(1)
    merged = np.empty(len(vertices), np.int32)
    merged[order] = np.cumsum(new) - 1
    first = order[new]
    triangles, which = sorted_triangles(merged[mesh.triangles])
    result = Mesh(vertices[first], triangles, mesh.colors[first], mesh.guessed[first])
    return result.with_faces(np.ones(len(triangles), bool)), which


def sorted_triangles(triangles: NDArray[np.integer]) -> tuple[I32, I64]:
    """Triangles (F, 3) without degenerate and repeated ones, each led by its smallest index, in lexical order.

    Of two triangles with the same corners and opposite orientation the first stays. Also says which (F,) each was.
    """
    a, b, c = triangles.T
    which = np.flatnonzero((a != b) & (b != c) & (c != a))
    led = _led(np.ascontiguousarray(triangles[which], np.int32))
    a, b, c = led.T
    base = int(led.max(initial=0)) + 1
    pair, last = a.astype(np.int64) * base + np.minimum(b, c), np.maximum(b, c)
    order = np.lexsort((b > c, last, pair))  # equal corners side by side
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(pair[order]) != 0) | (np.diff(last[order]) != 0)
    del pair, last
    order = order[new]
    led, which = led[order], which[order]
    a, b, c = led.T
    order = np.lexsort((c, a.astype(np.int64) * base + b))
    return np.ascontiguousarray(led[order]), which[order]


@njit(cache=True, nogil=True)
def _led(triangles: I32) -> I32:
    """The triangles (F, 3), each turned until it begins with its smallest index; in place."""
    for f in range(len(triangles)):
        a, b, c = triangles[f]
        if b < a and b < c:
            triangles[f, 0], triangles[f, 1], triangles[f, 2] = b, c, a
        elif c < a and c < b:
            triangles[f, 0], triangles[f, 1], triangles[f, 2] = c, a, b
    return triangles
