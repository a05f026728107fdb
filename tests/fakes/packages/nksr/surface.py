"""A surface through oriented points: signed distances to local planes at the corners of voxels, and surface nets."""

from __future__ import annotations

from itertools import product

import numpy as np

CORNERS = np.array(list(product((0, 1), repeat=3)))
EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if np.abs(CORNERS[a] - CORNERS[b]).sum() == 1]
BITS = 20


def surface(points: np.ndarray, normals: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and triangles (F, 3), turned to where the normals point."""
    low = np.floor(points.min(0) / size).astype(int) - 4
    cell = np.floor(points / size).astype(int) - low
    keys, of_point, count = np.unique(_key(cell), return_inverse=True, return_counts=True)
    mean = [np.stack([np.bincount(of_point, v[:, c]) for c in range(3)], 1) / count[:, None] for v in (points, normals)]
    around = np.array(list(product((-1, 0, 1, 2), repeat=3)))  # corners of the cell and its neighbours
    corners = _unkey(keys)[:, None] + around
    away = (corners + low) * size - mean[0][:, None]
    near = np.exp(-((away / size) ** 2).sum(-1)).ravel()
    distance = np.einsum("nkc,nc->nk", away, mean[1]).ravel()
    known, place = np.unique(_key(corners).ravel(), return_inverse=True)
    signed = np.bincount(place, near * distance) / np.bincount(place, near)
    return _nets(known, signed, low, size)


def _nets(known: np.ndarray, signed: np.ndarray, low: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    corners = _unkey(known)[:, None] + CORNERS
    at = np.searchsorted(known, _key(corners.reshape(-1, 3))).reshape(-1, 8).clip(max=len(known) - 1)
    whole = (known[at] == _key(corners.reshape(-1, 3)).reshape(-1, 8)).all(1)
    values = signed[at]
    crossed = whole & (values.min(1) < 0) & (values.max(1) >= 0)
    place = _unkey(known)[crossed].astype(float)
    values = values[crossed]
    total, crossings = np.zeros_like(place), np.zeros(len(place))
    for a, b in EDGES:
        cut = (values[:, a] < 0) != (values[:, b] < 0)
        along = np.where(cut, values[:, a] / np.where(cut, values[:, a] - values[:, b], 1), 0)
        total += cut[:, None] * (CORNERS[a] + along[:, None] * (CORNERS[b] - CORNERS[a]))
        crossings += cut
    vertices = (place + total / crossings[:, None] + low) * size
    cell_keys = _key(place.astype(int))
    triangles = []
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        start, end = values[:, 0], values[:, 4 >> axis]
        cut = np.flatnonzero((start < 0) != (end < 0))
        quad = []
        for du, dv in ((0, 0), (1, 0), (1, 1), (0, 1)):
            neighbour = place[cut].astype(int)
            neighbour[:, u] -= du
            neighbour[:, v] -= dv
            found = np.searchsorted(cell_keys, _key(neighbour)).clip(max=len(cell_keys) - 1)
            quad.append(np.where(cell_keys[found] == _key(neighbour), found, -1))
        corners4 = np.stack(quad, 1)
        flip = start[cut] >= 0
        corners4[flip] = corners4[flip][:, ::-1]
        corners4 = corners4[(corners4 >= 0).all(1)]
        triangles += [corners4[:, [0, 1, 2]], corners4[:, [0, 2, 3]]]
    return vertices.astype(np.float32), np.concatenate(triangles)


def _key(cell: np.ndarray) -> np.ndarray:
    return (cell[..., 0] << 2 * BITS) | (cell[..., 1] << BITS) | cell[..., 2]


def _unkey(keys: np.ndarray) -> np.ndarray:
    mask = (1 << BITS) - 1
    return np.stack([keys >> 2 * BITS, (keys >> BITS) & mask, keys & mask], -1)
