"""Connectivity of triangles: components, neighbours, borders, and one canonical order.

Open3D's hash maps and threads number vertices differently from run to run; sorted, equal surfaces are equal bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from pipeline.geometry import Mesh
from pipeline.types import I32, I64, Mask


def _edges(triangles: NDArray[np.integer]) -> tuple[I64, Mask, I64]:
    """All 3F directed edges sorted by undirected edge: (key, runs from the smaller index, triangle)."""
    start = triangles.T.reshape(-1).astype(np.int64)
    end = np.roll(triangles, -1, axis=1).T.reshape(-1).astype(np.int64)
    upward = start < end
    keys = np.minimum(start, end) * (int(triangles.max(initial=0)) + 1) + np.maximum(start, end)
    owner = np.tile(np.arange(len(triangles)), 3)
    order = np.lexsort((owner, keys))
    return keys[order], upward[order], owner[order]


def triangle_components(triangles: NDArray[np.integer], *, same_winding: bool = False) -> I64:
    """The component (F,) of every triangle; neighbours share an edge, which `same_winding` wants run both ways."""
    graph = neighbours_of_triangles(triangles, same_winding=same_winding)
    return connected_components(graph, directed=False)[1].astype(np.int64)


def neighbours_of_triangles(triangles: NDArray[np.integer], *, same_winding: bool = True) -> csr_array:
    """Matrix (F, F) with a mark where two triangles share an edge (of one winding), rows sorted."""
    keys, upward, owner = _edges(triangles)
    joined = keys[1:] == keys[:-1]
    if same_winding:
        joined &= upward[1:] != upward[:-1]
    return _symmetric(owner[1:][joined], owner[:-1][joined], len(triangles))


def neighbours_of_vertices(triangles: NDArray[np.integer], count: int) -> csr_array:
    """Matrix (V, V) with a mark where an edge joins two vertices, rows sorted."""
    return _symmetric(triangles.T.reshape(-1), np.roll(triangles, -1, axis=1).T.reshape(-1), count)


def _symmetric(first: NDArray[np.integer], second: NDArray[np.integer], count: int) -> csr_array:
    ends = np.concatenate([first, second]), np.concatenate([second, first])
    matrix = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(count, count)).tocsr()
    matrix.sum_duplicates()
    return matrix


def border_edges(mesh: Mesh) -> I64:
    """Edges (E, 2) of one triangle only."""
    keys, _, _ = _edges(mesh.triangles)
    unique, count = np.unique(keys, return_counts=True)
    return np.stack(np.divmod(unique[count == 1], int(mesh.triangles.max(initial=0)) + 1), -1)


def border_report(mesh: Mesh) -> dict[str, float]:
    """How far the mesh is from a closed surface: counts and length of borders, as JSON values."""
    keys, upward, _ = _edges(mesh.triangles)
    unique, first, count = np.unique(keys, return_index=True, return_counts=True)
    base = int(mesh.triangles.max(initial=0)) + 1
    single = unique[count == 1]
    ends = mesh.vertices[single // base], mesh.vertices[single % base]
    pairs = first[count == 2]
    return {
        "watertight": bool(len(unique) and (count == 2).all()),
        "border_edges": len(single),
        "border_length": round(float(np.linalg.norm(ends[0] - ends[1], axis=1).sum()), 3),
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
    merged = np.empty(len(vertices), np.int64)
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
    kept = triangles[which].astype(np.int64)
    lead = kept.argmin(1)
    rolled = np.take_along_axis(kept, (lead[:, None] + np.arange(3)) % 3, 1)
    a, b, c = rolled.T
    base = int(kept.max(initial=0)) + 1
    pair, last = a * base + np.minimum(b, c), np.maximum(b, c)
    order = np.lexsort((b > c, last, pair))  # equal corners side by side
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(pair[order]) != 0) | (np.diff(last[order]) != 0)
    rolled, which = rolled[order[new]], which[order[new]]
    a, b, c = rolled.T
    order = np.lexsort((c, a * base + b))
    return np.ascontiguousarray(rolled[order], np.int32), which[order]
