"""Meshes in one canonical order.

Open3D's hash maps and threads number vertices differently from run to run; sorted, equal surfaces are equal bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Mesh


def canonical(mesh: Mesh) -> Mesh:
    """The same surface: equal vertices merged and sorted, degenerate and duplicate triangles gone, triangles sorted.

    Each triangle starts at its smallest index, which keeps its orientation. Of merged vertices the first one's colour
    stays; a merged vertex is guessed only if all were.
    """
    if not len(mesh.triangles):
        return Mesh.from_arrays(np.zeros((0, 3)), np.zeros((0, 3), np.int32))
    vertices = mesh.vertices + np.float32(0)  # turns -0 into 0, so that equal numbers are equal keys
    keys = [*mesh.colors.T[::-1], mesh.guessed, *vertices.T[::-1]]
    order = np.lexsort(keys)
    ordered = vertices[order]
    new = np.ones(len(ordered), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(1)
    merged = np.empty(len(vertices), np.int64)
    merged[order] = np.cumsum(new) - 1
    first = order[new]
    triangles = sorted_triangles(merged[mesh.triangles])
    result = Mesh(vertices[first], triangles, mesh.colors[first], mesh.guessed[first])
    return result.with_faces(np.ones(len(triangles), bool))


def sorted_triangles(triangles: NDArray[np.integer]) -> NDArray[np.int32]:
    """Triangles (F, 3) without degenerate and repeated ones, each led by its smallest index, in lexical order.

    Of two triangles with the same corners and opposite orientation the first stays.
    """
    a, b, c = triangles.T
    kept = triangles[(a != b) & (b != c) & (c != a)].astype(np.int64)
    lead = kept.argmin(1)
    rolled = np.take_along_axis(kept, (lead[:, None] + np.arange(3)) % 3, 1)
    a, b, c = rolled.T
    base = int(kept.max(initial=0)) + 1
    pair, last = a * base + np.minimum(b, c), np.maximum(b, c)
    order = np.lexsort((b > c, last, pair))  # equal corners side by side
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(pair[order]) != 0) | (np.diff(last[order]) != 0)
    rolled = rolled[order[new]]
    a, b, c = rolled.T
    return np.ascontiguousarray(rolled[np.lexsort((c, a * base + b))], np.int32)
