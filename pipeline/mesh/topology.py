"""Which triangles hang together, and what their borders say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from pipeline.geometry import Mesh


def _edges(triangles: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """All 3F directed edges sorted by undirected edge: (key, runs from the smaller index, triangle)."""
    start = triangles.T.reshape(-1).astype(np.int64)
    end = np.roll(triangles, -1, axis=1).T.reshape(-1).astype(np.int64)
    upward = start < end
    keys = np.minimum(start, end) * (int(triangles.max(initial=0)) + 1) + np.maximum(start, end)
    owner = np.tile(np.arange(len(triangles)), 3)
    order = np.lexsort((owner, keys))
    return keys[order], upward[order], owner[order]


def _labels(first: NDArray[np.int64], second: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def triangle_components(triangles: NDArray[np.integer], *, same_winding: bool = False) -> NDArray[np.int64]:
    """A component's number for every triangle (F,); triangles hang together that share an edge.

    With `same_winding` only those that also run along the shared edge in opposite directions, as neighbours of one
    orientation do.
    """
    keys, upward, owner = _edges(triangles)
    joined = keys[1:] == keys[:-1]
    if same_winding:
        joined &= upward[1:] != upward[:-1]
    return _labels(owner[1:][joined], owner[:-1][joined], len(triangles))


def neighbours_of_triangles(triangles: NDArray[np.integer]) -> csr_array:
    """Matrix (F, F) with a mark where two triangles share an edge of one winding, rows sorted."""
    keys, upward, owner = _edges(triangles)
    joined = (keys[1:] == keys[:-1]) & (upward[1:] != upward[:-1])
    return _symmetric(owner[1:][joined], owner[:-1][joined], len(triangles))


def neighbours_of_vertices(triangles: NDArray[np.integer], count: int) -> csr_array:
    """Matrix (V, V) with a mark where an edge joins two vertices, rows sorted."""
    return _symmetric(triangles.T.reshape(-1), np.roll(triangles, -1, axis=1).T.reshape(-1), count)


def _symmetric(first: NDArray[np.integer], second: NDArray[np.integer], count: int) -> csr_array:
    ends = np.concatenate([first, second]), np.concatenate([second, first])
    matrix = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(count, count)).tocsr()
    matrix.sum_duplicates()
    return matrix


def border_report(mesh: Mesh) -> dict[str, Any]:
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
