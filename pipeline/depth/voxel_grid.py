"""Weighted merging of points within the cells of a grid, as they stream in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.geometry import PointCloud

_COMPILE: dict[str, Any] = {"nogil": True, "cache": True}

_OFFSET = 1 << 20
"""Cells are numbered from minus this: 10 km each way at 1 cm."""
_EMPTY = -1
_MAX_LOAD = 0.6
_FIRST_CAPACITY = 1 << 16
# Columns of the sums: weight, position in the cell, normal, colour, weight of the colour, sigma.
_COLUMNS = 12


class VoxelGrid:
    """A hash map from cells to weighted sums; equal points in equal order give an equal cloud.

    Args:
        size: Edge of a cell [m].
        guessed: What the cloud's points are marked as.
    """

    def __init__(self, size: float, *, guessed: bool = False) -> None:
        self._size, self._guessed = size, guessed
        self._allocate(_FIRST_CAPACITY)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def _allocate(self, capacity: int) -> None:
        self._keys = np.full(capacity, _EMPTY, np.int64)
        self._sums = np.zeros((capacity, _COLUMNS), np.float32)
        self._views = np.zeros(capacity, np.int32)
        self._agreeing = np.zeros(capacity, np.int32)
        self._last_view = np.full(capacity, -1, np.int32)

    def add(self, cloud: PointCloud, weights: NDArray[np.float32], has_color: NDArray[np.bool_], view: int) -> None:
        """Add one view's points.

        Args:
            cloud: The points; `views` says how many keyframes agree on each.
            weights: (N,) how much each counts.
            has_color: (N,) whether its colour is known.
            view: Number of the view, to count how many views see a cell.
        """
        if self._count + len(cloud) > _MAX_LOAD * len(self._keys):
            self._grow(self._count + len(cloud))
        cells = np.floor(cloud.points / np.float32(self._size)).astype(np.int64)
        local = cloud.points / np.float32(self._size) - cells.astype(np.float32)
        if len(cells) and np.abs(cells).max() >= _OFFSET:
            raise ValueError(f"points must lie within {_OFFSET * self._size:.0f} m, got {np.abs(cloud.points).max()} m")
        samples = np.empty((len(cloud), _COLUMNS), np.float32)
        samples[:, 0] = weights
        samples[:, 1:4] = local
        samples[:, 4:7] = cloud.normals
        samples[:, 7:10] = cloud.colors
        samples[:, 10] = has_color
        samples[:, 11] = cloud.sigma
        self._count += _insert(
            _pack(cells), samples, cloud.views, view,
            self._keys, self._sums, self._views, self._agreeing, self._last_view,
        )  # fmt: skip

    def _grow(self, wanted: int) -> None:
        # Points of one view mostly fall into few cells; the map is only as large as the cells need in the worst case.
        capacity = len(self._keys)
        while wanted > _MAX_LOAD * capacity:
            capacity *= 2
        keys, sums, views = self._keys, self._sums, self._views
        agreeing, last_view = self._agreeing, self._last_view
        self._allocate(capacity)
        _rehash(
            keys, sums, views, agreeing, last_view,
            self._keys, self._sums, self._views, self._agreeing, self._last_view,
        )  # fmt: skip

    def cloud(self) -> PointCloud:
        """The merged points, sorted by cell."""
        order = np.flatnonzero(self._keys != _EMPTY)
        order = order[np.argsort(self._keys[order])]
        sums = self._sums[order]
        mean = sums[:, 1:] / sums[:, :1]
        normals = mean[:, 3:6] / np.maximum(np.linalg.norm(mean[:, 3:6], axis=1, keepdims=True), 1e-6)
        colors = mean[:, 6:9] / np.maximum(mean[:, 9:10], 1e-6)
        colors[sums[:, 10] == 0] = 128
        cells = _unpack(self._keys[order])
        return PointCloud(
            ((cells + mean[:, :3].astype(np.float64)) * self._size).astype(np.float32),
            normals.astype(np.float32),
            np.clip(np.round(colors), 0, 255).astype(np.uint8),
            mean[:, 10].astype(np.float32),
            np.maximum(self._views[order], self._agreeing[order]),
            np.full(len(order), self._guessed),
        )

    def touches(self, points: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether the cell of each point (N, 3), or one of the 26 round it, holds something."""
        cells = np.floor(points / np.float32(self._size)).astype(np.int64)
        return _touches(cells, self._keys)


def _pack(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    shifted = cells + _OFFSET
    return (shifted[:, 0] << 42) | (shifted[:, 1] << 21) | shifted[:, 2]


def _unpack(keys: NDArray[np.int64]) -> NDArray[np.float64]:
    mask = (1 << 21) - 1
    return np.stack([keys >> 42, (keys >> 21) & mask, keys & mask], 1).astype(np.float64) - _OFFSET


@njit(**_COMPILE)
def _place(key, keys):  # noqa: ANN001, ANN202
    """Where the key is, or where it would go. Source: S. Vigna, splitmix64, for the mixing."""
    h = np.uint64(key)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mask = np.uint64(len(keys) - 1)
    place = (h ^ (h >> np.uint64(31))) & mask
    while keys[place] != _EMPTY and keys[place] != key:
        place = (place + np.uint64(1)) & mask
    return place


@njit(**_COMPILE)
def _insert(new_keys, samples, agreeing, view, keys, sums, views, most_agreeing, last_view):  # noqa: ANN001, ANN202
    """Add samples to their cells; returns how many cells are new."""
    created = 0
    for i in range(len(new_keys)):
        place = _place(new_keys[i], keys)
        if keys[place] == _EMPTY:
            keys[place] = new_keys[i]
            created += 1
        weight = samples[i, 0]
        sums[place, 0] += weight
        for column in range(1, samples.shape[1]):
            if column < 7 or column >= 10:
                sums[place, column] += weight * samples[i, column]
            else:
                sums[place, column] += weight * samples[i, column] * samples[i, 10]
        if last_view[place] != view:
            last_view[place] = view
            views[place] += 1
        most_agreeing[place] = max(most_agreeing[place], agreeing[i])
    return created


@njit(**_COMPILE)
def _rehash(keys, sums, views, agreeing, last_view, new_keys, new_sums, new_views, new_agreeing, new_last):  # noqa: ANN001, ANN202
    for i in range(len(keys)):
        if keys[i] != _EMPTY:
            place = _place(keys[i], new_keys)
            new_keys[place] = keys[i]
            new_sums[place] = sums[i]
            new_views[place] = views[i]
            new_agreeing[place] = agreeing[i]
            new_last[place] = last_view[i]


@njit(**_COMPILE)
def _touches(cells, keys):  # noqa: ANN001, ANN202
    result = np.zeros(len(cells), np.bool_)
    for i in range(len(cells)):
        for step in range(27):
            x = cells[i, 0] + step // 9 - 1 + _OFFSET
            y = cells[i, 1] + step // 3 % 3 - 1 + _OFFSET
            z = cells[i, 2] + step % 3 - 1 + _OFFSET
            key = (x << 42) | (y << 21) | z
            if keys[_place(key, keys)] == key:
                result[i] = True
                break
    return result
